"""Decisions on a paused thread: checked, and turned into what LangGraph is given to go on.

Nothing but a checkpointer is needed:

    pending = await apending_approvals(agent, config)
    result = await aresume(agent, config, {pending[0].approval_id: Approve()})

`questions.py` finds what is asked, and `forms.py` knows the form in which an answer is expected.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph._internal._constants import NULL_TASK_ID
from langgraph.channels import BinaryOperatorAggregate, LastValue
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.graph import END
from langgraph.types import Command, StateSnapshot, StateUpdate
from pydantic import BaseModel, ValidationError

from assent.core.approval import Approval, ApprovalKind, match_decisions
from assent.core.decisions import Approve, Decision, Edit, Reject, Respond, check_allowed
from assent.core.errors import InvalidDecision
from assent.graph.call_preview import run_apart
from assent.graph.checkpoints import saver_of
from assent.graph.interrupts.forms import read_interrupt
from assent.graph.interrupts.matching import matched
from assent.graph.interrupts.previews import with_previews
from assent.graph.interrupts.questions import (
    PATH,
    Level,
    find_pending,
    levels_of,
    stops_before,
    tool_of,
)
from assent.graph.json_schemas import schema_problem
from assent.graph.kinds import Agent
from assent.graph.state import (
    DecisionRecord,
    messages_in,
    open_calls,
    record_decision,
)
from assent.graph.tool_calls import rejection

Decided = Sequence[tuple[Approval, Decision]]


@dataclass(frozen=True, slots=True)
class Update:
    """A change of a graph's state, in steps as LangGraph takes them. `namespace` is the subgraph's;
    "" for the graph itself. `first` are values, by channel, that the first step applies before all
    else."""

    namespace: str
    supersteps: Sequence[Sequence[StateUpdate]]
    first: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """The way in which a graph goes on: after `apply_updates` it is run with `input`, unless it has
    `ended` or waits again. The `updates` are written in their order. `shown` is what people were
    shown for the answers, as digests by interrupt id; `approved` are the approvals that it goes on
    with, for the calls that want to know."""

    input: Any = None
    updates: tuple[Update, ...] = ()
    ended: bool = False
    shown: Mapping[str, str] = field(default_factory=dict)
    approved: Sequence[Approval] = ()


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def pending_approvals(agent: Agent, config: RunnableConfig) -> list[Approval]:
    """`apending_approvals`, for sync code."""
    snapshot = agent.get_state(config, subgraphs=True)
    return run_apart(with_previews(agent, find_pending(agent, snapshot), snapshot))


async def apending_approvals(agent: Agent, config: RunnableConfig) -> list[Approval]:
    """The approvals that the thread waits for, in the order in which it asks, with previews; empty
    if it waits for nobody."""
    snapshot = await agent.aget_state(config, subgraphs=True)
    return await with_previews(agent, find_pending(agent, snapshot), snapshot)


# ── checking ──────────────────────────────────────────────────────────────────────────────────────


def check_decision(agent: Agent, approval: Approval, decision: Decision) -> None:
    """Raise `InvalidDecision` if the approval does not take this decision, or its tool or question
    not these arguments or this answer."""
    check_allowed(decision, approval.approval_id, approval.allowed)
    if isinstance(decision, Edit):
        tool = tool_of(agent, approval.node, approval.tool)
        if tool is not None:
            check_args(tool, decision.args)
        problem = approval.schema and schema_problem(decision.args, approval.schema)
        if problem:
            raise _wrong_args(approval.tool, problem)
    if isinstance(decision, Respond):
        _check_answer(approval, decision.message)


def _check_answer(approval: Approval, answer: Any) -> None:
    if approval.kind is not ApprovalKind.INPUT:
        if not isinstance(answer, str):
            raise InvalidDecision(
                f"The answer for the tool '{approval.tool}' must be a text: "
                "it takes the place of the tool's result."
            )
        return
    problem = approval.schema and schema_problem(answer, approval.schema)
    if problem:
        raise InvalidDecision(
            f"The question {approval.approval_id} does not take this answer: {problem}.",
            schema=approval.schema,
        )


def check_args(tool: BaseTool, args: Mapping[str, Any]) -> None:
    """Raise `InvalidDecision` if a model could not call the tool with these. A misspelt name
    counts: tools drop those in silence."""
    schema = tool.tool_call_schema
    # A JSON schema without properties has no `.args`. One with a rule for other names is left to
    # that rule.
    known = set(schema.get("properties", {}) if isinstance(schema, dict) else tool.args)
    has_rule = isinstance(schema, dict) and "additionalProperties" in schema
    unknown = sorted(set(args) - known)
    if unknown and not has_rule:
        raise InvalidDecision(
            f"The tool '{tool.name}' has no argument '{unknown[0]}'. "
            f"It has: {', '.join(sorted(known)) or 'none'}."
        )
    if isinstance(schema, dict):
        if problem := schema_problem(dict(args), schema):
            raise _wrong_args(tool.name, problem)
    elif issubclass(schema, BaseModel):
        try:
            schema.model_validate(dict(args))
        except ValidationError as error:
            raise _wrong_args(tool.name, problems_in(error)) from error


def problems_in(error: ValidationError) -> str:
    """What a validator of pydantic's does not take, as the end of a sentence."""
    return "; ".join(_problem(each["loc"], each["msg"]) for each in error.errors())


