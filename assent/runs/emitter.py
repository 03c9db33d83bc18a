"""What a run says while it runs, and what can be learnt from it: what it has used, and what a crash
cut off."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from datetime import datetime

from assent.core.events import (
    BudgetExceeded,
    BudgetWarning,
    Event,
    LlmEnd,
    LlmStart,
    NodeEnd,
    NodeError,
    NodeEvent,
    NodeStart,
    Reasoning,
    RunRecovered,
    RunResumed,
    RunStart,
    Token,
    ToolCallDelta,
    ToolStart,
    decode,
    event_type,
)
from assent.core.rows import Lease
from assent.runs.budgets import Rules
from assent.runs.metering import Meter
from assent.storage.base import Storage

PROGRESS_TYPES = frozenset(
    {
        *("run_start", "run_resumed", "run_recovered", "node_start", "node_end", "node_error"),
        *(
            "llm_start",
            "llm_end",
            "token",
            "reasoning",
            "tool_call_delta",
            "tool_start",
            "tool_end",
        ),
        *("budget_warning", "budget_exceeded"),
    }
)
"""The events that `RunProgress` learns from."""


async def past_events(
    storage: Storage, thread_id: str, types: Collection[str], *, run_id: str | None = None
) -> AsyncGenerator[Event, None]:
    """The thread's events of these types that there are by now, in order; of one run, if given."""
    after = 0
    while entries := await storage.read_log(thread_id, after, types=types, run_id=run_id):
        after = entries[-1].seq
        for entry in entries:
            yield decode(entry.body)


class UsageCounter:
    """What a run has used, in numbers by name: `input_tokens`, `output_tokens`, `total_tokens`,
    `model_calls`, `tool_calls`, `steps`; and `cost`, of models that have a price. `steps` are those
    that were counted before: one that a crash cut off begins again."""

    def __init__(
        self, before: Mapping[str, float], rules: Rules, *, steps: Iterable[int] = ()
    ) -> None:
        self.numbers = dict(before)
        self._rules = rules
        self.steps = set(steps)

    def add(self, event: Event) -> None:
        """Count what the event tells of."""
        kind = type(event)
        if kind is LlmEnd:
            self._count_model(event)  # type: ignore[arg-type]
        elif kind is ToolStart:
            self._count("tool_calls", 1)
        elif kind is NodeStart and not event.ns and event.step not in self.steps:  # type: ignore[attr-defined]
            self.steps.add(event.step)  # type: ignore[attr-defined]
            self._count("steps", 1)

    def _count_model(self, event: LlmEnd) -> None:
        self._count("model_calls", 1)
        if (usage := event.usage) is None:
            return
        self._count("input_tokens", usage.input_tokens)
        self._count("output_tokens", usage.output_tokens)
        self._count("total_tokens", usage.total_tokens)
        cost = self._rules.cost(event.model, usage.input_tokens, usage.output_tokens)
        if cost is not None:
            self._count("cost", cost)

    def _count(self, name: str, amount: float) -> None:
        self.numbers[name] = self.numbers.get(name, 0) + amount


class RunLog:
    """Where a run's events go. Emitting is safe from any thread, and raises what the storage could
    not store before, or what stands in the way of a budget."""

    def __init__(self, storage: Storage, lease: Lease, usage: UsageCounter, meter: Meter) -> None:
        self._append = storage.append
        self._lease = lease
        self._error: Exception | None = None
        self._usage = usage
        self._meter = meter

    def emit(self, event: Event) -> None:
        """Queue the event for the log."""
        if self._error is not None:
            raise self._error
        self._append((event,), self._failed, self._lease)
        if type(event) is Token:
            return
        self._usage.add(event)
        if self._meter.limits:
            self._hold_to_budget(event)

    def look(self) -> None:
        """Tell of the budgets that time has used up."""
        if self._error is None and (news := self._meter.news()):
            self._append(news, self._failed, self._lease)

    def _hold_to_budget(self, event: Event) -> None:
        try:
            self._meter.see(event)
        except Exception as error:
            # Whoever swallows it meets it again: the run must not go on.
            self._failed(error)
            raise
        self.look()

    def _failed(self, error: Exception) -> None:
        self._error = error


class RunProgress:
    """What a run's events, read from the log in order, tell of it. `began` is when its first
    attempt began: decisions may have been taken some time before."""

    def __init__(self, rules: Rules, began: datetime | None = None) -> None:
        self._usage = UsageCounter({}, rules)
        self._open: dict[str, dict[str, None]] = {}
        self._attempt_began = began
        self._began = began
        self._seconds = self._seconds_before = 0.0
        self.failed_node = ""
        self.told: set[tuple[str, str]] = set()

    def add(self, event: Event) -> None:
        """Learn from the event."""
        self._usage.add(event)
        self._pass_time(event)
        if isinstance(event, NodeError):
            self.failed_node = event.node
        elif isinstance(event, BudgetWarning | BudgetExceeded):
            self.told.add((f"{event.scope}.{event.budget}", event_type(event)))
        if isinstance(event, NodeEnd):
            self._open.pop(event.task_id, None)
        elif isinstance(event, LlmStart | Token | Reasoning | ToolCallDelta | LlmEnd):
            self._begun(event, event.message_id)

    def _pass_time(self, event: Event) -> None:
        if isinstance(event, RunStart | RunResumed | RunRecovered):
            self._seconds_before = self._seconds
            self._attempt_began = max(event.ts, self._began or event.ts)
        elif self._attempt_began is not None:
            elapsed = (event.ts - self._attempt_began).total_seconds()
            self._seconds = max(self._seconds, self._seconds_before + elapsed)

    def _begun(self, event: NodeEvent, message_id: str) -> None:
        self._open.setdefault(event.task_id, {})[message_id] = None

    @property
    def usage(self) -> Mapping[str, float]:
        """What the run had used, by name. Of time, what passed until the last event of each of its
        attempts."""
        return {**self._usage.numbers, "seconds": round(self._seconds, 6)}

    @property
    def steps(self) -> Collection[int]:
        """The supersteps that the run had begun."""
        return self._usage.steps

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The messages that the run had begun to show, and whose node had not ended."""
        return tuple(message_id for ids in self._open.values() for message_id in ids)
