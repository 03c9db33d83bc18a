"""The queue of pending runs: it has an end, the first of each thread may start, and what is asked of
it costs the same however long it is."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from assent.core.errors import QueueFull
from assent.core.rows import Row, Run, RunStatus, Thread, ThreadStatus
from assent.core.sealing import NoSeal
from assent.storage.base import Change, QueueLimits, Storage
from assent.storage.sqlite import SqliteStorage, queries
from assent.storage.sqlite.tables import Tables
from tests.storage.samples import NOON, run, thread
from tests.support.rows import replace

LIMITS = QueueLimits(per_thread=3, in_all=5)


def waiting(run_id: str, thread_id: str = "t", **changes: Any) -> Run:
    fresh: dict[str, Any] = {"due_at": None, "worker": None, "ended_at": None, "priority": 0}
    return run(run_id, thread_id=thread_id, status=RunStatus.PENDING, **{**fresh, **changes})


async def queue(storage: Storage, *rows: Row) -> None:
    await storage.commit(Change(rows=rows, queue=LIMITS))


# ── its end ──


async def test_a_thread_has_no_more_than_so_many_pending_runs(storage: Storage) -> None:
    await storage.commit(Change(rows=(thread(), waiting("r0", due_at=NOON))))
    await queue(storage, waiting("r1"), waiting("r2"))
    with pytest.raises(QueueFull, match=r"3 runs wait on the thread 't' already") as caught:
        await queue(storage, waiting("r3"))
    assert caught.value.details == {"thread_id": "t"}
    assert await storage.run("r3") is None
    # One that goes and one that comes, in one change.
    gone = replace(waiting("r1"), status=RunStatus.CANCELLED, version=2)
    await queue(storage, gone, waiting("r3"))
    with pytest.raises(QueueFull):
        await queue(storage, waiting("r4"))
    # Decisions are taken whatever waits: such a change has no limits.
    await storage.commit(Change(rows=(waiting("r4"),)))


async def test_all_threads_have_no_more_than_so_many(storage: Storage) -> None:
    for number in range(5):
        await queue(storage, waiting(f"r{number}", f"t{number}"))
    with pytest.raises(QueueFull, match="5 runs wait for their turn already") as caught:
        await queue(storage, waiting("r5", "t5"))
    assert caught.value.details == {}
    # A run that starts at once waits for nobody.
    await queue(storage, replace(waiting("r6", "t6"), status=RunStatus.RUNNING))
    # Erasing a thread makes room.
    await storage.commit(Change(erase="t0"))
    await queue(storage, waiting("r5", "t5"))
    with pytest.raises(QueueFull):
        await queue(storage, waiting("r7", "t7"))


async def test_of_many_at_once_exactly_as_many_as_there_is_room_for_are_taken(
    storage: Storage,
) -> None:
    taken = await asyncio.gather(
        *(queue(storage, waiting(f"r{number}")) for number in range(20)), return_exceptions=True
    )
    assert [error for error in taken if error is None] == [None] * 3
    assert {type(error) for error in taken if error is not None} == {QueueFull}
    assert len(await storage.runs(thread_id="t")) == 3


# ── what may start ──


class Model:
    """What a storage holds, and what may start by the words of its contract."""

    def __init__(self) -> None:
        self.threads: dict[str, Thread] = {}
        self.runs: dict[str, Run] = {}
        """In the order in which they were submitted."""

    def store(self, row: Row) -> None:
        if isinstance(row, Run):
            self.runs[row.run_id] = row
        elif isinstance(row, Thread):
            self.threads[row.thread_id] = row

    def erase(self, thread_id: str) -> None:
        self.threads.pop(thread_id, None)
        left = {name: one for name, one in self.runs.items() if one.thread_id != thread_id}
        self.runs = left

    def pending(self) -> list[Run]:
        return [one for one in self.runs.values() if one.status is RunStatus.PENDING]

    def startable(self, now: datetime, agents: set[str]) -> list[str]:
        firsts = [self._first(each, now) for each in self.threads.values()]
        found = [one for one in firsts if one is not None and one.agent in agents]
        order = list(self.runs)
        found.sort(key=lambda one: (-one.priority, order.index(one.run_id)))
        return [one.run_id for one in found]

    def _first(self, of: Thread, now: datetime) -> Run | None:
        if of.tampered is not None:
            return None
        waits = [one for one in self.pending() if one.thread_id == of.thread_id]
        for one in waits:
            if one.run_id == of.run_id:
                return one
        if of.status not in (ThreadStatus.IDLE, ThreadStatus.ERROR):
            return None
        at_once = [one for one in waits if one.due_at is None][:1]
        timed = [one for one in waits if one.due_at is not None]
        earliest = sorted(timed, key=_time)[:1]
        due = [*at_once, *(one for one in earliest if _time(one) <= now)]
        order = list(self.runs)
        return min(due, key=lambda one: order.index(one.run_id), default=None)


def _time(one: Run) -> datetime:
    assert one.due_at is not None
    return one.due_at


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_first_of_each_free_thread_may_start(
    storage: Storage, seed: int
) -> None:
    chance = random.Random(seed)
    model = Model()
    for step in range(150):
        thread_id = f"t{chance.randrange(4)}"
        rows: list[Row] = []
        match chance.choice(["queue", "queue", "queue", "move", "move", "start", "erase"]):
            case "queue":
                rows = [_any_waiting(chance, f"r{step}", thread_id)]
            case "move":
                rows = [_moved(chance, model, thread_id)]
            case "start" if model.runs:
                one = chance.choice(list(model.runs.values()))
                statuses = [RunStatus.RUNNING, RunStatus.PENDING, RunStatus.CANCELLED]
                rows = [replace(one, status=chance.choice(statuses), version=one.version + 1)]
            case "erase" if chance.random() < 0.3:
                await storage.commit(Change(erase=thread_id))
                model.erase(thread_id)
        await storage.commit(Change(rows=tuple(rows)))
        for row in rows:
            model.store(row)
        now = NOON + timedelta(seconds=chance.randrange(100))
        agents = set(chance.sample(["clerk", "miner"], chance.randrange(1, 3)))
        for limit in (100, 2):
            found = await storage.due_runs(now, agents=agents, limit=limit)
            assert [one.run_id for one in found] == model.startable(now, agents)[:limit]

    unfinished = await storage.unfinished_runs()
    pending = [one.agent for one in model.pending()]
    running = [one.agent for one in model.runs.values() if one.status is RunStatus.RUNNING]
    assert unfinished == {agent: (pending + running).count(agent) for agent in unfinished}
    assert sum(unfinished.values()) == len(pending + running)
    room = QueueLimits(per_thread=1000, in_all=len(pending))
    with pytest.raises(QueueFull):
        await storage.commit(Change(rows=(waiting("one too many"),), queue=room))


def _any_waiting(chance: random.Random, run_id: str, thread_id: str) -> Run:
    time = NOON + timedelta(seconds=chance.randrange(100), milliseconds=int(run_id[1:]))
    return waiting(
        run_id,
        thread_id,
        due_at=chance.choice([None, None, time]),
        priority=chance.randrange(3),
        agent=chance.choice(["clerk", "miner"]),
        # The clock of those who submit them is moved all the time.
        created_at=NOON - timedelta(seconds=chance.randrange(100)),
    )


def _moved(chance: random.Random, model: Model, thread_id: str) -> Thread:
    old = model.threads.get(thread_id, thread(thread_id, version=0))
    # What has a thread was due when it took it.
    may_have_it = [one.run_id for one in model.runs.values() if one.thread_id == thread_id]
    return replace(
        old,
        status=chance.choice(list(ThreadStatus)),
        run_id=chance.choice([None, "another", *may_have_it[-2:]]),
        tampered=chance.choice([None, None, None, "It was."]),
        version=old.version + 1,
    )


async def test_a_run_of_any_priority_waits_behind_the_earlier_one_of_its_thread(
    storage: Storage,
) -> None:
    """Also where more could start than are asked for, and some wait for a time."""
    rows: list[Row] = []
    for number in range(5):
        rows.append(thread(f"t{number}", status=ThreadStatus.IDLE))
        rows.append(waiting(f"r{number}", f"t{number}", due_at=NOON + timedelta(seconds=1)))
        rows.append(waiting(f"s{number}", f"t{number}", priority=9))
    await storage.commit(Change(rows=tuple(rows)))

    async def first_two(now: datetime) -> list[str]:
        return [one.run_id for one in await storage.due_runs(now, agents={"clerk"}, limit=2)]

    assert await first_two(NOON) == ["s0", "s1"]
    assert await first_two(NOON + timedelta(seconds=1)) == ["r0", "r1"]


# ── what it costs ──


Fill = Callable[[int], Iterator[Row]]
"""The rows of a queue of this length."""

TABLES = Tables(NoSeal())
NOW = "2027"


def _of_the_busy_thread(status: Sequence[RunStatus]) -> tuple[str, Sequence[Any]]:
    where = queries.runs_where("busy", status, None)
    return f"{TABLES.runs.select} {where} ORDER BY number LIMIT 2", where.parameters


ASKED: dict[str, tuple[str, Sequence[Any]]] = {
    "what may start": (f"{TABLES.runs.select} {queries.DUE_RUNS}", (NOW, '["clerk", "cook"]', 5)),
    "when something is due": (queries.NEXT_DUE, (NOW, NOW)),
    "what has lost its worker": (
        f"{TABLES.runs.select} {queries.ORPHANED_RUNS}",
        ('["clerk"]', 5),
    ),
    "what has not ended": (queries.UNFINISHED_RUNS, ()),
    "how much waits": (queries.QUEUE_LENGTHS, ("busy",)),
    "whether any run waits": (
        f"{TABLES.runs.select} WHERE status = ? ORDER BY number LIMIT 1",
        ("pending",),
    ),
    "what waits on a thread": _of_the_busy_thread([RunStatus.PENDING]),
    "what runs on a thread": _of_the_busy_thread([RunStatus.RUNNING, RunStatus.CANCELLING]),
    "a new run": (TABLES.runs.insert, TABLES.runs.encode(waiting("new", "busy"))),
    "a new run on a free thread": (TABLES.runs.insert, TABLES.runs.encode(waiting("new", "idle"))),
    "a run that starts": ("UPDATE runs SET status = 'running' WHERE run_id = 'r1'", ()),
    "a run that goes": ("DELETE FROM runs WHERE run_id = 'r1'", ()),
    "a thread that is free": ("UPDATE threads SET status = 'idle' WHERE thread_id = 'busy'", ()),
    "a thread that is taken": ("UPDATE threads SET status = 'busy' WHERE thread_id = 'idle'", ()),
}


def on_one_busy_thread(length: int) -> Iterator[Row]:
    yield thread("busy", status=ThreadStatus.BUSY)
    yield thread("idle", status=ThreadStatus.IDLE)
    for number in range(length):
        yield waiting(f"r{number}", "busy")


def on_threads_that_wait_for_people(
    length: int, status: ThreadStatus = ThreadStatus.INTERRUPTED
) -> Iterator[Row]:
    yield from on_one_busy_thread(3)
    for number in range(length):
        yield thread(f"t{number}", status=status)
        yield waiting(f"s{number}", f"t{number}")


def on_free_threads(length: int) -> Iterator[Row]:
    return on_threads_that_wait_for_people(length, ThreadStatus.IDLE)


def for_an_agent_that_is_not_here(length: int) -> Iterator[Row]:
    for row in on_free_threads(length):
        yield replace(row, agent="miner") if isinstance(row, Run) else row


def for_later(length: int) -> Iterator[Row]:
    yield from on_one_busy_thread(3)
    later = NOON.replace(year=2028)
    for number in range(length):
        yield thread(f"t{number}", status=ThreadStatus.IDLE)
        yield waiting(f"s{number}", f"t{number}", due_at=later)
        yield waiting(f"v{number}", "idle", due_at=later)


def behind_what_has_ended(length: int) -> Iterator[Row]:
    yield from on_one_busy_thread(3)
    for number in range(length):
        yield run(f"s{number}", thread_id="busy", status=RunStatus.SUCCESS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fill",
    [
        on_one_busy_thread,
        on_threads_that_wait_for_people,
        on_free_threads,
        for_an_agent_that_is_not_here,
        for_later,
        behind_what_has_ended,
    ],
)
async def test_nothing_costs_as_much_as_the_queue_is_long(tmp_path: Path, fill: Fill) -> None:
    """Counted in steps of SQLite's machine, which do not depend on how busy the machine is."""
    steps: dict[str, list[int]] = {what: [] for what in ASKED}
    for length in (30, 1000):
        path = tmp_path / f"{length}.db"
        async with SqliteStorage.open(path) as storage:
            await storage.commit(Change(rows=tuple(fill(length))))
        for what, (sql, parameters) in ASKED.items():
            steps[what].append(_steps(path, sql, parameters))
    for what, (short, long) in steps.items():
        assert long < short + 100, (what, short, long)


async def test_of_many_that_have_come_to_their_time_a_thousand_are_looked_at(
    tmp_path: Path,
) -> None:
    """Those of the earliest times, whatever their priority; and the rest follow."""
    rows: list[Row] = []
    for number in range(1200):
        due_at = NOON + timedelta(milliseconds=number)
        rows.append(thread(f"t{number}", status=ThreadStatus.IDLE))
        rows.append(waiting(f"r{number}", f"t{number}", due_at=due_at, priority=number % 100))
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=tuple(rows)))
        soon = NOON + timedelta(minutes=1)
        found = await storage.due_runs(soon, agents={"clerk"}, limit=11)
    assert [one.run_id for one in found] == [*(f"r{n}99" for n in ["", *range(1, 10)]), "r98"]


def _steps(path: Path, sql: str, parameters: Sequence[Any]) -> int:
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.set_progress_handler(count, 1)
        connection.execute(sql, parameters).fetchall()
        connection.set_progress_handler(None, 1)
        connection.execute("ROLLBACK")
    return counted
