"""What a paused thread waits for, read from its checkpoint, and how decisions let it go on.

Nothing but a checkpointer is needed:

    pending = await apending_approvals(agent, config)
    result = await aresume(agent, config, {pending[0].approval_id: Approve()})

Three kinds of pause look the same here: our own approval node, a static `interrupt_before/after` of a user's graph, and `interrupt()`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema
from langchain_core.messages import BaseMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.graph import END
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, StateSnapshot
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from assent.checkpoint.contracts import ApprovalKind
from assent.decisions import Approve, Decision, Edit, Reject, Respond, check_allowed, decision_to_json, match_decisions
from assent.digest import approval_id_for, call_digest
from assent.errors import InvalidDecision
from assent.graph.builder import APPROVAL_NODE, HitlGraph
from assent.graph.effects import UNKNOWN_OUTCOME
from assent.graph.state import open_calls, record_decision

Agent = CompiledStateGraph[Any, Any, Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingApproval:
    """One question that waits for a person.

    `args` are exactly what will run (or, for a question of a graph, its value) and `digest` is their SHA-256. `preview` is what the tool's
    policy shows of the effect. `allowed` are the types of decision it takes.
    """

    approval_id: str
    kind: ApprovalKind
    digest: str
    allowed: tuple[str, ...]
    tool: str = ""
    tool_call_id: str = ""
    args: Any = None
    preview: Any = None
    node: str = ""
    message_id: str = ""
    checkpoint_id: str = ""
    interrupt_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """How a graph goes on: first write `updates` (values, as which node), then run it with `input`, unless the updates have `ended` it."""

    input: Any = None
    updates: tuple[tuple[Any, str], ...] = ()
    ended: bool = field(default=False)


# ── what is pending ──────────────────────────────────────────────────────────────────────────────────────────────────


def find_pending(agent: Agent, snapshot: StateSnapshot, *, pause: str = "") -> list[PendingApproval]:
    """The approvals that a thread in this state waits for; empty if it waits for nobody.

    Their ids are the same each time they are asked for; `pause` tells apart pauses that ask the same thing again.
    """
    if snapshot.interrupts:
        return [_asked(snapshot, interrupt.id, interrupt.value, pause) for interrupt in snapshot.interrupts]
    if isinstance(agent.builder, HitlGraph):
        return _gated_calls(agent.builder, snapshot, pause) if APPROVAL_NODE in snapshot.next else []
    return _static_pause(agent, snapshot, pause)


def _gated_calls(graph: HitlGraph, snapshot: StateSnapshot, pause: str) -> list[PendingApproval]:
    turn, _ = open_calls(snapshot.values["messages"])
    pending = []
    for call in graph.gate.waiting(snapshot.values):  # type: ignore[arg-type]
        policy = graph.gate.rules.policy_for(call)
        digest = call_digest(call["name"], call["args"])
        message_id = (turn.id if turn else None) or ""
        approval_id = _id(snapshot, pause, message=message_id, call=call["id"] or "", digest=digest)
        pending.append(
            PendingApproval(
                approval_id=approval_id,
                kind=ApprovalKind.TOOL,
                tool=call["name"],
                tool_call_id=call["id"] or "",
                args=call["args"],
                digest=digest,
                allowed=policy.allowed if policy else (),
                node=APPROVAL_NODE,
                message_id=message_id,
                checkpoint_id=_checkpoint_id(snapshot),
            )
        )
    return pending


def _asked(snapshot: StateSnapshot, interrupt_id: str, value: Any, pause: str) -> PendingApproval:
    node = next((task.name for task in snapshot.tasks if any(i.id == interrupt_id for i in task.interrupts)), "")
    if isinstance(value, Mapping) and value.get("kind") == UNKNOWN_OUTCOME:
        return PendingApproval(
            approval_id=_id(snapshot, pause, interrupt=interrupt_id, digest=str(value["digest"]), attempt=str(value["attempt"])),
            kind=ApprovalKind.UNKNOWN_OUTCOME,
            tool=value["tool"],
            tool_call_id=value["tool_call_id"],
            args=value["args"],
            digest=value["digest"],
            allowed=("approve", "reject", "respond"),
            node=node,
            checkpoint_id=_checkpoint_id(snapshot),
            interrupt_id=interrupt_id,
        )
    question = to_jsonable_python(value, serialize_unknown=True)
    digest = call_digest(node, question)
    return PendingApproval(
        approval_id=_id(snapshot, pause, interrupt=interrupt_id, digest=digest),
        kind=ApprovalKind.INPUT,
        args=question,
        digest=digest,
        allowed=("respond", "reject"),
        node=node,
        checkpoint_id=_checkpoint_id(snapshot),
        interrupt_id=interrupt_id,
    )


def _static_pause(agent: Agent, snapshot: StateSnapshot, pause: str) -> list[PendingApproval]:
    """A static pause carries nothing, so the question is made of the nodes that wait and the calls that the last message asks for."""
    if not snapshot.next or not (_stops_before(agent, snapshot.next) or agent.interrupt_after_nodes):
        return []
    calls = _messages_open_calls(snapshot)
    args = {"tool_calls": [{"id": call["id"], "name": call["name"], "args": call["args"]} for call in calls]} if calls else {}
    node = ", ".join(snapshot.next)
    digest = call_digest(node, args)
    return [
        PendingApproval(
            approval_id=_id(snapshot, pause, checkpoint=_checkpoint_id(snapshot), digest=digest),
            kind=ApprovalKind.NODE,
            args=args,
            digest=digest,
            allowed=("approve", "reject"),
            node=node,
            checkpoint_id=_checkpoint_id(snapshot),
        )
    ]


def _stops_before(agent: Agent, nodes: Sequence[str]) -> bool:
    return agent.interrupt_before_nodes == "*" or bool(set(nodes) & set(agent.interrupt_before_nodes))


def _messages_open_calls(snapshot: StateSnapshot) -> list[ToolCall]:
    messages = snapshot.values.get("messages") if isinstance(snapshot.values, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, BaseMessage) for message in messages):
        return []
    return open_calls(messages)[1]


def _checkpoint_id(snapshot: StateSnapshot) -> str:
    return str(snapshot.config["configurable"].get("checkpoint_id", ""))


def _id(snapshot: StateSnapshot, pause: str, **parts: str) -> str:
    return approval_id_for({"thread": str(snapshot.config["configurable"]["thread_id"]), "pause": pause, **parts})


async def with_previews(agent: Agent, pending: Sequence[PendingApproval]) -> list[PendingApproval]:
    """The same approvals, each with what its tool's policy shows of the effect. A preview that fails says so and stops nothing."""
    return [replace(approval, preview=await _preview(agent, approval)) for approval in pending]


