"""Schedules: when they are due, and that there is one run for each time, whatever becomes of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from assent.approvals.decide import Verdict
from assent.approvals.people import People
from assent.core.access import APPROVES_ALL, Owner
from assent.core.approval import Approval
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.decisions import Approve
from assent.core.errors import InvalidRequest, NotFound, ThreadBusy, ThreadPaused, Unavailable
from assent.core.rows import ApiKey, Run, RunStatus, Schedule, Timer
from assent.core.run_input import RunInput
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.schedules import ON_TIME, Plan, next_time, next_times, pass_due_time, timer_id
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.runs.uploads import UploadLimits
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import NOON, api_key, schedule
from tests.support.keys import KEY
from tests.support.waiting import PATIENCE

NINE = datetime(2026, 11, 20, 9, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


# ── times ─────────────────────────────────────────────────────────────────────────────────────────


def texts(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The next times in UTC, to the minute."""
    return [
        time.strftime("%m-%d %H:%M")
        for time in next_times(cron, zone, datetime.fromisoformat(after).replace(tzinfo=UTC), count)
    ]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "times"),
    [
        ("0 9 * * *", "UTC", "2026-11-20 08:59:59", ["11-20 09:00", "11-21 09:00"]),
        ("0 9 * * *", "UTC", "2026-11-20 09:00:00", ["11-21 09:00", "11-22 09:00"]),
        ("30 9 * * MON-FRI", "Europe/Berlin", "2026-11-20 08:30", ["11-23 08:30", "11-24 08:30"]),
        (
            "0 0 31 * *",
            "UTC",
            "2026-01-31 00:00",
            ["03-31 00:00", "05-31 00:00", "07-31 00:00", "08-31 00:00"],
        ),
        (
            "0 0 L * *",
            "UTC",
            "2027-12-31 00:00",
            ["01-31 00:00", "02-29 00:00", "03-31 00:00", "04-30 00:00"],
        ),
        ("0 12 29 2 *", "UTC", "2026-11-20 00:00", ["02-29 12:00", "02-29 12:00"]),
        # Clocks go from 2 to 3 at 01:00 UTC on 29 March, and from 3 to 2 at 01:00 UTC on 25
        # October.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-27 12:00",
            ["03-28 01:30", "03-29 01:00", "03-30 00:30"],
        ),
        (
            "0,30 2,3 * * *",
            "Europe/Berlin",
            "2026-03-28 12:00",
            ["03-29 01:00", "03-29 01:30", "03-30 00:00"],
        ),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", ["10-25 00:30", "10-26 01:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30", ["10-26 01:30"]),
        # Asked between the two, which have the same name.
        ("45 2 * * *", "Europe/Berlin", "2026-10-25 01:15", ["10-26 01:45"]),
        ("0 3 * * *", "Europe/Berlin", "2026-10-24 12:00", ["10-25 02:00", "10-26 02:00"]),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-24 23:45",
            ["10-25 00:30", "10-25 01:30", "10-25 02:30"],
        ),
        (
            "*/30 1-3 * * *",
            "Europe/Berlin",
            "2026-03-29 00:00",
            ["03-29 00:30", "03-29 01:00", "03-29 01:30", "03-29 23:00"],
        ),
        # The other hemisphere, half an hour, and a gap at midnight.
        ("30 2 * * *", "Australia/Sydney", "2026-10-03 00:00", ["10-03 16:00", "10-04 15:30"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00", ["10-03 15:30", "10-04 15:15"]),
        ("0 0 * * *", "Africa/Cairo", "2026-04-23 12:00", ["04-23 22:00", "04-24 21:00"]),
    ],
)
def test_the_next_times(cron: str, zone: str, after: str, times: list[str]) -> None:
    assert texts(cron, zone, after, len(times)) == times


def test_a_sixth_field_in_front_holds_seconds() -> None:
    assert next_times("*/20 0 9 * * *", "UTC", NINE - SECOND, 4) == [
        NINE,
        NINE + 20 * SECOND,
        NINE + 40 * SECOND,
        NINE + timedelta(days=1),
    ]


def test_a_fraction_of_a_second_is_before_the_next_second() -> None:
    assert next_time("0 9 * * *", "UTC", NINE - timedelta(microseconds=1)) == NINE
    assert next_time("* * * * * *", "UTC", NINE + timedelta(microseconds=1)) == NINE + SECOND


