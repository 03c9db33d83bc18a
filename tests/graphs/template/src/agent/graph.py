"""A graph of one node, in the shape of the project that `langgraph new` makes.

Written anew after github.com/langchain-ai/new-langgraph-project (MIT). Like that one it has no .env
beside it, a state of its own with defaults, and a context that it can do without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langgraph.graph import StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict


class Context(TypedDict):
    """The context of a run."""

    my_configurable_param: str


@dataclass
class State:
    """The input of a run."""

    changeme: str = "example"


async def call_model(state: State, runtime: Runtime[Context]) -> dict[str, Any]:
    """Answer without a model, so that no key is needed."""
    configured = (runtime.context or {}).get("my_configurable_param")
    return {"changeme": f"output from call_model. Configured with {configured}"}


graph = (
    StateGraph(State, context_schema=Context)
    .add_node(call_model)
    .add_edge("__start__", "call_model")
    .compile(name="New Graph")
)
