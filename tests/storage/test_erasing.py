"""Erasing a large thread: nobody sees it any more at once, it goes from the file in steps between
which others write, and a kill in between forgets nothing."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import weakref
from collections.abc import AsyncIterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import empty_checkpoint

from assent.core.errors import Conflict, Gone, StaleLease
from assent.core.rows import Lease, RunStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.checkup import Level, check_up
from tests.storage.samples import (
    answer,
    approval,
    effect,
    grant,
    link,
    notification,
    run,
    schedule,
    thread,
    timer,
    token,
)
from tests.support.disk import files_at_most
from tests.support.forks import forked, pipe
from tests.support.rows import replace
from tests.support.waiting import until

MANY = 120
"""Rows of a kind, events and checkpoints: several steps of each."""

TABLES = [
    "threads",
    "runs",
    "approvals",
    "effects",
    "timers",
    "schedules",
    "notifications",
    "links",
    "grants",
    "answers",
    "events",
    "checkpoints",
    "checkpoint_writes",
    "checkpoint_logs",
    "checkpoint_blobs",
    "checkpoint_threads",
    "erased_rows",
    "erased_events",
]


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(path) as storage:
        await fill(storage, "t")
        await fill(storage, "other", few=True)
        yield storage


async def fill(storage: Storage, thread_id: str, *, few: bool = False) -> None:
    """A thread with much of everything."""
    rows: list[Any] = [thread(thread_id)]
    for number in range(3 if few else MANY):
        name, of = f"{thread_id}-{number}", {"thread_id": thread_id}
        rows += [
            run(name, status=RunStatus.SUCCESS, **of),
            approval(name, **of),
            effect(name, **of),
            timer(name, **of),
            schedule(name, **of),
            notification(name, **of),
            link(name, **of),
            grant(name, **of),
            answer(name, **of),
        ]
    events = [token(thread_id, "x" * 6000) for _ in range(3 if few else MANY)]
    await storage.commit(Change(rows=tuple(rows), events=tuple(events)))
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    for step in range(3 if few else 100):
        checkpoint: Any = {
            **empty_checkpoint(),
            "channel_values": {"text": f"{step}" + "x" * 4000},
            "channel_versions": {"text": step + 1},
        }
        versions: Any = checkpoint["channel_versions"]
        config = await storage.checkpointer.aput(config, checkpoint, {"step": step}, versions)
        await storage.checkpointer.aput_writes(config, [("text", "y" * 8000)], f"task {step}")


def counts(path: Path) -> dict[str, int]:
    """The rows that are in the file, by table, seen or not."""
    with closing(sqlite3.connect(path)) as connection:
        return _counts(connection)


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES
    }


async def erased(storage: SqliteStorage) -> dict[str, int]:
    """Erase the thread; the rows that are in the file right after that."""
    counting = storage._writer.write(lambda transaction: _counts(transaction.connection))
    _, left = await asyncio.gather(storage.commit(Change(erase="t")), counting)
    return left


def is_gone(path: Path) -> bool:
    """True if the file has nothing of an erased thread."""
    left = counts(path)
    return left["erased_rows"] == left["erased_events"] == 0 and left["checkpoint_threads"] <= 1


async def seen(storage: Storage, thread_id: str) -> list[Any]:
    """Everything of the thread that the storage shows."""
    name = f"{thread_id}-{MANY - 1}"
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    shown = [
        await storage.thread(thread_id),
        await storage.run(name),
        await storage.approval(name),
        await storage.effect(name),
        await storage.timer(name),
        await storage.schedule(name),
        await storage.notification(name),
        await storage.link(name),
        await storage.grant(name),
        await storage.answer(name),
        *await storage.runs(thread_id=thread_id),
        *(await storage.approvals(thread_id=thread_id)).rows,
        *await storage.effects(thread_id, effect().tool_call_id),
        *await storage.read_log(thread_id),
        *(await storage.usage(thread_id=thread_id)).values(),
        await storage.checkpointer.aget_tuple(config),
        *[each async for each in storage.checkpointer.alist(config)],
    ]
    if last := await storage.last_seq(thread_id):
        shown.append(last)
    for page in (
        await storage.latest_runs(limit=1000),
        await storage.ended_runs(),
        await storage.notifications(limit=1000),
        await storage.grants(limit=1000),
        await storage.schedules(limit=1000),
    ):
        shown += [row for row in page.rows if row.thread_id == thread_id]
    shown += [each async for each in storage.checkpointer.alist(None) if of(each) == thread_id]
    return [each for each in shown if each is not None]


def of(each: Any) -> Any:
    return each.config["configurable"]["thread_id"]


async def test_it_is_out_of_sight_at_once_and_goes_between_the_writes_of_others(
    storage: SqliteStorage, path: Path
) -> None:
    assert len(await seen(storage, "t")) > 10 * 5
    before = counts(path)
    sizes: list[int] = []

    async def write_on() -> None:
        """Others write all the time, and see how much is left."""
        while True:
            counted = await storage._writer.write(lambda done: _counts(done.connection))
            sizes.append(counted["runs"])

    writing = asyncio.create_task(write_on())
    left = await erased(storage)
    assert await seen(storage, "t") == []
    with pytest.raises(Gone):
        await storage.read_log("t", 1)
    # A large part is still there, and is removed by little and little.
    for table in ("runs", "events", "checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        assert 3 < left[table] <= before[table], table
    await until(lambda: is_gone(path))
    writing.cancel()
    assert len(set(sizes)) > 2
    assert await seen(storage, "t") == []
    left = counts(path)
    assert left == {**dict.fromkeys(left, 3), **SMALL}
    assert len(await storage.runs(thread_id="other")) == 3


SMALL = {
    "threads": 1, "checkpoint_threads": 1, "checkpoint_logs": 1, "erased_rows": 0,
    "erased_events": 0, "checkpoint_blobs": 3,
}  # fmt: skip


async def test_one_that_begins_anew_has_nothing_of_the_old_one(
    storage: SqliteStorage, path: Path
) -> None:
    last = await storage.last_seq("t")
    await storage.commit(Change(erase="t"))
    begun = thread(owner="bob")
    # The same keys again, as a client has them who sends all anew.
    same = (run("t-119"), answer("t-119"), timer("t-119"))
    assert await storage.commit(Change(rows=(begun, *same), events=(token(),))) == (last + 1,)
    assert await storage.thread("t") == begun
    assert await storage.runs(thread_id="t") == (run("t-119"),)
    assert [entry.seq for entry in await storage.read_log("t")] == [last + 1]
    await put_one(storage)
    await until(
        lambda: counts(path)["checkpoint_threads"] == 2 and not counts(path)["erased_events"]
    )
    left = counts(path)
    assert (left["events"], left["checkpoints"], left["runs"]) == (3 + 1, 3 + 1, 3 + 1)
    assert await storage.thread("t") == begun
    assert [entry.seq for entry in await storage.read_log("t")] == [last + 1]


async def put_one(storage: Storage) -> None:
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    assert await storage.checkpointer.aget_tuple(config) is None
    await storage.checkpointer.aput(config, empty_checkpoint(), {"step": 0}, {})
    assert len([each async for each in storage.checkpointer.alist(config)]) == 1


async def test_it_begins_anew_where_a_full_disk_took_the_removal_of_its_rows_back(
    storage: SqliteStorage, path: Path
) -> None:
    # The transaction that erases it removes a hundred rows, and one step the others.
    runs = tuple(run(f"u-{number}", thread_id="u") for number in range(MANY))
    await storage.commit(Change(rows=(thread("u"), *runs)))
    await storage.commit(Change(erase="u"))
    with files_at_most(path.with_name(f"{path.name}-wal").stat().st_size):
        await until(lambda: storage.outage() is not None)
    await until(lambda: storage.outage() is None)
    assert counts(path)["erased_rows"] == 1
    begun = thread("u", owner="bob")
    await storage.commit(Change(rows=(begun, run("again", thread_id="u"))))
    await until(lambda: not counts(path)["erased_rows"])
    assert await storage.thread("u") == begun
    assert await storage.runs(thread_id="u") == (run("again", thread_id="u"),)


async def test_in_one_change_it_begins_anew_too(storage: SqliteStorage) -> None:
    await storage.commit(Change(erase="t", rows=(thread(), run("t-119"))))
    assert await storage.runs(thread_id="t") == (run("t-119"),)


async def test_nobody_writes_to_what_was_erased(storage: SqliteStorage) -> None:
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    head = await storage.checkpointer.aget_tuple(config)
    assert head is not None
    moved = replace(schedule("t-119", thread_id="t"), thread_id="other", version=2)
    await storage.commit(Change(erase="t"))
    for stale in (replace(run("t-119"), version=2), replace(approval("t-119"), version=2), moved):
        with pytest.raises(Conflict, match="does not exist any more"):
            await storage.commit(Change(rows=(stale,)))
    with pytest.raises(Conflict):
        await storage.commit(Change(unchanged=(thread(),), erase="t"))
    with pytest.raises(StaleLease):
        await storage.commit(Change(lease=Lease("t-119", 3)))
    # A saver of its own is given a new namespace, as after any deletion.
    await storage.checkpointer.aput_writes(head.config, [("text", "late")], "task")
    assert await storage.checkpointer.aget_tuple(config) is None


async def test_what_retention_removes_meanwhile_is_not_counted_twice(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.commit(Change(erase="t"))
    await storage.commit(Change(events=(token(), token())))
    assert await storage.remove_events(token().ts.replace(year=9999)) == 2 + 3
    assert await storage.read_log("t") == ()
    await until(lambda: counts(path)["events"] == 0)


async def test_the_doctor_finds_nothing_wrong_in_between(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.commit(Change(erase="other"))
    before = [finding.sentence for finding in check_up(path) if finding.level is Level.WRONG]
    left = await erased(storage)
    assert left["erased_events"] == left["erased_rows"] == 1
    after = [finding.sentence for finding in check_up(path) if finding.level is Level.WRONG]
    assert not [sentence for sentence in after if "'t" in sentence], after
    assert len(after) < len(before)


def erase_until_killed(path: Path, erased: Connection) -> None:
    """Erase the thread, say so, and go on."""

    async def erase() -> None:
        async with SqliteStorage.open(path) as storage:
            await storage.commit(Change(erase="t"))
            erased.send(True)
            await asyncio.Event().wait()

    asyncio.run(erase())


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 0.02])
async def test_the_next_process_removes_what_a_killed_one_left(path: Path, pause: float) -> None:
    async with SqliteStorage.open(path) as storage:
        await fill(storage, "t")
        await fill(storage, "other", few=True)
    ours, theirs = pipe()
    child = forked(erase_until_killed, path, theirs)
    assert await asyncio.to_thread(ours.recv)
    await asyncio.sleep(pause)
    child.kill()
    await asyncio.to_thread(child.join)
    assert not is_gone(path), "It was all gone before the kill."

    async with SqliteStorage.open(path) as storage:
        assert await seen(storage, "t") == []
        await until(lambda: is_gone(path))
        left = counts(path)
        assert (left["events"], left["checkpoints"], left["runs"]) == (3, 3, 3)
        assert len(await storage.runs(thread_id="other")) == 3


async def test_nothing_of_an_erased_thread_stays_in_memory(storage: SqliteStorage) -> None:
    kept = weakref.ref(await remembered(storage, "kept"))
    erased = weakref.ref(await remembered(storage, "erased"))
    await storage.commit(Change(erase="erased"))
    gc.collect()
    assert kept() is not None
    assert erased() is None


async def remembered(storage: SqliteStorage, thread_id: str) -> HumanMessage:
    """A message of the thread's checkpoint, which the checkpointer holds to compare it with the
    next one."""
    await storage.commit(Change(rows=(thread(thread_id),)))
    message = HumanMessage("hello", id="1")
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"messages": [message]}
    checkpoint["channel_versions"] = {"messages": 1}
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    await storage.checkpointer.aput(config, checkpoint, {}, {"messages": 1})
    return message