@given(
    cron=st.sampled_from(
        [
            "30 2 * * *",
            "*/7 * * * *",
            "0 2,3 * * *",
            "15 0 * * SUN",
            "59 23 L * *",
            "*/13 */5 1-4 2-9 * *",
            "0 0 29 2 *",
        ]
    ),
    zone=st.sampled_from(
        [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
            "America/Havana",
        ]
    ),
    after=st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC)),
)
def test_times_rise_and_do_not_depend_on_when_one_asks(
    cron: str, zone: str, after: datetime
) -> None:
    times = next_times(cron, zone, after, 4)
    assert after < times[0] < times[1] < times[2] < times[3]
    assert next_times(cron, zone, times[0], 3) == times[1:]
    assert next_time(cron, zone, times[0] - timedelta(microseconds=1)) == times[0]


@pytest.mark.parametrize(
    "cron",
    [
        *(
            "",
            " ",
            "* * * *",
            "* * * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "0 0 0 * *",
            "0 0 * 13 *",
            "a b c d e",
            "*/0 * * * *",
            "@daily",
        ),
        *(
            "0 0 30 2 *",
            "0 0 31 4,6,9,11 *",
            "5-1 * * * *",
            "* * * * MON#6",
            "* * * * L",
            "-1 * * * *",
            "1,,2 * * * *",
            "½ * * * *",
        ),
    ],
)
def test_no_cron_expression_is_refused_with_an_example(cron: str) -> None:
    with pytest.raises(
        InvalidRequest,
        match=r"The field 'cron' is '.*', which is no cron expression: .* as in '30 9 \* \* MON-FRI'\.",
    ) as error:
        next_time(cron, "UTC", NINE)
    assert f"'{cron}'" in error.value.message


def test_a_day_that_never_comes_has_no_time() -> None:
    assert next_time("0 0 */31 2 MON#5", "UTC", NINE) is None


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Berlin",
        "Europe",
        "Europe/Berlin ",
        "../UTC",
        "/etc/localtime",
        "localtime",
        "right/UTC",
        "+01:00",
        "a\0b",
    ],
)
def test_no_zone_is_refused_with_an_example(zone: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"The field 'timezone' is .* as in 'Europe/Berlin' or 'UTC'\."
    ):
        next_time("0 9 * * *", zone, NINE)


# ── what was missed ───────────────────────────────────────────────────────────────────────────────


def due(if_missed: str, cron: str = "0 * * * *") -> Schedule:
    return schedule(
        cron=cron,
        timezone="UTC",
        if_missed=if_missed,
        enabled=True,
        next_at=NINE,
        last_error="Before.",
        version=7,
    )


def test_after_its_end_no_run_is_due() -> None:
    last = replace(due("once"), ends_at=NINE + timedelta(minutes=59))
    moved, at = pass_due_time(last, NINE)
    assert (moved.next_at, at) == (None, NINE)
    longer = replace(last, ends_at=NINE + timedelta(hours=1))
    assert pass_due_time(longer, NINE)[0].next_at == NINE + timedelta(hours=1)


@pytest.mark.parametrize("if_missed", ["once", "skip"])
@pytest.mark.parametrize("late", [timedelta(0), SECOND, ON_TIME])
def test_on_time_it_runs_and_moves_to_the_next_time(if_missed: str, late: timedelta) -> None:
    moved, at = pass_due_time(due(if_missed), NINE + late)
    assert at == NINE
    assert moved == replace(due(if_missed), next_at=NINE + HOUR, last_error=None, version=8)


@pytest.mark.parametrize("late", [ON_TIME + SECOND, HOUR + 5 * MINUTE, 1000 * HOUR + MINUTE * 30])
def test_once_it_runs_for_all_that_were_missed(late: timedelta) -> None:
    moved, at = pass_due_time(due("once"), NINE + late)
    assert at == NINE
    assert moved.last_error is None
    assert moved.next_at == (NINE + late).replace(minute=0, second=0) + HOUR


def test_skip_runs_for_none_that_was_missed_and_says_so() -> None:
    moved, at = pass_due_time(due("skip"), NINE + 5 * HOUR + 30 * MINUTE)
    assert at is None
    assert moved.next_at == NINE + 6 * HOUR
    assert (
        moved.last_error
        == "Its time at 2026-11-20T09:00:00+00:00 was more than 60 seconds ago, so it was skipped."
    )


