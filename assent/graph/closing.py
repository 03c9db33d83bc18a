"""Bringing a thread to rest after its run was stopped, so that new input begins at START with a
history that a provider accepts.

    await close(agent, config, outcomes)

No node runs, and no routing. Every open call of the model's last message gets a tool message that
says what became of it: never started, cut off, or its real outcome. How the tasks are taken off was
measured:

1. `aupdate_state(None, as_node=END)` takes in what finished siblings and a `Command(update=…)` have
   left, and clears the other tasks. What a finished sibling leads to is cleared by a second one.
2. An update as a node would run that node's routing over the answers, and a graph's own routing
   need not be made for them. So they are stored as the null task's writes, where
   `Command(update=…)` has its own, and the next END takes them in.
3. The input of a run that was cancelled before its first step is in the channel of START alone, and
   an END would lose it. It goes the same way. A run that was cancelled before its first checkpoint
   has left nothing, and its input is not kept.

It may be cut off at any point, and is then simply done again.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import NULL_TASK_ID
from langgraph._internal._fields import get_update_as_tuples
from langgraph.channels import BinaryOperatorAggregate, LastValue
from langgraph.checkpoint.base import WRITES_IDX_MAP, CheckpointTuple
from langgraph.graph import END, START
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Command, StateSnapshot

from assent.core.decisions import Edit
from assent.graph.builder import HitlGraph
from assent.graph.forking import at_checkpoint, branch, saver_of, without_run
from assent.graph.interrupts.resume import Agent
from assent.graph.provider_history import call_ids
from assent.graph.state import last_turn, messages_in, open_calls, recorded_decision

NOT_STARTED = "The run was stopped before this call. It did not run."
NO_RESULT = "The run was stopped before this call had a result. Such a call changes nothing."
CUT_OFF = "The run was stopped while this call ran. It was cut off, and may or may not have happened: check before you repeat it."
NO_MESSAGE = "This call ran to its end, and left no message."

STEPS = 10
"""How often tasks are cleared at most. Twice is enough; once more for each chain of deferred
nodes."""


@dataclass(frozen=True, slots=True)
class Started:
    """The call was started, and how it ended is not known."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The call came to its end with this output: a tool message, a `Command` with one, or a list of
    these."""

    output: Any


Outcome: TypeAlias = Started | Finished
Outcomes: TypeAlias = Mapping[str, Outcome] | Callable[[str], Awaitable[Outcome | None]]
"""What became of a call, by its tool call id; None if nothing is recorded of it."""

Writes: TypeAlias = list[tuple[str, Any]]
"""What is written to which channel, in order."""


async def close(
    agent: Agent, config: RunnableConfig, outcomes: Outcomes, *, ledgered: bool | None = None
) -> None:
    """Bring the thread to rest. Its run must have ended. The configurable of `config` reaches the
    checkpointer.

    `ledgered` says whether a call of which nothing is recorded is known not to have started;
    without it, that holds for the agents of `build_hitl_agent` only. A thread that was at rest
    already stays as it is.
    """
    head = at_checkpoint(config)
    cleared = await _clear(agent, head)
    saved = await saver_of(agent).aget_tuple(head)
    # The head may be from an earlier attempt to close. Any other at rest is where a run has ended
    # by itself.
    if saved is None or not (cleared or saved.metadata.get("source") == "update"):
        return
    snapshot = await agent.aget_state(head)
    known = await _looked_up(_open_ids(snapshot.values), outcomes)
    writes = closing_writes(
        agent,
        snapshot,
        known,
        ledgered=isinstance(agent.builder, HitlGraph) if ledgered is None else ledgered,
    )
    if writes:
        await _write(agent, head, saved, writes)
        await _clear(agent, head)


async def roll_back(
    agent: Agent,
    config: RunnableConfig,
    run_id: str,
    outcomes: Outcomes,
    *,
    ledgered: bool | None = None,
) -> None:
    """Bring the thread back to where it stood before the run, and to rest. The run must have ended.

    Where the thread had waited for a person, the calls that waited are answered: what the run has
    done in the world it has done. The checkpointer must have `adelete_for_runs`, and the run's
    checkpoints its id in their metadata, as `run_id`.
    """
    saver, head = saver_of(agent), without_run(at_checkpoint(config))
    await saver.adelete_for_runs([run_id])
    saved = await saver.aget_tuple(head)
    if saved is None:
        return
    # On a thread at rest it is what an earlier attempt to close was about to take in.
    if saved.pending_writes and (await agent.aget_state(head)).tasks:
        # What the run's command and its first tasks wrote is on the checkpoint before it, and would
        # be taken for the next run's.
        await branch(agent, saved, head, values=await _decided(agent, head))
    await close(agent, head, outcomes, ledgered=ledgered)


async def _decided(agent: Agent, head: RunnableConfig) -> Mapping[str, Any]:
    """The decisions that the run had: with other arguments than the model's a call may have run."""
    if not isinstance(agent.builder, HitlGraph):
        return {}
    return {"decisions": (await agent.aget_state(head)).values.get("decisions") or {}}