def _problem(place: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, place))}: {message}" if place else message


def _wrong_args(tool: str, problem: str) -> InvalidDecision:
    return InvalidDecision(f"The tool '{tool}' does not take these arguments: {problem}.")


# ── going on ──────────────────────────────────────────────────────────────────────────────────────


def continuation(
    agent: Agent, snapshot: StateSnapshot, decided: Decided, *, messages: Sequence[BaseMessage] = ()
) -> Continuation:
    """The way in which the graph goes on with these decisions; `messages` are added to the
    conversation. Approvals without a decision pause again.

    When the graph goes on, LangGraph runs every node that has asked from its beginning, also those
    that got no answer: to run none of them needlessly, decide all that is pending first. Raises
    `InvalidDecision` if an interrupt that asks several things at once gets only some of the
    answers. Read the snapshot with `subgraphs=True`.
    """
    root = levels_of(agent, snapshot)
    answered = [each for each in decided if each[0].interrupt_id is not None]
    paused = [each for each in decided if each[0].interrupt_id is None]
    at_root = [each for each in paused if not each[0].namespace]
    if at_root and root.gate is not None:
        update: dict[str, Any] = {"decisions": _records(root, at_root)}
        if messages:
            update["messages"] = list(messages)
        return Continuation(input=Command(update=update))
    if at_root:
        return _past_static_pause(root, at_root[0][1], messages)

    if _inner_stops_left(agent, snapshot, decided) or (not decided and _all_waits(agent, snapshot)):
        # What is asked now was not decided, as after a crash in which the next question was
        # reached.
        return Continuation(ended=True)
    answers = dict(_answers(root, answered))
    inner = tuple(update for level in root.walk() for update in _inner_updates(level, paused))
    return Continuation(input=_command(root, answers, messages), updates=inner)


def _inner_stops_left(agent: Agent, snapshot: StateSnapshot, decided: Decided) -> list[Approval]:
    """The pauses of subgraphs by their own `interrupt_before/after` that nobody decided. They are
    passed whenever the graph goes on."""
    done = {(each.namespace, each.node) for each, _ in decided if each.kind is ApprovalKind.NODE}
    left: list[Approval] = []
    for each in find_pending(agent, snapshot):
        is_inner_stop = each.kind is ApprovalKind.NODE and each.namespace
        if is_inner_stop and (each.namespace, each.node) not in done:
            left.append(each)
    return left


