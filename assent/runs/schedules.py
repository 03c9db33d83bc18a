"""Runs at set times: when a schedule is due, what is done then, and what becomes of times that were
missed.

A schedule's row and its timer are written together. When the timer is due, the run, the row with
its next time, and the timer moved there are one transaction: so there is one run for each time,
whoever else looks, and whenever the process dies.

A time that is less than `ON_TIME` ago has its run, for a restart takes a while. One longer ago was
missed: with `if_missed="once"` there is one run for however many were, and with "skip" none. Either
way it goes on with the times that are still to come. There is no "all": runs that say the same to
the same agent, one behind the other, are what nobody wants after a long night.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim, CronSimError

from assent.core.clock import Clock
from assent.core.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    Tampered,
    ThreadBusy,
    ThreadPaused,
)
from assent.core.rows import Authentication, Run, RunStatus, Schedule, Thread, ThreadStatus, Timer
from assent.runs.transitions import OnBusy, Submission
from assent.storage.base import Change, Storage

log = structlog.get_logger(__name__)

KIND = "schedule"
"""The kind of a schedule's timer."""

ON_TIME = timedelta(seconds=60)

IfMissed = Literal["once", "skip"]

Submit = Callable[[Submission, Callable[[Run], Change]], Awaitable[Run]]
"""Takes the submission, and stores along with its run what that gives. Raises `Conflict` if
anything has moved."""

AgentFor = Callable[[Submission, Thread | None], str]
"""The name of the agent that would take the submission. Raises `NotFound` or `InvalidRequest`."""


# ── times ─────────────────────────────────────────────────────────────────────────────────────────


def next_time(cron: str, timezone: str, after: datetime) -> datetime | None:
    """The first time after `after`, in UTC; None if there is none in the next fifty years. Raises
    `InvalidRequest`."""
    return next(iter(next_times(cron, timezone, after, 1)), None)


def next_times(cron: str, timezone: str, after: datetime, count: int) -> list[datetime]:
    """The first `count` times after `after`, in UTC. Raises `InvalidRequest` for an expression or a
    zone that makes no sense.

    Where clocks are changed, this is what Debian's cron does: a time that is left out that day
    comes as soon as the clock has been put forward, and one that is there twice comes the first
    time. But an expression whose minutes or hours begin with `*`, or that has a field for seconds,
    follows time as it passes.
    """
    zone = _zone(timezone)
    try:
        times = CronSim(cron, after.astimezone(zone))
    except CronSimError as error:
        raise InvalidRequest(
            f"The field 'cron' is '{cron}', which is no cron expression: {str(error).lower()}. "
            "Send minute, hour, day of the month, month and day of the week, as in '30 9 * * MON-FRI'."
        ) from error
    # Where clocks are put back, the iterator begins an hour before `after`; where they are put
    # forward, it gives a time twice.
    return list(islice(_rising((time.astimezone(UTC) for time in times), after), count))


def _rising(times: Iterable[datetime], after: datetime) -> Iterator[datetime]:
    for time in times:
        if time > after:
            after = time
            yield time


def _zone(name: str) -> ZoneInfo:
    try:
        # These are in some machines' folder of zones, and are none of the world's.
        if name.partition("/")[0] not in ("localtime", "posix", "posixrules", "right"):
            return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        pass
    raise InvalidRequest(
        f"The field 'timezone' is '{name}', which is no time zone. Send an IANA name, as in 'Europe/Berlin' or 'UTC'."
    )


