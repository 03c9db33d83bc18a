"""The sweep: what it removes by whose clock, that it goes on when it failed, and that followers stand it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from assent.checkpoint.contracts import Change
from assent.checkpoint.sqlite import SqliteStorage
from assent.clock import Clock
from assent.errors import Gone
from assent.events import Done
from assent.runs.follow import follow
from assent.runs.sweeping import Retention, sweep, sweeping
from tests.checkpoint.samples import NOON, token

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
    async with asyncio.timeout(10):
        while await numbers(storage) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_events_go_when_their_time_has_come(storage: SqliteStorage) -> None:
    hands = Hands()
    await write(storage, NOON, NOON + DAY)
    for day, left in ((29, [1, 2]), (30, [1, 2]), (30.5, [2]), (32, [])):
        hands.time = NOON + day * DAY
        await sweep(storage, MONTH, hands.clock)
        assert await numbers(storage) == left


async def test_without_a_setting_events_are_kept(storage: SqliteStorage) -> None:
    hands = Hands()
    await write(storage, NOON)
    hands.time += 10_000 * DAY
    await sweep(storage, Retention(), hands.clock)
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
    # As on a full or broken disk, nothing can be written for a while.
    await storage._writer.apart(lambda connection: connection.execute("PRAGMA query_only = ON"))
    async with sweeping(storage, MONTH, clock=hands.clock, every=0.01):
        await asyncio.sleep(0.1)
        assert await numbers(storage) == [1]
        await storage._writer.apart(lambda connection: connection.execute("PRAGMA query_only = OFF"))
        await until(storage, [])


# ── followers ──


async def test_a_follower_of_some_types_does_not_fall_behind_what_it_does_not_want(storage: SqliteStorage) -> None:
    await storage.commit(Change(events=(Done(thread_id="t", ts=NOON),)))
    async with aclosing(follow(storage, "t", types={"done"})) as batches, asyncio.timeout(10):
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
    async with aclosing(follow(storage, "t")) as batches, asyncio.timeout(10):
        assert (await anext(batches))[-1].seq == 1000
        await storage.remove_events(NOON + DAY)
        with pytest.raises(Gone) as caught:
            await anext(batches)
    assert caught.value.details == {"first": 1501}