def _all_waits(agent: Agent, snapshot: StateSnapshot) -> bool:
    """True if nothing of the graph could run now: each of its next nodes waits for a person, or the
    graph as a whole does."""
    waiting = {approval.node.split(PATH)[0] for approval in find_pending(agent, snapshot)}
    return bool(waiting) and (set(snapshot.next) <= waiting or ", ".join(snapshot.next) in waiting)


def _command(
    root: Level, answers: Mapping[str, Any], messages: Sequence[BaseMessage]
) -> Command[Any] | None:
    """The command that lets the graph go on; None if it needs none.

    Messages that would stand between a call and its answer are left out, unless our own agent puts
    its history in order: a rejection has them as its reason anyway.
    """
    _, calls = open_calls(messages_in(root.snapshot.values))
    has_place = "messages" in root.graph.channels and (root.gate is not None or not calls)
    update = {"messages": list(messages)} if messages and has_place else None
    if not answers and update is None:
        return None
    return Command(resume=answers or None, update=update)


def _answers(root: Level, decided: Decided) -> Iterator[tuple[str, Any]]:
    """The value that each interrupt is resumed with, by its id."""
    by_interrupt: dict[str, dict[int, Decision]] = {}
    for approval, decision in decided:
        by_interrupt.setdefault(str(approval.interrupt_id), {})[approval.position] = decision
    for interrupt in root.snapshot.interrupts:
        given = by_interrupt.get(interrupt.id)
        if given is None:
            continue
        form = read_interrupt(interrupt.value, interrupt.response_schema)
        positions = range(len(form.questions))
        missing = [form.questions[at].tool for at in positions if at not in given]
        if missing and not form.takes_some:
            raise InvalidDecision(
                f"The graph asks about {len(form.questions)} actions at once and takes one answer "
                f"for all of them. Decide these too: {', '.join(missing)}."
            )
        yield interrupt.id, form.answer([given.get(at) for at in positions])


def _records(level: Level, decided: Decided) -> dict[str, DecisionRecord]:
    """Decisions as an agent's state keeps them."""
    turn, calls = open_calls(level.snapshot.values["messages"])
    by_id = {call["id"]: call for call in calls}
    records: dict[str, DecisionRecord] = {}
    for approval, decision in decided:
        if turn is not None:
            call_id = approval.tool_call_id
            records[call_id] = record_decision(turn, by_id[call_id], decision)
    return records


def _past_static_pause(
    level: Level, decision: Decision, messages: Sequence[BaseMessage]
) -> Continuation:
    if isinstance(decision, Approve):
        return Continuation()
    answers = _rejections(level, decision)
    if answers:
        return Continuation(updates=(_answered(level, [*answers, *messages]),))
    if messages and "messages" in level.graph.channels:
        # New input takes the waiting nodes off, and the graph begins anew with it.
        return Continuation(input={"messages": list(messages)})
    # The waiting nodes are taken off, and the run is over.
    return Continuation(updates=(_over(level, _reason(level, decision)),), ended=True)


def _reason(level: Level, decision: Decision) -> dict[str, Any] | None:
    """The values that tell the thread why its waiting nodes did not run; None if there is no
    reason, or the graph keeps no conversation."""
    messages = messages_in(level.snapshot.values)
    if not isinstance(decision, Reject) or not decision.message or not messages:
        return None
    nodes = ", ".join(dict.fromkeys(level.snapshot.next))
    said = HumanMessage(f"The step '{nodes}' was rejected. The reason: {decision.message}")
    channel = level.graph.channels["messages"]
    if isinstance(channel, LastValue):
        return {"messages": [*messages, said]}
    return {"messages": [said]} if isinstance(channel, BinaryOperatorAggregate) else None


def _rejections(level: Level, decision: Decision) -> list[ToolMessage]:
    _, calls = open_calls(messages_in(level.snapshot.values))
    return [rejection(call, decision) for call in calls]


