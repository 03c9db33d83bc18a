"""The sweep: what it removes by whose clock, that it goes on when it failed, and that followers
stand it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from msgspec import structs

from assent.core.approval import ApprovalKind, ApprovalStatus
from assent.core.errors import Conflict, Gone
from assent.core.events import Done
from assent.core.logs import APPROVALS, feed_of_agent, feed_of_user
from assent.core.rows import NotificationStatus, Row, Run, RunStatus, Thread, ThreadStatus
from assent.runs.follow import follow
from assent.runs.retention import OVERLAP, THREADS_PER_STEP, Retention, Sweeper, sweeping
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import (
    NOON,
    answer,
    approval,
    effect,
    grant,
    link,
    notification,
    run,
    schedule,
    thread,
    token,
)
from tests.support import waiting
from tests.support.disk import files_at_most
from tests.support.manual_clock import ManualClock
from tests.support.waiting import PATIENCE

DAY = timedelta(days=1)
MONTH = Retention(events_ttl=30 * DAY)
APPROVED, BUDGET = ApprovalStatus.APPROVED, ApprovalKind.BUDGET
PENDING = NotificationStatus.PENDING


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield storage


def sweeper_of(manual: ManualClock, storage: SqliteStorage, retention: Retention) -> Sweeper:
    """A sweeper by this clock."""
    return Sweeper(storage, retention, manual.clock, lambda: manual.passed)


async def write(storage: SqliteStorage, *times: datetime) -> None:
    await storage.commit(Change(events=tuple(structs.replace(token(), ts=time) for time in times)))


async def numbers(storage: SqliteStorage) -> list[int]:
    return [entry.seq for entry in await storage.read_log("t")]


async def until(storage: SqliteStorage, expected: list[int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while await numbers(storage) != expected:
            await asyncio.sleep(0.01)


async def test_events_go_when_their_time_has_come(storage: SqliteStorage) -> None:
    manual = ManualClock()
    await write(storage, NOON, NOON + DAY)
    sweeper = sweeper_of(manual, storage, MONTH)
    await sweeper.sweep()
    for days, left in ((29, [1, 2]), (1, [1, 2]), (0.5, [2]), (1.5, [])):
        manual.wait(days * DAY)
        await sweeper.sweep()
        assert await numbers(storage) == left


async def test_without_a_setting_events_are_kept(storage: SqliteStorage) -> None:
    manual = ManualClock()
    await write(storage, NOON)
    await storage.commit(Change(rows=ended("t", NOON)))
    sweeper = sweeper_of(manual, storage, Retention())
    for _ in range(2):
        await sweeper.sweep()
        manual.wait(10_000 * DAY)
    assert await numbers(storage) == [1]
    assert await storage.thread("t") is not None


async def test_it_sweeps_at_once_and_again_until_it_is_closed(storage: SqliteStorage) -> None:
    manual = ManualClock()
    await write(storage, NOON, NOON + 20 * DAY)
    async with sweeping(
        storage, MONTH, clock=manual.clock, every=0.01, monotonic=lambda: manual.passed
    ):
        await asyncio.sleep(0)
        manual.wait(40 * DAY)
        await until(storage, [2])
        manual.wait(20 * DAY)
        await until(storage, [])
        await write(storage, NOON + 60 * DAY)
    manual.wait(60 * DAY)
    await asyncio.sleep(0.1)
    assert await numbers(storage) == [3]


async def test_a_sweep_that_fails_is_tried_again(storage: SqliteStorage) -> None:
    manual = ManualClock()
    await write(storage, NOON)
    async with AsyncExitStack() as stack:
        with files_at_most(1):
            sweep = sweeping(
                storage, MONTH, clock=manual.clock, every=0.01, monotonic=lambda: manual.passed
            )
            await stack.enter_async_context(sweep)
            await asyncio.sleep(0)
            manual.wait(40 * DAY)
            await waiting.until(lambda: storage.outage() is not None)
            assert await numbers(storage) == [1]
        await until(storage, [])


# ── checkpoints ──


async def put_checkpoints(storage: SqliteStorage, thread_id: str, count: int) -> None:
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    for step in range(count):
        config = await storage.checkpointer.aput(
            config, empty_checkpoint(), {"source": "loop", "step": step}, {}
        )


async def steps(storage: SqliteStorage, thread_id: str) -> list[int]:
    """Of the thread's checkpoints, newest first."""
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    return [saved.metadata["step"] async for saved in storage.checkpointer.alist(config)]


