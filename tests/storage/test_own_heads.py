"""A run gets back what it has put last without a read of the file, and nothing that is not so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from assent.core.rows import LEASE_KEY, Lease, RunStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteSaver
from assent.storage.sqlite.checkpoints.reads import Reads
from tests.storage.samples import run

LEASE, OTHER = Lease("r", 1), Lease("o", 1)


@pytest.fixture
async def saver(storage: Storage) -> SqliteSaver:
    for lease in (LEASE, OTHER):
        row = run(lease.run_id, thread_id=lease.run_id, status=RunStatus.RUNNING, attempt=1)
        await storage.commit(Change(rows=(row,)))
    assert isinstance(storage.checkpointer, SqliteSaver)
    return storage.checkpointer


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The checkpoints that were read of the file."""
    read: list[Any] = []
    checkpoint = Reads.checkpoint

    async def noting(self: Reads, at: Any) -> list[Any]:
        read.append(at)
        return await checkpoint(self, at)

    monkeypatch.setattr(Reads, "checkpoint", noting)
    return read


def at(number: int | None = None, lease: Lease | None = LEASE) -> Any:
    named = {} if number is None else {"checkpoint_id": f"{number:08}"}
    carried = {} if lease is None else {LEASE_KEY: lease}
    return {"configurable": {"thread_id": "x", "checkpoint_ns": "", **named, **carried}}


async def put(saver: SqliteSaver, number: int, lease: Lease | None = LEASE) -> None:
    checkpoint: Any = {**empty_checkpoint(), "id": f"{number:08}"}
    checkpoint |= {"channel_values": {"a": number}, "channel_versions": {"a": number}}
    metadata: Any = {"source": "loop", "step": number, "parents": {}}
    config = at(number - 1 if number > 1 else None, lease)
    await saver.aput(config, checkpoint, metadata, {"a": number})


async def write(saver: SqliteSaver, number: int) -> None:
    await saver.aput_writes(at(number), [("a", "written")], "task")


async def test_a_run_reads_back_what_the_file_has(saver: SqliteSaver, reads: list[Any]) -> None:
    for number in (1, 2):
        await put(saver, number)
        if number == 1:
            await write(saver, number)
    reads.clear()
    mine = await saver.aget_tuple(at())
    assert reads == []
    stored = await saver.aget_tuple(at(lease=None))
    assert len(reads) == 1
    assert mine == stored and mine is not None
    assert mine.checkpoint["channel_values"] == {"a": 2}
    mine.checkpoint["channel_values"]["a"] = "changed"
    assert await saver.aget_tuple(at()) == stored


def written_to(saver: SqliteSaver) -> Any:
    return write(saver, 2)


def put_by_another_run(saver: SqliteSaver) -> Any:
    return put(saver, 3, OTHER)


def put_by_nobodys_run(saver: SqliteSaver) -> Any:
    return put(saver, 3, None)


def deleted(saver: SqliteSaver) -> Any:
    return saver.adelete_thread("x")


def pruned(saver: SqliteSaver) -> Any:
    return saver.adelete_for_runs(["r"])


@pytest.mark.parametrize(
    "change", [written_to, put_by_another_run, put_by_nobodys_run, deleted, pruned]
)
async def test_what_was_changed_since_is_read_of_the_file(
    saver: SqliteSaver, change: Callable[[SqliteSaver], Any]
) -> None:
    await put(saver, 1)
    await put(saver, 2)
    await change(saver)
    assert await saver.aget_tuple(at()) == await saver.aget_tuple(at(lease=None))


async def test_writes_that_came_before_their_checkpoint_are_found(saver: SqliteSaver) -> None:
    await put(saver, 1)
    await write(saver, 2)
    await put(saver, 2)
    # One for an earlier checkpoint may come late.
    await write(saver, 1)
    found = await saver.aget_tuple(at())
    assert found is not None and found.pending_writes == [("task", "a", "written")]
