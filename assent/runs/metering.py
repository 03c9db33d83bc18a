"""Hold a run to its budgets while it runs.

Usage is never stored for its own sake. It is counted from the run's events, so a crash loses none
of it. The usage of other runs is the sum over the rows of runs that have ended, and what this
process's other runs of the agent have used since.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from assent.approvals.decide import approvals_of_pause
from assent.core.approval import Approval
from assent.core.clock import Clock
from assent.core.errors import ConfigurationError
from assent.core.events import (
    BudgetEvent,
    BudgetExceeded,
    BudgetWarning,
    Event,
    LlmEnd,
    LlmStart,
    NodeEnd,
    NodeError,
    ToolStart,
)
from assent.core.json import Json, JsonObject
from assent.core.rows import Run, RunKind
from assent.runs.budgets import (
    TOKEN_NAMES,
    WARN_AT,
    Budgets,
    Limit,
    granted_limits,
    limits_for,
    raise_limits,
    refused_budget,
    rounded,
)
from assent.storage.base import Storage, all_rows

BUDGET_STOP = "A budget is used up."
"""The drain reason of a run that a budget stops at its next step."""

TOOL_CALLS = "tool_calls"
"""The one budget that stops only the next call of a tool: the model may still finish."""

MARGIN_SECONDS = 0.001
"""Added to a wait for a budget of time, so that it is used up when the wait is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The budgets of a run.

    `requested`, `before`, `granted` and the `recursion_limit` that was asked for are handed on to
    the run that goes on after a pause. `input` is the run's own, or that of an earlier run which
    was stopped before it began. `refusal` is the approval in which a larger budget was refused.
    """

    limits: tuple[Limit, ...] = ()
    requested: Mapping[str, Json] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    granted: Mapping[str, float] = field(default_factory=dict)
    recursion_limit: int | None = None
    input: Mapping[str, Json] = field(default_factory=dict)
    refusal: Approval | None = None

    def for_next_run(self, usage: Mapping[str, float], *, asked: bool, unbegun: bool) -> JsonObject:
        """The `budget` of a run that pauses, for the run that goes on.

        `asked` says that the pause is about a budget, `unbegun` that the run did not begin its
        work.
        """
        budget: JsonObject = {}
        if self.requested:
            budget["limits"] = dict(self.requested)
        if self.limits and (self.before or usage):
            names = {*self.before, *usage}
            budget["before"] = {
                name: self.before.get(name, 0) + usage.get(name, 0) for name in names
            }
        if self.granted:
            budget["granted"] = dict(self.granted)
        if self.recursion_limit is not None:
            budget["recursion_limit"] = self.recursion_limit
        if asked:
            budget["asked"] = True
        if unbegun:
            budget["input"] = dict(self.input)
        return budget


class Meter:
    """Compares a run's usage with its limits. Its methods return at once, and all but `admit` are
    safe from any thread."""

    def __init__(
        self,
        run: Run,
        limits: Sequence[Limit],
        used: Mapping[str, float],
        *,
        budgets: Budgets,
        now: Callable[[], datetime],
        reported: Collection[tuple[str, str]] = (),
        by_others: Callable[[str], float] = lambda name: 0.0,
        stop: Callable[[], None] = lambda: None,
        admits_tools: bool = False,
    ) -> None:
        """`reported` are the limits and types of the budget events so far. `by_others` returns what
        other runs used of an agent's budget since this one began. With `admits_tools`, calls of
        tools wait for `admit`, so that a budget of them does not `stop` the run."""
        self.limits = tuple(limits)
        self.held_back = False
        """True if a call of a tool was not admitted since the graph last began to run."""
        self._run = run
        self._used = used
        self._budgets = budgets
        self._now = now
        self._reported = set(reported)
        self._by_others = by_others
        self._stop = stop
        self._admits_tools = admits_tools
        self._admitted: set[str] = set()
        self._time = asyncio.get_running_loop().time
        self._began = self._time() - used.get("seconds", 0.0)

    # ── usage ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def usage(self) -> dict[str, float]:
        """The run's usage so far, by name."""
        return {**self._used, "seconds": round(self._time() - self._began, 6)}

    def used(self, limit: Limit) -> float:
        """The usage that counts against the limit, by this run and others."""
        used = limit.before + self.usage.get(limit.name, 0)
        if limit.name == TOOL_CALLS:
            # A call counts once it is admitted. A crash may lose the event of its start.
            used += len(self._admitted)
        if limit.scope == "agent":
            used += self._by_others(limit.name)
        return used

    def reached(self, *, tools: bool = True) -> list[Limit]:
        """The limits that are reached. Without `tools`, budgets of tool calls are left out."""
        limits = [limit for limit in self.limits if tools or limit.name != TOOL_CALLS]
        return [limit for limit in limits if limit.reached(self.used(limit))]

    def overrun(self) -> bool:
        """True if more tools were called than allowed. A graph that calls several in one node can
        do that."""
        return self._exceeds_tool_calls(0)

    def reported_reached(self) -> list[Limit]:
        """The limits that were reported as reached, by this attempt of the run or an earlier
        one."""
        return [limit for limit in self.limits if (limit.key, "budget_exceeded") in self._reported]

    def _exceeds_tool_calls(self, more: int) -> bool:
        return any(
            limit.name == TOOL_CALLS and self.used(limit) + more > limit.amount
            for limit in self.limits
        )

    # ── while it runs ─────────────────────────────────────────────────────────────────────────────

    def observe(self, event: Event) -> None:
        """Check an event that was counted. Raises `ConfigurationError` if its cost cannot be
        known."""
        if isinstance(event, ToolStart | NodeEnd | NodeError):
            self._admitted.discard(event.task_id)
        elif isinstance(event, LlmStart) and (event.model or not self._budgets.prices):
            self._check_price(event.model)
        elif isinstance(event, LlmEnd):
            self._check_counted(event)
            # Some models give their name only when they have ended.
            self._check_price(event.model)

    def new_events(self) -> list[Event]:
        """The budget events that are due, each once. If a budget is used up, the run is asked to
        stop at its next step."""
        events = []
        for limit in self.limits:
            used = self.used(limit)
            if limit.nearly(used):
                events += self._report(BudgetWarning, "budget_warning", limit, used)
            if limit.reached(used):
                events += self._report(BudgetExceeded, "budget_exceeded", limit, used)
        if self.reached(tools=not self._admits_tools):
            self._stop()
        return events

    def _report(
        self, event: type[BudgetEvent], kind: str, limit: Limit, used: float
    ) -> list[Event]:
        if (limit.key, kind) in self._reported:
            return []
        self._reported.add((limit.key, kind))
        return [
            event(
                ts=self._now(),
                thread_id=self._run.thread_id,
                run_id=self._run.run_id,
                scope=limit.scope,
                budget=limit.name,
                used=rounded(used),
                limit=rounded(limit.amount),
            )
        ]

    def admit(self, task_id: str) -> bool:
        """True if the task may call its tool. The call counts at once."""
        if task_id in self._admitted:
            return True
        if self._exceeds_tool_calls(1):
            return False
        self._admitted.add(task_id)
        return True

    def seconds_left(self, share: float = 1.0, *, on_exceeded: str | None = None) -> float | None:
        """The seconds until the first budget of time has this share used. Budgets that have it used
        already are left out; None if no other is left."""
        left: list[float] = []
        for limit in self.limits:
            if limit.name == "seconds" and on_exceeded in (None, limit.on_exceeded):
                left.append(limit.amount * share - self.used(limit))
        return min((seconds for seconds in left if seconds > 0), default=None)

    def _check_price(self, model: str) -> None:
        is_limited = any(limit.name == "cost" for limit in self.limits)
        if is_limited and self._budgets.price(model) is None:
            raise ConfigurationError(
                "This run has a budget of money, and there is no price for the model "
                f"'{model}'. Add [budgets.prices.\"{model or '*'}\"] with input and output, "
                "per million tokens, to the file that ASSENT_CONFIG names."
            )

    def _check_counted(self, event: LlmEnd) -> None:
        if event.usage is not None:
            return
        for limit in self.limits:
            if limit.name in TOKEN_NAMES:
                raise ConfigurationError(
                    f"This run has a budget of {limit.name}, and the model '{event.model}' did "
                    "not say how many tokens it used. Let it report its usage "
                    "(stream_usage=True, with OpenAI's), or limit its model_calls."
                )


