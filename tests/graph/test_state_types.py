"""The types that a graph's state is declared with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from assent.graph.state_types import state_types
from tests.support.models import ScriptedModel, say


class Colour(Enum):
    RED = 1


class Point(BaseModel):
    colour: Colour


@dataclass
class Pair:
    point: Point | None


class State(TypedDict):
    pairs: Annotated[list[Pair], lambda old, new: old + new]
    anything: Any


class Inner(TypedDict):
    colour: Colour


def test_declared_types_are_found_in_fields_and_in_subgraphs() -> None:
    inner = StateGraph(Inner).add_node("node", lambda state: {}).add_edge(START, "node").compile()
    outer = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()
    names = {name for module, name in state_types(outer) if module == __name__}
    assert names == {"Colour", "Point", "Pair"}
    assert {name for module, name in state_types(inner) if module == __name__} == {"Colour"}
    assert ("langchain_core.messages.ai", "AIMessage") in state_types(inner)


@pytest.mark.parametrize(
    ("response_format", "names"),
    [
        (Point, {"Point", "Colour"}),
        (ToolStrategy(Point | Pair), {"Point", "Colour", "Pair"}),
        (ProviderStrategy(Point), {"Point", "Colour"}),
        ({"title": "Point", "type": "object", "properties": {}}, set()),
        (None, set()),
    ],
)
def test_an_agents_structured_answer_is_found_by_its_response_format(
    response_format: Any, names: set[str]
) -> None:
    agent = create_agent(ScriptedModel(script=[say("Bye.")]), [], response_format=response_format)
    outer = StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent").compile()
    for graph in (agent, outer):
        found = {name for module, name in state_types(graph) if module == __name__}
        assert found == names