def test_skip_leaves_the_time_that_is_less_than_a_minute_ago() -> None:
    now = NINE + 5 * HOUR + 59 * SECOND
    moved, at = pass_due_time(due("skip"), now)
    assert (moved.next_at, at) == (NINE + 5 * HOUR, None)
    moved, at = pass_due_time(moved, now)
    assert (moved.next_at, at) == (NINE + 6 * HOUR, NINE + 5 * HOUR)


# ── the service ───────────────────────────────────────────────────────────────────────────────────


class Flow(MessagesState):
    """Holds what was said."""


def flow(*, pauses: bool = False, go: asyncio.Event | None = None) -> Any:
    """A graph that answers; it waits for a person before, or for `go`."""

    async def answer(state: Flow) -> dict[str, Any]:
        if go is not None:
            await go.wait()
        return {"messages": [AIMessage("Done.")]}

    graph = (
        StateGraph(Flow)
        .add_node("answer", answer)
        .add_edge(START, "answer")
        .add_edge("answer", END)
    )
    return graph.compile(interrupt_before=["answer"] if pauses else None)


@dataclass
class House:
    """A server's runs over the file in `folder`, at a time that the test sets."""

    folder: Path
    time: datetime = NINE - 30 * MINUTE
    agents: Mapping[str, Any] = field(default_factory=lambda: {"agent": flow()})

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.time)

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Runs]:
        async with (
            SqliteStorage.open(self.folder / "a.db", self.clock) as storage,
            open_runs(storage, self.agents, clock=self.clock, **options) as runs,
        ):
            yield runs

    async def goes_to(self, runs: Runs, time: datetime) -> None:
        """Let it be `time`, and the engine see it."""
        self.time = time
        runs.engine.wake()
        async with asyncio.timeout(PATIENCE):
            while await runs.storage.due_timers(time):
                await asyncio.sleep(0.01)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


PLAN = Plan(cron="0 * * * *", given=RunInput("Anything new?"), agent="agent")


async def runs_of(runs: Runs, made: Schedule) -> list[Run]:
    """The schedule's runs, once none that may go on is left."""
    async with asyncio.timeout(PATIENCE):
        while await runs.storage.runs(status=(RunStatus.RUNNING, RunStatus.CANCELLING)):
            await asyncio.sleep(0.01)
    return [run for run in await runs.storage.runs() if run.schedule_id == made.schedule_id]


async def said_on(runs: Runs, thread_id: str) -> list[str]:
    thread = await runs.storage.thread(thread_id)
    assert thread is not None
    return [message.text for message in (await runs.state(thread)).values["messages"]]


