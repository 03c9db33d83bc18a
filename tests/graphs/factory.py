"""A graph that an async context manager makes, around what its nodes need: it is closed after them,
and opened anew by each process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from tests.support.agents import act


@dataclass
class Line:
    """A connection to somewhere."""

    is_open: bool = False


@asynccontextmanager
async def graph() -> AsyncIterator[Any]:
    """The graph, with an open line."""
    line = Line()

    async def ask(state: MessagesState) -> dict[str, Any]:
        assert line.is_open
        return {"messages": [AIMessage(interrupt({"dial": state["messages"][-1].text}))]}

    async def ring(state: MessagesState) -> dict[str, Any]:
        assert line.is_open
        number = state["messages"][-1].text
        await act(f"factory: ring {number}")
        return {"messages": [AIMessage(f"Rang {number}.")]}

    builder = StateGraph(MessagesState).add_sequence([ask, ring]).add_edge(START, "ask")
    line.is_open = True
    yield builder.compile(name="factory")
    line.is_open = False


INPUT = {"messages": [{"role": "user", "content": "Ada"}]}
ANSWERS = [["555"]]
AGAIN = ["factory: ring 555"]
