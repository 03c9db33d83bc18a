"""The sweep: remove what has expired, and give its space back to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from assent.core.clock import Clock
from assent.core.errors import Unavailable
from assent.core.rows import ThreadStatus
from assent.storage.base import Storage, all_pages

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 60.0
"""The time between two sweeps. A sweep that finds nothing costs a few queries."""

THREADS_PER_STEP = 20
"""Threads whose checkpoints are pruned in one transaction."""

PAUSE_SECONDS = 0.01
"""The pause between two such transactions, so that the storage is free most of the time."""

ANSWERS_KEPT = timedelta(days=1)
"""A request that is repeated with its idempotency key gets the stored answer for this long."""

OVERLAP = timedelta(minutes=5)
"""Each sweep also looks at the runs that ended this long before the last one: a run's end is
committed a moment after the time that it carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The time for which events are kept, and the number of checkpoints that each thread keeps.
    None keeps them all."""

    events_ttl: timedelta | None = None
    checkpoints_keep: int | None = None


class Sweeper:
    """Sweeps, and remembers which runs it has seen."""

    def __init__(self, storage: Storage, retention: Retention, clock: Clock) -> None:
        self._storage = storage
        self._retention = retention
        self._clock = clock
        self._pruned_until: datetime | None = None

    async def sweep(self) -> None:
        """Remove what has expired."""
        now, retention = self._clock.now(), self._retention
        if retention.events_ttl is not None:
            removed = await self._storage.remove_events(now - retention.events_ttl)
            if removed:
                log.info("old events removed", count=removed)
        if retention.checkpoints_keep is not None:
            await self._prune(retention.checkpoints_keep)
            self._pruned_until = now
        await self._storage.remove_answers(now - ANSWERS_KEPT)
        await self._storage.shrink()

    async def _prune(self, keep: int) -> None:
        """Prune the threads on which a run has ended since the last sweep; in the first sweep, all
        on which one ever has."""
        since = self._pruned_until - OVERLAP if self._pruned_until else None
        seen: set[str] = set()
        ended = all_pages(self._storage.ended_runs, since=since, limit=THREADS_PER_STEP)
        async for runs in ended:
            threads = {run.thread_id for run in runs} - seen
            # A busy thread writes checkpoints. It comes again when its run has ended.
            idle = [
                thread_id for thread_id in sorted(threads) if not await self._is_busy(thread_id)
            ]
            if idle:
                await self._storage.prune_checkpoints(idle, keep)
                await asyncio.sleep(PAUSE_SECONDS)
            seen |= threads

    async def _is_busy(self, thread_id: str) -> bool:
        thread = await self._storage.thread(thread_id)
        return thread is not None and thread.status is ThreadStatus.BUSY


@asynccontextmanager
async def sweeping(
    storage: Storage, retention: Retention, *, clock: Clock, every: float = SWEEP_SECONDS
) -> AsyncIterator[None]:
    """Sweep at once, and again after each `every` seconds, until the context is left."""
    sweeper = Sweeper(storage, retention, clock)
    task = asyncio.create_task(_sweep_forever(sweeper, every), name="sweeping")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_forever(sweeper: Sweeper, every: float) -> None:
    while True:
        try:
            # If the storage is away, the engine says so in the log, and the next sweep tries again.
            with suppress(Unavailable):
                await sweeper.sweep()
        except Exception:
            log.exception("the sweep failed")
        await asyncio.sleep(every)
