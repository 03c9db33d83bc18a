"""Threads that go with their run: what a run that named no thread leaves is erased some time after
its end, unless it was to be kept.

In the change that ends such a run there is a timer, so a crash forgets none. Until it fires,
whoever was cut off can come back for the answer, and it is put off while somebody is still given
it. A run that asks a person has not ended: its thread stays until that was decided, and what went
on has ended too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import cast

from assent.core.clock import Clock
from assent.core.errors import Conflict
from assent.core.events import Done, Error, RunCancelled
from assent.core.rows import Thread, Timer
from assent.core.run_input import given_in
from assent.runs.follow import Batches
from assent.runs.transitions import erasure
from assent.storage.base import Change, Storage, runs_at
from assent.storage.wrapped import Wrapped

ERASE_TIMER = "erase"
"""The kind of the timer at which a thread is erased."""

KEPT = timedelta(minutes=1)
"""The time that a thread is kept after the end of its run, unless a setting says otherwise."""

STILL_READ = timedelta(seconds=1)
"""The time until the next look, while somebody is still given the answer."""

STILL_OWED = timedelta(minutes=10)
"""The time until the next look, while the thread has to tell somebody of its run, or may have to
answer for it again."""

ERASED_AT_ONCE = 8
"""Threads that are erased at the same time, so that nobody has to wait long for the storage."""

LAST_EVENTS = (Done, Error, RunCancelled)


def with_erase_timers(storage: Storage, clock: Clock, kept: timedelta) -> Storage:
    """The same storage, but each commit that ends a run whose thread goes with it also stores the
    timer for that."""
    return cast(Storage, _Timing(storage, clock, kept))


class _Timing(Wrapped):
    def __init__(self, inner: Storage, clock: Clock, kept: timedelta) -> None:
        super().__init__(inner)
        self._clock = clock
        self._kept = kept

    async def commit(self, change: Change) -> tuple[int, ...]:
        timers = tuple(self._timers(change))
        if timers:
            change = replace(change, rows=(*change.rows, *timers))
        return await self.inner.commit(change)

    def _timers(self, change: Change) -> Iterator[Timer]:
        # Those that pause have not ended.
        for run, _ in runs_at(change, LAST_EVENTS):
            if given_in(run.input).temporary:
                yield Timer(
                    timer_id=f"{ERASE_TIMER}:{run.run_id}",
                    kind=ERASE_TIMER,
                    due_at=self._clock.now() + self._kept,
                    thread_id=run.thread_id,
                    payload={"run_id": run.run_id},
                )


@dataclass(eq=False)
class Temporary:
    """Erases threads when their timers fire, and knows who is given an answer of one."""

    _storage: Storage
    _clock: Clock
    _readers: Counter[str] = field(default_factory=Counter)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ERASED_AT_ONCE))

    @contextmanager
    def read(self, thread_id: str) -> Iterator[None]:
        """Keep the thread until the context is left."""
        self._readers[thread_id] += 1
        try:
            yield
        finally:
            self._readers[thread_id] -= 1
            if not self._readers[thread_id]:
                del self._readers[thread_id]

    async def while_read(self, thread_id: str, batches: Batches) -> Batches:
        """The batches; the thread is kept until they have all been taken."""
        with self.read(thread_id):
            async with aclosing(batches):
                async for entries in batches:
                    yield entries

    async def fire(self, timer: Timer) -> None:
        """Erase the thread, put that off, or leave it to whoever has gone on with it. Raises
        `Conflict` if something has moved, and then the timer is still due."""
        async with self._room:
            thread = await self._storage.thread(timer.thread_id)
            if thread is None or thread.run_id not in (None, timer.payload["run_id"]):
                # It is another run's now, and nobody has asked to have that deleted.
                await self._storage.commit(Change(removed=(timer,)))
            elif timer.thread_id in self._readers:
                await self._put_off(timer, STILL_READ)
            else:
                await self._erase(thread, timer)

    async def _erase(self, thread: Thread, timer: Timer) -> None:
        erasing = Change(
            unchanged=(thread,),
            removed=(timer,),
            erase=thread.thread_id,
            if_idle=True,
            if_settled=True,
            audit=(erasure(thread, self._clock.now()),),
        )
        try:
            await self._storage.commit(erasing)
        except Conflict:
            await self._put_off(timer, STILL_OWED)

    async def _put_off(self, timer: Timer, wait: timedelta) -> None:
        due_at = self._clock.now() + wait
        later = replace(timer, due_at=due_at, version=timer.version + 1)
        await self._storage.commit(Change(rows=(later,)))
