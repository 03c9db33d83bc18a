"""A graph that reads all pages side by side, asks once, and publishes all side by side."""

from __future__ import annotations

import operator
from typing import Annotated, Any

from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

from tests.support.agents import act, trace


class Book(TypedDict):
    """All pages, and what was done to them."""

    pages: list[str]
    done: Annotated[list[str], operator.add]


class Page(TypedDict):
    """One page."""

    page: str


def read(state: Page) -> dict[str, Any]:
    trace(f"fan_out: read {state['page']}")
    return {"done": [f"read {state['page']}"]}


def ask(state: Book) -> dict[str, Any]:
    return {"pages": interrupt({"publish": state["pages"], "done": state["done"]})}


async def publish(state: Page) -> dict[str, Any]:
    await act(f"fan_out: publish {state['page']}")
    return {"done": [f"published {state['page']}"]}


def each(node: str) -> Any:
    """To that node with each page."""

    def fan(state: Book) -> list[Send]:
        return [Send(node, {"page": page}) for page in state["pages"]]

    return fan


graph = (
    StateGraph(Book)
    .add_node("read", read)
    .add_node("ask", ask)
    .add_node("publish", publish)
    .add_conditional_edges(START, each("read"), ["read"])
    .add_edge("read", "ask")
    .add_conditional_edges("ask", each("publish"), ["publish"])
    .compile(name="fan_out")
)

INPUT = {"pages": ["one", "two", "three"]}
ANSWERS = [[["one", "three"]]]
AGAIN = ["fan_out: publish one", "fan_out: publish three"]