async def test_at_its_time_it_runs_once_on_a_thread_of_its_own(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(
            replace(PLAN, metadata={"k": "v"}, budget={"model_calls": 5}), owner=Owner("ann")
        )
        assert (made.next_at, made.last_at, made.last_run_id) == (NINE, None, None)
        await house.goes_to(runs, NINE - timedelta(microseconds=1))
        await asyncio.sleep(0.3)
        assert await runs_of(runs, made) == []
        await house.goes_to(runs, NINE)
        await house.goes_to(runs, NINE + 59 * MINUTE)
        (run,) = await runs_of(runs, made)
        assert (run.owner, run.agent, run.status, run.due_at) == (
            "ann",
            "agent",
            RunStatus.SUCCESS,
            NINE,
        )
        assert (run.metadata, run.budget) == ({"k": "v"}, {"limits": {"model_calls": 5}})
        assert await said_on(runs, run.thread_id) == ["Anything new?", "Done."]
        now = await runs.schedules.schedule(made.schedule_id)
        assert (now.next_at, now.last_at, now.last_run_id, now.last_error) == (
            NINE + HOUR,
            NINE,
            run.run_id,
            None,
        )
        await house.goes_to(runs, NINE + HOUR)
        first, second = await runs_of(runs, made)
        assert first.thread_id != second.thread_id
        assert second.due_at == NINE + HOUR


async def test_on_a_thread_it_goes_on_with_the_conversation(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(
            replace(PLAN, thread_id="t", agent=None), owner=Owner("ann")
        )
        assert made.agent == "agent"
        for hour in range(3):
            await house.goes_to(runs, NINE + hour * HOUR)
            await runs_of(runs, made)
        assert [run.thread_id for run in await runs_of(runs, made)] == ["t"] * 3
        assert await said_on(runs, "t") == ["Anything new?", "Done."] * 3


async def test_however_many_look_at_once_there_is_one_run(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(PLAN, owner=Owner("ann"))
        timer = await runs.storage.timer(timer_id(made.schedule_id))
        assert timer is not None
        house.time = NINE
        await asyncio.gather(*(runs.schedules.fire(timer) for _ in range(20)))
        assert len(await runs_of(runs, made)) == 1
        # One who comes much later, with what he has read then, does nothing either.
        await runs.schedules.fire(timer)
        assert len(await runs_of(runs, made)) == 1


async def test_if_the_run_is_not_stored_the_time_is_still_to_come(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(PLAN, owner=Owner("ann"))
        timer = await runs.storage.timer(timer_id(made.schedule_id))
        assert timer is not None
        house.time = NINE

        async def submit(submission: Submission, along: Any) -> Run:
            raise Unavailable("The disk is full.")

        broken = type(runs.schedules)(
            runs.storage,
            house.clock,
            submit,
            runs.agent_for,
            runs.check_input,
            nothing_hidden,
            anybody,
            runs.assistants,
        )
        with pytest.raises(Unavailable):
            await broken.fire(timer)
        assert await runs.storage.schedule(made.schedule_id) == made
        await house.goes_to(runs, NINE)
        assert len(await runs_of(runs, made)) == 1


@pytest.mark.parametrize(("if_missed", "count"), [("once", 1), ("skip", 0)])
async def test_after_a_night_without_a_server(house: House, if_missed: Any, count: int) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(replace(PLAN, if_missed=if_missed), owner=Owner("ann"))
    house.time = NINE + 9 * HOUR + 30 * MINUTE
    async with house.open() as runs:
        found = await runs_of(runs, made)
        assert [run.due_at for run in found] == [NINE] * count
        now = await runs.schedules.schedule(made.schedule_id)
        assert now.next_at == NINE + 10 * HOUR
        assert (now.last_error is None) == (if_missed == "once")
        await house.goes_to(runs, NINE + 10 * HOUR)
        assert len(await runs_of(runs, made)) == count + 1


@pytest.mark.parametrize("if_missed", ["once", "skip"])
async def test_after_a_short_restart_each_time_has_its_run(house: House, if_missed: Any) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(
            replace(PLAN, cron="*/20 * * * * *", if_missed=if_missed), owner=Owner("ann")
        )
    due = made.next_at
    assert due is not None
    house.time = due + 59 * SECOND
    async with house.open() as runs:
        assert sorted(run.due_at - due for run in await runs_of(runs, made) if run.due_at) == [
            0 * SECOND,
            20 * SECOND,
            40 * SECOND,
        ]


async def test_a_thread_that_waits_for_a_person_goes_on_only_by_a_decision(house: House) -> None:
    """What is said at a set time waits its turn, and is no answer; and one that waits says all that
    two would say."""
    house.agents = {"agent": flow(pauses=True)}
    async with house.open() as runs:
        await runs.submit(
            Submission(
                given=RunInput("First."), by=Actor("ann", approves=APPROVES_ALL), thread_id="t"
            )
        )
        made = await runs.schedules.create(replace(PLAN, thread_id="t"), owner=Owner("ann"))
        await runs_of(runs, made)
        (approval,) = (await runs.storage.approvals(thread_id="t")).rows
        for hour in range(3):
            await house.goes_to(runs, NINE + hour * HOUR)
        (run,) = await runs_of(runs, made)
        assert (run.status, run.due_at) == (RunStatus.PENDING, NINE)
        assert (await runs.storage.approval(approval.approval_id)) == approval
        now = await runs.schedules.schedule(made.schedule_id)
        assert (now.next_at, now.last_at) == (NINE + 3 * HOUR, NINE)
        assert (
            now.last_error
            == "A run of this schedule waits its turn on the thread 't' already, so none was added."
        )
        await runs.approvals.decide(
            "t", Verdict(decisions=Approve(), by=Actor("bob", approves=APPROVES_ALL))
        )
        async with asyncio.timeout(PATIENCE):
            while len(await asked(runs)) < 2:
                await asyncio.sleep(0.01)
        assert await said_on(runs, "t") == ["First.", "Done.", "Anything new?"]


async def asked(runs: Runs) -> tuple[Approval, ...]:
    return (await runs.storage.approvals(thread_id="t")).rows


async def test_rejecting_it_passes_a_time_over_and_says_why(house: House) -> None:
    house.agents = {"agent": flow(pauses=True)}
    async with house.open() as runs:
        await runs.submit(
            Submission(
                given=RunInput("First."), by=Actor("ann", approves=APPROVES_ALL), thread_id="t"
            )
        )
        made = await runs.schedules.create(
            replace(PLAN, thread_id="t", on_busy="reject"), owner=Owner("ann")
        )
        await runs_of(runs, made)
        await house.goes_to(runs, NINE)
        assert await runs_of(runs, made) == []
        now = await runs.schedules.schedule(made.schedule_id)
        assert now.next_at == NINE + HOUR
        assert now.last_error is not None
        assert now.last_error.startswith("The thread 't' waits for a decision.")
        with pytest.raises(ThreadPaused):
            await runs.schedules.run(made.schedule_id, by="ann")


@pytest.mark.parametrize("on_busy", ["enqueue", "reject", "interrupt", "rollback"])
async def test_what_is_done_while_another_run_is_active(house: House, on_busy: Any) -> None:
    go = asyncio.Event()
    house.agents = {"agent": flow(go=go)}
    async with house.open() as runs:
        active = (
            await runs.submit(
                Submission(
                    given=RunInput("First."), by=Actor("ann", approves=APPROVES_ALL), thread_id="t"
                )
            )
        ).run
        made = await runs.schedules.create(
            replace(PLAN, thread_id="t", on_busy=on_busy), owner=Owner("ann")
        )
        await house.goes_to(runs, NINE)
        if on_busy == "enqueue":
            assert (await runs.run(active.run_id)).status is RunStatus.RUNNING
        go.set()
        async with asyncio.timeout(PATIENCE):
            while await runs.storage.runs(
                status=(RunStatus.PENDING, RunStatus.RUNNING, RunStatus.CANCELLING)
            ):
                await asyncio.sleep(0.01)
        found = await runs_of(runs, made)
        now = await runs.schedules.schedule(made.schedule_id)
        first = await runs.run(active.run_id)
        if on_busy == "reject":
            assert found == []
            assert now.last_error is not None
            assert now.last_error.startswith("A run is active on the thread 't'")
        else:
            assert [run.status for run in found] == [RunStatus.SUCCESS]
            assert now.last_error is None
        stopped = on_busy in ("interrupt", "rollback")
        assert first.status is (RunStatus.CANCELLED if stopped else RunStatus.SUCCESS)


async def test_its_run_is_active_though_the_clock_is_set_to_before_its_time(house: House) -> None:
    go = asyncio.Event()
    house.agents = {"agent": flow(go=go)}
    async with house.open() as runs:
        await runs.create_thread("t", owner=Owner("ann"), metadata={})
        await runs.schedules.create(replace(PLAN, thread_id="t"), owner=Owner("ann"))
        await house.goes_to(runs, NINE)
        house.time = NINE - HOUR
        with pytest.raises(ThreadBusy):
            await runs.submit(
                Submission(
                    given=RunInput("Me?"), by=Actor("ann", approves=APPROVES_ALL), thread_id="t"
                )
            )
        (stopped,) = await runs.cancel_thread("t", Actor("ann", approves=APPROVES_ALL))
        assert stopped.due_at == NINE


async def test_an_agent_that_is_gone_is_told_of_at_each_time_and_harms_no_other(
    house: House,
) -> None:
    house.agents = {"agent": flow(), "other": flow()}
    async with house.open() as runs:
        made = await runs.schedules.create(replace(PLAN, agent="other"), owner=Owner("ann"))
        whole = await runs.schedules.create(PLAN, owner=Owner("ann"))
    house.agents = {"agent": flow()}
    async with house.open() as runs:
        await house.goes_to(runs, NINE)
        assert await runs_of(runs, made) == []
        assert len(await runs_of(runs, whole)) == 1
        now = await runs.schedules.schedule(made.schedule_id)
        assert (now.next_at, now.last_at) == (NINE + HOUR, None)
        assert now.last_error == "There is no agent 'other'. There are: agent."
    house.agents = {"agent": flow(), "other": flow()}
    async with house.open() as runs:
        await house.goes_to(runs, NINE + HOUR)
        assert len(await runs_of(runs, made)) == 1
        assert (await runs.schedules.schedule(made.schedule_id)).last_error is None


async def nothing_hidden(thread_id: str) -> None:
    """Everything is seen."""


async def anybody(owner: Owner) -> bool:
    return True


OF_ANN = api_key("k", tenant=None, roles=("operator",), revoked_at=None, expires_at=None)
GONE = replace(OF_ANN, revoked_at=NOON)


@pytest.mark.parametrize(
    ("people", "key", "runs_on"),
    [
        (People(), None, True),
        (People(given={"bob": ("viewer",)}), None, True),
        (People(given={"ann": ("viewer",)}), None, False),
        (People(given={"ann": ("lead",)}), None, True),
        (People(given={"ann": ("lead",)}, default=()), None, False),
        (People(), OF_ANN, True),
        (People(), replace(OF_ANN, roles=("viewer",)), False),
        (People(), replace(OF_ANN, tenant="acme", revoked_at=NOON), True),
        (People(), GONE, False),
        (People(having_keys=frozenset({"ann"})), GONE, True),
        (People(given={"ann": ("operator",)}), GONE, True),
    ],
)
async def test_what_somebody_who_may_not_run_agents_any_more_has_put_off_is_not_done(
    house: House, people: People, key: ApiKey | None, runs_on: bool
) -> None:
    async with house.open(people=people) as runs:
        made = await runs.schedules.create(PLAN, owner=Owner("ann"))
        put_off = Submission(given=PLAN.given, by=Actor("ann"), due_at=NINE)
        later = (await runs.submit(put_off)).run
        if key is not None:
            await runs.storage.commit(Change(rows=(key,)))
        await house.goes_to(runs, NINE)
        now = await runs.schedules.schedule(made.schedule_id)
        assert (len(await runs_of(runs, made)), now.enabled) == (
            (1, True) if runs_on else (0, False)
        )
        ended = await wait_for_run(runs.storage, later)
        assert ended.status is (RunStatus.SUCCESS if runs_on else RunStatus.ERROR), ended.error
        if not runs_on:
            assert ended.error and ended.error["message"] == "'ann' may not run agents any more."
            assert now.next_at is None
            assert now.last_error == (
                "'ann' may not run agents any more, so the schedule is disabled."
            )
            assert await runs.storage.timer(timer_id(made.schedule_id)) is None


async def test_a_schedule_runs_on_no_thread_that_has_become_somebody_elses(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(replace(PLAN, thread_id="t"), owner=Owner("ann"))
        await runs.create_thread("t", owner=Owner("bob"), metadata={})
        await house.goes_to(runs, NINE)
        assert await runs_of(runs, made) == []
        now = await runs.schedules.schedule(made.schedule_id)
        assert now.last_error == "There is no thread 't'."
        with pytest.raises(NotFound):
            await runs.run_schedule(made.schedule_id, by="ann")


async def test_without_room_for_its_file_a_time_passes_and_says_why(house: House) -> None:
    picture = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
    async with (
        SqliteStorage.open(house.folder / "a.db", house.clock) as storage,
        open_runs(storage, house.agents, clock=house.clock, uploads=UploadLimits(in_all=0)) as runs,
    ):
        made = await runs.schedules.create(
            replace(PLAN, given=RunInput([picture])), owner=Owner("ann")
        )
        await house.goes_to(runs, NINE)
        assert await runs_of(runs, made) == []
        now = await runs.schedules.schedule(made.schedule_id)
        assert now.next_at == NINE + HOUR
        assert now.last_error is not None
        assert now.last_error.startswith("The server has uploads of 0 bytes, ")


async def test_a_thread_that_is_removed_takes_its_schedules_along(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(replace(PLAN, thread_id="t"), owner=Owner("ann"))
        other = await runs.schedules.create(PLAN, owner=Owner("ann"))
        await house.goes_to(runs, NINE)
        await runs_of(runs, made)
        await runs.delete("t", by=Actor("ann", approves=APPROVES_ALL))
        with pytest.raises(NotFound):
            await runs.schedules.schedule(made.schedule_id)
        assert await runs.storage.timer(timer_id(made.schedule_id)) is None
        await house.goes_to(runs, NINE + HOUR)
        assert len(await runs_of(runs, other)) == 2
        assert await runs.storage.thread("t") is None


async def test_a_timer_without_its_schedule_is_removed(house: House) -> None:
    async with house.open() as runs:
        timer = Timer(
            timer_id=timer_id("s"), kind="schedule", due_at=house.time, payload={"schedule_id": "s"}
        )
        await runs.storage.commit(Change(rows=(timer,)))
        await house.goes_to(runs, house.time)
        assert await runs.storage.timer(timer.timer_id) is None


@pytest.mark.parametrize("thread_id", [None, "t"])
async def test_one_that_was_tampered_with_is_not_followed_any_more(
    tmp_path: Path, thread_id: str | None
) -> None:
    time = NINE - MINUTE
    clock, file = Clock(now=lambda: time), tmp_path / "a.db"
    async with (
        SqliteStorage.open(file, clock, encryption_key=KEY) as storage,
        open_runs(storage, {"agent": flow()}, clock=clock) as runs,
    ):
        made = await runs.schedules.create(replace(PLAN, thread_id=thread_id), owner=Owner("ann"))
        whole = await runs.schedules.create(PLAN, owner=Owner("ann"))
        if thread_id:
            await runs.create_thread(thread_id, owner=Owner("ann"), metadata={})
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "UPDATE schedules SET agent = 'other' WHERE schedule_id = ?", (made.schedule_id,)
        )
    time = NINE
    async with (
        SqliteStorage.open(file, clock, encryption_key=KEY) as storage,
        open_runs(storage, {"agent": flow()}, clock=clock) as runs,
    ):
        assert await runs_of(runs, made) == []
        assert len(await runs_of(runs, whole)) == 1
        assert await storage.timer(timer_id(made.schedule_id)) is None
        if thread_id:
            thread = await storage.thread(thread_id)
            assert thread is not None
            assert thread.tampered is not None


async def test_it_is_changed_and_its_next_time_with_it(house: House) -> None:
    house.agents = {"agent": flow(), "other": flow()}
    async with house.open() as runs:
        made = await runs.schedules.create(PLAN, owner=Owner("ann"))
        changed = await runs.schedules.change(
            made.schedule_id, {"cron": "0 8 * * *", "timezone": "Europe/Berlin"}, by="ann"
        )
        assert changed.next_at == datetime(2026, 11, 21, 7, tzinfo=UTC)
        changed = await runs.schedules.change(
            made.schedule_id,
            {"message": "Other?", "agent": "other", "metadata": {"k": 1}},
            by="ann",
        )
        assert (changed.input, changed.agent, changed.metadata) == (
            {"message": "Other?"},
            "other",
            {"k": 1},
        )
        assert (changed.cron, changed.timezone, changed.created_at) == (
            "0 8 * * *",
            "Europe/Berlin",
            made.created_at,
        )
        await house.goes_to(runs, NINE)
        assert await runs_of(runs, made) == []
        await runs.schedules.change(
            made.schedule_id, {"cron": "15 * * * *", "timezone": "UTC"}, by="ann"
        )
        await house.goes_to(runs, NINE + 15 * MINUTE)
        (run,) = await runs_of(runs, made)
        assert (run.agent, run.input["message"]) == ("other", "Other?")


async def test_a_change_of_what_it_says_takes_no_due_time_away(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(PLAN, owner=Owner("ann"))
        late = replace(made, next_at=house.time - MINUTE)
    async with SqliteStorage.open(house.folder / "a.db", house.clock) as storage:
        # No engine is at work here.
        await storage.commit(Change(rows=(replace(late, version=2),)))
        schedules = type(runs.schedules)(
            storage,
            house.clock,
            runs._submit_scheduled,
            runs.agent_for,
            runs.check_input,
            nothing_hidden,
            anybody,
            runs.assistants,
        )
        changed = await schedules.change(made.schedule_id, {"message": "Other?"}, by="ann")
        assert changed.next_at == late.next_at
        changed = await schedules.change(made.schedule_id, {"cron": "30 * * * *"}, by="ann")
        assert changed.next_at == NINE + 30 * MINUTE


async def test_what_is_not_enabled_waits_and_misses_nothing(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(replace(PLAN, enabled=False), owner=Owner("ann"))
        assert made.next_at is None
        assert await runs.storage.timer(timer_id(made.schedule_id)) is None
        await house.goes_to(runs, NINE)
        assert (
            await runs.schedules.change(made.schedule_id, {"enabled": True}, by="ann")
        ).next_at == NINE + HOUR
        off = await runs.schedules.change(made.schedule_id, {"enabled": False}, by="ann")
        assert off.next_at is None
        await house.goes_to(runs, NINE + 5 * HOUR)
        on = await runs.schedules.change(made.schedule_id, {"enabled": True}, by="ann")
        assert on.next_at == NINE + 6 * HOUR
        assert await runs_of(runs, made) == []
        await house.goes_to(runs, NINE + 6 * HOUR)
        assert len(await runs_of(runs, made)) == 1


async def test_what_makes_no_sense_changes_nothing(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(PLAN, owner=Owner("ann"))
        wrongs: tuple[dict[str, Any], ...] = (
            {"cron": "0 0 30 2 *"},
            {"cron": "0 0 */31 2 MON#5"},
            {"timezone": "Berlin"},
        )
        for wrong in wrongs:
            with pytest.raises(InvalidRequest):
                await runs.schedules.change(made.schedule_id, wrong, by="ann")
            with pytest.raises(InvalidRequest):
                await runs.schedules.create(replace(PLAN, **wrong), owner=Owner("ann"))
        for change in (
            runs.schedules.change(made.schedule_id, {"agent": "x"}, by="ann"),
            runs.schedules.create(replace(PLAN, agent="x"), owner=Owner("ann")),
        ):
            with pytest.raises(NotFound, match="There is no agent 'x'"):
                await change
        with pytest.raises(NotFound, match="There is no schedule 'x'"):
            await runs.schedules.change("x", {}, by="ann")
        with pytest.raises(NotFound):
            await runs.schedules.run("x", by="ann")
        assert (await runs.storage.schedules()).rows == (made,)


async def test_a_thread_of_another_agent_is_refused(house: House) -> None:
    house.agents = {"agent": flow(), "other": flow()}
    async with house.open() as runs:
        await runs.submit(
            Submission(
                given=RunInput("Hello."),
                by=Actor("ann", approves=APPROVES_ALL),
                thread_id="t",
                agent="other",
            )
        )
        assert (
            await runs.schedules.create(
                replace(PLAN, agent=None, thread_id="t"), owner=Owner("ann")
            )
        ).agent == "other"
        with pytest.raises(InvalidRequest, match="The thread belongs to the agent 'other'"):
            await runs.schedules.create(replace(PLAN, thread_id="t"), owner=Owner("ann"))


async def test_it_is_removed_and_its_runs_stay(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(PLAN, owner=Owner("ann"))
        await house.goes_to(runs, NINE)
        await runs.schedules.delete(made.schedule_id)
        with pytest.raises(NotFound):
            await runs.schedules.delete(made.schedule_id)
        assert await runs.storage.timer(timer_id(made.schedule_id)) is None
        await house.goes_to(runs, NINE + HOUR)
        assert [run.status for run in await runs_of(runs, made)] == [RunStatus.SUCCESS]


async def test_it_runs_by_hand_beside_its_times(house: House) -> None:
    async with house.open() as runs:
        made = await runs.schedules.create(replace(PLAN, enabled=False), owner=Owner("ann"))
        run = await runs.schedules.run(made.schedule_id, by="ann")
        assert (run.schedule_id, run.due_at) == (made.schedule_id, None)
        now = await runs.schedules.schedule(made.schedule_id)
        assert (now.next_at, now.last_at, now.last_run_id) == (None, house.time, run.run_id)
        assert [run.status for run in await runs_of(runs, made)] == [RunStatus.SUCCESS]


@pytest.mark.slow
async def test_many_at_one_time_are_all_on_time(tmp_path: Path) -> None:
    """Real time: never early, and late by no more than a busy machine is."""
    count = 20
    async with (
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, {"agent": flow()}) as runs,
    ):
        made = [
            await runs.schedules.create(replace(PLAN, cron="*/3 * * * * *"), owner=Owner("ann"))
            for _ in range(count)
        ]
        async with asyncio.timeout(PATIENCE):
            while len(found := await storage.runs(status=(RunStatus.SUCCESS,))) < 2 * count:
                await asyncio.sleep(0.05)
        times = [(run.schedule_id, run.due_at) for run in await storage.runs()]
    assert len(set(times)) == len(times)
    assert {schedule_id for schedule_id, _ in times} == {each.schedule_id for each in made}
    for run in found:
        assert run.due_at is not None
        assert timedelta(0) <= run.created_at - run.due_at <= timedelta(seconds=5)