async def _preview(agent: Agent, approval: PendingApproval) -> Any:
    policy = agent.builder.gate.rules.policies.get(approval.tool) if isinstance(agent.builder, HitlGraph) else None
    if policy is None or policy.preview is None or approval.kind is not ApprovalKind.TOOL:
        return None
    try:
        # A copy, so that what is shown stays what will run. In a thread, since a plain function may take its time.
        shown = await asyncio.to_thread(policy.preview, deepcopy(approval.args))
        if inspect.isawaitable(shown):
            shown = await shown
        return to_jsonable_python(shown, serialize_unknown=True)
    except Exception as error:
        return {"unavailable": f"The preview failed with {type(error).__name__}."}


def pending_approvals(agent: Agent, config: RunnableConfig) -> list[PendingApproval]:
    """`apending_approvals`, for sync code."""
    pending = find_pending(agent, agent.get_state(config))
    # Previews may be async, and in a notebook this thread has a loop that is running already.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(with_previews(agent, pending))).result()


async def apending_approvals(agent: Agent, config: RunnableConfig) -> list[PendingApproval]:
    """What the thread waits for, in the model's order, with previews; empty if it waits for nobody."""
    return await with_previews(agent, find_pending(agent, await agent.aget_state(config)))


# ── deciding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_decision(agent: Agent, approval: PendingApproval, decision: Decision) -> None:
    """Raise `InvalidDecision` if the approval does not take this decision, or its tool does not take the edited arguments."""
    check_allowed(decision, approval.approval_id, approval.allowed)
    if isinstance(decision, Edit) and isinstance(agent.builder, HitlGraph):
        check_args(agent.builder.gate.tools[approval.tool], decision.args)
    if isinstance(decision, Respond) and approval.kind is not ApprovalKind.INPUT and not isinstance(decision.message, str):
        raise InvalidDecision(f"The answer for the tool '{approval.tool}' must be a text: it takes the place of the tool's result.")


