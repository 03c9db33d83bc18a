"""Holding a run to its budgets while it runs: what it and others have used, what to tell of that,
and when it must stop.

What was used is never stored on its own account. It is counted from the run's events, so a crash
loses nothing of it, and what others have used is the sum over the rows of runs that have ended,
with what this process's other runs of the agent have used since.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

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
from assent.core.rows import Approval, ApprovalKind, ApprovalStatus, Run, RunKind
from assent.runs.budgets import OF_TOKENS, Limit, Rules, grants, limits_for, number, raised, refused
from assent.storage.base import Storage

STOP = "A budget is used up."
"""The reason of a run that is asked to stop at its next step because of a budget."""

TOOLS = "tool_calls"
"""The only budget that leaves the model its word when it is used up: it stops the next call of a
tool, and nothing before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a run goes by. `requested`, `before` and `granted` are handed on to the run that goes on
    from its pause; `input` is the run's, or that of one before which was stopped when it had not
    begun; `refusal` is the approval in which it was granted no more."""

    limits: tuple[Limit, ...] = ()
    requested: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    granted: Mapping[str, float] = field(default_factory=dict)
    input: Mapping[str, Any] = field(default_factory=dict)
    refusal: Approval | None = None

    def stored(self, usage: Mapping[str, float], *, asked: bool, unbegun: bool) -> dict[str, Any]:
        """As it stands in the row of a run that pauses, having used this much, for the one that
        goes on: `asked` says that the pause is about a budget, `unbegun` that what the run was to
        do is still to be done."""
        used = {
            name: self.before.get(name, 0) + usage.get(name, 0) for name in {*self.before, *usage}
        }
        known = {
            "limits": dict(self.requested),
            "before": used if self.limits else {},
            "granted": dict(self.granted),
        }
        return {
            **{name: value for name, value in known.items() if value},
            **({"asked": True} if asked else {}),
            **({"input": dict(self.input)} if unbegun else {}),
        }


class Meter:
    """What a run may still use. Its methods return at once; all but `admit` are safe from any
    thread."""

    def __init__(
        self,
        run: Run,
        limits: Sequence[Limit],
        used: Mapping[str, float],
        *,
        rules: Rules,
        now: Callable[[], datetime],
        told: Collection[tuple[str, str]] = (),
        by_others: Callable[[str], float] = lambda name: 0.0,
        stop: Callable[[], None] = lambda: None,
        admits_tools: bool = False,
    ) -> None:
        self.limits = tuple(limits)
        self._run = run
        self._used = used
        self._rules = rules
        self._now = now
        self._told = set(told)
        self._by_others = by_others
        self._stop = stop
        self._admits_tools = admits_tools
        self._admitted: set[str] = set()
        self.held_back = False
        """Whether a call of a tool was not admitted since the graph last began to run."""
        self._seconds_before = used.get("seconds", 0.0)
        self._began = asyncio.get_running_loop().time()
        self._loop = asyncio.get_running_loop()

    # ── what was used ─────────────────────────────────────────────────────────────────────────────

    @property
    def usage(self) -> dict[str, float]:
        """What the run has used so far, by name."""
        seconds = self._seconds_before + self._loop.time() - self._began
        return {**self._used, "seconds": round(seconds, 6)}

    def used(self, limit: Limit) -> float:
        """What was used of this budget, by whomever. A call of a tool counts once it is admitted: a
        crash may have taken the event of its start, and then only its intent tells."""
        own = self.usage.get(limit.name, 0) + (len(self._admitted) if limit.name == TOOLS else 0)
        return limit.before + own + (self._by_others(limit.name) if limit.scope == "agent" else 0)

    def reached(self, *, tools: bool = True) -> list[Limit]:
        """The budgets that are used up; without those of `tools`, only what lets nothing more be
        done."""
        return [
            limit
            for limit in self.limits
            if (tools or limit.name != TOOLS) and limit.reached(self.used(limit))
        ]

    def overrun(self) -> bool:
        """Whether more tools were called than may be, which a graph that calls several in one node
        can do."""
        return any(limit.name == TOOLS and self.used(limit) > limit.amount for limit in self.limits)

    def told_reached(self) -> list[Limit]:
        """The budgets that were told to be used up, by an earlier attempt of the run too."""
        return [limit for limit in self.limits if (limit.key, "budget_exceeded") in self._told]

    # ── while it runs ─────────────────────────────────────────────────────────────────────────────

    def see(self, event: Event) -> None:
        """Look at what the run does, once it was counted. Raises `ConfigurationError` if what it
        costs cannot be known."""
        if isinstance(event, ToolStart | NodeEnd | NodeError):
            self._admitted.discard(event.task_id)
        elif isinstance(event, LlmStart) and (event.model or not self._rules.prices):
            self._check_price(event.model)
        elif isinstance(event, LlmEnd):
            self._check_counted(event)
            # Some models say who they are only when they have ended.
            self._check_price(event.model)

    def news(self) -> tuple[Event, ...]:
        """What is to be told of the budgets now, each once. If one is used up, the run is asked to
        stop at its next step."""
        news = tuple(event for limit in self.limits for event in self._news_of(limit))
        if self.reached(tools=not self._admits_tools):
            self._stop()
        return news

    def admit(self, task_id: str) -> bool:
        """Whether this task may begin to call its tool. It is counted at once, though it has not
        begun."""
        if task_id in self._admitted:
            return True
        if any(
            limit.name == TOOLS and self.used(limit) + 1 > limit.amount for limit in self.limits
        ):
            return False
        self._admitted.add(task_id)
        return True

    def seconds_left(self, share: float = 1.0, *, on_exceeded: str | None = None) -> float | None:
        """How long until the first budget of time has this share used; None if there is none that
        has not yet."""
        left = [
            limit.amount * share - self.used(limit)
            for limit in self.limits
            if limit.name == "seconds" and on_exceeded in (None, limit.on_exceeded)
        ]
        return min((seconds for seconds in left if seconds > 0), default=None)

    def _news_of(self, limit: Limit) -> Iterator[Event]:
        used = self.used(limit)
        if limit.nearly(used):
            yield from self._once(BudgetWarning, "budget_warning", limit, used)
        if limit.reached(used):
            yield from self._once(BudgetExceeded, "budget_exceeded", limit, used)

    def _once(
        self, event: type[BudgetEvent], kind: str, limit: Limit, used: float
    ) -> Iterator[Event]:
        if (limit.key, kind) not in self._told:
            self._told.add((limit.key, kind))
            yield event(
                ts=self._now(),
                thread_id=self._run.thread_id,
                run_id=self._run.run_id,
                scope=limit.scope,
                budget=limit.name,
                used=number(used),
                limit=number(limit.amount),
            )

    def _check_price(self, model: str) -> None:
        if (
            any(limit.name == "cost" for limit in self.limits)
            and self._rules.cost(model, 0, 0) is None
        ):
            raise ConfigurationError(
                f"This run has a budget of money, and there is no price for the model '{model}'. "
                f'Add [budgets.prices."{model or "*"}"] with input and output, per million tokens, to the file that ASSENT_CONFIG names.'
            )

    def _check_counted(self, event: LlmEnd) -> None:
        if event.usage is None and (
            of_tokens := [limit.name for limit in self.limits if limit.name in OF_TOKENS]
        ):
            raise ConfigurationError(
                f"This run has a budget of {of_tokens[0]}, and the model '{event.model}' did not say how many tokens it used. "
                "Let it report its usage (stream_usage=True, with OpenAI's), or limit its model_calls."
            )


@asynccontextmanager
async def watched(meter: Meter, look: Callable[[], None]) -> AsyncIterator[None]:
    """While the context is entered, call `look` whenever a budget of time is nearly, or wholly,
    used up."""
    task = asyncio.create_task(_look_in_time(meter, look))
    try:
        yield
    finally:
        task.cancel()


async def _look_in_time(meter: Meter, look: Callable[[], None]) -> None:
    while True:
        due = [
            seconds for share in (0.8, 1.0) if (seconds := meter.seconds_left(share)) is not None
        ]
        if not due:
            return
        # A hair more, so that at that time it is so.
        await asyncio.sleep(min(due) + 0.001)
        look()


# ── before it runs ────────────────────────────────────────────────────────────────────────────────


class Spending:
    """What this process's runs have used of their agents' budgets: those that go on have no row yet
    that says so."""

    def __init__(self) -> None:
        self._active: dict[str, dict[str, Callable[[str], float]]] = defaultdict(dict)
        self._ended: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    @contextmanager
    def by_others(self, run: Run, used: Mapping[str, float]) -> Iterator[Callable[[str], float]]:
        """While the context is entered, the others know of `used`. Yields what they have used that
        was in no row when it was entered."""
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
    """Reads what a run goes by from the storage."""

    def __init__(self, storage: Storage, rules: Rules, clock: Clock) -> None:
        self.rules = rules
        self.spending = Spending()
        self._storage = storage
        self._clock = clock

    async def terms(self, run: Run) -> Terms:
        """What the run goes by: a run with decisions goes on with what the one that paused was
        given, and with what was granted since."""
        paused, approvals = await self._pause(run)
        earlier = paused.budget if paused is not None else {}
        requested = run.budget.get("limits") or earlier.get("limits") or {}
        granted = _highest(earlier.get("granted") or {}, grants(approvals))
        limits = limits_for(self.rules, agent=run.agent, requested=requested, now=self._clock.now())
        before = earlier.get("before") or {}
        limits = tuple(
            [replace(limit, before=await self._before(run, limit, before)) for limit in limits]
        )
        return Terms(
            limits=raised(limits, _highest(granted, await self._granted_to_thread(run, limits))),
            requested=requested,
            before=before,
            granted=granted,
            input=_input(run, earlier),
            refusal=refused(approvals),
        )

    async def _pause(self, run: Run) -> tuple[Run | None, list[Approval]]:
        """The run that paused, and what it asked about budgets."""
        if run.kind is not RunKind.RESUME:
            return None, []
        paused = await self._storage.run(str(run.input["paused_run"]))
        if paused is None or not paused.budget.get("asked"):
            return paused, []
        page = await self._storage.approvals(
            thread_id=run.thread_id, run_id=paused.run_id, limit=1000
        )
        return paused, [approval for approval in page.rows if approval.kind is ApprovalKind.BUDGET]

    async def _before(self, run: Run, limit: Limit, before: Mapping[str, float]) -> float:
        """What was used of the budget by others than this run."""
        if limit.scope == "run":
            return before.get(limit.name, 0)
        whose = {"thread_id": run.thread_id} if limit.scope == "thread" else {"agent": run.agent}
        used = await self._storage.usage(**whose, since=limit.since)
        own = (
            run.usage.get(limit.name, 0)
            if limit.since is None or run.created_at >= limit.since
            else 0
        )
        return max(used.get(limit.name, 0) - own, 0)

    async def _granted_to_thread(self, run: Run, limits: Sequence[Limit]) -> dict[str, float]:
        """What persons granted to the thread earlier, within each budget's window. Looked up only
        if it makes a difference."""
        short = [
            limit
            for limit in limits
            if limit.scope == "thread" and limit.nearly(limit.before + run.usage.get(limit.name, 0))
        ]
        if not short:
            return {}
        past = [
            each
            for status in (ApprovalStatus.APPROVED, ApprovalStatus.EDITED)
            for each in await self._decided(run.thread_id, status)
        ]
        return _highest(
            *({limit.key: grants(_since(past, limit)).get(limit.key, 0)} for limit in short)
        )

    async def _decided(self, thread_id: str, status: ApprovalStatus) -> list[Approval]:
        found: list[Approval] = []
        cursor: str | None = None
        while True:
            page = await self._storage.approvals(
                thread_id=thread_id, status=status, limit=1000, cursor=cursor
            )
            found += [approval for approval in page.rows if approval.kind is ApprovalKind.BUDGET]
            cursor = page.next
            if cursor is None:
                return found


def _since(approvals: Sequence[Approval], limit: Limit) -> list[Approval]:
    since = limit.since
    return [
        each
        for each in approvals
        if since is None or (each.decided_at is not None and each.decided_at >= since)
    ]


def _highest(*granted: Mapping[str, float]) -> dict[str, float]:
    keys = {key for each in granted for key in each}
    return {key: max(each.get(key, 0) for each in granted) for key in keys}


def _input(run: Run, earlier: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the run is to do: its own input, or that of the one before, if that was stopped when it
    had not begun."""
    return {**run.input, **earlier["input"]} if "input" in earlier else run.input