def ended(thread_id: str, at: datetime, **changes: Any) -> tuple[Thread, Run]:
    """A thread and a run of it that has ended."""
    run_id = f"run of {thread_id}"
    at_rest = thread(thread_id, status=ThreadStatus.IDLE, pending=(), run_id=run_id, updated_at=at)
    return replace(at_rest, **changes), run(
        run_id, thread_id=thread_id, status=RunStatus.SUCCESS, created_at=at, ended_at=at
    )


@pytest.mark.slow
async def test_the_latest_checkpoints_are_kept_of_threads_whose_runs_have_ended(
    storage: SqliteStorage,
) -> None:
    manual = ManualClock()
    for name in ("ended", "busy", "paused", "never ran"):
        await put_checkpoints(storage, name, 6)
    busy, earlier = ended("busy", NOON, status=ThreadStatus.BUSY)
    paused = ended("paused", NOON, status=ThreadStatus.INTERRUPTED, pending=("a",))
    await storage.commit(Change(rows=(*ended("ended", NOON), busy, earlier, *paused)))
    sweeper = sweeper_of(manual, storage, Retention(checkpoints_keep=2))
    await sweeper.sweep()
    assert await steps(storage, "ended") == [5, 4]
    for name in ("busy", "paused", "never ran"):
        assert await steps(storage, name) == [5, 4, 3, 2, 1, 0]

    # Once its run has ended it is found, though that ended a little before the last sweep by its
    # own clock.
    manual.time += DAY
    await sweeper.sweep()
    last = run(
        "last", thread_id="busy", status=RunStatus.SUCCESS, ended_at=manual.time - OVERLAP / 2
    )
    await storage.commit(Change(rows=(replace(busy, status=ThreadStatus.IDLE, version=2), last)))
    manual.time += DAY
    await sweeper.sweep()
    assert await steps(storage, "busy") == [5, 4]


async def test_a_thread_that_is_taken_just_then_keeps_its_checkpoints(
    storage: SqliteStorage,
) -> None:
    """The run that takes it may be rolled back to the head that it has found."""
    await put_checkpoints(storage, "t", 6)
    idle, earlier = ended("t", NOON)
    await storage.commit(Change(rows=(idle, earlier)))

    class TakenJustThen:
        def __getattr__(self, name: str) -> Any:
            return getattr(storage, name)

        async def prune_checkpoints(self, thread_ids: Sequence[str], keep: int) -> None:
            busy = replace(idle, status=ThreadStatus.BUSY, version=2)
            await storage.commit(Change(rows=(busy,)))
            await storage.prune_checkpoints(thread_ids, keep)

    taken: Any = TakenJustThen()
    await sweeper_of(ManualClock(), taken, Retention(checkpoints_keep=2)).sweep()
    assert await steps(storage, "t") == [5, 4, 3, 2, 1, 0]


async def test_without_a_setting_checkpoints_are_kept(storage: SqliteStorage) -> None:
    await put_checkpoints(storage, "t", 6)
    await storage.commit(Change(rows=ended("t", NOON)))
    await sweeper_of(ManualClock(), storage, Retention()).sweep()
    assert len(await steps(storage, "t")) == 6


async def test_more_threads_than_fit_in_a_step_are_all_pruned(storage: SqliteStorage) -> None:
    names = [f"t{number}" for number in range(2 * THREADS_PER_STEP + 3)]
    for number, name in enumerate(names):
        await put_checkpoints(storage, name, 3)
        await storage.commit(Change(rows=ended(name, NOON + number * DAY)))
    await sweeper_of(ManualClock(), storage, Retention(checkpoints_keep=1)).sweep()
    assert [await steps(storage, name) for name in names] == [[2]] * len(names)


# ── threads ──

KEEP = Retention(threads_ttl=30 * DAY)


