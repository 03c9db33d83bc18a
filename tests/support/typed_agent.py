"""An agent whose state holds types that its own file defines, to be served as that file."""

from __future__ import annotations

from enum import Enum
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel


class Colour(Enum):
    RED = "red"


class Order(BaseModel):
    colour: Colour
    size: int


class State(MessagesState, total=False):
    order: Order


def take(state: State) -> dict[str, Any]:
    return {"order": Order(colour=Colour.RED, size=3)}


def ship(state: State) -> dict[str, Any]:
    answer = interrupt("Ship it?")
    order = state["order"]
    assert isinstance(order, Order)
    return {"messages": [AIMessage(f"{answer}: {order.size} of {order.colour.name}")]}


graph = StateGraph(State).add_sequence([take, ship]).add_edge(START, "take").compile()
