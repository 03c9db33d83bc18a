"""Tasks: the events of an execution as a workflow's, each sent twice under one number.

A browser gives a named event only to those who listen for its name, and an unnamed one only to
`onmessage`. The two copies have the same data, and places of their own (`12-1` and `12`), so that
nobody who comes back misses one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec import structs

from assent.api.dialects.answers import Answer
from assent.api.dialects.base import Fold, Foreign, Frame, Past
from assent.api.dialects.positions import Position, event_id, positions_of
from assent.core.events import (
    BudgetEvent,
    BudgetExceeded,
    Done,
    Error,
    ErrorInfo,
    Event,
    LlmEnd,
    LlmError,
    LlmStart,
    NodeEnd,
    NodeError,
    NodeStart,
    RunCancelled,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStart,
    StateUpdate,
    ToolEnd,
    ToolError,
    ToolStart,
    ToolUnknown,
    decode,
    event_type,
)
from assent.core.json import Json, JsonObject, encode_json
from assent.core.text import shortened
from assent.storage.base import LogEntry

MAX_RESULT_CHARACTERS = 4_000
"""The most characters of a tool's result, as text or as JSON."""

CANCELLED = "The task was cancelled."
UNKNOWN_OUTCOME = "The tool was started, and nobody knows how that ended."


class Happened(NamedTuple):
    """A workflow's event, by its name, and the fields that only events of this name have."""

    name: str
    fields: JsonObject


@dataclass(frozen=True, slots=True)
class Tasks(Foreign):
    """The events of the task's execution."""

    task_id: str
    agent_id: str

    name = "tasks"
    types = frozenset({
        "run_start", "run_resumed", "run_recovered", "run_paused", "run_cancelled", "done", "error",
        "node_start", "node_end", "node_error", "state_update",
        "llm_start", "llm_end", "llm_error",
        "tool_start", "tool_end", "tool_error", "tool_unknown",
        "budget_warning", "budget_exceeded",
    })  # fmt: skip

    def fold(self) -> Fold:
        return _Workflow(self).frames

    def heartbeat(self, now: datetime) -> Frame | None:
        beat = {"event": "heartbeat", "task_id": self.task_id, "timestamp": now}
        return Frame("", "heartbeat", encode_json(beat))


def once(frames: Sequence[Frame]) -> list[Frame]:
    """Of the two copies of each event the named one, under the id of the other: whoever has it has
    the event."""
    return [
        structs.replace(named, id=unnamed.id) for named, unnamed in pairwise(frames) if named.event
    ]


class NamedOnly(Past):
    """A dialect of two copies, of which only the named one is sent, for a reader who has all up to
    the position. Their ids are those of readers who get both."""

    def fold(self) -> Fold:
        fold = super().fold()
        return lambda entry: once(fold(entry))


class _Workflow:
    """What was said of an execution, as far as later events need it."""

    def __init__(self, task: Tasks) -> None:
        self._task = task
        self._execution = ""
        self._answer = Answer()
        self._steps: dict[str, int] = {}

    def frames(self, entry: LogEntry) -> Sequence[Frame]:
        """The frames of the next entry."""
        if entry.type not in Tasks.types:
            return ()
        event = decode(entry.body)
        self._execution = self._execution or entry.run_id
        self._answer.add(event)
        happened = [*self._happened(event, entry.seq)]
        places = iter(positions_of(entry.seq, 2 * len(happened)))
        frames: list[Frame] = []
        for told in happened:
            first, last = next(places), next(places)
            data = self._data(told, event, last)
            frames.append(Frame(str(first), told.name, data))
            frames.append(Frame(str(last), "", data))
        return frames

    def _data(self, told: Happened, event: Event, place: Position) -> bytes:
        task = self._task
        return encode_json(
            {
                "event_id": event_id(task.task_id, *place),
                "event": told.name,
                "task_id": task.task_id,
                "agent_id": task.agent_id,
                "execution_id": self._execution,
                "timestamp": event.ts,
                **told.fields,
            }
        )

    def _happened(self, event: Event, seq: int) -> Iterator[Happened]:
        match event:
            case StateUpdate():
                # Only the answer learns from it.
                return
            case NodeStart() | NodeEnd() | NodeError():
                if not event.ns:
                    yield self._step(event)
            case LlmError():
                yield from self._model_failed(event, seq)
            case Done():
                yield Happened(
                    "WorkflowCompleted",
                    {
                        "final_response": self._answer.text,
                        "usage": event.usage,
                        "steps": event.steps,
                    },
                )
            case _:
                yield _SAID[event_type(event)](event)

    def _step(self, event: NodeStart | NodeEnd | NodeError) -> Happened:
        if isinstance(event, NodeStart):
            self._steps[event.task_id] = event.step
            return Happened("WorkflowStepStarted", {"step": event.step, "name": event.node})
        # The failure of a node does not say in which step it was.
        step = self._steps.pop(event.task_id, None)
        error = _failure(event.error) if isinstance(event, NodeError) else None
        ended = {"step": step, "name": event.node, "success": error is None, "error": error}
        return Happened("WorkflowStepCompleted", ended)

    def _model_failed(self, event: LlmError, seq: int) -> Iterator[Happened]:
        call_id = event.message_id
        if not call_id:
            # Nothing of its message had come, so nothing was said of its start.
            call_id = event_id(self._task.task_id, seq, 2)
            yield _model_called(call_id, event.model, None)
        error = _failure(event.error)
        yield _model_ended(call_id, event.model, success=False, error=error)


