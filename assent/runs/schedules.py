"""Runs at set times.

A schedule's row and its timer are written together. When the timer is due, one transaction stores
the run, the row with its next time, and the timer moved to that time. So there is one run for each
time, however many workers look, and whenever the process dies.

A time less than `ON_TIME` ago is on time, as a restart takes a while. One longer ago was missed:
with `if_missed="once"` there is one run for all missed times together, and with "skip" there is
none. Then the schedule goes on with the times to come. There is no "all": nobody wants the same
message many times in a row after a long night.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

import structlog
from cronsim import CronSim, CronSimError
from msgspec import structs

from assent.approvals.idempotency import Key, is_about_a_key
from assent.approvals.requesters import each_once
from assent.core.access import Owner
from assent.core.audit import LOCAL, Actor, Authentication
from assent.core.clock import Clock
from assent.core.errors import (
    Conflict,
    FilesFull,
    InvalidRequest,
    NotFound,
    QueueFull,
    Tampered,
    ThreadBusy,
    ThreadPaused,
)
from assent.core.json import Json
from assent.core.rows import Run, RunStatus, Schedule, Thread, ThreadStatus, Timer
from assent.core.run_input import GIVEN, RunInput, given_in, with_changes
from assent.runs.assistants import MERGED, Assistants
from assent.runs.transitions import OnBusy, Submission
from assent.storage.base import Change, Storage

log = structlog.get_logger(__name__)

SCHEDULE_TIMER = "schedule"
"""The kind of a schedule's timer."""

ON_TIME = timedelta(seconds=60)

IfMissed = Literal["once", "skip"]

Submit = Callable[[Submission, Callable[[Run], Change]], Awaitable[Run]]
"""Takes a submission, and commits the extra rows for its run with it. Raises `Conflict` if anything
has moved."""

AgentFor = Callable[[Submission, Thread | None], str]
"""The name of the agent for a submission. Raises `NotFound` or `InvalidRequest`."""

CheckInput = Callable[[Submission, str], Awaitable[None]]
"""Raises `InvalidInput` if the agent of this name does not take the submission's input."""

MayRun = Callable[[Owner], Awaitable[bool]]
"""False for a person who is known here and may not run agents any more."""

CheckFree = Callable[[str], Awaitable[None]]
"""Raises `NotFound` for the id of a thread that is there and not seen."""


# ── times ─────────────────────────────────────────────────────────────────────────────────────────


def next_time(cron: str, timezone: str, after: datetime) -> datetime | None:
    """The first time after `after`, in UTC; None if there is none in the next fifty years. Raises
    `InvalidRequest`."""
    return next(iter(next_times(cron, timezone, after, 1)), None)


def next_times(cron: str, timezone: str, after: datetime, count: int) -> list[datetime]:
    """The first `count` times after `after`, in UTC. Raises `InvalidRequest` if the expression or
    the time zone is not valid.

    Where the clocks change, this does what Debian's cron does: a time that is skipped that day
    comes right after the clocks went forward, and a time that is there twice comes the first time.
    An expression whose minutes or hours begin with `*`, or that has seconds, follows elapsed time.
    """
    zone = _zone(timezone)
    try:
        times = CronSim(cron, after.astimezone(zone))
    except CronSimError as error:
        raise InvalidRequest(
            f"The field 'cron' is '{cron}', which is no cron expression: {str(error).lower()}. "
            "Send minute, hour, day of the month, month and day of the week, "
            "as in '30 9 * * MON-FRI'."
        ) from error
    # Where the clocks go back, the iterator begins an hour before `after`. Where they go forward,
    # it gives a time twice.
    in_utc = (time.astimezone(UTC) for time in times)
    return list(islice(_rising(in_utc, after), count))


def _rising(times: Iterable[datetime], after: datetime) -> Iterator[datetime]:
    for time in times:
        if time > after:
            after = time
            yield time


def _zone(name: str) -> ZoneInfo:
    try:
        # Some machines have these in their folder of zones. They are no IANA names.
        if name.partition("/")[0] not in ("localtime", "posix", "posixrules", "right"):
            return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        pass
    raise InvalidRequest(
        f"The field 'timezone' is '{name}', which is no time zone. "
        "Send an IANA name, as in 'Europe/Berlin' or 'UTC'."
    )


