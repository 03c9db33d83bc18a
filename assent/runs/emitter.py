"""The events of a run: written to the log while it runs, and read again after a crash."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from datetime import datetime

from msgspec import structs

from assent.core.events import (
    BudgetExceeded,
    BudgetWarning,
    Event,
    LlmEnd,
    LlmStart,
    NodeEnd,
    NodeError,
    NodeStart,
    RunRecovered,
    RunResumed,
    RunStart,
    Token,
    ToolStart,
    decode,
    event_type,
)
from assent.core.rows import Lease
from assent.runs.budgets import Budgets
from assent.runs.metering import Meter
from assent.storage.base import Storage

PROGRESS_TYPES = frozenset({
    "run_start", "run_resumed", "run_recovered", "node_start", "node_end", "node_error",
    "llm_start", "llm_end", "tool_start", "tool_end", "budget_warning", "budget_exceeded",
})  # fmt: skip
"""The events that `RunProgress` learns from. The pieces of messages are not among them: they are a
thousand to one, and what names their message is its `llm_start`."""


async def past_events(
    storage: Storage, thread_id: str, types: Collection[str], *, run_id: str | None = None
) -> AsyncGenerator[Event, None]:
    """The thread's events of these types so far, in order; if given, only those of one run."""
    after = 0
    while entries := await storage.read_log(thread_id, after, types=types, run_id=run_id):
        after = entries[-1].seq
        for entry in entries:
            yield decode(entry.body)


class UsageCounter:
    """Counts what a run uses: the tokens of `Usage` by their names, `model_calls`, `tool_calls` and
    `steps`, and the `cost` of models that have a price.

    It goes on from the numbers `before`, and does not count these `steps` again: a superstep that a
    crash cut off begins anew.
    """

    def __init__(
        self, before: Mapping[str, float], budgets: Budgets, *, steps: Iterable[int] = ()
    ) -> None:
        self.numbers = dict(before)
        self.steps = set(steps)
        self._budgets = budgets

    def add(self, event: Event) -> None:
        """Count what the event reports."""
        if isinstance(event, LlmEnd):
            self._count_model(event)
        elif isinstance(event, ToolStart):
            self._count("tool_calls", 1)
        elif isinstance(event, NodeStart) and not event.ns and event.step not in self.steps:
            self.steps.add(event.step)
            self._count("steps", 1)

    def priced(self, event: Event) -> Event:
        """The event with what its model costs, if that has a price. Prices may change, and what was
        shown should not."""
        if isinstance(event, LlmEnd) and event.usage is not None:
            return structs.replace(event, cost=self._budgets.cost(event.model, event.usage))
        if isinstance(event, LlmStart) and event.input_characters:
            estimated = self._budgets.estimate(event.model, event.input_characters)
            return structs.replace(event, estimated_cost=estimated)
        return event

    def _count_model(self, event: LlmEnd) -> None:
        self._count("model_calls", 1)
        usage = event.usage
        if usage is None:
            return
        for name, tokens in structs.asdict(usage).items():
            if tokens:
                self._count(name, tokens)
        cost = self._budgets.cost(event.model, usage)
        if cost is not None:
            self._count("cost", cost)

    def _count(self, name: str, amount: float) -> None:
        self.numbers[name] = self.numbers.get(name, 0) + amount


class RunLog:
    """Writes a run's events.

    Emitting is safe from any thread. It raises the error with which an earlier event could not be
    stored, or which keeps the run from its budgets.
    """

    def __init__(self, storage: Storage, lease: Lease, usage: UsageCounter, meter: Meter) -> None:
        self._append = storage.append
        self._lease = lease
        self._error: Exception | None = None
        self._usage = usage
        self._meter = meter

    def emit(self, event: Event) -> None:
        """Queue the event for the log, and count it."""
        if self._error is not None:
            raise self._error
        if type(event) is Token:
            self._append((event,), self._failed, self._lease)
            return
        event = self._usage.priced(event)
        self._append((event,), self._failed, self._lease)
        self._usage.add(event)
        if self._meter.limits:
            self._check(event)

    def check_budgets(self) -> None:
        """Emit the budget events that are due."""
        if self._error is None and (events := self._meter.new_events()):
            self._append(events, self._failed, self._lease)

    def _check(self, event: Event) -> None:
        try:
            self._meter.observe(event)
        except Exception as error:
            # Whoever catches it meets it again at the next event, so that the run cannot go on.
            self._failed(error)
            raise
        self.check_budgets()

    def _failed(self, error: Exception) -> None:
        self._error = error


class RunProgress:
    """A run's progress, learnt from its events in order.

    `began` is when its first attempt began. Its first event may be older: a decision, after which
    the run waited for its turn.
    """

    def __init__(self, budgets: Budgets, began: datetime | None = None) -> None:
        self.failed_node = ""
        self.reported: set[tuple[str, str]] = set()
        """The limits and types of the budget events."""
        self._usage = UsageCounter({}, budgets)
        self._messages: dict[str, dict[str, None]] = {}
        self._began = self._attempt_began = began
        self._seconds = self._seconds_before = 0.0

    def add(self, event: Event) -> None:
        """Learn from the next event of `PROGRESS_TYPES`."""
        self._usage.add(event)
        self.add_time(event)
        if isinstance(event, NodeError):
            self.failed_node = event.node
        elif isinstance(event, BudgetWarning | BudgetExceeded):
            self.reported.add((f"{event.scope}.{event.budget}", event_type(event)))
        elif isinstance(event, NodeEnd):
            self._messages.pop(event.task_id, None)
        elif isinstance(event, LlmStart):
            self._messages.setdefault(event.task_id, {})[event.message_id] = None

    def add_time(self, event: Event) -> None:
        """Learn from any later event that the run lasted until then."""
        if isinstance(event, RunStart | RunResumed | RunRecovered):
            self._seconds_before = self._seconds
            # Only times of one process are compared: the next one's clock may tell another time.
            is_first = not isinstance(event, RunRecovered)
            self._attempt_began = (is_first and self._began) or event.ts
        elif self._attempt_began is not None:
            elapsed = (event.ts - self._attempt_began).total_seconds()
            self._seconds = max(self._seconds, self._seconds_before + elapsed)

    @property
    def usage(self) -> Mapping[str, float]:
        """The run's usage, by name. Its `seconds` are those until the last event of each
        attempt."""
        return {**self._usage.numbers, "seconds": round(self._seconds, 6)}

    @property
    def steps(self) -> Collection[int]:
        """The supersteps that the run began."""
        return self._usage.steps

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The messages that the run began to stream, in nodes that did not end."""
        return tuple(message_id for ids in self._messages.values() for message_id in ids)
