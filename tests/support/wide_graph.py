"""A graph with more nodes than anybody would draw unasked."""

from __future__ import annotations

from typing import Any

from langgraph.graph import START, MessagesState, StateGraph


def nothing(state: MessagesState) -> dict[str, Any]:
    """Change nothing."""
    return {}


names = [f"step_{number:02}" for number in range(70)]
_graph = StateGraph(MessagesState)
for name in names:
    _graph.add_node(name, nothing).add_edge(START, name)
wide = _graph.compile(name="wide")
