"""The sweep: what it removes by whose clock, that it goes on when it failed, and that followers
stand it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from msgspec import structs

from assent.core.clock import Clock
from assent.core.errors import Gone
from assent.core.events import Done
from assent.core.rows import Run, RunStatus, Thread, ThreadStatus
from assent.runs.follow import follow
from assent.runs.retention import OVERLAP, THREADS_PER_STEP, Retention, Sweeper, sweeping
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import NOON, run, thread, token
from tests.support import waiting
from tests.support.disk import files_at_most
from tests.support.waiting import PATIENCE

DAY = timedelta(days=1)
MONTH = Retention(events_ttl=30 * DAY)


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = NOON
        self.clock = Clock(now=lambda: self.time)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield storage


async def write(storage: SqliteStorage, *times: datetime) -> None:
    await storage.commit(Change(events=tuple(structs.replace(token(), ts=time) for time in times)))


async def numbers(storage: SqliteStorage) -> list[int]:
    return [entry.seq for entry in await storage.read_log("t")]


async def until(storage: SqliteStorage, expected: list[int]) -> None:
    async with asyncio.timeout(PATIENCE):
        while await numbers(storage) != expected:
            await asyncio.sleep(0.01)


async def test_events_go_when_their_time_has_come(storage: SqliteStorage) -> None:
    hands = Hands()
    await write(storage, NOON, NOON + DAY)
    sweeper = Sweeper(storage, MONTH, hands.clock)
    for day, left in ((29, [1, 2]), (30, [1, 2]), (30.5, [2]), (32, [])):
        hands.time = NOON + day * DAY
        await sweeper.sweep()
        assert await numbers(storage) == left


async def test_without_a_setting_events_are_kept(storage: SqliteStorage) -> None:
    hands = Hands()
    await write(storage, NOON)
    hands.time += 10_000 * DAY
    await Sweeper(storage, Retention(), hands.clock).sweep()
    assert await numbers(storage) == [1]


async def test_it_sweeps_at_once_and_again_until_it_is_closed(storage: SqliteStorage) -> None:
    hands = Hands()
    hands.time += 40 * DAY
    await write(storage, NOON, NOON + 20 * DAY)
    async with sweeping(storage, MONTH, clock=hands.clock, every=0.01):
        await until(storage, [2])
        hands.time += 20 * DAY
        await until(storage, [])
        await write(storage, NOON + 60 * DAY)
    hands.time += 60 * DAY
    await asyncio.sleep(0.1)
    assert await numbers(storage) == [3]


async def test_a_sweep_that_fails_is_tried_again(storage: SqliteStorage) -> None:
    hands = Hands()
    hands.time += 40 * DAY
    await write(storage, NOON)
    async with AsyncExitStack() as stack:
        with files_at_most(1):
            sweep = sweeping(storage, MONTH, clock=hands.clock, every=0.01)
            await stack.enter_async_context(sweep)
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
    at_rest = thread(thread_id, status=ThreadStatus.IDLE, pending=())
    return replace(at_rest, **changes), run(
        f"run of {thread_id}", thread_id=thread_id, status=RunStatus.SUCCESS, ended_at=at
    )


@pytest.mark.slow
async def test_the_latest_checkpoints_are_kept_of_threads_whose_runs_have_ended(
    storage: SqliteStorage,
) -> None:
    hands = Hands()
    for name in ("ended", "busy", "never ran"):
        await put_checkpoints(storage, name, 6)
    busy, earlier = ended("busy", NOON, status=ThreadStatus.BUSY)
    await storage.commit(Change(rows=(*ended("ended", NOON), busy, earlier)))
    sweeper = Sweeper(storage, Retention(checkpoints_keep=2), hands.clock)
    await sweeper.sweep()
    assert [await steps(storage, name) for name in ("ended", "busy", "never ran")] == [
        [5, 4],
        [5, 4, 3, 2, 1, 0],
        [5, 4, 3, 2, 1, 0],
    ]

    # Once its run has ended it is found, though that ended a little before the last sweep by its
    # own clock.
    hands.time += DAY
    await sweeper.sweep()
    last = run(
        "last", thread_id="busy", status=RunStatus.SUCCESS, ended_at=hands.time - OVERLAP / 2
    )
    await storage.commit(Change(rows=(replace(busy, status=ThreadStatus.IDLE, version=2), last)))
    hands.time += DAY
    await sweeper.sweep()
    assert await steps(storage, "busy") == [5, 4]


async def test_without_a_setting_checkpoints_are_kept(storage: SqliteStorage) -> None:
    await put_checkpoints(storage, "t", 6)
    await storage.commit(Change(rows=ended("t", NOON)))
    await Sweeper(storage, Retention(), Hands().clock).sweep()
    assert len(await steps(storage, "t")) == 6


async def test_more_threads_than_fit_in_a_step_are_all_pruned(storage: SqliteStorage) -> None:
    names = [f"t{number}" for number in range(2 * THREADS_PER_STEP + 3)]
    for number, name in enumerate(names):
        await put_checkpoints(storage, name, 3)
        await storage.commit(Change(rows=ended(name, NOON + number * DAY)))
    await Sweeper(storage, Retention(checkpoints_keep=1), Hands().clock).sweep()
    assert [await steps(storage, name) for name in names] == [[2]] * len(names)


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