async def swept(
    storage: SqliteStorage, manual: ManualClock, days: float, retention: Retention = KEEP
) -> None:
    """So many days later, the sweeper that has been there all the time has swept."""
    sweeper = sweeper_of(manual, storage, retention)
    await sweeper.sweep()
    manual.wait(days * DAY)
    await sweeper.sweep()


async def left(storage: SqliteStorage) -> set[str]:
    """The threads that are there."""
    return {each.thread_id for each in (await storage.threads()).rows}


async def test_a_thread_that_was_idle_for_so_long_is_erased_with_all_that_is_of_it(
    storage: SqliteStorage,
) -> None:
    manual = ManualClock()
    await storage.commit(
        Change(
            rows=(
                *ended("old", NOON - DAY),
                approval("a", thread_id="old", run_id="run of old", status=APPROVED),
                effect("e", thread_id="old", run_id="run of old"),
                *ended("used", NOON + DAY),
            ),
            events=(token("old"),),
        )
    )
    await put_checkpoints(storage, "old", 2)
    await swept(storage, manual, 29)
    assert await left(storage) == {"old", "used"}
    await swept(storage, manual, 1.5)
    assert await left(storage) == {"used"}
    gone = [await storage.run("run of old"), await storage.approval("a"), await storage.effect("e")]
    assert gone == [None, None, None]
    assert (await steps(storage, "old"), await storage.read_log("old")) == ([], ())
    (record,) = (await storage.audit(thread_id="old")).rows
    assert (record.entry.action, record.entry.authentication) == ("erased", "time")


async def test_what_is_not_idle_is_kept(storage: SqliteStorage) -> None:
    def waits(name: str, status: RunStatus = RunStatus.PENDING) -> Run:
        return run(f"next of {name}", thread_id=name, status=status, created_at=NOON, ended_at=None)

    asks = approval("asks", thread_id="asks", status=ApprovalStatus.PENDING)
    kept: dict[str, tuple[Row, ...]] = {
        "paused": ended("paused", NOON, status=ThreadStatus.INTERRUPTED, pending=("p",)),
        "asks": (*ended("asks", NOON), asks),
        "busy": (*ended("busy", NOON, status=ThreadStatus.BUSY), waits("busy", RunStatus.RUNNING)),
        "queued": (*ended("queued", NOON), waits("queued")),
        "scheduled": (*ended("scheduled", NOON), schedule("s", thread_id="scheduled")),
        "tampered": ended("tampered", NOON, tampered="It was changed."),
        "new": ended("new", NOON + 20 * DAY),
    }
    idle = ended("idle", NOON)
    made = ended("made by a schedule", NOON)
    rows = [row for rows in (idle, made, *kept.values()) for row in rows]
    await storage.commit(Change(rows=tuple(rows)))
    await swept(storage, ManualClock(), 40)
    assert await left(storage) == set(kept)


async def test_what_begins_meanwhile_is_kept(storage: SqliteStorage) -> None:
    """A message for later moves neither the thread's row nor its version."""
    await storage.commit(Change(rows=ended("t", NOON)))
    (listed,) = (await storage.idle_threads(NOON + DAY)).rows
    later = run("later", thread_id="t", status=RunStatus.PENDING, created_at=NOON)
    await storage.commit(Change(rows=(later,), unchanged=(listed,)))
    with pytest.raises(Conflict, match="not idle"):
        await storage.commit(Change(unchanged=(listed,), erase="t", if_idle=True))
    assert await storage.run("later") == later


async def test_a_repeated_request_finds_its_thread_for_a_day(storage: SqliteStorage) -> None:
    manual = ManualClock()
    await storage.commit(Change(rows=(*ended("t", NOON), answer(thread_id="t", created_at=NOON))))
    sweeper = sweeper_of(manual, storage, Retention(threads_ttl=timedelta(hours=1)))
    for hours, there in ((0, {"t"}), (20, {"t"}), (5, set())):
        manual.wait(timedelta(hours=hours))
        await sweeper.sweep()
        assert await left(storage) == there


