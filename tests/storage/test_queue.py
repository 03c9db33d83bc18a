"""The queue of pending runs has an end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from assent.core.errors import QueueFull
from assent.core.rows import Row, Run, RunStatus
from assent.storage.base import Change, QueueLimits, Storage
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