def check_args(tool: BaseTool, args: Mapping[str, Any]) -> None:
    """Raise `InvalidDecision` if a model could not call the tool with these. A misspelt name counts: tools drop those in silence."""
    schema = tool.tool_call_schema
    # A JSON schema without properties has no `.args`; one with a rule for other names is left to that rule.
    known = set(schema.get("properties", {}) if isinstance(schema, dict) else tool.args)
    has_rule = isinstance(schema, dict) and "additionalProperties" in schema
    if (unknown := sorted(set(args) - known)) and not has_rule:
        raise InvalidDecision(f"The tool '{tool.name}' has no argument '{unknown[0]}'. It has: {', '.join(sorted(known)) or 'none'}.")
    try:
        if isinstance(schema, dict):
            jsonschema.validate(dict(args), schema)
        elif issubclass(schema, BaseModel):
            schema.model_validate(dict(args))
    except jsonschema.ValidationError as error:
        raise InvalidDecision(f"The tool '{tool.name}' does not take these arguments: {error.message} (at {error.json_path}).") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
        raise InvalidDecision(f"The tool '{tool.name}' does not take these arguments: {problems}.") from error


def continuation(
    agent: Agent,
    snapshot: StateSnapshot,
    decided: Sequence[tuple[PendingApproval, Decision]],
    *,
    messages: Sequence[BaseMessage] = (),
) -> Continuation:
    """How the graph goes on with these decisions; `messages` are added to the conversation. Approvals without a decision pause again."""
    if snapshot.interrupts:
        answers = {approval.interrupt_id: _resume_value(approval, decision) for approval, decision in decided}
        return Continuation(input=Command(resume=answers, update={"messages": list(messages)} if messages else None))
    if isinstance(agent.builder, HitlGraph):
        turn, calls = open_calls(snapshot.values["messages"])
        by_id = {call["id"]: call for call in calls}
        records = {
            approval.tool_call_id: record_decision(turn, by_id[approval.tool_call_id], decision)
            for approval, decision in decided
            if turn is not None
        }
        return Continuation(input=Command(update={"decisions": records, **({"messages": list(messages)} if messages else {})}))
    return _past_static_pause(snapshot, decided, messages)


def _past_static_pause(
    snapshot: StateSnapshot, decided: Sequence[tuple[PendingApproval, Decision]], messages: Sequence[BaseMessage]
) -> Continuation:
    ((_, decision),) = decided
    if isinstance(decision, Approve):
        return Continuation()
    reason = decision.message if isinstance(decision, Reject) else ""
    text = f"A person rejected this call. It did not run.{f' The reason: {reason}' if reason else ''}"
    answers = [ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error") for call in _messages_open_calls(snapshot)]
    if answers and len(snapshot.next) == 1:
        return Continuation(updates=(({"messages": [*answers, *messages]}, snapshot.next[0]),))
    if messages:
        # New input takes the waiting nodes off, and the graph begins anew with it.
        return Continuation(input={"messages": [*answers, *messages]})
    # There is no message by which to tell the graph, so its waiting nodes are taken off and the run is over.
    return Continuation(updates=((None, END),), ended=True)


def _resume_value(approval: PendingApproval, decision: Decision) -> Any:
    if approval.kind is ApprovalKind.INPUT and isinstance(decision, Respond):
        return decision.message
    if approval.kind is ApprovalKind.UNKNOWN_OUTCOME:
        # Named, so that the gate cannot take it for an answer to another question, nor another answer for it.
        return {**decision_to_json(decision), "kind": UNKNOWN_OUTCOME, "digest": approval.digest}
    return decision_to_json(decision)


def resume(agent: Agent, config: RunnableConfig, decisions: Decision | Mapping[str, Decision]) -> Any:
    """Decide, and let the thread go on to its end or its next pause; returns the graph's output, as `invoke` does.

    `decisions` maps approval ids (or tool call ids) to decisions; a bare decision does if exactly one approval is pending. What is left
    undecided pauses again. Raises `NothingPending`, `NotFound` or `InvalidDecision`, and then nothing has run.
    """
    snapshot = agent.get_state(config)
    plan = continuation(agent, snapshot, _checked(agent, snapshot, decisions))
    for values, as_node in plan.updates:
        agent.update_state(config, values, as_node=as_node)
    return agent.get_state(config).values if plan.ended else agent.invoke(plan.input, config, durability="sync")


async def aresume(agent: Agent, config: RunnableConfig, decisions: Decision | Mapping[str, Decision]) -> Any:
    """`resume`, async."""
    snapshot = await agent.aget_state(config)
    plan = continuation(agent, snapshot, _checked(agent, snapshot, decisions))
    for values, as_node in plan.updates:
        await agent.aupdate_state(config, values, as_node=as_node)
    return (await agent.aget_state(config)).values if plan.ended else await agent.ainvoke(plan.input, config, durability="sync")


def _checked(agent: Agent, snapshot: StateSnapshot, decisions: Decision | Mapping[str, Decision]) -> list[tuple[PendingApproval, Decision]]:
    decided = match_decisions(find_pending(agent, snapshot), decisions)
    for approval, decision in decided:
        check_decision(agent, approval, decision)
    return decided