# ── plans ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The wish for a schedule: this input for this agent, at the times of the cron expression.

    Without a `thread_id` each run has a thread of its own. `on_busy` says what to do while another
    run is active on the thread, or waits for a person: `reject` skips the time, and `interrupt` and
    `rollback` stop an active run, but never one that waits for a person. No run is due after
    `ends_at`. An `assistant_id` is in place of an agent: what that sets now is kept with the
    schedule.
    """

    cron: str
    given: RunInput
    timezone: str = "UTC"
    agent: str | None = None
    assistant_id: str | None = None
    thread_id: str | None = None
    on_busy: OnBusy = "enqueue"
    if_missed: IfMissed = "once"
    enabled: bool = True
    metadata: Mapping[str, Json] = field(default_factory=dict)
    budget: Mapping[str, Json] = field(default_factory=dict)
    ends_at: datetime | None = None


SAME_FIELDS = (
    *("cron", "timezone", "on_busy", "if_missed", "enabled", "metadata", "budget"),
    "ends_at",
)
"""The fields that a plan and a schedule's row both have."""


def plan_of(schedule: Schedule) -> Plan:
    """The plan that the schedule follows."""
    return Plan(
        given=given_in(schedule.input),
        agent=schedule.agent,
        thread_id=schedule.thread_id or None,
        **{name: getattr(schedule, name) for name in SAME_FIELDS},
    )


def changed_plan(plan: Plan, changes: Mapping[str, Json]) -> Plan:
    """The plan with these fields changed, and those of its input."""
    given = {name: value for name, value in changes.items() if name in GIVEN}
    others = {name: value for name, value in changes.items() if name not in GIVEN}
    return replace(plan, given=with_changes(plan.given, given), **others)


def apply_plan(schedule: Schedule, plan: Plan, agent: str, now: datetime) -> Schedule:
    """The schedule with this plan. A time that is due already stays due, unless the plan changes
    the times.

    Raises `InvalidRequest` if the times are not valid, or never come.
    """
    next_at = next_time(plan.cron, plan.timezone, now)
    if next_at is None:
        raise InvalidRequest(
            f"The field 'cron' is '{plan.cron}', and that time never comes. "
            "Send one that does, as in '0 9 1 * *'."
        )
    if plan.enabled and plan.ends_at is not None and next_at > plan.ends_at:
        raise InvalidRequest(
            f"The schedule ends at {plan.ends_at.isoformat()}, and its next time would be "
            f"{next_at.isoformat()}: let it end later, or not at all."
        )
    same_times = (
        schedule.cron == plan.cron
        and schedule.timezone == plan.timezone
        and schedule.enabled == plan.enabled
    )
    if same_times and schedule.next_at is not None:
        next_at = schedule.next_at
    return replace(
        schedule,
        agent=agent,
        input=plan.given.stored(),
        thread_id=plan.thread_id or "",
        next_at=next_at if plan.enabled else None,
        **{name: getattr(plan, name) for name in SAME_FIELDS},
    )


# ── due times ─────────────────────────────────────────────────────────────────────────────────────


def pass_due_time(schedule: Schedule, now: datetime) -> tuple[Schedule, datetime | None]:
    """The schedule moved on from the time that is due, and the time to run for: None if there is to
    be no run."""
    at = schedule.next_at
    assert at is not None, "A schedule without a next time is not due."
    if now - at <= ON_TIME:
        return _moved_past(schedule, at), at
    if schedule.if_missed == "once":
        return _moved_past(schedule, now), at
    missed = (
        f"Its time at {at.isoformat()} was more than {ON_TIME.seconds} seconds ago, "
        "so it was skipped."
    )
    return replace(_moved_past(schedule, now - ON_TIME), last_error=missed), None


def _moved_past(schedule: Schedule, time: datetime) -> Schedule:
    next_at, problem = None, None
    try:
        next_at = next_time(schedule.cron, schedule.timezone, time)
        if next_at and schedule.ends_at and next_at > schedule.ends_at:
            next_at = None
    except InvalidRequest as error:
        # It was valid when it was stored. The machine has other time zones now.
        problem = error.message
    return replace(schedule, next_at=next_at, last_error=problem, version=schedule.version + 1)


def with_timer(schedule: Schedule, timer: Timer | None) -> Change:
    """The schedule's row, with its timer at the next time. `timer` is the one it had."""
    if schedule.next_at is None:
        return Change(rows=(schedule,), removed=(timer,) if timer else ())
    moved = Timer(
        timer_id=timer_id(schedule.schedule_id),
        kind=SCHEDULE_TIMER,
        due_at=schedule.next_at,
        thread_id=schedule.thread_id,
        payload={"schedule_id": schedule.schedule_id},
        version=timer.version + 1 if timer else 1,
    )
    return Change(rows=(schedule, moved))


def timer_id(schedule_id: str) -> str:
    """The id of a schedule's timer."""
    return f"{SCHEDULE_TIMER}:{schedule_id}"


def _ran(schedule: Schedule, at: datetime, run: Run) -> Change:
    ran = replace(
        schedule, last_at=at, last_run_id=run.run_id, last_error=None, version=schedule.version + 1
    )
    return Change(rows=(ran,))


