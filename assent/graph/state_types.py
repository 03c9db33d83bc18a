"""The types that a graph's state is declared with, which a checkpointer may restore."""

from __future__ import annotations

from typing import Any

from langgraph._internal._serde import build_serde_allowlist
from langgraph.pregel import Pregel


def state_types(graph: Pregel[Any, Any, Any, Any]) -> set[tuple[str, ...]]:
    """Module and name of every model, dataclass and enum in the declared state of the graph and its
    subgraphs.

    LangGraph's `compile()` hands the same set to the checkpointer if LANGGRAPH_STRICT_MSGPACK was
    set before it was imported. Types that a state holds under `Any` or a type variable are not
    declared, so they are missing.
    """
    types: set[tuple[str, ...]] = set()
    graphs: list[Any] = [graph, *dict(graph.get_subgraphs(recurse=True)).values()]
    for each in graphs:
        types |= build_serde_allowlist(schemas=_schemas(each), channels=dict(each.channels))
    return types


def _schemas(graph: Any) -> list[Any]:
    builder = getattr(graph, "builder", None)
    if builder is None:
        return []
    nodes = [node.input_schema for node in builder.nodes.values()]
    return [builder.state_schema, builder.input_schema, builder.output_schema, *nodes]
