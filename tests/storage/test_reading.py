"""Reading a log: how much memory a read takes, and that reads of some types or of one run find
their events in however long a log."""

from __future__ import annotations

import random
import sqlite3
import tracemalloc
from collections.abc import Sequence
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from assent.core.events import Custom, Done, Event, RunStart, Token
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage, queries
from assent.storage.sqlite.reads import READ_BYTES
from tests.storage.samples import NOON

MIB = 1 << 20
SECOND = timedelta(seconds=1)


def large(size: int, thread_id: str = "t") -> Event:
    return Custom(thread_id=thread_id, run_id="r", ts=NOON, data="x" * size)


# ── memory ──


@pytest.mark.parametrize(
    "filters", [{}, {"types": ["custom"]}, {"run_id": "r"}, {"run_id": "r", "types": ["custom"]}]
)
async def test_a_read_of_large_events_takes_4_mib(
    storage: Storage, filters: dict[str, str]
) -> None:
    for _ in range(4):
        await storage.commit(Change(events=tuple(large(MIB) for _ in range(6))))
    sizes = []
    after = 0
    tracemalloc.start()
    while entries := await storage.read_log("t", after, **filters):  # type: ignore[arg-type]
        after = entries[-1].seq
        sizes.append([len(entry.body) for entry in entries])
        del entries
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after == sum(map(len, sizes)) == 24
    assert max(map(sum, sizes)) <= READ_BYTES
    # Each is full, but for the last.
    assert {len(read) for read in sizes} == {3}
    # What was read, the row that was one too many, and with a key the sealed bodies.
    assert peak < 3 * READ_BYTES


async def test_an_event_that_is_larger_is_read_by_itself(storage: Storage) -> None:
    await storage.commit(Change(events=(large(1), large(READ_BYTES + 1), large(1), large(1))))
    assert [entry.seq for entry in await storage.read_log("t")] == [1]
    assert [entry.seq for entry in await storage.read_log("t", 1)] == [2]
    assert [entry.seq for entry in await storage.read_log("t", 2)] == [3, 4]


@pytest.mark.parametrize("heard", [False, True], ids=["from the file", "from memory"])
async def test_a_read_has_no_more_bytes_than_are_asked_for(storage: Storage, heard: bool) -> None:
    with storage.listen("t") if heard else nullcontext():
        await storage.read_log("t")
        events = [large(size) for size in (10, 2000, 3000, 9000, 10, 10)]
        await storage.commit(Change(events=tuple(events)))
        pages, after = [], 0
        while entries := await storage.read_log("t", after, most_bytes=6000):
            pages.append([entry.seq for entry in entries])
            after = entries[-1].seq
        assert pages == [[1, 2, 3], [4], [5, 6]]
        of_a_run = await storage.read_log("t", 2, run_id="r", most_bytes=6000)
        assert [entry.seq for entry in of_a_run] == [3]


# ── finding ──


def mixed(count: int) -> list[Event]:
    """The events of runs that follow each other, each with a start, tokens and an end; but not of
    all runs, nor all of them in one piece."""
    chance = random.Random(7)
    events: list[Event] = []
    for number in range(count):
        of = {"thread_id": "t", "run_id": f"r{number}"}
        if number % 3:
            events.append(RunStart(**of, agent="a"))
        for _ in range(chance.randrange(6)):
            events.append(Token(**of, message_id="m", content="x"))
            if chance.random() < 0.3:
                events.append(Custom(**{**of, "run_id": f"r{chance.randrange(count)}"}))
        if number % 4:
            events.append(Done(**of))
    return events


@pytest.mark.parametrize("cut", [0, 37], ids=["whole", "cut amid a run"])
async def test_a_filter_finds_what_reading_all_would(storage: Storage, cut: int) -> None:
    events = [structs.replace(event, ts=NOON + n * SECOND) for n, event in enumerate(mixed(30))]
    await storage.commit(Change(events=tuple(events)))
    assert await storage.remove_events(NOON + cut * SECOND) == cut
    everything = await storage.read_log("t")
    first = everything[0].seq - 1
    for types in (None, ["token"], ["done"], ["done", "custom"], ["token", "done"], []):
        for run_id in (None, "r0", "r1", "r4", "r7", "r8", "r29", "nobody's"):
            for after in (0, first + 1, first + 40, first + 10_000):
                for limit in (1, 3, 1000):
                    found = await storage.read_log(
                        "t", after, types=types, run_id=run_id, limit=limit
                    )
                    expected = [
                        entry
                        for entry in everything
                        if entry.seq > after
                        and (types is None or entry.type in types)
                        and (run_id is None or entry.run_id == run_id)
                    ]
                    assert list(found) == expected[:limit], (types, run_id, after, limit)
            for before in (None, 1, first + 1, first + 40, first + 10_000):
                for limit in (1, 3, 1000):
                    back = await storage.read_log_back(
                        "t", before, types=types, run_id=run_id, limit=limit
                    )
                    older = [
                        entry
                        for entry in everything
                        if (before is None or entry.seq < before)
                        and (types is None or entry.type in types)
                        and (run_id is None or entry.run_id == run_id)
                    ]
                    assert list(back) == older[-limit:], (types, run_id, before, limit)


