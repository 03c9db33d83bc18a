"""Tails: the newest events of each thread that has a listener, in memory, and the bells that ring
for the listeners. All on the event loop.

A tail has every event above its `base`, up to the newest that was delivered. Deliveries come in the
order of commits, so a tail has no gap, and whatever is committed but not yet delivered will ring.
So a reader whose cursor is at or above `base` reads the tail, and any other reads the file. It can
switch from one to the other without a gap or a duplicate, because its cursor is a number, and both
have the same events under the same numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from assent.storage.base import LogEntry
from assent.storage.sqlite.log import ERASED, StoredEvent

MAX_ENTRIES = 4096
MAX_BYTES = 1 << 20
"""The most that a tail may hold. A reader that falls further behind reads the file."""

RECENT_THREADS = 1000
RECENT_ENTRIES = 16
"""The number of threads without a listener whose last commit is remembered, and the number of
events of each."""

ALL_BYTES = 64 << 20
"""The most that all tails and remembered commits may hold together: a full tail of 64 threads, or
the last 20 seconds of 10,000 tokens a second. Whatever is not held is read from the file."""


ALARM_SECONDS = 0.002
"""Timers of an event loop are no more exact than this."""


class Bell:
    """One listener's doorbell. A ring is kept until the next `wait`, and a `wait` makes no task."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._seen = tail.total
        self._erasures = tail.erasures
        self._rung = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def behind(self) -> int:
        """The bytes of the events that came since `wait` returned last."""
        return self._tail.total - self._seen

    @property
    def is_waiting(self) -> bool:
        """True amid a `wait`, as long as nothing has rung."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def is_erased(self) -> bool:
        """True if the thread was erased since there is this bell."""
        return self._tail.erasures != self._erasures

    def ring(self) -> None:
        """Ring this one bell."""
        self._rung = True
        self._wake()

    def end(self) -> None:
        """Ring for the last time."""
        self._ended = True
        self.ring()

    async def wait(self, timeout: float) -> bool:
        """Return at the next ring, or after `timeout` seconds; at once if it has rung since the
        last `wait`. False after the last ring."""
        if not self._rung and not self._ended:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            self._set_alarm(loop, loop.time() + timeout)
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._rung = False
        self._seen = self._tail.total
        return not self._ended

    def close(self) -> None:
        """Let go of the event loop. Nobody waits any more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _set_alarm(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self._deadline = deadline
        # One that is set already and rings before it is set again then: a token that comes sets
        # none, which was half of the cost of waiting for it.
        if self._alarm is None or self._alarm.when() > deadline:
            self.close()
            self._alarm = loop.call_at(deadline, self._on_alarm, loop)

    def _on_alarm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        if self._waiter is None:
            return
        if loop.time() >= self._deadline - ALARM_SECONDS:
            self._wake()
        else:
            self._set_alarm(loop, self._deadline)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Tail:
    """The newest events of one thread. `base` is None until it is known where they begin; `size`
    counts the bytes of the events, and `total` those of all that were ever added. `erasures` counts
    how often the thread was erased."""

    def __init__(self) -> None:
        self.bells: set[Bell] = set()
        self.base: int | None = None
        self.size = 0
        self.total = 0
        self.erasures = 0
        self._entries: list[LogEntry] = []

    def prime(self, last: int) -> None:
        """Begin behind the thread's last number, which was read from the file since the tail was
        made: every event above it will be delivered here."""
        if self.base is None:
            self.base = last

    def add(self, entry: LogEntry) -> None:
        """Add the next event. If it does not follow the last one, the tail begins anew with it."""
        if self.base is None or entry.seq != self.base + len(self._entries) + 1:
            self.forget()
            self.base = entry.seq - 1
        self._entries.append(entry)
        self.size += len(entry.body)
        self.total += len(entry.body)
        while len(self._entries) > MAX_ENTRIES or self.size > MAX_BYTES:
            self.drop_older_half()

    def forget(self) -> None:
        """Drop everything, because the thread was erased or its oldest events were removed."""
        self.base = None
        self._entries.clear()
        self.size = 0

    def covers(self, after: int) -> bool:
        """True if every event above `after` is here, as far as it was delivered."""
        return self.base is not None and after >= self.base

    def read(
        self,
        after: int,
        limit: int,
        types: Collection[str] | None,
        run_id: str | None,
        most_bytes: int,
    ) -> tuple[LogEntry, ...]:
        """Return the events above `after`, which must be covered: only those of the types and the
        run, if given, and the first ones that have no more than `most_bytes`, but at least one."""
        assert self.base is not None
        start = after - self.base
        if types is None and run_id is None:
            found = tuple(self._entries[start : start + limit])
        else:
            wanted = (
                entry
                for entry in self._entries[start:]
                if (types is None or entry.type in types)
                and (run_id is None or entry.run_id == run_id)
            )
            found = tuple(islice(wanted, limit))
        return found if self.size <= most_bytes else _first(found, most_bytes)

    def drop_older_half(self) -> None:
        """Drop the older half of the events, if there are any.

        By halves, so that each event costs little to drop, and a read finds its place by counting.
        """
        if self.base is None:
            return
        count = (len(self._entries) + 1) // 2
        self.size -= sum(len(entry.body) for entry in self._entries[:count])
        del self._entries[:count]
        self.base += count


def _first(entries: tuple[LogEntry, ...], most_bytes: int) -> tuple[LogEntry, ...]:
    """The first entries that have no more than so many bytes, but at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.body)
        if count and size > most_bytes:
            return entries[:count]
    return entries


class Tails:
    """The tails of all threads that have a listener. Of the others, the last commit is remembered,
    so that a tail can begin with it."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}
        self._recent: dict[str, list[LogEntry]] = {}
        # Never less than what is held: what was dropped is subtracted when all is counted anew.
        self._size = 0
        self._ended = False

    def end(self) -> None:
        """Ring every bell for the last time."""
        self._ended = True
        for tail in self._tails.values():
            for bell in tail.bells:
                bell.end()

    def get(self, thread_id: str) -> Tail | None:
        """Return the thread's tail, if it has a listener. Get it again after every await: it may
        have been dropped, or another made."""
        return self._tails.get(thread_id)

    @contextmanager
    def listen(self, thread_id: str) -> Iterator[Bell]:
        """A bell for the thread. The thread's tail lives as long as it has one."""
        tail = self._tails.get(thread_id)
        if tail is None:
            tail = self._tails[thread_id] = Tail()
            for entry in self._recent.pop(thread_id, ()):
                tail.add(entry)
        bell = Bell(tail)
        if self._ended:
            bell.end()
        tail.bells.add(bell)
        try:
            yield bell
        finally:
            bell.close()
            tail.bells.discard(bell)
            if not tail.bells:
                del self._tails[thread_id]

    def store(self, stored: Sequence[StoredEvent]) -> None:
        """Keep the events of a commit, then ring."""
        changed: set[str] = set()
        recent: dict[str, list[LogEntry]] = {}
        for thread_id, seq, run_id, type_, _, body in stored:
            self._size += len(body)
            tail = self._tails.get(thread_id)
            if tail is None:
                entries = recent.setdefault(thread_id, [])
                # Kept entries must follow each other: after a removal, or one too many, they begin
                # anew.
                if not seq or len(entries) == RECENT_ENTRIES:
                    entries.clear()
                if seq:
                    entries.append(LogEntry(seq, type_, run_id, body))
                continue
            changed.add(thread_id)
            if seq:
                tail.add(LogEntry(seq, type_, run_id, body))
            else:
                tail.forget()
                tail.erasures += type_ == ERASED
        self._remember(recent)
        if self._size > ALL_BYTES:
            self._shrink()
        for thread_id in changed:
            for bell in self._tails[thread_id].bells:
                bell.ring()

    def _remember(self, recent: dict[str, list[LogEntry]]) -> None:
        # A client that starts a run listens right after the commit of its start. With what is
        # remembered it need not query the file.
        if len(self._recent) + len(recent) > RECENT_THREADS:
            self._recent.clear()
        self._recent.update(recent)

    def _shrink(self) -> None:
        """Count what is held, and if it is too much, drop the recent commits, and the older halves
        of the tails until half of all room is free."""
        self._size = self._held()
        if self._size <= ALL_BYTES * 3 // 4:
            return
        self._recent.clear()
        while (size := self._held()) > ALL_BYTES // 2:
            for tail in self._tails.values():
                tail.drop_older_half()
        self._size = size

    def _held(self) -> int:
        recent = sum(len(entry.body) for entries in self._recent.values() for entry in entries)
        return recent + sum(tail.size for tail in self._tails.values())