# ── events that need no other ─────────────────────────────────────────────────────────────────────


def _started(event: RunStart) -> Happened:
    user_id = event.metadata.get("user_id")
    return Happened("WorkflowStarted", {"query": event.message, "user_id": user_id})


def _resumed(event: RunResumed) -> Happened:
    return Happened("WorkflowResumed", {"approvals": event.approvals, "recovered": False})


def _recovered(event: RunRecovered) -> Happened:
    # Calls of the model that a crash has cut off, which have no end.
    cut_off = {"cut_off": event.message_ids}
    return Happened("WorkflowResumed", {"approvals": (), "recovered": True, **cut_off})


def _paused(event: RunPaused) -> Happened:
    return Happened("WorkflowPaused", {"approvals": event.approvals, "next": event.next})


def _failed(event: Error) -> Happened:
    failed = {"error": event.message, "code": event.code, "node": event.node, "cancelled": False}
    return Happened("WorkflowFailed", failed)


def _cancelled(event: RunCancelled) -> Happened:
    stopped = {"error": event.reason or CANCELLED, "code": "cancelled", "node": ""}
    return Happened("WorkflowFailed", {**stopped, "cancelled": True})


def _model_started(event: LlmStart) -> Happened:
    return _model_called(event.message_id, event.model, event.estimated_cost)


def _model_called(call_id: str, model: str, estimated_cost: float | None) -> Happened:
    called = {"call_id": call_id, "model": model, "estimated_cost": estimated_cost}
    return Happened("WorkflowLLMCallStarted", called)


def _model_answered(event: LlmEnd) -> Happened:
    return _model_ended(
        event.message_id,
        event.model,
        usage=event.usage,
        cost=event.cost,
        finish_reason=event.finish_reason,
        tool_calls=event.tool_calls,
    )


def _model_ended(call_id: str, model: str, **fields: Json) -> Happened:
    unknown = {"usage": None, "cost": None, "finish_reason": "", "tool_calls": ()}
    ended = {**unknown, "success": True, "error": None, **fields}
    return Happened("WorkflowLLMCallCompleted", {"call_id": call_id, "model": model, **ended})


def _tool_started(event: ToolStart) -> Happened:
    called = {"tool_name": event.tool, "tool_call_id": event.tool_call_id}
    return Happened("WorkflowToolCallStarted", {**called, "arguments": event.input})


def _tool_ended(event: ToolEnd | ToolError | ToolUnknown) -> Happened:
    result, error = None, None
    if isinstance(event, ToolEnd):
        result = _result(event.output)
    elif isinstance(event, ToolError):
        error = _failure(event.error)
    else:
        error = UNKNOWN_OUTCOME
    called = {"tool_name": event.tool, "tool_call_id": event.tool_call_id}
    ended = {**called, "result": result, "success": error is None, "error": error}
    return Happened("WorkflowToolCallCompleted", ended)


def _failure(error: ErrorInfo) -> str:
    return error.message or error.type


def _result(output: Json) -> Json:
    """The output, or the beginning of its text or JSON if that is long."""
    text = output if isinstance(output, str) else encode_json(output).decode()
    is_long = len(text) > MAX_RESULT_CHARACTERS
    return shortened(text, MAX_RESULT_CHARACTERS) if is_long else output


def _budget(event: BudgetEvent) -> Happened:
    name = "WorkflowBudgetWarning"
    if isinstance(event, BudgetExceeded):
        name = "WorkflowBudgetExceeded"
    fields = ("scope", "budget", "used", "limit")
    return Happened(name, {field: getattr(event, field) for field in fields})


_SAID: Mapping[str, Callable[[Any], Happened]] = {
    "run_start": _started,
    "run_resumed": _resumed,
    "run_recovered": _recovered,
    "run_paused": _paused,
    "run_cancelled": _cancelled,
    "error": _failed,
    "llm_start": _model_started,
    "llm_end": _model_answered,
    "tool_start": _tool_started,
    "tool_end": _tool_ended,
    "tool_error": _tool_ended,
    "tool_unknown": _tool_ended,
    "budget_warning": _budget,
    "budget_exceeded": _budget,
}
"""What is said of an event for which no other is needed, by its type."""
