"""What is removed for its age and what never is, what a reader is told of it, and that the file
gives its room back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import structs

from assent.core.approval import ApprovalStatus
from assent.core.errors import Gone
from assent.core.events import Event
from assent.core.rows import RunStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.retention import ROWS_PER_STEP, SPARE_PAGES
from tests.storage.samples import NOON, approval, run, thread, token
from tests.support.rows import replace
from tests.support.waiting import PATIENCE, until

HOUR = timedelta(hours=1)


def at(hours: float, run_id: str = "r", thread_id: str = "t", content: str = "Hi ") -> Event:
    return structs.replace(token(thread_id, content), ts=NOON + hours * HOUR, run_id=run_id)


async def numbers(storage: Storage, thread_id: str = "t", after: int = 0) -> list[int]:
    return [entry.seq for entry in await storage.read_log(thread_id, after)]


# ── what is removed ──


async def test_only_what_is_older_is_removed_and_numbers_stay(storage: Storage) -> None:
    await storage.commit(
        Change(events=(at(0), at(1), at(2), at(3), at(0, thread_id="u"), at(5, thread_id="v")))
    )
    assert await storage.remove_events(NOON) == 0
    assert await storage.remove_events(NOON + 2 * HOUR) == 3
    assert await numbers(storage) == [3, 4]
    assert await numbers(storage, "u") == []
    assert await numbers(storage, "v") == [1]
    assert await storage.commit(Change(events=(at(6), at(6, thread_id="u")))) == (5, 2)
    assert await storage.remove_events(NOON + 2 * HOUR) == 0
    assert await storage.remove_events(NOON + 9 * HOUR) == 5
    assert await numbers(storage) == []
    assert await storage.commit(Change(events=(at(9),))) == (6,)
    assert await numbers(storage) == [6]


@pytest.mark.parametrize("status", [RunStatus.PENDING, RunStatus.RUNNING, RunStatus.CANCELLING])
async def test_a_run_that_has_not_ended_keeps_its_events_and_all_behind_them(
    storage: Storage, status: RunStatus
) -> None:
    active = run("active", status=status)
    await storage.commit(
        Change(
            rows=(active,),
            events=(at(0, "before"), at(0, "active"), at(0, "after"), at(1, "active")),
        )
    )
    assert await storage.remove_events(NOON + 9 * HOUR) == 1
    assert await numbers(storage) == [2, 3, 4]
    await storage.commit(Change(rows=(replace(active, status=RunStatus.SUCCESS, version=2),)))
    assert await storage.remove_events(NOON + 9 * HOUR) == 3


async def test_a_pause_keeps_its_events_until_the_last_decision(storage: Storage) -> None:
    rows = [approval(name, run_id="paused", status=ApprovalStatus.PENDING) for name in ("a1", "a2")]
    paused = run("paused", status=RunStatus.INTERRUPTED)
    await storage.commit(
        Change(rows=(paused, *rows), events=(at(0, "before"), at(0, "paused"), at(0, "paused")))
    )
    for row in rows:
        await storage.remove_events(NOON + 9 * HOUR)
        assert await numbers(storage) == [2, 3]
        await storage.commit(
            Change(rows=(replace(row, status=ApprovalStatus.REJECTED, version=2),))
        )
    assert await storage.remove_events(NOON + 9 * HOUR) == 2


async def test_threads_that_keep_everything_do_not_hold_up_the_others(storage: Storage) -> None:
    stuck = [run(f"r{n}", thread_id=f"a{n}", status=RunStatus.RUNNING) for n in range(250)]
    await storage.commit(
        Change(rows=tuple(stuck), events=tuple(at(0, f"r{n}", f"a{n}") for n in range(250)))
    )
    await storage.commit(Change(events=(at(1, thread_id="z"),)))
    async with asyncio.timeout(PATIENCE):
        assert await storage.remove_events(NOON + 9 * HOUR) == 1


async def test_a_long_log_is_removed_in_steps_between_which_others_write(storage: Storage) -> None:
    total = 6 * ROWS_PER_STEP + 7
    await storage.commit(Change(events=tuple(at(0) for _ in range(total))))
    removing = asyncio.create_task(storage.remove_events(NOON + HOUR))
    seen = set()
    while not removing.done():
        await storage.commit(Change(events=(at(2, thread_id="other"),)))
        entries = await storage.read_log("t")
        seen.add(entries[0].seq if entries else total + 1)
    assert await removing == total
    assert seen <= {1, total + 1, *range(1, total, ROWS_PER_STEP)}
    assert len(seen) > 4


async def test_what_an_older_time_hides_is_removed_with_what_hides_it(storage: Storage) -> None:
    # Clocks step back: the log is cut at its beginning, so the second event waits for the first.
    await storage.commit(Change(events=(at(5), at(0), at(9))))
    assert await storage.remove_events(NOON + 4 * HOUR) == 0
    assert await storage.remove_events(NOON + 6 * HOUR) == 2
    assert await numbers(storage) == [3]


async def test_old_events_are_found_by_an_index(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        old = "SELECT oldest, thread_id FROM log_heads WHERE oldest < 9 AND (oldest, thread_id) > (1, 'x') ORDER BY oldest, thread_id LIMIT 9"
        ended = "SELECT * FROM runs WHERE ended_at >= '2026' AND (ended_at, run_id) > ('2026', 'x') ORDER BY ended_at, run_id LIMIT 9"
        for query, index in ((old, "log_heads_by_oldest"), (ended, "runs_by_end")):
            plan = [detail for *_, detail in connection.execute("EXPLAIN QUERY PLAN " + query)]
            assert len(plan) == 1
            assert plan[0].startswith("SEARCH")
            assert index in plan[0]


# ── what a reader is told ──


@pytest.mark.parametrize("listening", [False, True], ids=["from the file", "from the tail"])
async def test_a_reader_past_what_was_removed_is_told_where_to_begin(
    storage: Storage, listening: bool
) -> None:
    with storage.listen("t" if listening else "somebody else"):
        await numbers(storage)
        await storage.commit(Change(events=(at(0), at(0), at(0), at(3), at(3))))
        await storage.remove_events(NOON + HOUR)
        await storage.commit(Change())
        for after in (1, 2):
            for types in (None, {"token"}, {"done"}):
                with pytest.raises(
                    Gone, match=r"up to number 3 have been removed.*Begin after 3, or after 0"
                ) as caught:
                    await storage.read_log("t", after, types=types)
                assert caught.value.details == {"first": 4}
        assert await numbers(storage) == [4, 5]
        assert await numbers(storage, after=3) == [4, 5]
        assert await numbers(storage, after=5) == []
        assert await numbers(storage, after=99) == []


@pytest.mark.parametrize("listening", [False, True], ids=["from the file", "from the tail"])
async def test_a_thread_that_was_erased_and_begun_anew_is_gone_to_who_had_part_of_it(
    storage: Storage, listening: bool
) -> None:
    with storage.listen("t" if listening else "somebody else"):
        await storage.commit(Change(rows=(thread(),), events=(at(0), at(0), at(0))))
        await storage.commit(Change(erase="t"))
        for begun_anew in (False, True):
            with pytest.raises(Gone) as caught:
                await storage.read_log("t", 2)
            assert caught.value.details == {"first": 4}
            assert (
                await numbers(storage)
                == await numbers(storage, after=3)
                == ([4] if begun_anew else [])
            )
            await storage.commit(Change(events=(at(0),)))


async def test_nothing_is_gone_when_what_removed_it_failed(storage: Storage) -> None:
    await storage.commit(Change(rows=(run(),), events=(at(0), at(0))))
    failing = Change(erase="t", rows=(replace(run("nowhere"), version=2),))
    with pytest.raises(Exception, match="does not exist"):
        await storage.commit(failing)
    assert await numbers(storage, after=1) == [2]


async def test_runs_that_ended_come_in_the_order_in_which_they_ended(storage: Storage) -> None:
    made = [run(f"r{n}", ended_at=NOON + (9 - n) * HOUR if n % 3 else None) for n in range(9)]
    await storage.commit(Change(rows=tuple(made)))
    ended = [made[n] for n in (8, 7, 5, 4, 2, 1)]
    first = await storage.ended_runs(limit=4)
    assert list(first.rows) == ended[:4]
    second = await storage.ended_runs(limit=4, cursor=first.next)
    assert (list(second.rows), second.next) == (ended[4:], None)
    assert list((await storage.ended_runs(NOON + 4 * HOUR)).rows) == ended[2:]


# ── the file ──


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")))


async def until_gone(storage: SqliteStorage) -> None:
    """Wait until the events of every erased thread have gone from the file."""

    async def are_gone() -> bool:
        return not await storage._reader.rows("SELECT 1 FROM erased_events")

    await until(are_gone)


@pytest.mark.slow
async def test_the_file_shrinks_when_a_thread_is_erased(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path) as storage:
        for name in ("t", "u", "t"):
            await storage.commit(
                Change(
                    events=tuple(
                        at(0, thread_id=name, content=os.urandom(1500).hex()) for _ in range(1000)
                    )
                )
            )
        await storage.shrink()
        full = size(path)
        assert full > 8 << 20
        await storage.commit(Change(erase="t"))
        await until_gone(storage)
        await storage.shrink()
        # Two thirds were of the thread; some free pages are kept for what comes next. Tables that
        # are empty take a page each, and so do their indexes.
        assert size(path) < full / 3 + (SPARE_PAGES + 128) * 4096
        assert len(await numbers(storage, "u")) == 1000
        assert await storage._reader.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.slow
async def test_room_is_given_back_between_the_writes_of_others(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path) as storage:
        await storage.commit(
            Change(events=tuple(at(0, content=os.urandom(1500).hex()) for _ in range(1500)))
        )
        await storage.commit(Change(erase="t"))
        await until_gone(storage)
        shrinking = asyncio.create_task(storage.shrink())
        count, free = 0, SPARE_PAGES + 1
        while free > SPARE_PAGES:
            await storage.commit(Change(events=(at(0, thread_id="u"),)))
            count += 1
            ((free,),) = await storage._reader.rows("PRAGMA freelist_count")
        assert count > 20
        await shrinking
        assert len(await storage.read_log("u", limit=100_000)) == count
        assert await storage._reader.rows("PRAGMA integrity_check") == [("ok",)]


async def test_a_file_that_cannot_shrink_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path) as storage:
        await storage.commit(
            Change(events=tuple(at(0, content=os.urandom(1500).hex()) for _ in range(500)))
        )
        await storage.commit(
            Change(erase="t", events=(at(0, thread_id="u", content="x" * 2_000_000),))
        )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM;")
    async with SqliteStorage.open(path) as storage, asyncio.timeout(PATIENCE):
        await storage.commit(Change(erase="u"))
        await until_gone(storage)
        await storage.shrink()
        assert await storage.commit(Change(events=(at(0),))) == (501,)


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_how_much_a_commit_waits_for_is_a_setting(
    tmp_path: Path, synchronous: str, level: int
) -> None:
    async with SqliteStorage.open(tmp_path / "assent.db", synchronous=synchronous) as storage:  # type: ignore[arg-type]
        assert await storage._writer.outside_transaction(
            lambda connection: connection.execute("PRAGMA synchronous").fetchone()
        ) == (level,)