def submission(
    schedule: Schedule, due_at: datetime | None, started_by: Sequence[str] = ()
) -> Submission:
    """The submission of a run that is due at this time, or that somebody starts by hand. It never
    answers what the thread waits for."""
    plan = plan_of(schedule)
    given = plan.given if not plan.thread_id else structs.replace(plan.given, temporary=False)
    return Submission(
        given=given,
        by=Actor(schedule.owner, Authentication.TIME, tenant=schedule.tenant),
        agent=plan.agent,
        thread_id=plan.thread_id,
        if_paused="wait",
        on_busy=plan.on_busy,
        due_at=due_at,
        metadata=plan.metadata,
        budget=plan.budget,
        recursion_limit=(plan.given.assistant or {}).get("recursion_limit"),
        requested_by=each_once(schedule.requested_by, started_by),
        schedule_id=schedule.schedule_id,
    )


def _asked(plan: Plan, owner: Owner) -> Submission:
    """The plan as a submission that is looked at, and not made."""
    return Submission(
        given=plan.given,
        by=Actor(owner.name, tenant=owner.tenant),
        agent=plan.agent,
        assistant_id=plan.assistant_id,
        thread_id=plan.thread_id,
        metadata=plan.metadata,
    )


# ── the service ───────────────────────────────────────────────────────────────────────────────────


def owner_of(schedule: Schedule) -> Owner:
    """The owner of the schedule, and of its runs."""
    return Owner(schedule.owner, schedule.tenant)


