"""The kinds of graphs that Assent runs: agents of `build_hitl_agent`, which have a gate; state
graphs of anybody's; and workflows of LangGraph's functional API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langgraph._internal._constants import PREVIOUS
from langgraph.graph import END, START
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import RetryPolicy

from assent.core.errors import InvalidRequest, NotFound
from assent.graph.builder import HitlGraph
from assent.graph.gate import Gate

Agent = Pregel[Any, Any, Any, Any]

RUNS_AGAIN = (
    "This workflow runs again from its beginning when it goes on: steps outside of @task, and a "
    "task that was cut off, happen again."
)

TRIED_AGAIN = (
    "If a step of this graph fails, it is tried again, with all that it had done until then."
)


class GraphRetry(RetryPolicy):
    """The retry policy that nodes have by `graph.with_retry()`."""


def first_of(agents: Iterable[str]) -> str:
    """The name of the agent that does what names none. Raises `NotFound` if there are no agents."""
    name = next(iter(agents), None)
    if name is None:
        raise NotFound("This server has no agents.")
    return name


def gated_graph(agent: Agent | None) -> HitlGraph | None:
    """The graph that an agent of `build_hitl_agent` was made of; None for any other agent."""
    builder = agent.builder if isinstance(agent, CompiledStateGraph) else None
    return builder if isinstance(builder, HitlGraph) else None


def gate_of(agent: Agent | None) -> Gate | None:
    """The gate of an agent of `build_hitl_agent`; None for any other agent."""
    graph = gated_graph(agent)
    return None if graph is None else graph.gate


def is_workflow(agent: Agent) -> bool:
    """True for an `@entrypoint` of LangGraph's functional API. Its state is what it returned."""
    is_state_graph = isinstance(agent, CompiledStateGraph)
    return not is_state_graph and {START, END, PREVIOUS} <= agent.channels.keys()


def refuse_workflow(agent: Agent, name: str | None = None) -> None:
    """Raise `InvalidRequest` if the agent is a workflow: it has no state to go back to, and would
    do its tasks again without anybody being asked. Without a `name` it has its function's."""
    if is_workflow(agent):
        raise InvalidRequest(
            f"The agent '{name or next(iter(agent.nodes))}' is a workflow: its state is what it "
            "returned, so it cannot be forked, and cannot go on from a checkpoint. "
            "Start a new thread."
        )


def graph_notes(agent: Agent) -> dict[str, str]:
    """The `warning` for whoever decides what the agent asks: what it cannot promise. Empty if there
    is none. A gate promises that no call is made twice, so an agent with one has none."""
    notes: list[str] = []
    if is_workflow(agent):
        notes.append(RUNS_AGAIN)
    if gated_graph(agent) is None and _is_tried_again(agent):
        notes.append(TRIED_AGAIN)
    return {"warning": " ".join(notes)} if notes else {}


def _is_tried_again(agent: Agent) -> bool:
    policies = [policy for node in agent.nodes.values() for policy in node.retry_policy or ()]
    return any(isinstance(policy, GraphRetry) for policy in policies)
