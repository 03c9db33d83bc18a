"""What a paused thread waits for, and how decisions let it go on.

Nothing but a checkpointer is needed:

    pending = await apending_approvals(agent, config)
    result = await aresume(agent, config, {pending[0].approval_id: Approve()})

`questions.py` finds what is asked, `forms.py` knows in which form an answer is expected. This is
from decisions to what LangGraph is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.graph import END
from langgraph.types import Command, StateSnapshot
from pydantic import BaseModel, ValidationError

from assent.core.approval import Approval, ApprovalKind, match_decisions
from assent.core.decisions import Approve, Decision, Edit, Reject, Respond, check_allowed
from assent.core.errors import InvalidDecision
from assent.graph.builder import APPROVAL_NODE
from assent.graph.interrupts.forms import read_interrupt, schema_problem
from assent.graph.interrupts.questions import (
    PATH,
    Agent,
    Level,
    find_pending,
    levels_of,
    messages_of,
    stops_before,
    tool_of,
    with_previews,
)
from assent.graph.state import AgentState, DecisionRecord, open_calls, record_decision

Decided = Sequence[tuple[Approval, Decision]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerUpdate:
    """Values to write to the state of a subgraph as one of its nodes."""

    namespace: str
    values: Any
    as_node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """How a graph goes on: first `apply_updates`, then run it with `input`, unless it has `ended`
    or waits again.

    `updates` are values to write to the graph's own state (values, as which node), `inner` to those
    of subgraphs.
    """

    input: Any = None
    updates: tuple[tuple[Any, str], ...] = ()
    inner: tuple[InnerUpdate, ...] = ()
    ended: bool = field(default=False)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def pending_approvals(agent: Agent, config: RunnableConfig) -> list[Approval]:
    """`apending_approvals`, for sync code."""
    pending = find_pending(agent, agent.get_state(config, subgraphs=True))
    # Previews may be async, and in a notebook this thread has a loop that is running already.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(lambda: asyncio.run(with_previews(agent, pending))).result()


async def apending_approvals(agent: Agent, config: RunnableConfig) -> list[Approval]:
    """What the thread waits for, in the order in which it asks, with previews; empty if it waits
    for nobody."""
    return await with_previews(
        agent, find_pending(agent, await agent.aget_state(config, subgraphs=True))
    )


# ── checking ──────────────────────────────────────────────────────────────────────────────────────


def check_decision(agent: Agent, approval: Approval, decision: Decision) -> None:
    """Raise `InvalidDecision` if the approval does not take this decision, or what it asks not
    these arguments or this answer."""
    check_allowed(decision, approval.approval_id, approval.allowed)
    if isinstance(decision, Edit):
        tool = tool_of(agent, approval.node, approval.tool)
        if tool is not None:
            check_args(tool, decision.args)
        if approval.schema is not None and (
            problem := schema_problem(decision.args, approval.schema)
        ):
            raise InvalidDecision(
                f"The tool '{approval.tool}' does not take these arguments: {problem}."
            )
    if isinstance(decision, Respond):
        _check_answer(approval, decision.message)


def _check_answer(approval: Approval, answer: Any) -> None:
    if approval.kind is not ApprovalKind.INPUT:
        if not isinstance(answer, str):
            raise InvalidDecision(
                f"The answer for the tool '{approval.tool}' must be a text: it takes the place of the tool's result."
            )
    elif approval.schema is not None and (problem := schema_problem(answer, approval.schema)):
        raise InvalidDecision(
            f"The question {approval.approval_id} does not take this answer: {problem}.",
            schema=approval.schema,
        )


def check_args(tool: BaseTool, args: Mapping[str, Any]) -> None:
    """Raise `InvalidDecision` if a model could not call the tool with these. A misspelt name
    counts: tools drop those in silence."""
    schema = tool.tool_call_schema
    # A JSON schema without properties has no `.args`; one with a rule for other names is left to
    # that rule.
    known = set(schema.get("properties", {}) if isinstance(schema, dict) else tool.args)
    has_rule = isinstance(schema, dict) and "additionalProperties" in schema
    if (unknown := sorted(set(args) - known)) and not has_rule:
        raise InvalidDecision(
            f"The tool '{tool.name}' has no argument '{unknown[0]}'. It has: {', '.join(sorted(known)) or 'none'}."
        )
    try:
        if isinstance(schema, dict):
            jsonschema.validate(dict(args), schema)
        elif issubclass(schema, BaseModel):
            schema.model_validate(dict(args))
    except jsonschema.ValidationError as error:
        raise InvalidDecision(
            f"The tool '{tool.name}' does not take these arguments: {error.message} (at {error.json_path})."
        ) from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise InvalidDecision(
            f"The tool '{tool.name}' does not take these arguments: {problems}."
        ) from error


# ── going on ──────────────────────────────────────────────────────────────────────────────────────


def continuation(
    agent: Agent, snapshot: StateSnapshot, decided: Decided, *, messages: Sequence[BaseMessage] = ()
) -> Continuation:
    """How the graph goes on with these decisions; `messages` are added to the conversation.
    Approvals without a decision pause again.

    LangGraph runs every node that has asked from its beginning when the graph goes on, also those
    that got no answer: to run none of them needlessly, decide all that is pending first. Raises
    `InvalidDecision` if an interrupt that asks several things at once gets only some of the
    answers. Read the snapshot with `subgraphs=True`.
    """
    root = levels_of(agent, snapshot)
    at_root = [
        (approval, decision)
        for approval, decision in decided
        if approval.interrupt_id is None and not approval.namespace
    ]
    if at_root and root.gate is not None:
        update = {
            "decisions": _records(root, at_root),
            **({"messages": list(messages)} if messages else {}),
        }
        return Continuation(input=Command(update=update))
    if at_root:
        return _past_static_pause(root, at_root[0][1], messages)
    if _inner_stops_left(agent, snapshot, decided) or (not decided and _all_waits(agent, snapshot)):
        # What is asked now was not decided, as after a crash in which the next question was
        # reached.
        return Continuation(ended=True)
    answers = dict(
        _answers(
            root,
            [
                (approval, decision)
                for approval, decision in decided
                if approval.interrupt_id is not None
            ],
        )
    )
    inner = [
        (approval, decision) for approval, decision in decided if approval.interrupt_id is None
    ]
    updates = tuple(update for level in root.walk() for update in _inner_updates(level, inner))
    return Continuation(input=_command(root, answers, messages), inner=updates)


def _inner_stops_left(agent: Agent, snapshot: StateSnapshot, decided: Decided) -> list[Approval]:
    """The pauses of subgraphs by their own `interrupt_before/after` that nobody decided. They are
    passed whenever the graph goes on."""
    done = {
        (approval.namespace, approval.node)
        for approval, _ in decided
        if approval.kind is ApprovalKind.NODE
    }
    pending = find_pending(agent, snapshot)
    return [
        each
        for each in pending
        if each.kind is ApprovalKind.NODE
        and each.namespace
        and (each.namespace, each.node) not in done
    ]


def _all_waits(agent: Agent, snapshot: StateSnapshot) -> bool:
    """Whether nothing of the graph could run now: each of its next nodes waits for a person, or the
    graph as a whole does."""
    waiting = {approval.node.split(PATH)[0] for approval in find_pending(agent, snapshot)}
    return bool(waiting) and (set(snapshot.next) <= waiting or ", ".join(snapshot.next) in waiting)


def _command(
    root: Level, answers: Mapping[str, Any], messages: Sequence[BaseMessage]
) -> Command[Any] | None:
    """What lets the graph go on.

    Words that would stand between a call and its answer are left out, unless our own agent puts its
    history in order: a rejection has them as its reason anyway.
    """
    _, calls = open_calls(messages_of(root.snapshot))
    has_place = "messages" in root.graph.channels and (root.gate is not None or not calls)
    update = {"messages": list(messages)} if messages and has_place else None
    if not answers and update is None:
        return None
    return Command(resume=answers or None, update=update)


def _answers(root: Level, decided: Decided) -> Iterator[tuple[str, Any]]:
    """What each interrupt is resumed with, by its id."""
    by_interrupt: dict[str, dict[int, Decision]] = {}
    for approval, decision in decided:
        by_interrupt.setdefault(str(approval.interrupt_id), {})[approval.position] = decision
    for interrupt in root.snapshot.interrupts:
        if (given := by_interrupt.get(interrupt.id)) is None:
            continue
        form = read_interrupt(interrupt.value, interrupt.response_schema)
        if missing := [
            question.tool for at, question in enumerate(form.questions) if at not in given
        ]:
            raise InvalidDecision(
                f"The graph asks about {len(form.questions)} actions at once and takes one answer for all of them. "
                f"Decide these too: {', '.join(missing)}."
            )
        yield interrupt.id, form.answer([given[at] for at in range(len(form.questions))])


def _records(level: Level, decided: Decided) -> dict[str, DecisionRecord]:
    """Decisions as an agent's state keeps them."""
    turn, calls = open_calls(level.snapshot.values["messages"])
    by_id = {call["id"]: call for call in calls}
    return {
        approval.tool_call_id: record_decision(turn, by_id[approval.tool_call_id], decision)
        for approval, decision in decided
        if turn is not None
    }


