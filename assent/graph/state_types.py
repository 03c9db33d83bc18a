"""The types that a graph's state is declared with, so that a checkpointer may make them again from
what it stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langgraph._internal._serde import build_serde_allowlist
from langgraph.pregel import Pregel


def state_types(graph: Pregel[Any, Any, Any, Any]) -> set[tuple[str, ...]]:
    """Module and name of every model, dataclass and enum in the declared state of the graph and its
    subgraphs.

    It is what LangGraph's `compile()` hands to the checkpointer itself if LANGGRAPH_STRICT_MSGPACK
    was set before it was imported. What a state holds under `Any` or a type variable is not
    declared, so it is not among them.
    """
    graphs: list[Any] = [graph, *(subgraph for _, subgraph in graph.get_subgraphs(recurse=True))]
    return set().union(
        *(
            build_serde_allowlist(schemas=list(_schemas(each)), channels=dict(each.channels))
            for each in graphs
        )
    )


def _schemas(graph: Any) -> Iterator[Any]:
    builder = getattr(graph, "builder", None)
    if builder is not None:
        yield from (builder.state_schema, builder.input_schema, builder.output_schema)
        yield from (node.input_schema for node in builder.nodes.values())
