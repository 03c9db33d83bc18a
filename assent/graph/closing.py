"""Bring a thread to rest after its run was stopped, so that it takes new input and its history is
one that a provider accepts.

    await close(agent, config, outcomes)

No node runs, and no routing. Each open call of the model's last message gets a tool message that
says what became of it: it was never started, it was cut off, or it had this result.

A closing is one checkpoint, stored in one write. LangGraph needs several steps for it, and a state
between them, with open calls and nothing next, is one that no run can go on from. So the steps are
taken on a draft in memory:

1. `aupdate_state(None, as_node=END)` applies the writes of finished tasks and of a
   `Command(update=…)`, and drops the other tasks. A finished task may lead to further ones, so this
   is repeated until there are none.
2. An update as a node would run that node's routing, which need not be made for these messages. So
   the answers are written by the null task, as `Command(update=…)` writes, and applied by END.
3. The input of a run that was stopped before its first step is only in the channel of START, which
   END drops. It is written by the null task too. A run that was stopped before its first checkpoint
   has stored nothing, and its input is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.messages import AnyMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import NULL_TASK_ID
from langgraph._internal._fields import get_update_as_tuples
from langgraph.channels import BinaryOperatorAggregate, LastValue
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
)
from langgraph.graph import END, START
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Command

from assent.core.decisions import Edit
from assent.core.errors import AssentError
from assent.graph.checkpoints import at_checkpoint, saver_of, store_state, without_run
from assent.graph.gate import answer_for, edit_note, with_note
from assent.graph.kinds import Agent, gate_of, gated_graph
from assent.graph.provider_history import call_ids
from assent.graph.reading import read_state
from assent.graph.state import answered_calls, is_answer, last_turn, messages_in, recorded_decision
from assent.graph.tool_calls import failure

NOT_STARTED = "The run was stopped before this call. It did not run."
NO_RESULT = "The run was stopped before this call had a result. Such a call changes nothing."
CUT_OFF = (
    "The run was stopped while this call ran. It was cut off, and may or may not have happened: "
    "check before you repeat it."
)
NO_MESSAGE = "This call ran to its end, and left no message."

MAX_STEPS = 10
"""The most times that tasks are dropped. Twice is enough; each chain of deferred nodes needs one
more."""


@dataclass(frozen=True, slots=True)
class Started:
    """The call was started, and its outcome is not known."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The call ended with this output: a tool message, a `Command` with one, or a list of these."""

    output: Any


CallOutcome: TypeAlias = Started | Finished
CallOutcomes: TypeAlias = (
    Mapping[str, CallOutcome] | Callable[[str, str], Awaitable[CallOutcome | None]]
)
"""The outcome of a call by its tool call id, or by that and the id of its message; None if nothing
is recorded of it."""

Writes: TypeAlias = list[tuple[str, Any]]
"""Values to write to channels, in order."""

Pending: TypeAlias = list[tuple[str, str, Any]]
"""The same, each with the id of the task that wrote it."""


async def close(agent: Agent, config: RunnableConfig, outcomes: CallOutcomes) -> None:
    """Bring the thread to rest. Its run must have ended. The configurable of `config` reaches the
    checkpointer.

    In an agent of `build_hitl_agent`, a call without a recorded outcome has not started. In another
    graph it may have. A thread at rest stays as it is.
    """
    await _bring_to_rest(agent, at_checkpoint(config), outcomes)


async def roll_back(
    agent: Agent, config: RunnableConfig, run_id: str, outcomes: CallOutcomes
) -> None:
    """Bring the thread back to where it stood before the run, and to rest. The run must have ended.

    If the thread had waited for a person, the calls that waited are answered: the run may have
    executed them. The checkpointer must have `adelete_for_runs`, and the metadata of the run's
    checkpoints its id, as `run_id`.
    """
    saver = saver_of(agent)
    head = without_run(at_checkpoint(config))
    await saver.adelete_for_runs([run_id])
    saved = await saver.aget_tuple(head)
    if saved is None or not saved.pending_writes:
        await _bring_to_rest(agent, head, outcomes)
        return
    # The run's command and its first tasks wrote to the checkpoint before the run. Only the
    # decisions are kept: they have the arguments that a call ran with.
    values = (await read_state(agent, head)).values
    kept = values.get("decisions") if gated_graph(agent) else None
    pending = [(NULL_TASK_ID, "decisions", kept)] if kept else []
    await _bring_to_rest(agent, head, outcomes, pending)


