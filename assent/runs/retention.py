"""The sweep: remove what has expired, and give its space back to the disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from assent.core.background import background
from assent.core.clock import Clock
from assent.core.errors import Conflict, Unavailable
from assent.core.rows import NotificationStatus, Thread
from assent.core.settled_clock import SettledClock
from assent.runs.budgets import PERIODS
from assent.runs.transitions import erasure
from assent.runs.uploads import Uploads
from assent.storage.base import Change, Storage, all_pages

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 60.0
"""The most time between two sweeps. One that finds nothing costs a few queries."""

SETTLED_SECONDS = 600.0
"""The time for which the clock must not have been set forward before anything is removed by it. It
is enough for a wrong clock to be noticed and set right, by NTP or by somebody. Where things are
kept for less, it is as long as they are kept."""

THREADS_PER_STEP = 20
"""Threads whose checkpoints are pruned, or that are erased, in one transaction."""

PAUSE_SECONDS = 0.01
"""The pause between two such transactions, so that the storage is free most of the time."""

UPLOADS_SECONDS = 3600.0
"""The least time between two looks for unused uploads, which go through all old ones."""

ANSWERS_KEPT = timedelta(days=1)
"""A request that is repeated with its idempotency key gets the stored answer for this long."""

OVER_KEPT = timedelta(days=30)
"""Standing grants and links that are over can be looked at for this long; the audit chain has what
became of them. As long, notifications wait for an endpoint that is not configured."""

NOTIFICATIONS_KEPT = {
    NotificationStatus.DELIVERED: timedelta(days=7),
    NotificationStatus.DEAD: timedelta(days=30),
}

LONGEST_WINDOW = max(PERIODS.values())
"""The longest window of a budget: when runs were, of which only the usage is left, is known for so
long."""

OVERLAP = timedelta(minutes=5)
"""Each sweep also looks at the runs that ended this long before the last one: a run's end is
committed a moment after the time that it carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The time for which idle threads are kept, that for which events are, and the number of
    checkpoints that each thread keeps. None keeps them all. `endpoints` are those that there are:
    what has waited long for another one is removed, unless this is None."""

    threads_ttl: timedelta | None = None
    events_ttl: timedelta | None = None
    checkpoints_keep: int | None = None
    endpoints: frozenset[str] | None = None

    @property
    def shortest_seconds(self) -> float:
        """The shortest time for which anything is kept."""
        kept = [ANSWERS_KEPT, *(ttl for ttl in (self.threads_ttl, self.events_ttl) if ttl)]
        return min(kept).total_seconds()


class Sweeper:
    """Sweeps, and remembers which runs it has seen."""

    def __init__(
        self,
        storage: Storage,
        retention: Retention,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        uploads: Uploads | None = None,
    ) -> None:
        settled_seconds = min(SETTLED_SECONDS, retention.shortest_seconds)
        self._storage = storage
        self._retention = retention
        self._clock = clock
        self._settled = SettledClock(clock.now, settled_seconds, monotonic)
        self._uploads = uploads
        self._monotonic = monotonic
        self._uploads_due = 0.0
        self._pruned_until: datetime | None = None

    async def sweep(self) -> None:
        """Remove what has expired; by age, only what a settled clock says is old."""
        settled = self._settled.look()
        if settled is not None:
            await self._remove_old(settled)
        if self._retention.checkpoints_keep is not None:
            now = self._clock.now()
            await self._prune(self._retention.checkpoints_keep)
            self._pruned_until = now

    async def _remove_old(self, now: datetime) -> None:
        storage, retention = self._storage, self._retention
        await storage.remove_answers(now - ANSWERS_KEPT)
        if retention.threads_ttl is not None:
            await self._remove_threads(now, retention.threads_ttl)
        if retention.events_ttl is not None:
            removed = await storage.remove_events(now - retention.events_ttl)
            if removed:
                log.info("old events removed", count=removed)
        await storage.remove_grants(now - OVER_KEPT)
        await storage.remove_links(now - OVER_KEPT)
        await storage.remove_sign_ins(now)
        await storage.remove_items(now)
        if self._uploads is not None and self._monotonic() >= self._uploads_due:
            await self._uploads.remove_unused(now)
            self._uploads_due = self._monotonic() + UPLOADS_SECONDS
        await storage.forget_times_of_usage(now - LONGEST_WINDOW)
        for status, kept in NOTIFICATIONS_KEPT.items():
            await self._remove_notifications(status, now - kept)
        if retention.endpoints is not None:
            pending = NotificationStatus.PENDING
            await self._remove_notifications(pending, now - OVER_KEPT, retention.endpoints)

    async def _remove_notifications(
        self, status: NotificationStatus, before: datetime, other_than: Collection[str] = ()
    ) -> None:
        removed = 1
        while removed:
            removed = await self._storage.remove_notifications(
                status, before, other_than=other_than
            )
            await asyncio.sleep(PAUSE_SECONDS)

    # ── threads ──

    async def _remove_threads(self, now: datetime, ttl: timedelta) -> None:
        """Erase the threads that have been idle for so long, and remove the old runs of the
        others."""
        erased = 0
        pages = all_pages(self._storage.idle_threads, since=now - ttl, limit=THREADS_PER_STEP)
        async for threads in pages:
            erased += sum(await asyncio.gather(*map(self._erase, threads)))
            await asyncio.sleep(PAUSE_SECONDS)
        if erased:
            log.info("idle threads erased", count=erased)
        # A repeated request may still be told of its run.
        removed = await self._storage.remove_runs(now - max(ttl, ANSWERS_KEPT))
        if removed:
            log.info("old runs removed", count=removed)
        await self._storage.remove_events(now - ttl, feeds_only=True)

    async def _erase(self, thread: Thread) -> bool:
        """Erase the thread, unless something has begun on it."""
        entry = erasure(thread, self._clock.now())
        # A message that is queued for later does not move the thread, and is found by `if_idle`.
        change = Change(unchanged=(thread,), erase=thread.thread_id, if_idle=True, audit=(entry,))
        try:
            await self._storage.commit(change)
        except Conflict:
            return False
        return True

    # ── checkpoints ──

    async def _prune(self, keep: int) -> None:
        """Prune the threads on which a run has ended since the last sweep; in the first sweep, all
        on which one ever has."""
        since = self._pruned_until - OVERLAP if self._pruned_until else None
        seen: set[str] = set()
        ended = all_pages(self._storage.ended_runs, since=since, limit=THREADS_PER_STEP)
        async for runs in ended:
            threads = {run.thread_id for run in runs} - seen
            if threads:
                # One that another run has by now is left, and comes again when that has ended.
                await self._storage.prune_checkpoints(sorted(threads), keep)
                await asyncio.sleep(PAUSE_SECONDS)
            seen |= threads


@asynccontextmanager
async def sweeping(
    storage: Storage,
    retention: Retention,
    *,
    clock: Clock,
    every: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    uploads: Uploads | None = None,
) -> AsyncIterator[None]:
    """Sweep at once, and again after each `every` seconds, until the context is left. By default
    that is once a minute, or more often where things are kept for less than that."""
    if every is None:
        every = min(SWEEP_SECONDS, max(1.0, retention.shortest_seconds))
    sweeper = Sweeper(storage, retention, clock, monotonic, uploads)
    async with background(_sweep_forever(sweeper, storage, every), name="sweeping"):
        yield


async def _sweep_forever(sweeper: Sweeper, storage: Storage, every: float) -> None:
    while True:
        try:
            # If the storage is away, the engine says so in the log, and the next sweep tries again.
            with suppress(Unavailable):
                await sweeper.sweep()
                await storage.shrink()
        except Exception:
            log.exception("the sweep failed")
        await asyncio.sleep(every)
