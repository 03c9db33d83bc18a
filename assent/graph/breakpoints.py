"""Breakpoints that a run asks for: added to those that its graph was compiled with, and never in
their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from assent.core.approval import Approval, ApprovalKind
from assent.core.remembered import Remembered
from assent.core.run_input import NodeNames, RunInput
from assent.graph.kinds import Agent
from assent.graph.retrying import approved_once

KEPT = 64
"""The most copies of graphs that are kept."""


class Breakpoints:
    """Agents by name, and copies of them that also pause where their runs say."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._agents = agents
        self._copies: Remembered[Agent] = Remembered(KEPT)

    def agent(self, name: str, given: RunInput) -> Agent:
        """The agent of this name as a run with this input has it."""
        agent = self._agents[name]
        before, after = given.interrupt_before, given.interrupt_after
        if not before and not after:
            return agent
        key = repr((name, before, after))
        paused = self._copies.get(key)
        if paused is None:
            paused = with_breakpoints(agent, before or [], after or [])
            self._copies.put(key, paused)
        return paused


def only_its_run_asked(agent: Agent, approval: Approval, given: RunInput) -> bool:
    """True if the approval is of a pause between nodes which the run that paused was `given` as a
    breakpoint, and which the agent was not compiled with. Where that is not certain, as behind the
    nodes of an `interrupt_after`, it is taken for one of the agent's."""
    if approval.kind is not ApprovalKind.NODE or approval.namespace:
        return False
    if agent.interrupt_after_nodes or _names_one(agent.interrupt_before_nodes, approval.node):
        return False
    return bool(given.interrupt_after) or _names_one(given.interrupt_before or [], approval.node)


def _names_one(names: Literal["*"] | Sequence[str], nodes: str) -> bool:
    """True if one of the names is among the nodes, which are joined by commas."""
    return names == "*" or any(f", {name}, " in f", {nodes}, " for name in names)


def with_breakpoints(agent: Agent, before: NodeNames, after: NodeNames) -> Agent:
    """A copy of the agent that also pauses before and after these nodes."""
    paused = {
        "interrupt_before_nodes": _both(agent.interrupt_before_nodes, before),
        "interrupt_after_nodes": _both(agent.interrupt_after_nodes, after),
    }
    return approved_once(agent.copy(update=paused))


def _both(compiled: Literal["*"] | Sequence[str], asked: NodeNames) -> Literal["*"] | Sequence[str]:
    if compiled == "*" or asked == "*":
        return "*"
    return list(dict.fromkeys([*compiled, *asked]))
