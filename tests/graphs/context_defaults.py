"""A graph whose context has a default for everything, run without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from tests.support.agents import act


@dataclass
class Manner:
    """How to greet."""

    language: str = "en"
    times: int = 2


def ask(state: MessagesState, runtime: Runtime[Manner]) -> dict[str, Any]:
    name = interrupt({"question": "Who?", "language": runtime.context.language})
    return {"messages": [AIMessage(f"It is {name}.")]}


async def greet(state: MessagesState, runtime: Runtime[Manner]) -> dict[str, Any]:
    greeting = {"en": "Hello", "fr": "Bonjour"}[runtime.context.language]
    said = ", ".join([greeting] * runtime.context.times)
    await act(f"context_defaults: {said}")
    return {"messages": [AIMessage(f"{said}! {state['messages'][-1].text}")]}


graph = (
    StateGraph(MessagesState, context_schema=Manner)
    .add_sequence([ask, greet])
    .add_edge(START, "ask")
    .compile(name="context_defaults")
)

INPUT = {"messages": [{"role": "user", "content": "Greet her."}]}
ANSWERS = [["Ada"]]
AGAIN = ["context_defaults: Hello, Hello"]