def _past_static_pause(
    level: Level, decision: Decision, messages: Sequence[BaseMessage]
) -> Continuation:
    if isinstance(decision, Approve):
        return Continuation()
    answers = _rejections(level, decision)
    if answers and len(level.snapshot.next) == 1:
        return Continuation(
            updates=(({"messages": [*answers, *messages]}, level.snapshot.next[0]),)
        )
    if messages:
        # New input takes the waiting nodes off, and the graph begins anew with it.
        return Continuation(input={"messages": [*answers, *messages]})
    # There is no message by which to tell the graph, so its waiting nodes are taken off and the run
    # is over.
    return Continuation(updates=((None, END),), ended=True)


def _rejections(level: Level, decision: Decision) -> list[ToolMessage]:
    reason = decision.message if isinstance(decision, Reject) else ""
    text = (
        f"A person rejected this call. It did not run.{f' The reason: {reason}' if reason else ''}"
    )
    _, calls = open_calls(messages_of(level.snapshot))
    return [
        ToolMessage(text, tool_call_id=call["id"], name=call["name"], status="error")
        for call in calls
    ]


def _inner_updates(level: Level, decided: Decided) -> Iterator[InnerUpdate]:
    """What is written to a subgraph, so that it goes on with these decisions when the graph around
    it does."""
    here = [
        (approval, decision)
        for approval, decision in decided
        if level.namespace and approval.namespace == level.namespace
    ]
    if not here:
        return
    if level.gate is not None:
        # As its approval node would have written it: no input reaches a subgraph from outside.
        records = _records(level, here)
        state = level.snapshot.values
        state_after = AgentState(
            messages=state["messages"], decisions={**(state.get("decisions") or {}), **records}
        )
        values = {"decisions": records, "messages": level.gate.answers(state_after)}
        yield InnerUpdate(namespace=level.namespace, values=values, as_node=APPROVAL_NODE)
        return
    ((_, decision),) = here
    if isinstance(decision, Approve):
        return
    if (answers := _rejections(level, decision)) and len(level.snapshot.next) == 1:
        yield InnerUpdate(
            namespace=level.namespace, values={"messages": answers}, as_node=level.snapshot.next[0]
        )
        if not _has_other_stops(level):
            return
    # The subgraph is over. It would otherwise pass a pause right behind this one unasked, as the
    # graph around it goes on.
    yield InnerUpdate(namespace=level.namespace, values=None, as_node=END)


