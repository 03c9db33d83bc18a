"""The ledger of calls, as rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from assent.core.clock import Clock
from assent.core.errors import StaleLease
from assent.core.rows import EffectStatus, Lease, RunStatus
from assent.graph.closing import Finished, Started
from assent.graph.effects import EarlierEffect, EffectIntent, pack_outcome
from assent.runs.ledger import StoredEffects, StoredOutcomes
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import NOON, run, thread

INTENT = EffectIntent(key="k", tool="save", tool_call_id="c", message_id="m", digest="d")


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
            await late.begin(replace(INTENT, key="k2"))
        now = StoredEffects(storage, Clock(), "t", Lease("r", 2))
        assert await now.begin(INTENT) == EarlierEffect(outcome=None)
        await asyncio.gather(late.finish("k", {"by": "late"}), now.finish("k", {"by": "now"}))
        stored = await storage.effect("k")
        assert stored is not None
        assert (stored.status, stored.version) == (EffectStatus.FINISHED, 3)


async def test_an_outcome_is_that_of_the_last_start_of_the_message_that_asks(
    tmp_path: Path,
) -> None:
    """Whatever the clock shows: here each time is an hour before the last."""
    hours = count()
    clock = Clock(now=lambda: NOON - timedelta(hours=next(hours)))
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        was = run("r", thread_id="t", status=RunStatus.RUNNING, attempt=1)
        await storage.commit(Change(rows=(thread("t"), was)))
        effects = StoredEffects(storage, clock, "t", Lease("r", 1))
        outcomes = StoredOutcomes(storage, "t")
        assert await outcomes("c", "m") is None

        for number, message_id in enumerate(["earlier", "m", "m", ""]):
            key = f"{9 - number}"
            await effects.begin(replace(INTENT, key=key, message_id=message_id))
            told = await outcomes("c", "m")
            if message_id == "earlier":
                # A call of another message, by a provider that uses an id again.
                assert told is None
                continue
            assert told == Started()
            await effects.finish(key, pack_outcome(f"did {number}"))
            assert await outcomes("c", "m") == Finished(f"did {number}")
        assert await outcomes("c", "later") == Finished("did 3")
        assert await outcomes("d", "m") is None
