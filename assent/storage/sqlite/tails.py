"""The newest events of each thread that somebody listens to, in memory, and the bells that ring for
them. All on the event loop.

A tail covers every event above its `base`, up to the newest that was delivered. Deliveries come in
commit order, so it has no gap; what was committed but not yet delivered will ring. That gives the
rule for reading without gap or duplicate: a reader whose cursor is at or above `base` reads here,
any other reads the file, and either may come next, since a cursor is a number and both hold the
same events under the same numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from assent.storage.base import LogEntry
from assent.storage.sqlite.log import StoredEvent

MAX_ENTRIES = 4096
MAX_BYTES = 1 << 20
"""What a tail may hold. A reader that falls further behind reads the file."""

RECENT_THREADS = 1000
RECENT_ENTRIES = 16
"""Of how many threads without a listener the last commit is remembered, and how many events of
it."""


class Bell:
    """One listener's doorbell. A ring is kept until the next `wait`, and a `wait` makes no task."""

    def __init__(self) -> None:
        self._rung = False
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        self._rung = True
        self._wake()

    def end(self) -> None:
        """Doorbell for the last time."""
        self._over = True
        self.ring()

    async def wait(self, timeout: float) -> bool:
        """Return at the next ring, or after `timeout` seconds; at once if it has rung since the
        last `wait`. False after the last ring."""
        if not self._rung and not self._over:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            alarm = loop.call_later(timeout, self._wake)
            try:
                await self._waiter
            finally:
                alarm.cancel()
                self._waiter = None
        self._rung = False
        return not self._over

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Tail:
    """The newest events of one thread. `base` is None as long as nobody knows where they begin."""

    def __init__(self) -> None:
        self.bells: set[Bell] = set()
        self.base: int | None = None
        self._entries: list[LogEntry] = []
        self._bytes = 0

    def prime(self, head: int) -> None:
        """Learn the thread's last number, read from the file since the tail was made: whatever is
        above it will be delivered here."""
        if self.base is None:
            self.base = head

    def add(self, entry: LogEntry) -> None:
        """Take the next event. If it does not follow the last one, the tail begins anew with it."""
        if self.base is None or entry.seq != self.base + len(self._entries) + 1:
            self.forget()
            self.base = entry.seq - 1
        self._entries.append(entry)
        self._bytes += len(entry.body)
        while len(self._entries) > MAX_ENTRIES or self._bytes > MAX_BYTES:
            self._drop_older_half()

    def forget(self) -> None:
        """Hold nothing, as when the thread was erased or its oldest events were removed."""
        self.base = None
        self._entries.clear()
        self._bytes = 0

    def covers(self, after: int) -> bool:
        """Whether everything above `after` is here, as far as it was delivered."""
        return self.base is not None and after >= self.base

    def read(
        self, after: int, limit: int, types: Collection[str] | None, run_id: str | None = None
    ) -> tuple[LogEntry, ...]:
        """The events above `after`, which must be covered; only those of the types and the run, if
        given."""
        assert self.base is not None
        start = after - self.base
        if types is None and run_id is None:
            return tuple(self._entries[start : start + limit])
        wanted = (
            entry
            for entry in self._entries[start:]
            if (types is None or entry.type in types) and (run_id is None or entry.run_id == run_id)
        )
        return tuple(islice(wanted, limit))

    def _drop_older_half(self) -> None:
        # By halves, so that dropping costs each event little and a read can find its place by
        # counting.
        assert self.base is not None
        count = (len(self._entries) + 1) // 2
        self._bytes -= sum(len(entry.body) for entry in self._entries[:count])
        del self._entries[:count]
        self.base += count


class Tails:
    """The tails of all threads that somebody listens to, and for the others what their last commit
    stored, with which a tail can begin."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}
        self._recent: dict[str, list[LogEntry]] = {}
        self._over = False

    def end(self) -> None:
        """Doorbell every bell for the last time."""
        self._over = True
        for tail in self._tails.values():
            for bell in tail.bells:
                bell.end()

    def get(self, thread_id: str) -> Tail | None:
        """The thread's tail, if anybody listens. Get it again after every await: it may have been
        dropped, or another made."""
        return self._tails.get(thread_id)

    @contextmanager
    def listen(self, thread_id: str) -> Iterator[Bell]:
        """A bell for the thread. Its tail lives as long as there is one."""
        tail = self._tails.get(thread_id) or self._begun(thread_id)
        bell = Bell()
        if self._over:
            bell.end()
        tail.bells.add(bell)
        try:
            yield bell
        finally:
            tail.bells.discard(bell)
            if not tail.bells:
                del self._tails[thread_id]

    def _begun(self, thread_id: str) -> Tail:
        tail = self._tails[thread_id] = Tail()
        for entry in self._recent.pop(thread_id, ()):
            tail.add(entry)
        return tail

    def store(self, stored: Sequence[StoredEvent]) -> None:
        """Keep what a commit has stored, then ring."""
        grown: set[str] = set()
        recent: dict[str, list[LogEntry]] = {}
        for thread_id, seq, run_id, type_, _, body in stored:
            tail = self._tails.get(thread_id)
            if tail is None:
                entries = recent.setdefault(thread_id, [])
                if not seq or len(entries) == RECENT_ENTRIES:
                    # What is left must follow the last one kept, so of too many, or after a
                    # removal, the newest are kept.
                    entries.clear()
                if seq:
                    entries.append(LogEntry(seq, type_, run_id, body))
            elif seq:
                tail.add(LogEntry(seq, type_, run_id, body))
                grown.add(thread_id)
            else:
                tail.forget()
                grown.add(thread_id)
        self._remember(recent)
        for thread_id in grown:
            for bell in self._tails[thread_id].bells:
                bell.ring()

    def _remember(self, recent: dict[str, list[LogEntry]]) -> None:
        # Whoever starts a run listens right after the commit that says so: this spares him a
        # question to the file.
        if len(self._recent) + len(recent) > RECENT_THREADS:
            self._recent.clear()
        self._recent.update(recent)
