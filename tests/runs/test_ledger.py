"""The ledger of calls, as rows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from assent.core.clock import Clock
from assent.core.errors import StaleLease
from assent.core.rows import EffectStatus, Lease, RunStatus
from assent.graph.effects import EarlierEffect, EffectIntent
from assent.runs.ledger import StoredEffects
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import run, thread

INTENT = EffectIntent(key="k", tool="save", tool_call_id="c", digest="d")


async def test_a_worker_that_lost_its_run_does_not_keep_the_next_one_from_ending_the_same_call(
    tmp_path: Path,
) -> None:
    """An idempotent call, say, is made again while the worker that was thought gone is still at it.
    Both end, in any order."""
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        was = run("r", thread_id="t", status=RunStatus.RUNNING, attempt=1)
        await storage.commit(Change(rows=(thread("t"), was)))
        late = StoredEffects(storage, Clock(), "t", Lease("r", 1))
        assert await late.begin(INTENT) is None
        await storage.commit(
            Change(rows=(run("r", thread_id="t", status=RunStatus.RUNNING, attempt=2, version=2),))
        )
        with pytest.raises(StaleLease):
            await late.begin(EffectIntent(key="k2", tool="save", tool_call_id="c", digest="d"))
        now = StoredEffects(storage, Clock(), "t", Lease("r", 2))
        assert await now.begin(INTENT) == EarlierEffect(outcome=None)
        await asyncio.gather(late.finish("k", {"by": "late"}), now.finish("k", {"by": "now"}))
        stored = await storage.effect("k")
        assert stored is not None
        assert (stored.status, stored.version) == (EffectStatus.FINISHED, 3)