def _answered(level: Level, messages: Sequence[BaseMessage]) -> Update:
    """The update by which the nodes that wait have these messages as their result. Several tasks
    may be of one node, such as one for each call of a tool."""
    first, *others = dict.fromkeys(level.snapshot.next)
    # LangGraph would store this as the result of one of the waiting tasks before it stores the new
    # state. A crash in between would leave the others waiting, and part of a decision.
    id = uuid5(NAMESPACE_URL, str(level.snapshot.config["configurable"].get("checkpoint_id")))
    steps = [[StateUpdate({"messages": list(messages)}, first, str(id))]]
    if others:
        # Then all of them at once, so that what follows each is chosen by a state that has the
        # messages, and what follows only all of them runs too.
        steps.append([StateUpdate(None, node) for node in (first, *others)])
    return Update(level.namespace, steps)


def _over(level: Level, first: Mapping[str, Any] | None) -> Update:
    """The update that takes the nodes off that wait, and applies the `first` values."""
    return Update(level.namespace, [[StateUpdate(None, END)]], first)


def _inner_updates(level: Level, decided: Decided) -> Iterator[Update]:
    """The updates of a subgraph's state, so that it goes on with these decisions when the graph
    around it does."""
    namespace = level.namespace
    here = [each for each in decided if namespace and each[0].namespace == namespace]
    if not here:
        return
    ((_, decision),) = here
    if isinstance(decision, Approve):
        return
    answers = _rejections(level, decision)
    if answers:
        yield _answered(level, answers)
        if not _has_other_stops(level):
            return
    # The subgraph is over. It would otherwise pass a pause right behind this one unasked, as the
    # graph around it goes on.
    yield _over(level, None if answers else _reason(level, decision))


def _has_other_stops(level: Level) -> bool:
    before, after = level.graph.interrupt_before_nodes, level.graph.interrupt_after_nodes
    return "*" in (before, after) or bool(set(before) - set(level.snapshot.next)) or bool(after)


async def apply_updates(agent: Agent, config: RunnableConfig, plan: Continuation) -> Continuation:
    """Write the plan's updates. What is left of the plan is to run the graph with `input`, or that
    it has `ended`."""
    for update in plan.updates:
        where = _place(config, update)
        if update.first:
            saver = saver_of(agent)
            place = _at(where, await saver.aget_tuple(where))
            await saver.aput_writes(place, list(update.first.items()), NULL_TASK_ID)
        await agent.abulk_update_state(where, update.supersteps)
    stopped = _moves(plan) and _waits_before_a_stop(agent, await agent.aget_state(config))
    return replace(plan, updates=(), ended=plan.ended or stopped)


def _place(config: RunnableConfig, update: Update) -> RunnableConfig:
    """The config of the graph that the update is for."""
    if not update.namespace:
        return config
    configurable = {**config["configurable"], "checkpoint_ns": update.namespace}
    return {**config, "configurable": configurable}


def _moves(plan: Continuation) -> bool:
    """True if the plan's updates take the graph itself to other nodes."""
    return any(not update.namespace for update in plan.updates)


def _at(where: RunnableConfig, head: CheckpointTuple | None) -> RunnableConfig:
    """The place of an update's `first` values: beside the checkpoint that it follows, as LangGraph
    stores those of a `Command`. So both are one new checkpoint, and a crash in between leaves the
    pause as it was."""
    assert head is not None, "What waits has a checkpoint."
    configurable = {**where["configurable"], "checkpoint_id": head.checkpoint["id"]}
    configurable.setdefault("checkpoint_ns", "")
    return {**where, "configurable": configurable}


def _waits_before_a_stop(agent: Agent, snapshot: StateSnapshot) -> bool:
    """True if the next node needs a person too. LangGraph lets a graph pass the first pause that it
    comes to."""
    return bool(snapshot.next) and stops_before(agent, snapshot.next)


# ── without a server ──────────────────────────────────────────────────────────────────────────────