def _has_other_stops(level: Level) -> bool:
    before, after = level.graph.interrupt_before_nodes, level.graph.interrupt_after_nodes
    return "*" in (before, after) or bool(set(before) - set(level.snapshot.next)) or bool(after)


async def apply_updates(agent: Agent, config: RunnableConfig, plan: Continuation) -> Continuation:
    """Write what is to be written before the graph goes on; then the plan is only to run it with
    `input`, or that it has `ended`."""
    for inner in plan.inner:
        await agent.aupdate_state(
            _in_namespace(config, inner.namespace), inner.values, as_node=inner.as_node
        )
    for values, as_node in plan.updates:
        await agent.aupdate_state(config, values, as_node=as_node)
    stopped = bool(plan.updates) and _stands_before_a_stop(agent, await agent.aget_state(config))
    return Continuation(input=plan.input, ended=plan.ended or stopped)


def _stands_before_a_stop(agent: Agent, snapshot: StateSnapshot) -> bool:
    """Whether the next node needs a person too. LangGraph lets a graph pass the first pause that it
    comes to."""
    return bool(snapshot.next) and stops_before(agent, snapshot.next)


def _in_namespace(config: RunnableConfig, namespace: str) -> RunnableConfig:
    return {**config, "configurable": {**config["configurable"], "checkpoint_ns": namespace}}