# ── the answers ───────────────────────────────────────────────────────────────────────────────────


def closing_writes(
    agent: Agent, snapshot: StateSnapshot, outcomes: Mapping[str, Outcome], *, ledgered: bool
) -> Writes:
    """What a state without tasks needs so that new input can follow. Empty if nothing; pure."""
    values = snapshot.values
    if not isinstance(values, dict):
        return []
    writes: Writes = []
    if answers := _answers(agent, values, outcomes, ledgered):
        writes += _placed(
            agent, values["messages"], [_with_id(snapshot, message) for message in answers.messages]
        )
        writes += [
            (channel, value) for channel, value in answers.others if channel in agent.channels
        ]
    if isinstance(agent.builder, HitlGraph) and values.get("decisions"):
        writes.append(("decisions", None))
    return writes


@dataclass(frozen=True, slots=True)
class _Answers:
    messages: list[ToolMessage] = field(default_factory=list)
    others: Writes = field(default_factory=list)


def _answers(
    agent: Agent, values: Any, outcomes: Mapping[str, Outcome], ledgered: bool
) -> _Answers | None:
    """An answer to each open call, in the model's order, and what else the calls wrote to the
    state."""
    turn = _turn(values)
    open_ids = _open_ids(values)
    if turn is None or not open_ids:
        return None
    decided = (
        {answer.tool_call_id: answer for answer in agent.builder.gate.answers(values)}
        if isinstance(agent.builder, HitlGraph)
        else {}
    )
    names = {call["id"]: call["name"] for call in (*turn.tool_calls, *turn.invalid_tool_calls)}
    valid = {call["id"] for call in turn.tool_calls}
    answers = _Answers()
    for call_id in open_ids:
        outcome = outcomes.get(call_id)
        if isinstance(outcome, Finished):
            message, others = _finished(outcome.output, call_id, names[call_id])
            answers.messages.append(_with_edit(agent, values, message))
            answers.others.extend(others)
        elif outcome is None and call_id in decided:
            answers.messages.append(decided[call_id])
        else:
            # A call whose arguments are not JSON was never one that could start.
            never = outcome is None and (ledgered or call_id not in valid)
            text = _unrecorded(agent, names[call_id]) if never else CUT_OFF
            message = ToolMessage(text, tool_call_id=call_id, name=names[call_id], status="error")
            answers.messages.append(message if never else _with_edit(agent, values, message))
    return answers


def _unrecorded(agent: Agent, tool: str | None) -> str:
    """What is told of a call that the ledger knows nothing of. Of one that changes nothing it never
    does."""
    reads_only = (
        isinstance(agent.builder, HitlGraph)
        and agent.builder.gate.calls.effects.get(tool or "") == "none"
    )
    return NO_RESULT if reads_only else NOT_STARTED


def _with_id(snapshot: StateSnapshot, message: ToolMessage) -> ToolMessage:
    """The message with an id that stays the same when the thread is closed again, or read before it
    is."""
    if message.id is not None:
        return message
    checkpoint_id = snapshot.config["configurable"]["checkpoint_id"]
    return message.model_copy(update={"id": str(uuid5(UUID(checkpoint_id), message.tool_call_id))})


def _turn(values: Any) -> AIMessage | None:
    return last_turn(messages_in(values))


def _open_ids(values: Any) -> list[str]:
    """The ids of the last turn's calls that have no answer, also of those whose arguments are not
    JSON: a provider sees them all."""
    turn = _turn(values)
    if turn is None:
        return []
    messages = values["messages"]
    answered = {
        message.tool_call_id
        for message in messages[messages.index(turn) + 1 :]
        if isinstance(message, ToolMessage)
    }
    return [call_id for call_id in call_ids(turn) if call_id not in answered]


def _finished(output: Any, call_id: str, name: str | None) -> tuple[ToolMessage, Writes]:
    """The call's own message, and what else its output writes to the state. Where it wanted to go
    is not gone to."""
    found: list[ToolMessage] = []
    others: Writes = []
    for part in output if isinstance(output, list) else [output]:
        if isinstance(part, ToolMessage):
            found.append(part)
        elif isinstance(part, Command) and part.graph is None and isinstance(part.update, dict):
            update = dict(part.update)
            messages = update.pop("messages", [])
            found += (
                [message for message in messages if isinstance(message, ToolMessage)]
                if isinstance(messages, list)
                else []
            )
            others += [
                (channel, value) for channel, value in update.items() if channel != "decisions"
            ]
    own = next((message for message in found if message.tool_call_id == call_id), None)
    return own or ToolMessage(NO_MESSAGE, tool_call_id=call_id, name=name), others