def resume(
    agent: Agent,
    config: RunnableConfig,
    decisions: Decision | Mapping[str, Decision],
    **options: Any,
) -> Any:
    """Decide, and let the thread go on to its end or its next pause; returns the graph's output, as
    `invoke` does.

    `decisions` maps approval ids (or tool call ids) to decisions; a bare decision does if exactly
    one approval is pending. What is left undecided pauses again, with two exceptions: the actions
    of one batch are decided together, and a subgraph's own static pause is decided with whatever
    else goes on. `options` are those of the graph's `invoke`, such as `context`. Raises
    `NothingPending`, `NotFound` or `InvalidDecision`, and then nothing has run.
    """
    plan = _applied(agent, config, decisions)
    if plan.ended:
        return agent.get_state(config).values
    return matched(agent).invoke(plan.input, config, **_stored_at_once(options))


async def aresume(
    agent: Agent,
    config: RunnableConfig,
    decisions: Decision | Mapping[str, Decision],
    **options: Any,
) -> Any:
    """`resume`, async. `options` are those of `ainvoke`."""
    plan = await _aapplied(agent, config, decisions)
    if plan.ended:
        return (await agent.aget_state(config)).values
    return await matched(agent).ainvoke(plan.input, config, **_stored_at_once(options))


def stream_resume(
    agent: Agent,
    config: RunnableConfig,
    decisions: Decision | Mapping[str, Decision],
    **options: Any,
) -> Iterator[Any]:
    """`resume`, as a stream: yields what the graph's `stream` yields, and takes its `options`, such
    as `stream_mode`. Yields nothing if the decisions leave nothing to run."""
    plan = _applied(agent, config, decisions)
    if not plan.ended:
        yield from matched(agent).stream(plan.input, config, **_stored_at_once(options))


async def astream_resume(
    agent: Agent,
    config: RunnableConfig,
    decisions: Decision | Mapping[str, Decision],
    **options: Any,
) -> AsyncIterator[Any]:
    """`stream_resume`, async. For typed events, give the decisions to `astream_typed`."""
    plan = await _aapplied(agent, config, decisions)
    if not plan.ended:
        async for part in matched(agent).astream(plan.input, config, **_stored_at_once(options)):
            yield part


def _applied(
    agent: Agent, config: RunnableConfig, decisions: Decision | Mapping[str, Decision]
) -> Continuation:
    """The way in which the graph goes on, after its updates were written."""
    snapshot = agent.get_state(config, subgraphs=True)
    plan = continuation(agent, snapshot, checked_decisions(agent, snapshot, decisions))
    for update in plan.updates:
        where = _place(config, update)
        if update.first:
            saver = saver_of(agent)
            place = _at(where, saver.get_tuple(where))
            saver.put_writes(place, list(update.first.items()), NULL_TASK_ID)
        agent.bulk_update_state(where, update.supersteps)
    stopped = _moves(plan) and _waits_before_a_stop(agent, agent.get_state(config))
    return replace(plan, updates=(), ended=plan.ended or stopped)


async def _aapplied(
    agent: Agent, config: RunnableConfig, decisions: Decision | Mapping[str, Decision]
) -> Continuation:
    snapshot = await agent.aget_state(config, subgraphs=True)
    decided = checked_decisions(agent, snapshot, decisions)
    return await apply_updates(agent, config, continuation(agent, snapshot, decided))


def _stored_at_once(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options. Unless they say otherwise, each checkpoint is stored before the next step: after
    a crash, a call that was made must not seem still to be made."""
    return {"durability": "sync", **options}


def checked_decisions(
    agent: Agent, snapshot: StateSnapshot, decisions: Decision | Mapping[str, Decision]
) -> list[tuple[Approval, Decision]]:
    """The decisions, each with its pending approval. Raises `NothingPending`, `NotFound` or
    `InvalidDecision`."""
    choices = match_decisions(find_pending(agent, snapshot), decisions)
    decided = [(choice.approval, choice.decision) for choice in choices]
    for approval, decision in decided:
        check_decision(agent, approval, decision)
    left = _inner_stops_left(agent, snapshot, decided)
    if left:
        raise InvalidDecision(
            f"When the graph goes on it also passes its pause at '{left[0].node}'. "
            "Decide that too.",
            approvals=[approval.approval_id for approval in left],
        )
    return decided