@asynccontextmanager
async def watch_time(meter: Meter, check: Callable[[], None]) -> AsyncIterator[None]:
    """Call `check` whenever a budget of time is nearly used up, and when it is."""
    if meter.seconds_left() is None:
        # Most runs have no budget of time, and need no task for it.
        yield
        return
    task = asyncio.create_task(_check_in_time(meter, check))
    try:
        yield
    finally:
        task.cancel()


async def _check_in_time(meter: Meter, check: Callable[[], None]) -> None:
    while True:
        waits = [meter.seconds_left(WARN_AT), meter.seconds_left()]
        due = [seconds for seconds in waits if seconds is not None]
        if not due:
            return
        await asyncio.sleep(min(due) + MARGIN_SECONDS)
        check()


# ── before it runs ────────────────────────────────────────────────────────────────────────────────


class Spending:
    """The usage of agents' budgets by this process's runs that is in no row yet."""

    def __init__(self) -> None:
        self._active: dict[str, dict[str, Callable[[str], float]]] = defaultdict(dict)
        self._ended: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    @contextmanager
    def by_others(self, run: Run, used: Mapping[str, float]) -> Iterator[Callable[[str], float]]:
        """Share the usage of a run while the context is entered.

        Yields a function from a name to what other runs of the agent have used of it since then.
        """
        active, ended = self._active[run.agent], self._ended[run.agent]
        in_row, ended_before = dict(used), dict(ended)

        def by_others(name: str) -> float:
            going = [use(name) for run_id, use in list(active.items()) if run_id != run.run_id]
            return sum(going) + ended[name] - ended_before.get(name, 0)

        active[run.run_id] = lambda name: used.get(name, 0) - in_row.get(name, 0)
        try:
            yield by_others
        finally:
            active.pop(run.run_id, None)
            for name in used:
                ended[name] += used[name] - in_row.get(name, 0)