async def _bring_to_rest(
    agent: Agent, head: RunnableConfig, outcomes: CallOutcomes, pending: Pending | None = None
) -> None:
    """Close the thread, with these writes `pending` on its checkpoint, or those that are there."""
    for answers_only in (False, True):
        # It is read anew, since LangGraph changes a checkpoint in place.
        saved = await saver_of(agent).aget_tuple(head)
        if saved is None:
            return
        if pending is not None:
            saved = saved._replace(pending_writes=pending)
        try:
            draft = await _closed(agent, head, saved, outcomes, answers_only=answers_only)
            break
        except AssentError:
            raise
        except Exception:
            # The state does not take what tasks have written, which must not keep the thread from
            # being closed.
            if answers_only:
                raise
    if draft.has_changed:
        await store_state(
            agent.copy({"checkpointer": draft}),
            draft.head,
            head,
            {"source": "update"},
            base=draft.base,
            saver=saver_of(agent),
        )


async def _closed(
    agent: Agent,
    head: RunnableConfig,
    saved: CheckpointTuple,
    outcomes: CallOutcomes,
    *,
    answers_only: bool,
) -> _Draft:
    """The thread at rest, on top of what is saved. With `answers_only`, what tasks have written is
    left out, but for the answers of calls."""
    # Not `next`: that leaves out tasks that have finished, though no checkpoint follows them yet.
    tasks = (await read_state(agent, head)).tasks
    pending = list(saved.pending_writes or ())
    written = {task_id for task_id, _, _ in pending}
    if answers_only:
        pending = [write for write in pending if write[0] == NULL_TASK_ID]
    elif any(task.name == START and task.id not in written for task in tasks):
        pending += _by_null_task(_input_writes(agent, saved))

    draft = _Draft(saver_of(agent), saved._replace(pending_writes=pending))
    drafting = agent.copy({"checkpointer": draft})
    if tasks or any(task_id == NULL_TASK_ID for task_id, _, _ in pending):
        await _drop_tasks(drafting, head)
    elif saved.metadata.get("source") != "update":
        # The last run has ended by itself. After an update, an earlier version may have been killed
        # amid a closing.
        return draft

    values = (await drafting.aget_state(head)).values
    known = await _recorded(values, outcomes)
    if writes := _closing_writes(agent, values, known):
        if answers_only:
            writes = [write for write in writes if write[0] in ("messages", "decisions")]
        draft.add_writes(writes)
        await _drop_tasks(drafting, head)
    return draft


# ── the answers ───────────────────────────────────────────────────────────────────────────────────


def _closing_writes(agent: Agent, values: Any, outcomes: Mapping[str, CallOutcome]) -> Writes:
    """The writes after which a state without tasks takes new input; empty if it does already."""
    if not isinstance(values, dict):
        return []
    writes: Writes = []
    if calls := _open_calls(values):
        answers: list[ToolMessage] = []
        for call in calls:
            message, others = _answer(agent, values, call, outcomes.get(call["id"]))
            answers.append(message)
            writes += [(channel, value) for channel, value in others if channel in agent.channels]
        writes += _placed(agent, values["messages"], answers)
    if gated_graph(agent) and values.get("decisions"):
        writes.append(("decisions", None))
    return writes


def _answer(
    agent: Agent, values: Any, call: Any, outcome: CallOutcome | None
) -> tuple[ToolMessage, Writes]:
    """The message about an open call, and the call's other writes to the state."""
    turn = last_turn(values["messages"])
    assert turn is not None
    is_ours = gated_graph(agent) is not None
    decision = recorded_decision(values, turn, call) if is_ours else None

    if outcome is None:
        answer = answer_for(call, decision)
        # A call whose arguments are not JSON could not start.
        if answer is None and (is_ours or call in turn.invalid_tool_calls):
            answer = failure(call, _unrecorded(agent, call["name"]))
        if answer is not None:
            return answer, []

    message = failure(call, CUT_OFF)
    others: Writes = []
    if isinstance(outcome, Finished):
        message, others = _result(outcome.output, call)
    if isinstance(decision, Edit):
        message = with_note(message, edit_note(decision))
    return message, others


def _unrecorded(agent: Agent, tool: str | None) -> str:
    """The answer to a call that the ledger has no intent of. A tool without effects never has
    one, so nobody knows whether it ran."""
    gate = gate_of(agent)
    if gate is not None and gate.calls.effects.get(tool or "") == "none":
        return NO_RESULT
    return NOT_STARTED