async def test_old_runs_of_a_thread_in_use_go_with_what_is_theirs(storage: SqliteStorage) -> None:
    manual = ManualClock()
    used, last = ended("t", NOON + 20 * DAY)
    old = run(
        "old",
        thread_id="t",
        status=RunStatus.SUCCESS,
        created_at=NOON,
        ended_at=NOON,
        usage={"cost": 0.25},
    )
    await storage.commit(
        Change(
            rows=(
                used,
                old,
                approval("a", thread_id="t", run_id="old", status=APPROVED),
                approval("more", thread_id="t", run_id="old", status=APPROVED, kind=BUDGET),
                *(effect(f"e{n}", thread_id="t", run_id="old") for n in range(400)),
                replace(last, usage={"cost": 1}),
            )
        )
    )
    await swept(storage, manual, 40)
    assert await left(storage) == {"t"}
    assert (await storage.run("old"), await storage.effect("e399")) == (None, None)
    assert await storage.run(last.run_id) is not None
    assert [each.approval_id for each in (await storage.approvals()).rows] == ["more"]
    assert await storage.usage(thread_id="t") == {"cost": 1.25}
    assert await storage.usage(thread_id="t", since=NOON + DAY) == {"cost": 1}


async def test_what_was_used_goes_on_counting(storage: SqliteStorage) -> None:
    """Or a budget of the agent would be refilled by erasing."""
    manual = ManualClock()
    for name, at in (("a", NOON), ("b", NOON + 2 * DAY)):
        idle, done = ended(name, at)
        await storage.commit(Change(rows=(idle, replace(done, usage={"cost": 2, "seconds": 1.5}))))
    for thread_id, counted in (("a", 2), ("b", 2)):
        await storage.commit(Change(erase=thread_id))
        await until_gone(storage)
        assert await storage.usage(agent="clerk") == {"cost": 4, "seconds": 3}
        assert (await storage.usage(agent="clerk", since=NOON + DAY))["cost"] == counted
        assert await storage.usage(thread_id=thread_id) == {}
    await swept(storage, manual, 31)
    assert await storage.usage(agent="clerk", since=NOON) == {"cost": 2, "seconds": 1.5}
    assert await storage.usage(agent="clerk") == {"cost": 4, "seconds": 3}


async def until_gone(storage: SqliteStorage) -> None:
    """Wait until nothing of erased threads is in the file."""

    async def is_gone() -> bool:
        return not await storage._reader.rows("SELECT 1 FROM erased_rows")

    await waiting.until(is_gone)


async def test_grants_and_links_that_are_over_go(storage: SqliteStorage) -> None:
    rows = [
        *(grant(f"g{day}", given_at=NOON - DAY, until=NOON + day * DAY) for day in (0, 20)),
        *(link(f"l{day}", expires_at=NOON + day * DAY) for day in (0, 20)),
    ]
    await storage.commit(Change(rows=tuple(rows)))
    await swept(storage, ManualClock(), 31)
    assert [each.grant_id for each in (await storage.grants()).rows] == ["g20"]
    assert (await storage.link("l0"), (await storage.link("l20")) is None) == (None, False)


async def test_notifications_to_endpoints_that_are_gone_go(storage: SqliteStorage) -> None:
    waiting_for = [("gone", 0), ("gone", 20), ("here", 0)]
    rows = tuple(
        notification(f"{name}{day}", endpoint=name, created_at=NOON + day * DAY, status=PENDING)
        for name, day in waiting_for
    )
    await storage.commit(Change(rows=rows))
    await swept(storage, ManualClock(), 31, replace(KEEP, endpoints=frozenset({"here"})))
    there = {each.notification_id for each in (await storage.notifications()).rows}
    assert there == {"gone20", "here0"}


async def test_notifications_go_that_were_delivered_or_given_up_long_ago(
    storage: SqliteStorage,
) -> None:
    made = {"new": NOON + 25 * DAY, "older": NOON + 10 * DAY, "oldest": NOON - DAY}
    rows = tuple(
        notification(f"{status} {name}", status=status, created_at=created_at)
        for status in NotificationStatus
        for name, created_at in made.items()
    )
    await storage.commit(Change(rows=rows))

    async def there() -> set[str]:
        return {each.notification_id for each in (await storage.notifications()).rows}

    everything, manual = await there(), ManualClock()
    sweeper = sweeper_of(manual, storage, Retention())
    # A clock that is ahead for a while removes none of them.
    for months in (0, 12, 0):
        manual.time = NOON + months * 30 * DAY
        await sweeper.sweep()
    assert await there() == everything
    manual.wait(30 * DAY)
    await sweeper.sweep()
    assert everything - await there() == {"delivered older", "delivered oldest", "dead oldest"}


