"""The knowledge of agents about approvals: what a thread's checkpoint asks at this moment, which
decisions fit it, and what other arguments of a call would need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
from langchain_core.messages import ToolCall
from langchain_core.runnables import RunnableConfig
from msgspec.structs import replace

from assent.approvals.decide import Inspection
from assent.approvals.people import People
from assent.approvals.rules import Requirement
from assent.core.access import role_of
from assent.core.approval import Approval, ApprovalKind
from assent.core.decisions import DECISION_TYPES, Decision
from assent.core.digest import call_digest
from assent.core.errors import ConfigurationError, NotFound
from assent.core.json import Json, JsonObject
from assent.core.policy import Policy, PolicyBook
from assent.core.rows import Thread
from assent.core.run_input import RunInput, given_in
from assent.graph.breakpoints import Breakpoints
from assent.graph.forking import Standing, would_be
from assent.graph.interrupts.previews import preview_of_args
from assent.graph.interrupts.questions import find_pending, graph_of
from assent.graph.interrupts.resume import check_decision
from assent.graph.kinds import Agent, gate_of
from assent.runs.budgets import check_grant
from assent.runs.states import thread_config
from assent.storage.base import Storage

log = structlog.get_logger(__name__)


def check_policies(policies: PolicyBook, agents: Mapping[str, Agent]) -> None:
    """Raise `ConfigurationError` if the policies name an agent or a tool that does not exist, or
    contradict what is said in code."""
    for name, rules in policies.agents.items():
        if name not in agents:
            raise ConfigurationError(
                f"The policies are for an agent '{name}', and there is none. "
                f"There are: {', '.join(agents)}."
            )
        gate = gate_of(agents[name])
        unknown = sorted(set(rules.tools) - set(gate.tools)) if gate else []
        if gate and unknown and not gate.has_others:
            raise ConfigurationError(
                f"The policies are for a tool '{unknown[0]}' of the agent '{name}', "
                f"and it has only: {', '.join(sorted(gate.tools))}."
            )
        written = gate.rules.policies if gate else {}
        for tool in {"", *rules.tools, *written}:
            policies.policy(name, tool, written.get(tool))


def check_people(people: People, policies: PolicyBook, agents: Mapping[str, Agent]) -> None:
    """Raise `ConfigurationError` for a policy that these people can never meet. Policies that a
    predicate or a subgraph has are not known yet; their approvals say it."""
    for name, agent in agents.items():
        for tool, policy in _known(name, agent, policies):
            why = people.why_unmet(policy)
            if why is not None:
                where = f"the agent '{name}' for its tool '{tool}'"
                raise ConfigurationError(
                    f"Nobody can meet the policy of {where}. {why} "
                    "Give more people the role or a key, or ask others."
                )


def log_roles_of_rights(policies: PolicyBook, agents: Mapping[str, Agent]) -> None:
    """Log the roles that give rights and that a policy asks. It may be meant, and so is no reason
    to refuse the policy; but people have these roles for other reasons, most of them by default."""
    for name, agent in agents.items():
        # The tool "" is any other.
        known = [*_known(name, agent, policies), ("", policies.policy(name, "", None))]
        tools: dict[str, list[str]] = {}
        for tool, policy in known:
            for role in filter(role_of, policy.asked(len(policy.escalation))[0]):
                tools.setdefault(role, []).append(tool)
        for role in sorted(tools):
            log.warning(
                "a policy asks a role that gives rights",
                agent=name,
                tools=sorted(filter(None, tools[role])),
                role=role,
                reason=f"It asks everybody who has '{role}', for whatever reason. Ask a role of "
                "policies, such as 'lead', and give it to those who are meant.",
            )


def _known(name: str, agent: Agent, policies: PolicyBook) -> Iterator[tuple[str, Policy]]:
    """The policies that are known before anything is asked, each with its tool."""
    gate = gate_of(agent)
    written = gate.rules.policies if gate else {}
    rules = policies.agents.get(name)
    for tool in sorted({*written, *(rules.tools if rules else ())}):
        yield tool, policies.policy(name, tool, written.get(tool))


def check_tool(agent: Agent, name: str, tool: str) -> None:
    """Raise `NotFound` if the agent of this name has no such tool. The tools of a user's own graph
    are not known, nor those that only a turn of an agent knows."""
    gate = gate_of(agent)
    if gate is not None and tool not in gate.tools and not gate.has_others:
        raise NotFound(
            f"The agent '{name}' has no tool '{tool}'. It has: {', '.join(sorted(gate.tools))}."
        )


@dataclass(frozen=True, slots=True)
class AgentInspector:
    """Compares pending approvals with what their threads' checkpoints ask."""

    storage: Storage
    agents: Mapping[str, Agent]
    policies: PolicyBook
    breakpoints: Breakpoints

    async def inspect(self, thread: Thread, pending: Sequence[Approval]) -> Inspection:
        """The knowledge of the agent about these approvals. If this server does not have the agent,
        nothing can be decided."""
        name = thread.agent or ""
        if name not in self.agents:
            return _WithoutAgent()
        agent = await self._agent(name, pending)
        found = await _found(agent, thread, pending) if pending else {}
        stale: dict[str, str] = {}
        for approval in pending:
            reason = _why_stale(approval, found.get(approval.approval_id))
            if reason is not None:
                stale[approval.approval_id] = reason
        return _WithAgent(agent, name, self.policies, found, stale)

    async def asked_at(
        self, name: str, given: RunInput, config: RunnableConfig, checkpoint_id: str
    ) -> tuple[Standing, list[Approval]]:
        """The next thing that a fork from a checkpoint could do, in a run that is given this; and
        what it would ask, under the policies that there are now."""
        agent = self.breakpoints.agent(name, given)
        standing, snapshot = await would_be(agent, config, checkpoint_id)
        asked = find_pending(agent, snapshot) if standing is Standing.WAITING else []
        policies = [self.policies.policy(name, each.tool, each.policy) for each in asked]
        return standing, [
            replace(each, policy=policy) for each, policy in zip(asked, policies, strict=True)
        ]

    async def _agent(self, name: str, pending: Sequence[Approval]) -> Agent:
        """The agent as the run that asked had it, with the breakpoints of that run."""
        asking = await self.storage.run(pending[0].run_id) if pending else None
        return self.breakpoints.agent(name, given_in(asking.input if asking else {}))


