"""The sweep: now and then, what is older than it may be is removed, and the room of what was removed is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from assent.checkpoint.contracts import Storage
from assent.clock import Clock

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 60.0
"""Between two sweeps. One that finds nothing costs a few queries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept; None is for ever."""

    events_ttl: timedelta | None = None


async def sweep(storage: Storage, retention: Retention, clock: Clock) -> None:
    """Remove what has had its time, and give the room back."""
    if retention.events_ttl is not None:
        removed = await storage.remove_events(clock.now() - retention.events_ttl)
        if removed:
            log.info("old events removed", count=removed)
    await storage.shrink()


@asynccontextmanager
async def sweeping(storage: Storage, retention: Retention, *, clock: Clock, every: float = SWEEP_SECONDS) -> AsyncIterator[None]:
    """Sweep at once, and again every so many seconds, until the context is left."""
    task = asyncio.create_task(_sweep_again_and_again(storage, retention, clock, every), name="sweeping")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _sweep_again_and_again(storage: Storage, retention: Retention, clock: Clock, every: float) -> None:
    while True:
        try:
            await sweep(storage, retention, clock)
        except Exception:
            # A full disk, say. Nothing waits for the sweep, so it only says so, and tries again.
            log.exception("the sweep failed")
        await asyncio.sleep(every)