# ── what a schedule is ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What somebody wants of a schedule: this message to this agent, at the times of the cron
    expression in the time zone.

    Without a `thread_id` each run has a thread of its own. `on_busy` is what to do while another
    run is active on the thread, or waits for a person: `reject` passes the time over, and
    `interrupt` and `rollback` stop an active run, but take no question away from a person.
    """

    cron: str
    message: str
    timezone: str = "UTC"
    agent: str | None = None
    thread_id: str | None = None
    on_busy: OnBusy = "enqueue"
    if_missed: IfMissed = "once"
    enabled: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)


def plan_of(schedule: Schedule) -> Plan:
    """What the schedule was planned as."""
    return Plan(
        cron=schedule.cron,
        message=str(schedule.input["message"]),
        timezone=schedule.timezone,
        agent=schedule.agent,
        thread_id=schedule.thread_id or None,
        on_busy=cast(OnBusy, schedule.on_busy),
        if_missed=cast(IfMissed, schedule.if_missed),
        enabled=schedule.enabled,
        metadata=schedule.metadata,
        budget=schedule.budget,
    )


def planned(schedule: Schedule, plan: Plan, agent: str, now: datetime) -> Schedule:
    """The schedule as planned. A time that is due already stays due, unless the times themselves
    are others now.

    Raises `InvalidRequest` for times that make no sense, or that never come.
    """
    first = next_time(plan.cron, plan.timezone, now)
    if first is None:
        raise InvalidRequest(
            f"The field 'cron' is '{plan.cron}', and that time never comes. Send one that does, as in '0 9 1 * *'."
        )
    same = (schedule.cron, schedule.timezone, schedule.enabled) == (
        plan.cron,
        plan.timezone,
        plan.enabled,
    )
    return replace(
        schedule,
        agent=agent,
        cron=plan.cron,
        timezone=plan.timezone,
        input={"message": plan.message},
        thread_id=plan.thread_id or "",
        on_busy=plan.on_busy,
        if_missed=plan.if_missed,
        enabled=plan.enabled,
        next_at=(schedule.next_at if same and schedule.next_at else first)
        if plan.enabled
        else None,
        metadata=plan.metadata,
        budget=plan.budget,
    )


def fallen_due(schedule: Schedule, now: datetime) -> tuple[Schedule, datetime | None]:
    """The schedule moved on from a time that has come, and the time to run for; None if there is to
    be no run."""
    at = schedule.next_at
    assert at is not None, "what has no next time is not due"
    if now - at <= ON_TIME:
        return _moved(schedule, at), at
    if schedule.if_missed == "once":
        return _moved(schedule, now), at
    missed = f"Its time at {at.isoformat()} was more than {ON_TIME.seconds} seconds ago, so it was skipped."
    return replace(_moved(schedule, now - ON_TIME), last_error=missed), None


def _moved(schedule: Schedule, after: datetime) -> Schedule:
    try:
        next_at = next_time(schedule.cron, schedule.timezone, after)
    except InvalidRequest as error:
        # It was right when it was stored: the machine has other time zones now.
        return replace(
            schedule, next_at=None, last_error=error.message, version=schedule.version + 1
        )
    return replace(schedule, next_at=next_at, last_error=None, version=schedule.version + 1)


def stored(schedule: Schedule, timer: Timer | None) -> Change:
    """The schedule's row, and its timer, if it had one, at its next time."""
    if schedule.next_at is None:
        return Change(rows=(schedule,), removed=(timer,) if timer else ())
    moved = Timer(
        timer_id=timer_id(schedule.schedule_id),
        kind=KIND,
        due_at=schedule.next_at,
        thread_id=schedule.thread_id,
        payload={"schedule_id": schedule.schedule_id},
        version=timer.version + 1 if timer else 1,
    )
    return Change(rows=(schedule, moved))


def _ran(schedule: Schedule, at: datetime, run: Run) -> Change:
    ran = replace(
        schedule, last_at=at, last_run_id=run.run_id, last_error=None, version=schedule.version + 1
    )
    return Change(rows=(ran,))


def timer_id(schedule_id: str) -> str:
    """The id of a schedule's timer."""
    return f"{KIND}:{schedule_id}"


def submission(schedule: Schedule, due_at: datetime | None) -> Submission:
    """What the schedule says at this time; by hand, at none. It never answers what the thread waits
    for."""
    return Submission(
        message=str(schedule.input["message"]),
        owner=schedule.owner,
        agent=schedule.agent,
        thread_id=schedule.thread_id or None,
        if_paused="wait",
        on_busy=plan_of(schedule).on_busy,
        due_at=due_at,
        metadata=schedule.metadata,
        budget=schedule.budget,
        authentication=Authentication.TIME,
        schedule_id=schedule.schedule_id,
    )


# ── the service ───────────────────────────────────────────────────────────────────────────────────


