"""Follow a thread: read the log past the cursor, yield, wait for the doorbell, read again.

Every transport is this loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, suppress
from typing import Literal

from assent.core.errors import Gone, NotFound, Unavailable
from assent.core.events import TERMINAL_TYPES, RunPaused, decode
from assent.core.rows import UNFINISHED, Run
from assent.storage.base import Doorbell, LogEntry, Storage

POLL_SECONDS = 5.0
"""The longest delay of an event whose ring was lost."""

STALL_SECONDS = 10.0
"""The storage may be away for so long before whoever waits for a run is told so. It leaves time for
a backup, and no client gives up before it."""

PAGE_BYTES = 256 << 10
"""The most bytes that are read at once for a reader, unless a single event has more."""

Batches = AsyncGenerator[tuple[LogEntry, ...], None]
"""Events of a log as they are read, some at a time."""


class Following:
    """A log that is read from a cursor on.

    `after` is the last number that was read. `types` may be set while the log is followed, and hold
    from the next event on. `ended` says why it ended: somebody stopped it, or the server stops.
    """

    def __init__(
        self,
        storage: Storage,
        log_id: str,
        after: int = 0,
        *,
        types: Collection[str] | None = None,
        poll: float = POLL_SECONDS,
        most_bytes: int = PAGE_BYTES,
    ) -> None:
        self.storage = storage
        self.log_id = log_id
        self.after = after
        self.types = None if types is None else frozenset(types)
        self.ended: Literal["", "stopped", "stopping"] = ""
        self._poll = poll
        self._most_bytes = most_bytes

    def stop(self) -> None:
        """End `batches` at its next wait."""
        raise NotImplementedError

    def batches(self) -> Batches:
        """The events, until it is stopped. A batch is empty after `poll` seconds without an event,
        and whenever the log rings for nothing."""
        raise NotImplementedError


async def follow(
    storage: Storage, thread_id: str, after: int = 0, *, types: Collection[str] | None = None
) -> Batches:
    """The thread's events numbered above `after`, in order, until the process is about to end. With
    `types`, only those.

    Raises `Gone` if events above `after` were removed, or events that a slow reader has not read
    yet.
    """
    with storage.listen(thread_id) as doorbell:
        if types is not None:
            while entries := await storage.read_log(thread_id, after, types=types):
                after = entries[-1].seq
                yield entries

        # From here on every event is read, so that the cursor moves with the log. A cursor that
        # stays at the last event of the wanted types would fall behind what retention removes,
        # though nothing was missed.
        stopping = False
        while True:
            # The doorbell was taken before this read, so what is written meanwhile rings.
            entries = await storage.read_log(thread_id, after)
            if entries:
                after = entries[-1].seq
                if types is not None:
                    entries = tuple(entry for entry in entries if entry.type in types)
                if entries:
                    yield entries
            elif stopping:
                return
            else:
                stopping = not await doorbell.wait(POLL_SECONDS)


async def wait_for_run(storage: Storage, run: Run) -> Run:
    """The run once it has ended or paused. Raises `NotFound` if it is removed before that, and
    `Unavailable` if the process is about to end, or the storage is away for long."""
    with storage.listen(run.thread_id) as doorbell:
        stopping = False
        while True:
            # In this order: an end that is not in the row yet has a higher number.
            after = await storage.last_seq(run.thread_id)
            stored = await storage.run(run.run_id)
            if stored is None:
                raise NotFound(
                    f"The run '{run.run_id}' was removed with its thread before it had ended."
                )
            if stored.status not in UNFINISHED:
                return stored
            if stopping:
                raise Unavailable(
                    "The server stops before the run has ended. It is kept: "
                    f"ask for GET /runs/{run.run_id}/wait when the server is back.",
                    run_id=run.run_id,
                )
            outage = storage.outage()
            if outage is not None and outage.seconds > STALL_SECONDS:
                raise Unavailable(
                    f"{outage.reason} The run is kept, and goes on when the storage is back: "
                    f"ask for GET /runs/{run.run_id}/wait then.",
                    run_id=run.run_id,
                )
            stopping = not await _wait_for_news(storage, run, after, doorbell)


async def _wait_for_news(storage: Storage, run: Run, after: int, doorbell: Doorbell) -> bool:
    """Wait until the run may have ended. Returns False if the process is about to end."""
    with suppress(Gone):
        while await doorbell.wait(POLL_SECONDS):
            entries = await storage.read_log(run.thread_id, after)
            if not entries:
                # Nothing rang. Check the row, in case a ring was lost.
                return True
            if _followed(run.run_id, entries)[1] != run.run_id:
                return True
            after = entries[-1].seq
        return False
    return True


async def wait_for_rest(storage: Storage, run: Run) -> Run:
    """The run that ended or paused last: this one, or one that went on at once because standing
    grants had answered. Raises as `wait_for_run` does."""
    last = await wait_for_run(storage, run)
    while last.next_run is not None:
        going_on = await storage.run(last.next_run)
        if going_on is None:
            break
        last = await wait_for_run(storage, going_on)
    return last


async def replay_run(storage: Storage, run: Run, after: int) -> Batches:
    """The events above `after` that `follow_run` yields, past and to come. Raises `Gone` as
    `follow` does."""
    newest = await storage.last_seq(run.thread_id)
    after = min(after, newest)
    run_id: str | None = run.run_id
    while run_id is not None:
        # Read before the log, which has all events of a run that has ended.
        stored = await storage.run(run_id)
        ended = stored is None or stored.status not in UNFINISHED
        going_on = stored.next_run if stored else None
        while entries := await storage.read_log(run.thread_id, after, run_id=run_id):
            after = entries[-1].seq
            yield entries
            if entries[-1].type in TERMINAL_TYPES:
                ended, going_on = True, _next_run(entries[-1])
        if not ended:
            break
        run_id = going_on

    if run_id is not None:
        batches = follow_run(storage, run.thread_id, run_id, max(after, newest))
        async with aclosing(batches):
            async for entries in batches:
                yield entries


async def follow_run(storage: Storage, thread_id: str, run_id: str, after: int) -> Batches:
    """The run's events above `after`, until it ends. Its last event is the last one yielded. Events
    of other runs on the thread are left out.

    If the run pauses and standing grants answer at once, the events of the run that goes on
    follow.
    """
    async with aclosing(follow(storage, thread_id, after)) as batches:
        async for batch in batches:
            entries, following = _followed(run_id, batch)
            if entries:
                yield entries
            if following is None:
                return
            run_id = following


def _followed(
    run_id: str, entries: tuple[LogEntry, ...]
) -> tuple[tuple[LogEntry, ...], str | None]:
    """The entries of the run, and of those that go on where it paused; and the run to follow after
    them, None if that has ended."""
    followed: list[LogEntry] = []
    for entry in entries:
        if entry.run_id != run_id:
            continue
        followed.append(entry)
        if entry.type in TERMINAL_TYPES:
            going_on = _next_run(entry)
            if going_on is None:
                return tuple(followed), None
            run_id = going_on
    return tuple(followed), run_id


def _next_run(last: LogEntry) -> str | None:
    """The run that goes on after this last event of a run, if any."""
    event = decode(last.body) if last.type == "run_paused" else None
    return event.next_run or None if isinstance(event, RunPaused) else None