def _open_calls(values: Any) -> list[Any]:
    """The last turn's calls without an answer, also those whose arguments are not JSON: a provider
    sees them all."""
    messages = messages_in(values)
    turn = last_turn(messages)
    if turn is None:
        return []
    calls = {call["id"]: call for call in (*turn.invalid_tool_calls, *turn.tool_calls)}
    answered = answered_calls(messages, turn)
    return [calls[call_id] for call_id in call_ids(turn) if call_id not in answered]


def _result(output: Any, call: Any) -> tuple[ToolMessage, Writes]:
    """The call's own message, and its output's other writes to the state. A `goto` in the output is
    not followed."""
    messages: list[Any] = []
    others: Writes = []
    for part in output if isinstance(output, list) else [output]:
        if isinstance(part, ToolMessage):
            messages.append(part)
        if not isinstance(part, Command) or part.graph is not None:
            continue
        update = dict(part.update) if isinstance(part.update, dict) else {}
        written = update.pop("messages", None)
        if isinstance(written, list):
            messages += written
        update.pop("decisions", None)
        others += update.items()
    for message in messages:
        if is_answer(message, call):
            return message, others
    return ToolMessage(NO_MESSAGE, tool_call_id=call["id"], name=call["name"]), others


def _placed(agent: Agent, messages: list[AnyMessage], answers: Sequence[ToolMessage]) -> Writes:
    """The write that puts the answers directly behind the turn, as a provider wants them; by the
    kind of the graph's `messages` channel.

    Agents of `build_hitl_agent` put the history in order for the provider (`provider_history.py`).
    In other graphs something stands behind the turn only if a person wrote while calls were open.
    """
    turn = last_turn(messages)
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
    is_by_id = channel.operator is add_messages
    if is_by_id and at < len(messages) and not gated_graph(agent):
        return [("messages", [RemoveMessage(REMOVE_ALL_MESSAGES), *in_order])]
    try:
        # A reducer that refuses the answers must not keep the thread from being closed.
        channel.operator(list(messages), list(answers))
    except Exception:
        return []
    return [("messages", list(answers))]


async def _recorded(values: Any, outcomes: CallOutcomes) -> Mapping[str, CallOutcome]:
    if isinstance(outcomes, Mapping):
        return outcomes
    turn = last_turn(messages_in(values))
    found: dict[str, CallOutcome] = {}
    for call in _open_calls(values):
        outcome = await outcomes(call["id"], (turn and turn.id) or "")
        if outcome is not None:
            found[call["id"]] = outcome
    return found


# ── the draft ─────────────────────────────────────────────────────────────────────────────────────


class _Draft(BaseCheckpointSaver[Any]):
    """Checkpoints in memory, on top of a stored one.

    They are handed out as they are, not copied: read the state of one with pending writes no more
    than once, since LangGraph applies those in place.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], base: CheckpointTuple) -> None:
        super().__init__(serde=saver.serde)
        self.base = self.head = base
        self._saver = saver
        self._by_id = {base.checkpoint["id"]: base}

    @property
    def has_changed(self) -> bool:
        return len(self._by_id) > 1

    def add_writes(self, writes: Writes) -> None:
        """Have the next step apply these."""
        pending = [*(self.head.pending_writes or ()), *_by_null_task(writes)]
        self._keep(self.head._replace(pending_writes=pending))

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._saver.get_next_version(current, channel)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        checkpoint_id = get_checkpoint_id(config)
        if checkpoint_id is None:
            return self.head
        # A delta channel is read from all the checkpoints before it.
        return self._by_id.get(checkpoint_id) or await self._saver.aget_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        stored = at_checkpoint(config, checkpoint["id"])
        self._keep(CheckpointTuple(stored, checkpoint, metadata, config))
        return stored

    def _keep(self, head: CheckpointTuple) -> None:
        self.head = head
        self._by_id[head.checkpoint["id"]] = head


async def _drop_tasks(drafting: Agent, head: RunnableConfig) -> None:
    """Apply what is pending, and drop what is next."""
    for _ in range(MAX_STEPS):
        await drafting.aupdate_state(head, None, as_node=END)
        if not (await drafting.aget_state(head)).tasks:
            return


def _input_writes(agent: Agent, saved: CheckpointTuple) -> Writes:
    """The writes that START would have made."""
    given = saved.checkpoint["channel_values"].get(START)
    items: Sequence[tuple[str, Any]] = ()
    if isinstance(given, Mapping):
        items = list(given.items())
    elif given is not None and hasattr(given, "__dict__"):
        items = get_update_as_tuples(given, list(agent.channels))
    return [(channel, value) for channel, value in items if channel in agent.channels]


def _by_null_task(writes: Writes) -> Pending:
    return [(NULL_TASK_ID, channel, value) for channel, value in writes]