class Schedules:
    """Stores schedules, and starts their runs when their timers fire."""

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        submit: Submit,
        agent_for: AgentFor,
        check_input: CheckInput,
        check_free: CheckFree,
        may_run: MayRun,
        assistants: Assistants,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._submit = submit
        self._agent_for = agent_for
        self._check_input = check_input
        self._check_free = check_free
        self._may_run = may_run
        self._assistants = assistants

    async def create(self, plan: Plan, *, owner: Owner, known_to: Sequence[str] = ()) -> Schedule:
        """Create a schedule. Its runs can be traced to those who share the owner's secret, too.
        Raises `InvalidRequest`, or `NotFound` for an unknown agent."""
        now = self._clock.now()
        asked = await self._assistants.applied(_asked(plan, owner))
        plan = replace(plan, agent=asked.agent, given=asked.given, metadata=asked.metadata)
        agent = await self._agent(plan, owner)
        blank = Schedule(
            schedule_id=self._clock.new_id(),
            owner=owner.name,
            tenant=owner.tenant,
            agent=agent,
            cron=plan.cron,
            timezone=plan.timezone,
            input={},
            created_at=now,
            requested_by=each_once([owner.name], known_to, asked.requested_by),
            enabled=plan.enabled,
        )
        schedule = apply_plan(blank, plan, agent, now)
        await self._storage.commit(with_timer(schedule, None))
        return schedule

    async def schedule(self, schedule_id: str) -> Schedule:
        """The schedule. Raises `NotFound`."""
        schedule = await self._storage.schedule(schedule_id)
        if schedule is None:
            raise NotFound(
                f"There is no schedule '{schedule_id}'. GET /schedules lists those that there are."
            )
        return schedule

    def upcoming(self, schedule: Schedule) -> list[datetime]:
        """The schedule's next five times, in its own time zone."""
        if schedule.next_at is None:
            return []
        later = next_times(schedule.cron, schedule.timezone, schedule.next_at, 4)
        last = schedule.ends_at or max(schedule.next_at, *later)
        zone = _zone(schedule.timezone)
        times = [time for time in later if time <= last]
        return [time.astimezone(zone) for time in (schedule.next_at, *times)]

    async def change(
        self,
        schedule_id: str,
        changes: Mapping[str, Json],
        *,
        by: str,
        known_to: Sequence[str] = (),
    ) -> Schedule:
        """Change these fields of the schedule's plan. From then on its runs can be traced to the
        person `by` whom it was changed, too, and to those who share their secret. Raises what
        `create` raises, or `NotFound`."""
        while True:
            schedule = await self.schedule(schedule_id)
            plan = changed_plan(plan_of(schedule), changes)
            given, authors = await self._assistants.again(plan.given, MERGED & changes.keys())
            plan = replace(plan, given=given)
            agent = await self._agent(plan, owner_of(schedule))
            changed = apply_plan(schedule, plan, agent, self._clock.now())
            requesters = each_once(schedule.requested_by, [by], known_to, authors)
            changed = replace(changed, requested_by=requesters, version=schedule.version + 1)
            try:
                await self._storage.commit(with_timer(changed, await self._timer(schedule_id)))
                return changed
            except Conflict:
                # It has just been due, or somebody else has changed it.
                continue

    async def delete(self, schedule_id: str) -> None:
        """Remove the schedule. Its runs stay. Raises `NotFound`."""
        while True:
            schedule, timer = await self.schedule(schedule_id), await self._timer(schedule_id)
            removed = (schedule, timer) if timer else (schedule,)
            try:
                await self._storage.commit(Change(removed=removed))
                return
            except Conflict:
                continue

    async def run(
        self, schedule_id: str, *, by: str, known_to: Sequence[str] = (), key: Key | None = None
    ) -> Run:
        """Start a run now. It is the owner's, and can be traced to the person who starts it too,
        and to those who share their secret.

        Raises `NotFound`, `ThreadBusy`, `ThreadPaused`, `InvalidRequest` or `Tampered`; or
        `Conflict`, if the same request has just started one under its `key`.
        """
        while True:
            schedule = await self.schedule(schedule_id)
            ran = partial(_ran, schedule, self._clock.now())
            try:
                await self._check_room(schedule)
                started = submission(schedule, None, started_by=(by, *known_to))
                return await self._submit(replace(started, key=key), ran)
            except (ThreadBusy, ThreadPaused):
                raise
            except Conflict as error:
                if is_about_a_key(error):
                    raise

    async def fire(self, timer: Timer) -> None:
        """Start the run that is due, or store why there is none. If the storage raises, the timer
        stays due."""
        due: Timer | None = timer
        while due is not None and due.due_at <= self._clock.now():
            try:
                await self._fire(due)
                return
            except Conflict:
                # The thread or the schedule has changed. Or another worker was faster, and the
                # timer is no longer due.
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

        if not await self._may_run(owner_of(schedule)):
            await self._disable(schedule, timer)
            return
        moved, at = pass_due_time(schedule, self._clock.now())
        if at is not None:
            try:
                await self._check_room(schedule)
                await self._submit(
                    submission(schedule, at),
                    lambda run: with_timer(
                        replace(moved, last_at=at, last_run_id=run.run_id), timer
                    ),
                )
                return
            except (
                ThreadBusy,
                ThreadPaused,
                NotFound,
                InvalidRequest,
                FilesFull,
                QueueFull,
                Tampered,
            ) as error:
                moved = replace(moved, last_error=error.message)
        await self._storage.commit(with_timer(moved, timer))
        log.warning(
            "a schedule's time passed without a run",
            schedule_id=schedule.schedule_id,
            reason=moved.last_error,
        )

    async def _disable(self, schedule: Schedule, timer: Timer) -> None:
        reason = f"'{schedule.owner}' may not run agents any more, so the schedule is disabled."
        log.warning("a schedule was disabled", schedule_id=schedule.schedule_id, reason=reason)
        version = schedule.version + 1
        stopped = replace(schedule, enabled=False, next_at=None, last_error=reason, version=version)
        await self._storage.commit(with_timer(stopped, timer))

    async def _give_up(self, timer: Timer, error: Tampered) -> None:
        log.error("a schedule was given up", timer_id=timer.timer_id, reason=error.message)
        if timer.thread_id:
            await self._storage.distrust(timer.thread_id, error.message)
        await self._storage.commit(Change(removed=(timer,)))

    async def _check_room(self, schedule: Schedule) -> None:
        """Raise `ThreadBusy` if a run of the schedule waits on its thread already. A thread that
        waits for a person for a month would get a month's runs."""
        if not schedule.thread_id:
            return
        thread = await self._thread(schedule.thread_id, owner_of(schedule))
        is_paused = thread is not None and thread.status is ThreadStatus.INTERRUPTED
        if schedule.on_busy in ("interrupt", "rollback") and not is_paused:
            return
        pending = await self._storage.runs(
            thread_id=schedule.thread_id, status=(RunStatus.PENDING,)
        )
        if any(run.schedule_id == schedule.schedule_id for run in pending):
            raise ThreadBusy(
                f"A run of this schedule waits its turn on the thread '{schedule.thread_id}' "
                "already, so none was added."
            )

    async def _agent(self, plan: Plan, owner: Owner) -> str:
        thread = await self._thread(plan.thread_id, owner) if plan.thread_id else None
        asked = _asked(plan, owner)
        agent = self._agent_for(asked, thread)
        await self._check_input(asked, agent)
        return agent

    async def _thread(self, thread_id: str, owner: Owner) -> Thread | None:
        """The thread of a schedule, None if there is none yet. Raises `NotFound` if it is somebody
        else's: it may have been begun since the schedule was made. The local person has all."""
        thread = await self._storage.thread(thread_id)
        if thread is None:
            await self._check_free(thread_id)
        elif owner != Owner(LOCAL) and owner != Owner(thread.owner, thread.tenant):
            raise NotFound(f"There is no thread '{thread_id}'.")
        return thread

    async def _timer(self, schedule_id: str) -> Timer | None:
        return await self._storage.timer(timer_id(schedule_id))
