"""What a graph looks like to a client: its drawing, its schemas, and its subgraphs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from langchain_core.runnables.graph import Node
from langgraph.constants import END, START
from langgraph.pregel import Pregel
from pydantic import TypeAdapter, create_model

from assent.core.errors import InvalidRequest
from assent.core.json import JsonObject
from assent.graph.kinds import Agent


async def drawing_of(agent: Agent, depth: int | bool) -> JsonObject:
    """The nodes and edges of the graph, with those of its subgraphs down to a `depth`."""
    graph = await agent.aget_graph(xray=depth)
    drawn: JsonObject = graph.to_json()
    return drawn


async def graphs_of(agent: Agent) -> list[JsonObject]:
    """The graph of the agent and its subgraphs, each with the `path` of nodes that it is in, its
    `nodes` and its `edges`."""
    subgraphs = {
        tuple(namespace.split("|")): graph
        async for namespace, graph in agent.aget_subgraphs(recurse=True)
        if isinstance(graph, Pregel)
    }
    return [
        await _graph_at(path, graph, subgraphs.keys())
        for path, graph in {(): agent, **subgraphs}.items()
    ]


Path = tuple[str, ...]


async def _graph_at(path: Path, graph: Agent, subgraphs: Collection[Path]) -> JsonObject:
    drawn = await graph.aget_graph()
    return {
        "path": path,
        "nodes": [
            {
                "id": node.id,
                "kind": "subgraph" if (*path, node.id) in subgraphs else _ENDS.get(node.id, "node"),
                "pauses": _pauses_of(node),
                "tools": list((node.metadata or {}).get("__tools", ())),
            }
            for node in drawn.nodes.values()
        ],
        "edges": [
            {
                "source": edge.source,
                "target": edge.target,
                "conditional": edge.conditional,
                "label": None if edge.data is None else str(edge.data),
            }
            for edge in drawn.edges
        ],
    }


_ENDS = {START: "start", END: "end"}


def _pauses_of(node: Node) -> list[str]:
    """The sides of the node on which the graph always pauses: before it, after it."""
    sides = (node.metadata or {}).get("__interrupt", "")
    return sides.split(",") if sides else []


def schemas_of(graph: Agent, name: str, configurable: Collection[str] = ()) -> JsonObject:
    """The JSON Schemas of the graph; None in place of one that its types do not have. `name` is
    that of the agent, and `configurable` the keys that it declares."""
    return {
        "graph_id": name,
        "input_schema": _schema(graph.get_input_jsonschema),
        "output_schema": _schema(graph.get_output_jsonschema),
        "state_schema": _schema(lambda: _state_schema(graph)),
        "config_schema": {"type": "object", "properties": {key: {} for key in configurable}},
        "context_schema": _schema(graph.get_context_jsonschema),
    }


async def subgraphs_of(
    agent: Agent, name: str, *, namespace: str | None, recurse: bool
) -> JsonObject:
    """The schemas of the graph's subgraphs, by the names of their nodes; of those below them too,
    if it is to `recurse`."""
    found = agent.aget_subgraphs(namespace=namespace, recurse=recurse)
    return {ns: schemas_of(graph, name) async for ns, graph in found if isinstance(graph, Pregel)}


def _schema(make: Callable[[], JsonObject | None]) -> JsonObject | None:
    try:
        return make()
    except Exception:
        # A type of the user's that has no schema may raise anything. LangGraph's clients take it
        # that there is none.
        return None


def _state_schema(graph: Agent) -> JsonObject:
    kinds: dict[str, Any] = {name: graph.channels[name] for name in graph.stream_channels_list}
    fields: dict[str, Any] = {
        name: (_describable(channel.ValueType), None) for name, channel in kinds.items()
    }
    state = create_model(graph.get_name("State"), **fields)
    return dict(state.model_json_schema())


def _describable(kind: Any) -> Any:
    try:
        TypeAdapter(kind).json_schema()
    except Exception:
        # The other fields are described without it.
        return Any
    return kind


def check_depth(text: str) -> int | bool:
    """The depth that a client asks for: a number, or true or false. Raises `InvalidRequest`."""
    if text in ("true", "false", ""):
        return text == "true"
    if text.isascii() and text.isdecimal() and len(text) < 3:
        return int(text)
    raise InvalidRequest(f"The depth {text[:20]!r} is neither a number, nor true or false.")
