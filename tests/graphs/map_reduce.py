"""A graph that asks about each chapter in a branch of its own, all at once, and puts together what
it was told."""

from __future__ import annotations

import operator
from typing import Annotated, Any

from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

from tests.support.agents import act, trace


class Book(TypedDict):
    """All chapters, what people said of each, and all of it."""

    chapters: list[str]
    verdicts: Annotated[list[str], operator.add]
    text: str


class Chapter(TypedDict):
    """One chapter."""

    chapter: str


def each(state: Book) -> list[Send]:
    return [Send("review", {"chapter": chapter}) for chapter in state["chapters"]]


async def review(state: Chapter) -> dict[str, Any]:
    trace(f"map_reduce: summarise {state['chapter']}")
    verdict = interrupt({"chapter": state["chapter"]})
    await act(f"map_reduce: {state['chapter']} is {verdict}")
    return {"verdicts": [f"{state['chapter']} is {verdict}"]}


def put_together(state: Book) -> dict[str, Any]:
    return {"text": "; ".join(state["verdicts"])}


graph = (
    StateGraph(Book)
    .add_node("review", review)
    .add_node("put_together", put_together)
    .add_conditional_edges(START, each, ["review"])
    .add_edge("review", "put_together")
    .compile(name="map_reduce")
)

CHAPTERS = ["one", "two", "three"]
VERDICTS = ["long", "good", "odd"]

INPUT = {"chapters": CHAPTERS}
ANSWERS = [VERDICTS]
AGAIN = [
    line
    for chapter, verdict in zip(CHAPTERS, VERDICTS, strict=True)
    for line in (f"map_reduce: summarise {chapter}", f"map_reduce: {chapter} is {verdict}")
]