@pytest.mark.parametrize("back", [False, True], ids=["on", "back"])
async def test_a_filter_is_answered_from_an_index(tmp_path: Path, back: bool) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        for types, run_id, index in (
            (["done"], None, "events_by_type"),
            (["done", "error"], None, "events_by_type"),
            (None, "r", "events_by_run"),
            (["done", "error"], "r", "events_by_run"),
        ):
            sql = "EXPLAIN QUERY PLAN " + queries.log_page(types, run_id, back=back)
            parameters = queries.log_parameters("t", 0, 10, types, run_id)
            plan = [detail for *_, detail in connection.execute(sql, parameters)]
            assert any(index in detail for detail in plan), plan
            # No event is looked at that stands before or behind the wanted ones.
            own = [detail for detail in plan if "events USING PRIMARY KEY" in detail]
            assert own in (
                ["SEARCH events USING PRIMARY KEY (thread_id=? AND seq=?)"],
                ["SEARCH events USING PRIMARY KEY (thread_id=? AND seq>? AND seq<?)"],
            )


async def test_going_back_large_events_are_read_by_the_newest_first(storage: Storage) -> None:
    sizes = (10, 10, 9000, 3000, 2000, 10)
    await storage.commit(Change(events=tuple(large(size) for size in sizes)))
    pages, before = [], None
    while entries := await storage.read_log_back("t", before, most_bytes=6000):
        pages.append([entry.seq for entry in entries])
        before = entries[0].seq
    assert pages == [[4, 5, 6], [3], [1, 2]]


@pytest.mark.parametrize("back", [False, True], ids=["on", "back"])
async def test_a_run_amid_a_long_log_is_read_without_the_rest(tmp_path: Path, back: bool) -> None:
    """Counted in steps of SQLite's machine, which do not depend on how busy the machine is."""
    path = tmp_path / "assent.db"
    steps: dict[int, int] = {}
    for length in (100, 20_000):
        path.unlink(missing_ok=True)
        tokens = tuple(
            Token(thread_id="t", run_id="other", message_id="m", content="x") for _ in range(length)
        )
        one = [
            RunStart(thread_id="t", run_id="r", agent="a"),
            Token(thread_id="t", run_id="r", message_id="m", content="x"),
            Done(thread_id="t", run_id="r"),
        ]
        async with SqliteStorage.open(path) as storage:
            await storage.commit(Change(events=(*tokens, *one, *tokens)))
        steps[length] = _steps(path, back)
    assert steps[20_000] < steps[100] + 200


async def test_the_last_page_of_a_long_log_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    steps = {}
    for length in (100, 20_000):
        path.unlink(missing_ok=True)
        tokens = tuple(
            Token(thread_id="t", run_id="r", message_id="m", content="x") for _ in range(length)
        )
        async with SqliteStorage.open(path) as storage:
            await storage.commit(Change(events=(RunStart(thread_id="t", agent="a"), *tokens)))
        steps[length] = _count(path, [(None, None), (["token"], None)], 9, back=True)
    assert steps[20_000] < steps[100] + 200


def _steps(path: Path, back: bool) -> int:
    return _count(path, [(["done"], None), (None, "r"), (["done"], "r")], None, back=back)


def _count(
    path: Path,
    asked: Sequence[tuple[list[str] | None, str | None]],
    expected: int | None,
    *,
    back: bool,
) -> int:
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(count, 1)
        for types, run_id in asked:
            sql = queries.log_page(types, run_id, back=back)
            found = connection.execute(sql, queries.log_parameters("t", 0, 9, types, run_id))
            assert len(found.fetchall()) == (expected or (1 if types else 3))
    return counted