class Metering:
    """Reads the terms of runs from the storage."""

    def __init__(self, storage: Storage, budgets: Budgets, clock: Clock) -> None:
        self.budgets = budgets
        self.spending = Spending()
        self._storage = storage
        self._clock = clock

    async def terms(self, run: Run) -> Terms:
        """The terms of the run. A run that goes on after a pause has those of the run that paused,
        and what was granted since."""
        earlier: Mapping[str, Json] = {}
        approvals: list[Approval] = []
        if run.kind is RunKind.RESUME:
            paused_run = str(run.input["paused_run"])
            paused = await self._storage.run(paused_run)
            earlier = paused.budget if paused is not None else {}
            if earlier.get("asked"):
                approvals = await approvals_of_pause(self._storage, run.thread_id, paused_run)

        requested = run.budget.get("limits") or earlier.get("limits") or {}
        before = earlier.get("before") or {}
        granted = _highest(earlier.get("granted") or {}, granted_limits(approvals))
        now = self._clock.now()
        limits = []
        for limit in limits_for(self.budgets, agent=run.agent, requested=requested, now=now):
            limits.append(replace(limit, before=await self._used_before(run, limit, before)))
        to_thread = await self._granted_to_thread(run, limits)
        return Terms(
            limits=raise_limits(limits, _highest(granted, to_thread)),
            requested=requested,
            before=before,
            granted=granted,
            recursion_limit=run.budget.get("recursion_limit") or earlier.get("recursion_limit"),
            input={**run.input, **earlier.get("input", {})},
            refusal=refused_budget(approvals),
        )

    async def _used_before(self, run: Run, limit: Limit, before: Mapping[str, float]) -> float:
        """The usage of the budget by other runs than this one."""
        if limit.scope == "run":
            return before.get(limit.name, 0)
        whose = {"thread_id": run.thread_id} if limit.scope == "thread" else {"agent": run.agent}
        usage = await self._storage.usage(**whose, since=limit.since)
        used = usage.get(limit.name, 0)
        if limit.since is None or run.created_at >= limit.since:
            used -= run.usage.get(limit.name, 0)
        return max(used, 0)

    async def _granted_to_thread(self, run: Run, limits: Sequence[Limit]) -> dict[str, float]:
        """The limits that people granted to the thread earlier, within each budget's window. Read
        only if a budget is nearly used up."""
        short: list[Limit] = []
        for limit in limits:
            used = limit.before + run.usage.get(limit.name, 0)
            if limit.scope == "thread" and limit.nearly(used):
                short.append(limit)
        if not short:
            return {}
        approvals = await all_rows(self._storage.approvals, thread_id=run.thread_id, limit=1000)
        granted = {}
        for limit in short:
            within = [approval for approval in approvals if _is_within(limit, approval)]
            granted[limit.key] = granted_limits(within).get(limit.key, 0)
        return granted


def _is_within(limit: Limit, approval: Approval) -> bool:
    if limit.since is None:
        return True
    return approval.decided_at is not None and approval.decided_at >= limit.since


def _highest(*granted: Mapping[str, float]) -> dict[str, float]:
    highest: dict[str, float] = {}
    for each in granted:
        for key, amount in each.items():
            highest[key] = max(highest.get(key, 0), amount)
    return highest
