"""A graph with a state of its own, without messages: an input and an output that are other than the
state, a reducer, and values that are no plain JSON."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Annotated, Any

from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

from tests.support.agents import act


class Tone(Enum):
    """How it is to sound."""

    DRY = "dry"
    WARM = "warm"


@dataclass
class Source:
    """Where something was found."""

    title: str
    read: date


@dataclass
class Topic:
    """The input."""

    topic: str
    tone: Tone = Tone.DRY


@dataclass
class Report(Topic):
    """The state."""

    sources: Annotated[list[Source], operator.add] = field(default_factory=list)
    text: str = ""
    is_public: bool = False


@dataclass
class Published:
    """The output."""

    text: str


def research(state: Topic) -> dict[str, Any]:
    source = Source(f"All about {state.topic}", date(2020, 2, 29))
    return {"sources": [source], "tone": Tone(state.tone)}


def write(state: Report) -> dict[str, Any]:
    (source,) = state.sources
    text = f"{state.topic}, {state.tone.value}, after {source.title} ({source.read:%d %B %Y})"
    return {"text": text}


def ask(state: Report) -> dict[str, Any]:
    return {"is_public": interrupt({"publish": state.text}) == "yes"}


async def publish(state: Report) -> dict[str, Any]:
    # Both come from the checkpoint: they are what they were, and no dicts or strings.
    assert isinstance(state.tone, Tone) and isinstance(state.sources[0], Source)
    await act(f"own_state: publish {state.text}")
    return {"text": f"{state.text}. Published: {state.is_public}."}


graph = (
    StateGraph(Report, input_schema=Topic, output_schema=Published)
    .add_sequence([research, write, ask, publish])
    .add_edge(START, "research")
    .compile(name="own_state")
)

INPUT = {"topic": "Tea", "tone": "warm"}
ANSWERS = [["yes"]]
AGAIN = ["own_state: publish Tea, warm, after All about Tea (29 February 2020)"]
