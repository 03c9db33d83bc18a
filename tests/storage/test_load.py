"""What there is to do: `Storage.load`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from assent.core.approval import ApprovalStatus
from assent.core.rows import RunStatus
from assent.storage.base import Change, Storage
from tests.storage.samples import NOON, approval, run, thread


def pending(approval_id: str, thread_id: str, **changes: Any) -> Any:
    return approval(
        approval_id, thread_id=thread_id, status=ApprovalStatus.PENDING, version=1, **changes
    )


async def test_an_empty_storage_has_nothing_to_do(storage: Storage) -> None:
    load = await storage.load()
    assert dict(load.runs) == {"pending": 0, "running": 0, "cancelling": 0}
    assert (load.pending, load.oldest) == (0, None)
    assert load.operations >= 0


async def test_what_waits_is_counted_and_what_is_erased_is_not(storage: Storage) -> None:
    before = (await storage.load()).commits
    commits = sum(before.counts)
    for name in ("t", "u"):
        await storage.commit(Change(rows=(thread(name, version=1),)))
    runs = (
        run("r1", thread_id="t", status=RunStatus.RUNNING, version=1),
        run("r2", thread_id="t", status=RunStatus.PENDING, version=1),
        run("r3", thread_id="u", status=RunStatus.PENDING, version=1),
        run("r4", thread_id="u", status=RunStatus.SUCCESS, version=1),
    )
    earlier = NOON - timedelta(hours=1)
    asked = (
        pending("a1", "t", requested_at=NOON),
        pending("a2", "u", requested_at=earlier),
        pending("a3", "u", requested_at=earlier),
        approval("a4", thread_id="t", status=ApprovalStatus.APPROVED, version=1),
    )
    await storage.commit(Change(rows=(*runs, *asked)))
    load = await storage.load()
    assert dict(load.runs) == {"pending": 2, "running": 1, "cancelling": 0}
    assert (load.pending, load.oldest) == (3, earlier)
    # Each of these waited for its own.
    assert sum(load.commits.counts) == sum(load.sizes.counts) >= commits + 3
    assert load.sizes.sum >= 3

    await storage.commit(Change(erase="u"))
    load = await storage.load()
    assert (load.pending, load.oldest) == (1, NOON)