def _with_edit(agent: Agent, values: Any, message: ToolMessage) -> ToolMessage:
    """The message, behind a note of the arguments that a person had given the call if they were not
    the model's."""
    if not isinstance(agent.builder, HitlGraph):
        return message
    turn, calls = open_calls(values["messages"])
    call = next((call for call in calls if call["id"] == message.tool_call_id), None)
    decision = (
        recorded_decision(values, turn, call) if turn is not None and call is not None else None
    )
    if not isinstance(decision, Edit):
        return message
    text = json.dumps(decision.args, ensure_ascii=False)
    note = f"A person changed the arguments of this call before it ran. It ran with: {text}"
    content = message.content
    noted = (
        f"{note}\n\n{content}"
        if isinstance(content, str)
        else [{"type": "text", "text": note}, *content]
    )
    return message.model_copy(update={"content": noted})


def _placed(
    agent: Agent, messages: Sequence[BaseMessage], answers: Sequence[ToolMessage]
) -> Writes:
    """The write that puts the answers where a provider wants them, by what the graph's `messages`
    do with one.

    Agents of ours send their history in order whatever the state's (`history.py`), and elsewhere
    nothing stands behind the turn's answers, unless a person wrote while calls were open.
    """
    turn = last_turn(messages)  # type: ignore[arg-type]
    assert turn is not None
    at = messages.index(turn) + 1
    while at < len(messages) and isinstance(messages[at], ToolMessage):
        at += 1
    in_order = [*messages[:at], *answers, *messages[at:]]
    channel = agent.channels.get("messages")
    if isinstance(channel, LastValue):
        return [("messages", in_order)]
    if not isinstance(channel, BinaryOperatorAggregate):
        return [("messages", list(answers))]
    by_id = channel.operator is add_messages
    if by_id and at < len(messages) and not isinstance(agent.builder, HitlGraph):
        return [("messages", [RemoveMessage(REMOVE_ALL_MESSAGES), *in_order])]
    try:
        # Stored first and refused then, they would stand in the way of everything that comes after.
        channel.operator(list(messages), list(answers))
    except Exception:
        return []
    return [("messages", list(answers))]


async def _looked_up(call_ids: Sequence[str], outcomes: Outcomes) -> Mapping[str, Outcome]:
    if isinstance(outcomes, Mapping):
        return outcomes
    found = {call_id: await outcomes(call_id) for call_id in call_ids}
    return {call_id: outcome for call_id, outcome in found.items() if outcome is not None}


# ── the tasks ─────────────────────────────────────────────────────────────────────────────────────


async def _clear(agent: Agent, head: RunnableConfig) -> bool:
    """Take off what is to come next, and take in what was left for it. Whether there was
    anything."""
    saver = saver_of(agent)
    for step in range(STEPS):
        saved = await saver.aget_tuple(head)
        if saved is None:
            return False
        # Not `next`: it leaves out tasks that have finished, though the checkpoint after them is
        # missing.
        tasks = (await agent.aget_state(head)).tasks
        left = _left_by_null_task(saved)
        if not tasks and not left:
            return step > 0
        # Once START has finished, its own writes are there to be taken in.
        written = {task_id for task_id, _, _ in saved.pending_writes or ()}
        if not _updates(left) and any(
            task.name == START and task.id not in written for task in tasks
        ):
            await _write(agent, head, saved, _input_writes(agent, saved))
        await agent.aupdate_state(head, None, as_node=END)
    return True


def _input_writes(agent: Agent, saved: CheckpointTuple) -> Writes:
    """What START would have written."""
    given = saved.checkpoint["channel_values"].get(START)
    if isinstance(given, Mapping):
        items: Sequence[tuple[str, Any]] = list(given.items())
    else:
        items = (
            get_update_as_tuples(given, list(agent.channels))
            if given is not None and hasattr(given, "__dict__")
            else []
        )
    return [(channel, value) for channel, value in items if channel in agent.channels]


def _left_by_null_task(saved: CheckpointTuple) -> Writes:
    return [
        (channel, value)
        for task_id, channel, value in saved.pending_writes or ()
        if task_id == NULL_TASK_ID
    ]


async def _write(
    agent: Agent, head: RunnableConfig, saved: CheckpointTuple, writes: Writes
) -> None:
    """Store what the next END takes in. Savers know a write by its place, so no other may be there
    yet."""
    if writes:
        await saver_of(agent).aput_writes(
            at_checkpoint(head, saved.checkpoint["id"]), writes, NULL_TASK_ID
        )


def _updates(writes: Writes) -> Writes:
    """The writes to the state: not the answers to `interrupt()`, which savers keep in a place of
    their own."""
    return [(channel, value) for channel, value in writes if channel not in WRITES_IDX_MAP]
