"""To follow a thread: read the log past the cursor, yield, wait for the doorbell, read again. Every
transport is this loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, suppress

from assent.core.errors import Gone, NotFound, Unavailable
from assent.core.events import TERMINAL_TYPES
from assent.core.rows import UNFINISHED, Run
from assent.storage.base import Doorbell, LogEntry, Storage

POLL_SECONDS = 5.0
"""How long a lost ring can delay an event."""


async def follow(
    storage: Storage, thread_id: str, after: int = 0, *, types: Collection[str] | None = None
) -> AsyncGenerator[tuple[LogEntry, ...], None]:
    """The thread's events numbered above `after`, as batches in order, until the process is about
    to end. With `types`, only those.

    Raises `Gone` if events above `after` (or, of a reader that fell too far behind, above what it
    has had) were removed.
    """
    with storage.listen(thread_id) as ring:
        if types is not None:
            while entries := await storage.read_log(thread_id, after, types=types):
                after = entries[-1].seq
                yield entries
        # From here on every event is read, so that the cursor is where the reader is. One that
        # stood still at the last event of the wanted types would fall behind what retention
        # removes, though nothing was missed.
        is_over = False
        while True:
            # The doorbell is listened to before this read: what is written in between still rings.
            entries = await storage.read_log(thread_id, after)
            if entries:
                after = entries[-1].seq
                if (
                    wanted := entries
                    if types is None
                    else tuple(entry for entry in entries if entry.type in types)
                ):
                    yield wanted
            elif is_over:
                return
            else:
                is_over = not await ring.wait(POLL_SECONDS)


async def wait_for_run(storage: Storage, run: Run) -> Run:
    """The run, once it has ended or paused. Raises `NotFound` if it is removed meanwhile, and
    `Unavailable` if the process is about to end before."""
    with storage.listen(run.thread_id) as ring:
        is_last = False
        while True:
            # In this order: an end that is not in the row yet has a higher number.
            after = await storage.last_seq(run.thread_id)
            now = await storage.run(run.run_id)
            if now is None:
                raise NotFound(
                    f"The run '{run.run_id}' was removed with its thread before it had ended."
                )
            if now.status not in UNFINISHED:
                return now
            if is_last:
                raise Unavailable(
                    f"The server stops before the run has ended. It is kept: ask for GET /runs/{run.run_id}/wait when the server is back.",
                    run_id=run.run_id,
                )
            is_last = not await _until_it_may_be_over(storage, run, after, ring)


async def _until_it_may_be_over(storage: Storage, run: Run, after: int, ring: Doorbell) -> bool:
    """Whether there is anything to wait for after this."""
    with suppress(Gone):
        while await ring.wait(POLL_SECONDS):
            entries = await storage.read_log(run.thread_id, after)
            if not entries or any(
                entry.run_id == run.run_id and entry.type in TERMINAL_TYPES for entry in entries
            ):
                return True
            after = entries[-1].seq
        return False
    return True


async def replay_run(
    storage: Storage, run: Run, after: int
) -> AsyncGenerator[tuple[LogEntry, ...], None]:
    """The run's events above `after`, the past ones and then those to come, up to its end. Raises
    `Gone` as `follow` does."""
    newest = await storage.last_seq(run.thread_id)
    after = min(after, newest)
    now = await storage.run(run.run_id)
    is_over = now is None or now.status not in UNFINISHED
    while entries := await storage.read_log(run.thread_id, after, run_id=run.run_id):
        after = entries[-1].seq
        yield entries
        is_over = is_over or entries[-1].type in TERMINAL_TYPES
    if not is_over:
        async with aclosing(
            follow_run(storage, run.thread_id, run.run_id, max(after, newest))
        ) as batches:
            async for entries in batches:
                yield entries


async def follow_run(
    storage: Storage, thread_id: str, run_id: str, after: int
) -> AsyncGenerator[tuple[LogEntry, ...], None]:
    """The run's events above `after`, up to its end: its last event is the last one yielded. Others
    that are on the thread before it starts are left out."""
    async with aclosing(follow(storage, thread_id, after)) as batches:
        async for entries in batches:
            mine = tuple(entry for entry in entries if entry.run_id == run_id)
            end = next(
                (index for index, entry in enumerate(mine, 1) if entry.type in TERMINAL_TYPES), None
            )
            if mine:
                yield mine[:end]
            if end is not None:
                return