# ── without a server ──────────────────────────────────────────────────────────────────────────────


def resume(
    agent: Agent, config: RunnableConfig, decisions: Decision | Mapping[str, Decision]
) -> Any:
    """Decide, and let the thread go on to its end or its next pause; returns the graph's output, as
    `invoke` does.

    `decisions` maps approval ids (or tool call ids) to decisions; a bare decision does if exactly
    one approval is pending. What is left undecided pauses again; but the actions of one batch are
    decided together, and whatever else goes on, so is what a subgraph stops at by itself. Raises
    `NothingPending`, `NotFound` or `InvalidDecision`, and then nothing has run.
    """
    snapshot = agent.get_state(config, subgraphs=True)
    plan = continuation(agent, snapshot, checked_decisions(agent, snapshot, decisions))
    for inner in plan.inner:
        agent.update_state(
            _in_namespace(config, inner.namespace), inner.values, as_node=inner.as_node
        )
    for values, as_node in plan.updates:
        agent.update_state(config, values, as_node=as_node)
    if plan.ended or (plan.updates and _stands_before_a_stop(agent, agent.get_state(config))):
        return agent.get_state(config).values
    return agent.invoke(plan.input, config, durability="sync")


async def aresume(
    agent: Agent, config: RunnableConfig, decisions: Decision | Mapping[str, Decision]
) -> Any:
    """`resume`, async."""
    snapshot = await agent.aget_state(config, subgraphs=True)
    plan = await apply_updates(
        agent, config, continuation(agent, snapshot, checked_decisions(agent, snapshot, decisions))
    )
    return (
        (await agent.aget_state(config)).values
        if plan.ended
        else await agent.ainvoke(plan.input, config, durability="sync")
    )


def checked_decisions(
    agent: Agent, snapshot: StateSnapshot, decisions: Decision | Mapping[str, Decision]
) -> list[tuple[Approval, Decision]]:
    """Match each decision to its pending approval. Raises `NothingPending`, `NotFound` or
    `InvalidDecision`."""
    choices = match_decisions(find_pending(agent, snapshot), decisions)
    decided = [(choice.approval, choice.decision) for choice in choices]
    for approval, decision in decided:
        check_decision(agent, approval, decision)
    if left := _inner_stops_left(agent, snapshot, decided):
        raise InvalidDecision(
            f"When the graph goes on it also passes its pause at '{left[0].node}'. Decide that too.",
            approvals=[approval.approval_id for approval in left],
        )
    return decided
