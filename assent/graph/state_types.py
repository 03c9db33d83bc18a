"""The types that a graph's state is declared with, which a checkpointer may restore."""

from __future__ import annotations

import inspect
from typing import Any

from langgraph._internal._serde import build_serde_allowlist
from langgraph.pregel import Pregel


def state_types(graph: Pregel[Any, Any, Any, Any]) -> set[tuple[str, ...]]:
    """Module and name of every model, dataclass and enum in the declared state of the graph and its
    subgraphs, and in the `response_format` of langchain's agents among them.

    LangGraph's `compile()` hands the same set to the checkpointer if LANGGRAPH_STRICT_MSGPACK was
    set before it was imported. Types that a state holds under `Any` or a type variable are not
    declared, so they are missing.
    """
    types: set[tuple[str, ...]] = set()
    inner = dict(graph.get_subgraphs(recurse=True)).values()
    # A graph of another server is one as well, and its state is stored there.
    for each in (graph, *(each for each in inner if isinstance(each, Pregel))):
        types |= build_serde_allowlist(schemas=_schemas(each), channels=dict(each.channels))
    return types


def _schemas(graph: Any) -> list[Any]:
    builder = getattr(graph, "builder", None)
    if builder is None:
        return []
    nodes = [node.input_schema for node in builder.nodes.values()]
    declared = [builder.state_schema, builder.input_schema, builder.output_schema, *nodes]
    return [*declared, _response_schema(builder.nodes.get("model"))]


def _response_schema(node: Any) -> Any:
    """The schema of the `response_format`, if this is the node `model` of langchain's
    `create_agent`, else None.

    The state declares the answer as a type variable, and only the node's closure has the schema.
    """
    function = getattr(getattr(node, "runnable", None), "afunc", None)
    if not inspect.isfunction(function):
        return None
    kept = inspect.getclosurevars(function).nonlocals
    return getattr(kept.get("initial_response_format"), "schema", None)
