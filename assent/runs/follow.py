"""To follow a thread: read the log past the cursor, yield, wait for the doorbell, read again. Every transport is this loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from assent.checkpoint.contracts import LogEntry, Storage
from assent.events import TERMINAL_TYPES

POLL_SECONDS = 5.0
"""How long a lost ring can delay an event."""


async def follow(
    storage: Storage, thread_id: str, after: int = 0, *, types: Collection[str] | None = None
) -> AsyncGenerator[tuple[LogEntry, ...], None]:
    """The thread's events numbered above `after`, as batches in order, without end. With `types`, only those.

    Raises `Gone` if events above `after` (or, of a reader that fell too far behind, above what it has had) were removed.
    """
    with storage.listen(thread_id) as ring:
        if types is not None:
            while entries := await storage.read_log(thread_id, after, types=types):
                after = entries[-1].seq
                yield entries
        # From here on every event is read, so that the cursor is where the reader is. One that stood still at the last event of the
        # wanted types would fall behind what retention removes, though nothing was missed.
        while True:
            # The doorbell is listened to before this read: what is written in between still rings.
            entries = await storage.read_log(thread_id, after)
            if entries:
                after = entries[-1].seq
                if wanted := entries if types is None else tuple(entry for entry in entries if entry.type in types):
                    yield wanted
            else:
                await ring.wait(POLL_SECONDS)


async def follow_run(storage: Storage, thread_id: str, run_id: str, after: int) -> AsyncGenerator[tuple[LogEntry, ...], None]:
    """The run's events above `after`, up to its end: its last event is the last one yielded. Others that are on the thread before it starts
    are left out."""
    async with aclosing(follow(storage, thread_id, after)) as batches:
        async for entries in batches:
            mine = tuple(entry for entry in entries if entry.run_id == run_id)
            end = next((index for index, entry in enumerate(mine, 1) if entry.type in TERMINAL_TYPES), None)
            if mine:
                yield mine[:end]
            if end is not None:
                return
