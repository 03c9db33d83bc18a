"""What only the agents know of approvals: what a thread's checkpoint asks at this moment, which
decisions fit it, and what other arguments of a call would need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import ToolCall

from assent.approvals.decide import Asked
from assent.approvals.rules import Needs
from assent.core.decisions import DECISION_TYPES, Decision
from assent.core.digest import call_digest
from assent.core.errors import ConfigurationError, NotFound
from assent.core.policy import PolicyBook, policy_from_json
from assent.core.rows import Approval, ApprovalKind, Thread
from assent.graph.builder import HitlGraph
from assent.graph.gate import Gate
from assent.graph.interrupts.questions import graph_of
from assent.graph.interrupts.resume import Agent, PendingApproval, check_decision, find_pending
from assent.runs.budgets import check_grant
from assent.runs.states import thread_config

OF_GRAPHS = frozenset(
    {ApprovalKind.TOOL, ApprovalKind.NODE, ApprovalKind.INPUT, ApprovalKind.UNKNOWN_OUTCOME}
)
"""The kinds whose questions are in the thread's checkpoint."""


def check_policies(policies: PolicyBook, agents: Mapping[str, Agent]) -> None:
    """Raise `ConfigurationError` if the policies are for an agent or a tool that there is not, or
    do not go with what is said in code."""
    for name, rules in policies.agents.items():
        if name not in agents:
            raise ConfigurationError(
                f"The policies are for an agent '{name}', and there is none. There are: {', '.join(agents)}."
            )
        gate = _gate(agents[name])
        if gate is not None and (unknown := sorted(set(rules.tools) - set(gate.tools))):
            raise ConfigurationError(
                f"The policies are for a tool '{unknown[0]}' of the agent '{name}', and it has only: {', '.join(sorted(gate.tools))}."
            )
        written = gate.rules.policies if gate is not None else {}
        for tool in {"", *rules.tools, *written}:
            policies.policy(name, tool, written.get(tool))


def check_tool(agent: Agent, name: str, tool: str) -> None:
    """Raise `NotFound` if the agent of this name has no such tool. Which tools a graph of a user's
    own has is not known."""
    gate = _gate(agent)
    if gate is not None and tool not in gate.tools:
        raise NotFound(
            f"The agent '{name}' has no tool '{tool}'. It has: {', '.join(sorted(gate.tools))}."
        )


def _gate(agent: Agent) -> Gate | None:
    return agent.builder.gate if isinstance(agent.builder, HitlGraph) else None


@dataclass(frozen=True, slots=True)
class Asking:
    """Looks at what threads ask."""

    agents: Mapping[str, Agent]
    policies: PolicyBook

    async def __call__(self, thread: Thread, pending: Sequence[Approval]) -> Asked:
        """What the thread asks now, beside what is pending. Where the server does not have its
        agent, nothing can be decided."""
        name = thread.agent or ""
        agent = self.agents.get(name)
        if agent is None:
            return Asked(check=_refuse, needs=_same_policy)
        waiting = await _waiting(agent, thread, pending) if pending else {}
        stale = {
            row.approval_id: why
            for row in pending
            if (why := _why_stale(row, waiting.get(row.approval_id)))
        }
        known = _Known(agent, name, self.policies, waiting)
        return Asked(check=known.check, needs=known.needs, stale=stale)


async def _waiting(
    agent: Agent, thread: Thread, pending: Sequence[Approval]
) -> dict[str, PendingApproval]:
    snapshot = await agent.aget_state(thread_config(thread.thread_id), subgraphs=True)
    pauses = {row.run_id for row in pending}
    return {
        each.approval_id: each
        for pause in pauses
        for each in find_pending(agent, snapshot, pause=pause)
    }


def _why_stale(row: Approval, asked: PendingApproval | None) -> str | None:
    """Why the approval does not stand for what the thread asks; None if it does."""
    if row.kind not in OF_GRAPHS:
        return None
    if asked is None:
        return "The thread's state has been changed, and it does not ask this any more."
    if (row.tool, row.digest, call_digest("", row.args)) != (
        asked.tool,
        asked.digest,
        call_digest("", asked.args),
    ):
        return "What is stored of the approval has been changed, and is not what its thread asks."
    return None


@dataclass(frozen=True, slots=True)
class _Known:
    """What an agent knows of what it asks, by approval id."""

    agent: Agent
    name: str
    policies: PolicyBook
    waiting: Mapping[str, PendingApproval]

    def check(self, approval: Approval, decision: Decision) -> None:
        if approval.kind is ApprovalKind.BUDGET:
            check_grant(approval, decision)
        elif approval.approval_id in self.waiting:
            # What a policy allows can change while it is asked, and the machine has looked at that.
            asked = replace(self.waiting[approval.approval_id], allowed=DECISION_TYPES)
            check_decision(self.agent, asked, decision)

    def needs(self, approval: Approval, args: Mapping[str, Any]) -> Needs:
        """By the rules of the gate that asked. Where nobody says anything of other arguments, they
        need what the first ones did."""
        builder = graph_of(self.agent, approval.node).builder
        if approval.kind is not ApprovalKind.TOOL or not isinstance(builder, HitlGraph):
            return _same_policy(approval, args)
        written = builder.gate.rules.policy_for(
            ToolCall(name=approval.tool, args=dict(args), id=approval.tool_call_id)
        )
        return Needs(
            policy=None
            if written is None
            else self.policies.policy(self.name, approval.tool, written)
        )


def _refuse(approval: Approval, decision: Decision) -> None:
    raise NotFound(
        f"The approval {approval.approval_id} is for the agent '{approval.agent}', which this server does not have."
    )


def _same_policy(approval: Approval, args: Mapping[str, Any]) -> Needs:
    return Needs(policy=policy_from_json(approval.policy))