class Schedules:
    """Keeps schedules, and does what they are for when their timers are due (`fire`)."""

    def __init__(self, storage: Storage, clock: Clock, submit: Submit, agent_for: AgentFor) -> None:
        self._storage = storage
        self._clock = clock
        self._submit = submit
        self._agent_for = agent_for

    async def create(self, plan: Plan, *, owner: str) -> Schedule:
        """A new schedule. Raises `InvalidRequest`, or `NotFound` for an unknown agent."""
        now = self._clock.now()
        agent = await self._agent(plan, owner)
        blank = Schedule(
            schedule_id=self._clock.new_id(),
            owner=owner,
            agent=agent,
            cron=plan.cron,
            timezone=plan.timezone,
            input={},
            created_at=now,
            enabled=plan.enabled,
        )
        schedule = planned(blank, plan, agent, now)
        await self._storage.commit(stored(schedule, None))
        return schedule

    async def schedule(self, schedule_id: str) -> Schedule:
        """The schedule. Raises `NotFound`."""
        schedule = await self._storage.schedule(schedule_id)
        if schedule is None:
            raise NotFound(
                f"There is no schedule '{schedule_id}'. GET /schedules lists those that there are."
            )
        return schedule

    def upcoming(self, schedule: Schedule, count: int = 5) -> list[datetime]:
        """The schedule's next times, in its own time zone."""
        if schedule.next_at is None:
            return []
        later = next_times(schedule.cron, schedule.timezone, schedule.next_at, count - 1)
        return [time.astimezone(_zone(schedule.timezone)) for time in (schedule.next_at, *later)]

    async def change(self, schedule_id: str, changes: Mapping[str, Any]) -> Schedule:
        """Change these fields of the schedule's plan. Raises as `create` does, or `NotFound`."""
        while True:
            schedule = await self.schedule(schedule_id)
            plan = replace(plan_of(schedule), **changes)
            agent = await self._agent(plan, schedule.owner)
            changed = replace(
                planned(schedule, plan, agent, self._clock.now()), version=schedule.version + 1
            )
            try:
                await self._storage.commit(stored(changed, await self._timer(schedule_id)))
                return changed
            except Conflict:
                # It has just fallen due, or somebody else has changed it.
                continue

    async def delete(self, schedule_id: str) -> None:
        """Remove the schedule. Its runs stay. Raises `NotFound`."""
        while True:
            schedule, timer = await self.schedule(schedule_id), await self._timer(schedule_id)
            try:
                await self._storage.commit(
                    Change(removed=(schedule, timer) if timer else (schedule,))
                )
                return
            except Conflict:
                continue

    async def run(self, schedule_id: str) -> Run:
        """A run now, whatever the time. Raises `NotFound`, `ThreadBusy` or `ThreadPaused`,
        `InvalidRequest` or `Tampered`."""
        while True:
            schedule = await self.schedule(schedule_id)
            try:
                await self._check_room(schedule)
                return await self._submit(
                    submission(schedule, None), partial(_ran, schedule, self._clock.now())
                )
            except (ThreadBusy, ThreadPaused):
                raise
            except Conflict:
                continue

    async def fire(self, timer: Timer) -> None:
        """Do what is due: a run, or a word on why there is none. Raises what the storage raises;
        then it is still due."""
        due: Timer | None = timer
        while due is not None and due.due_at <= self._clock.now():
            try:
                await self._fire(due)
                return
            except Conflict:
                # The thread has moved, or the schedule was changed; or another worker was faster,
                # and the timer is not due any more.
                due = await self._storage.timer(timer.timer_id)

    async def _fire(self, timer: Timer) -> None:
        try:
            schedule = await self._storage.schedule(str(timer.payload["schedule_id"]))
        except Tampered as error:
            await self._give_up(timer, error)
            return
        if schedule is None or schedule.next_at is None:
            await self._storage.commit(Change(removed=(timer,)))
            return
        moved, at = fallen_due(schedule, self._clock.now())
        if at is not None:
            try:
                await self._check_room(schedule)
                await self._submit(
                    submission(schedule, at),
                    lambda run: stored(replace(moved, last_at=at, last_run_id=run.run_id), timer),
                )
                return
            except (ThreadBusy, ThreadPaused, NotFound, InvalidRequest, Tampered) as error:
                moved = replace(moved, last_error=error.message)
        await self._storage.commit(stored(moved, timer))
        log.warning(
            "a schedule's time passed without a run",
            schedule_id=schedule.schedule_id,
            reason=moved.last_error,
        )

    async def _give_up(self, timer: Timer, error: Tampered) -> None:
        log.error(
            "a schedule is not followed any more", timer_id=timer.timer_id, reason=error.message
        )
        if timer.thread_id:
            await self._storage.distrust(timer.thread_id, error.message)
        await self._storage.commit(Change(removed=(timer,)))

    async def _check_room(self, schedule: Schedule) -> None:
        """One run that waits its turn says all that two would say: or a thread that waits for a
        person for a month would have a month's."""
        if not schedule.thread_id:
            return
        thread = await self._storage.thread(schedule.thread_id)
        waits = thread is not None and thread.status is ThreadStatus.INTERRUPTED
        if schedule.on_busy in ("interrupt", "rollback") and not waits:
            return
        pending = await self._storage.runs(
            thread_id=schedule.thread_id, status=(RunStatus.PENDING,)
        )
        if any(run.schedule_id == schedule.schedule_id for run in pending):
            raise ThreadBusy(
                f"A run of this schedule waits its turn on the thread '{schedule.thread_id}' already, so none was added."
            )

    async def _agent(self, plan: Plan, owner: str) -> str:
        thread = await self._storage.thread(plan.thread_id) if plan.thread_id else None
        return self._agent_for(
            Submission(
                message=plan.message, owner=owner, agent=plan.agent, thread_id=plan.thread_id
            ),
            thread,
        )

    async def _timer(self, schedule_id: str) -> Timer | None:
        return await self._storage.timer(timer_id(schedule_id))