async def _found(agent: Agent, thread: Thread, pending: Sequence[Approval]) -> dict[str, Approval]:
    """The approvals in the thread's checkpoint, by id, as each pause would ask them."""
    snapshot = await agent.aget_state(thread_config(thread.thread_id), subgraphs=True)
    pauses = {approval.run_id for approval in pending}
    found = [each for pause in pauses for each in find_pending(agent, snapshot, pause=pause)]
    return {each.approval_id: each for each in found}


def _why_stale(stored: Approval, found: Approval | None) -> str | None:
    """A sentence, if the approval does not stand for what the thread asks; else None."""
    if stored.kind is ApprovalKind.BUDGET:
        # Asked by the run, not by its graph.
        return None
    if found is None:
        return "The thread's state has been changed, and it does not ask this any more."
    if _subject(stored) != _subject(found):
        return "What is stored of the approval has been changed, and is not what its thread asks."
    return None


def _subject(approval: Approval) -> tuple[str, str, str]:
    return approval.tool, approval.digest, call_digest("", approval.args)


@dataclass(frozen=True, slots=True)
class _WithAgent:
    """The inspection by an agent. `found` are the approvals in the checkpoint, by id."""

    agent: Agent
    name: str
    policies: PolicyBook
    found: Mapping[str, Approval]
    stale: Mapping[str, str]

    def check(self, approval: Approval, decision: Decision) -> None:
        if approval.kind is ApprovalKind.BUDGET:
            check_grant(approval, decision)
        elif approval.approval_id in self.found:
            # `advance` has checked the allowed decisions, which an edit may have changed since.
            found = replace(self.found[approval.approval_id], allowed=DECISION_TYPES)
            check_decision(self.agent, found, decision)

    def requires(self, approval: Approval, args: Mapping[str, Json]) -> Requirement:
        """Ask the rules of the gate that asked. Where it is not known, and in other graphs, other
        arguments need the same policy."""
        gate = gate_of(graph_of(self.agent, approval.node))
        if approval.kind is not ApprovalKind.TOOL or gate is None:
            return Requirement(approval.policy)
        call = ToolCall(name=approval.tool, args=dict(args), id=approval.tool_call_id)
        written = gate.rules.policy_for(call)
        if written is None:
            return Requirement(None)
        return Requirement(self.policies.policy(self.name, approval.tool, written))

    async def preview(self, approval: Approval, args: JsonObject) -> Json:
        return await preview_of_args(self.agent, approval, args)


class _WithoutAgent:
    """The inspection of a thread whose agent this server does not have."""

    stale: Mapping[str, str] = {}

    def check(self, approval: Approval, decision: Decision) -> None:
        raise NotFound(
            f"The approval {approval.approval_id} is for the agent '{approval.agent}', "
            "which this server does not have."
        )

    def requires(self, approval: Approval, args: Mapping[str, Json]) -> Requirement:
        return Requirement(approval.policy)

    async def preview(self, approval: Approval, args: JsonObject) -> Json:
        return None
