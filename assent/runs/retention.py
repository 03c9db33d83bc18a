"""The sweep: now and then, what is older than it may be is removed, and the room of what was
removed is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from assent.core.clock import Clock
from assent.core.rows import ThreadStatus
from assent.storage.base import Storage

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 60.0
"""Between two sweeps. One that finds nothing costs a few queries."""


THREADS_PER_STEP = 20
"""Threads whose checkpoints are pruned in one transaction."""

PAUSE_SECONDS = 0.01
"""Between two steps. It leaves the storage to the others for most of the time."""

ANSWERS_KEPT = timedelta(days=1)
"""How long a request that is sent again with its idempotency key gets the stored answer."""

OVERLAP = timedelta(minutes=5)
"""How far a sweep looks back behind the one before: a run's end is stored a moment after the time
that it bears."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long events are kept, and how many of a thread's latest checkpoints; None is for ever,
    and all."""

    events_ttl: timedelta | None = None
    checkpoints_keep: int | None = None


class Sweeper:
    """Sweeps, and remembers how far it has come."""

    def __init__(self, storage: Storage, retention: Retention, clock: Clock) -> None:
        self._storage = storage
        self._retention = retention
        self._clock = clock
        self._pruned_until: datetime | None = None

    async def sweep(self) -> None:
        """Remove what has had its time, and give the room back."""
        now = self._clock.now()
        if self._retention.events_ttl is not None:
            removed = await self._storage.remove_events(now - self._retention.events_ttl)
            if removed:
                log.info("old events removed", count=removed)
        if self._retention.checkpoints_keep is not None:
            await self._prune(self._retention.checkpoints_keep)
            self._pruned_until = now
        await self._storage.remove_answers(now - ANSWERS_KEPT)
        await self._storage.shrink()

    async def _prune(self, keep: int) -> None:
        """Prune the threads of which a run has ended since the last time; the first time, of which
        one ever has."""
        since = self._pruned_until - OVERLAP if self._pruned_until else None
        done: set[str] = set()
        cursor: str | None = None
        while True:
            page = await self._storage.ended_runs(since, limit=THREADS_PER_STEP, cursor=cursor)
            threads = {run.thread_id for run in page.rows} - done
            # A thread with an active run is at work on its checkpoints; it is found again when that
            # run has ended.
            at_rest = [
                thread_id for thread_id in sorted(threads) if not await self._is_busy(thread_id)
            ]
            if at_rest:
                await self._storage.prune_checkpoints(at_rest, keep)
                await asyncio.sleep(PAUSE_SECONDS)
            done |= threads
            cursor = page.next
            if cursor is None:
                return

    async def _is_busy(self, thread_id: str) -> bool:
        thread = await self._storage.thread(thread_id)
        return thread is not None and thread.status is ThreadStatus.BUSY


@asynccontextmanager
async def sweeping(
    storage: Storage, retention: Retention, *, clock: Clock, every: float = SWEEP_SECONDS
) -> AsyncIterator[None]:
    """Sweep at once, and again every so many seconds, until the context is left."""
    task = asyncio.create_task(
        _sweep_again_and_again(Sweeper(storage, retention, clock), every), name="sweeping"
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_again_and_again(sweeper: Sweeper, every: float) -> None:
    while True:
        try:
            await sweeper.sweep()
        except Exception:
            # A full disk, say. Nothing waits for the sweep, so it only says so, and tries again.
            log.exception("the sweep failed")
        await asyncio.sleep(every)
