"""Following a log: in order, to its end, and until somebody stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from pathlib import Path

import pytest

from assent.core.clock import utc_now
from assent.core.errors import Gone
from assent.core.events import Broadcast, Done, Event, RunPaused, Token
from assent.runs.follow import PAGE_BYTES, Batches, Following, follow_run
from assent.storage.base import Change, LogEntry, Storage
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import thread
from tests.support.waiting import PATIENCE, until


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield storage


def token(content: str = "x", run_id: str = "r") -> Event:
    return Token(thread_id="t", run_id=run_id, message_id="m", content=content)


async def wrote(storage: Storage, *events: Event) -> None:
    await storage.commit(Change(events=events))


async def next_numbers(batches: Batches) -> list[int]:
    """The numbers in the next batch, [] if it is empty."""
    async with asyncio.timeout(PATIENCE):
        return [entry.seq for entry in await anext(batches)]


async def next_some(batches: Batches) -> list[int]:
    """The numbers in the next batch that is not empty."""
    while not (numbers := await next_numbers(batches)):
        pass
    return numbers


async def test_what_is_there_comes_first_and_then_what_is_written(storage: Storage) -> None:
    await wrote(storage, token(), token())
    following = Following(storage, "t", 1)
    async with aclosing(following.batches()) as batches:
        assert await next_numbers(batches) == [2]
        coming = asyncio.ensure_future(next_numbers(batches))
        await asyncio.sleep(0)
        await wrote(storage, token())
        assert await coming == [3]
        assert (following.after, following.ended) == (3, "")


async def test_a_log_in_which_nothing_happens_gives_empty_batches(storage: Storage) -> None:
    following = Following(storage, "t", poll=0.02)
    async with aclosing(following.batches()) as batches:
        assert await next_numbers(batches) == []
        assert await next_numbers(batches) == []
        await wrote(storage, token())
        assert await next_numbers(batches) == [1]


async def test_a_ring_for_nothing_gives_an_empty_batch(storage: Storage) -> None:
    following = Following(storage, "t")
    async with aclosing(following.batches()) as batches:
        coming = asyncio.ensure_future(next_numbers(batches))
        await until(lambda: following.is_waiting)
        following.ring()
        assert await coming == []


@pytest.mark.parametrize("when", ["before", "at its wait", "between"])
async def test_it_is_stopped(storage: Storage, when: str) -> None:
    await wrote(storage, token())
    following = Following(storage, "t")
    if when == "before":
        following.stop()
    async with aclosing(following.batches()) as batches, asyncio.timeout(PATIENCE):
        if when != "before":
            assert await next_numbers(batches) == [1]
        coming = asyncio.ensure_future(anext(batches, None))
        if when == "at its wait":
            await until(lambda: following.is_waiting)
        following.stop()
        assert await coming is None
    assert following.ended == "stopped"
    # Once more does no harm.
    following.stop()
    following.ring()
    assert following.behind == 0


async def test_a_process_that_ends_gives_what_is_there_and_says_so(storage: Storage) -> None:
    following = Following(storage, "t")
    async with aclosing(following.batches()) as batches, asyncio.timeout(PATIENCE):
        coming = asyncio.ensure_future(next_numbers(batches))
        await until(lambda: following.is_waiting)
        await wrote(storage, token())
        storage.end_listening()
        assert await coming == [1]
        assert await anext(batches, None) is None
    assert following.ended == "stopping"


async def test_other_types_hold_from_the_next_event_on(storage: Storage) -> None:
    await wrote(storage, token(), Done(thread_id="t"), token())
    following = Following(storage, "t", types=["done"], poll=0.02)
    async with aclosing(following.batches()) as batches:
        assert await next_numbers(batches) == [2]
        # What is of no wanted type is read all the same, so that the cursor stays with the log.
        assert await next_numbers(batches) == []
        assert following.after == 3
        following.types = frozenset(["token"])
        await wrote(storage, token(), Done(thread_id="t"))
        assert await next_numbers(batches) == [4]
        following.types = None
        await wrote(storage, Done(thread_id="t"))
        assert await next_some(batches) == [6]


class Held(Following):
    """A log that takes its time to read what it was asked for."""

    def __init__(self, storage: Storage, types: list[str]) -> None:
        super().__init__(storage, "t", types=types)
        self.asked, self.come = asyncio.Event(), asyncio.Event()

    async def read(
        self, *, types: Collection[str] | None = None, run_id: str | None = None
    ) -> tuple[LogEntry, ...]:
        self.asked.set()
        await self.come.wait()
        return await super().read(types=types, run_id=run_id)


async def test_other_types_hold_from_the_cursor_on_though_a_page_is_on_its_way(
    storage: Storage,
) -> None:
    await wrote(storage, token(), Done(thread_id="t"), token())
    following = Held(storage, ["done"])
    async with aclosing(following.batches()) as batches:
        coming = asyncio.ensure_future(next_some(batches))
        await following.asked.wait()
        following.types = frozenset(["token"])
        following.come.set()
        assert await coming == [1, 3]


async def test_a_page_is_small_so_that_a_slow_reader_holds_little(storage: Storage) -> None:
    large = "x" * (PAGE_BYTES // 4)
    await wrote(storage, *(token(large) for _ in range(7)), token("x" * (PAGE_BYTES * 2)))
    async with aclosing(Following(storage, "t").batches()) as batches:
        pages = [await next_numbers(batches) for _ in range(4)]
    assert pages == [[1, 2, 3], [4, 5, 6], [7], [8]]


async def test_what_came_while_a_reader_was_busy_is_counted(storage: Storage) -> None:
    await wrote(storage, *(token("x" * 1000) for _ in range(50)))
    following = Following(storage, "t")
    async with aclosing(following.batches()) as batches:
        await next_numbers(batches)
        # What was there before is no backlog.
        assert following.behind == 0
        await wrote(storage, *(token("x" * 1000) for _ in range(3)))
        assert 3000 < following.behind < 4000
        assert await next_numbers(batches) == [51, 52, 53]
        coming = asyncio.ensure_future(next_some(batches))
        await until(lambda: following.behind == 0)
        await wrote(storage, token())
        assert await coming == [54]
        assert following.behind == 0


async def test_whoever_is_too_slow_is_told(storage: Storage) -> None:
    await wrote(storage, *(token("x" * 1000) for _ in range(2000)))
    async with aclosing(Following(storage, "t").batches()) as batches:
        last = (await next_numbers(batches))[-1]
        assert last < 1000
        await storage.remove_events(utc_now())
        with pytest.raises(Gone) as caught:
            await next_numbers(batches)
    assert caught.value.details == {"first": 2001}


@pytest.mark.parametrize("begins_anew", [False, True])
async def test_whoever_has_read_all_of_a_thread_that_is_erased_is_told(
    storage: Storage, begins_anew: bool
) -> None:
    await storage.commit(Change(rows=(thread("t"),), events=(token(), token())))
    following = Following(storage, "t")
    async with aclosing(following.batches()) as batches:
        assert await next_numbers(batches) == [1, 2]
        coming = asyncio.ensure_future(next_numbers(batches))
        await until(lambda: following.is_waiting)
        anew = {"rows": (thread("t"),), "events": (token(),)} if begins_anew else {}
        await storage.commit(Change(erase="t", **anew))
        with pytest.raises(Gone, match="has been erased") as caught:
            await coming
    assert caught.value.details == {"first": 3}
    # Whoever comes now reads what there is.
    async with aclosing(Following(storage, "t", 2, poll=0.02).batches()) as batches:
        assert await next_numbers(batches) == ([3] if begins_anew else [])


async def test_whoever_reads_some_types_of_a_thread_that_is_erased_hears_nothing_of_the_next(
    storage: Storage,
) -> None:
    await storage.commit(Change(rows=(thread("t"),), events=(token(), token())))
    following = Following(storage, "t", types=["token"], most_bytes=1)
    async with aclosing(following.batches()) as batches:
        assert await next_numbers(batches) == [1]
        assert await next_numbers(batches) == [2]
        await storage.commit(Change(erase="t", rows=(thread("t"),), events=(token(),)))
        with pytest.raises(Gone, match="has been erased"):
            await next_numbers(batches)


async def test_retention_takes_nothing_from_who_has_read_all(storage: Storage) -> None:
    await wrote(storage, token(), token())
    following = Following(storage, "t")
    async with aclosing(following.batches()) as batches:
        assert await next_numbers(batches) == [1, 2]
        coming = asyncio.ensure_future(next_some(batches))
        await until(lambda: following.is_waiting)
        await storage.remove_events(utc_now())
        await wrote(storage, token())
        assert await coming == [3]


async def test_it_waits_only_while_all_was_taken(storage: Storage) -> None:
    await wrote(storage, token())
    following = Following(storage, "t")
    waited = [following.is_waiting]
    async with aclosing(following.batches()) as batches:
        await next_numbers(batches)
        waited.append(following.is_waiting)
        coming = asyncio.ensure_future(next_some(batches))
        await until(lambda: following.is_waiting)
        following.ring()
        waited.append(following.is_waiting)
        await until(lambda: following.is_waiting)
        await wrote(storage, token())
        await coming
        waited.append(following.is_waiting)
    waited.append(following.is_waiting)
    assert waited == [False] * 5


async def test_readers_of_a_run_hear_what_is_told_to_all_of_its_thread(storage: Storage) -> None:
    await wrote(storage, token(), token(run_id="other"))
    following = Following(storage, "t", poll=0.02)
    async with aclosing(follow_run(following, "r")) as batches:
        assert await next_numbers(batches) == [1]
        await wrote(storage, Broadcast(thread_id="t", message="Hello"))
        assert await next_some(batches) == [3]
        await wrote(
            storage,
            token(run_id="other"),
            RunPaused(thread_id="t", run_id="r", next_run="s"),
            token(run_id="s"),
            Done(thread_id="t", run_id="s"),
            Broadcast(thread_id="t", message="Too late"),
        )
        numbers = []
        async for entries in batches:
            numbers += [entry.seq for entry in entries]
    assert numbers == [5, 6, 7]
    assert following.ended == ""