@pytest.mark.parametrize(
    "feed", [APPROVALS, feed_of_agent("clerk"), feed_of_user("ann@example.com")]
)
async def test_a_feed_forgets_with_the_threads(storage: SqliteStorage, feed: str) -> None:
    copies = tuple(structs.replace(token(), thread_id=feed, ts=NOON + day * DAY) for day in (0, 20))
    await storage.commit(Change(events=(*copies, structs.replace(token(), ts=NOON))))
    await swept(storage, ManualClock(), 40)
    assert [entry.seq for entry in await storage.read_log(feed)] == [2]
    assert await numbers(storage) == [1]


# ── clocks that are set ──


async def test_a_clock_that_is_ahead_for_a_while_erases_nothing(storage: SqliteStorage) -> None:
    manual = ManualClock()
    await storage.commit(Change(rows=ended("t", NOON), events=(structs.replace(token(), ts=NOON),)))
    sweeper = sweeper_of(manual, storage, replace(KEEP, events_ttl=30 * DAY))
    minute = timedelta(minutes=1)
    for step, minutes in ((timedelta(0), 20), (40 * DAY, 9), (-40 * DAY, 20), (40 * DAY, 9)):
        manual.time += step
        for _ in range(minutes):
            await sweeper.sweep()
            manual.wait(minute)
    assert (await left(storage), await numbers(storage)) == ({"t"}, [1])
    # Nobody has set it back: it is believed.
    for _ in range(2):
        await sweeper.sweep()
        manual.wait(minute)
    assert (await left(storage), await numbers(storage)) == (set(), [])


async def test_a_process_that_starts_with_a_wrong_clock_erases_nothing_at_first(
    storage: SqliteStorage,
) -> None:
    manual = ManualClock()
    await storage.commit(Change(rows=ended("t", NOON)))
    manual.time += 40 * DAY
    sweeper = sweeper_of(manual, storage, KEEP)
    for _ in range(9):
        await sweeper.sweep()
        manual.wait(timedelta(minutes=1))
    manual.time -= 40 * DAY
    await sweeper.sweep()
    assert await left(storage) == {"t"}


async def test_what_was_written_by_a_clock_that_was_behind_counts_as_new(
    storage: SqliteStorage,
) -> None:
    await storage.commit(Change(rows=ended("before", NOON)))
    await storage.commit(Change(rows=ended("right", NOON + 20 * DAY)))
    await storage.commit(Change(rows=ended("behind", NOON - 50 * DAY)))
    await swept(storage, ManualClock(), 40)
    assert await left(storage) == {"right", "behind"}
    await swept(storage, manual := ManualClock(), 60)
    assert manual.time == NOON + 60 * DAY
    assert await left(storage) == set()


# ── followers ──


async def test_a_follower_of_some_types_does_not_fall_behind_what_it_does_not_want(
    storage: SqliteStorage,
) -> None:
    await storage.commit(Change(events=(Done(thread_id="t", ts=NOON),)))
    async with aclosing(follow(storage, "t", types={"done"})) as batches, asyncio.timeout(PATIENCE):
        assert [entry.seq for entry in await anext(batches)] == [1]
        coming = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.05)
        await write(storage, NOON, NOON)
        await asyncio.sleep(0.05)
        assert await storage.remove_events(NOON + DAY) == 3
        await storage.commit(Change(events=(Done(thread_id="t"),)))
        assert [entry.seq for entry in await coming] == [4]


async def test_a_follower_that_is_too_slow_is_told(storage: SqliteStorage) -> None:
    for _ in range(3):
        await write(storage, *[NOON] * 500)
    async with aclosing(follow(storage, "t")) as batches, asyncio.timeout(PATIENCE):
        assert (await anext(batches))[-1].seq == 1000
        await storage.remove_events(NOON + DAY)
        with pytest.raises(Gone) as caught:
            await anext(batches)
    assert caught.value.details == {"first": 1501}
