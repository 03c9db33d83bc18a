"""Runs that a program makes by itself, beside a server that shows them.

Only their events are stored, as those of any thread. They have no rows: no engine takes them over,
and nobody decides here what they ask.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, suppress
from copy import copy
from dataclasses import replace

import structlog
from msgspec import structs

from assent.core.access import Owner
from assent.core.audit import LOCAL
from assent.core.clock import Clock
from assent.core.errors import Conflict, InvalidRequest
from assent.core.events import Event
from assent.core.metadata import OBSERVED
from assent.core.remembered import Remembered
from assent.runs.transitions import new_thread
from assent.storage.base import Change, Storage

log = structlog.get_logger(__name__)

KNOWN = 10_000
"""The runs that are found by their ids, those of last."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Observed:
    """The runs that programs make, by their ids."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._threads: Remembered[str] = Remembered(KNOWN)

    def seen_by(self, storage: Storage) -> Observed:
        """The same runs, read from this storage."""
        seen = copy(self)
        seen._storage = storage
        return seen

    def thread_of(self, run_id: str) -> str | None:
        """The thread whose log has the run's events; None for a run that was not observed."""
        return self._threads.get(run_id)

    async def begin(self, first: Event) -> Observation:
        """Observe the run that begins with this event. Its thread is there then: one with the id
        that the event names, if an id may be like that, and else with the run's.

        Raises `InvalidRequest` for a thread of the server's own.
        """
        possible = (id for id in (first.thread_id, first.run_id) if _ID.fullmatch(id))
        thread_id = next(possible, None) or self._clock.new_id()
        await self._have(thread_id)
        self._threads.put(first.run_id, thread_id)
        return Observation(self._storage, self._clock, thread_id, first.run_id)

    async def _have(self, thread_id: str) -> None:
        """Make the thread, unless it is there."""
        thread = await self._storage.thread(thread_id)
        if thread is None:
            made = new_thread(thread_id, Owner(LOCAL), {OBSERVED: True}, self._clock.now())
            try:
                await self._storage.commit(Change(rows=(made,)))
                return
            except Conflict:
                thread = await self._storage.thread(thread_id)
        if thread is None or not thread.metadata.get(OBSERVED):
            raise InvalidRequest(
                f"The thread '{thread_id}' is the server's own, and shows no other runs. Give your "
                "run a thread_id of its own."
            )


class Observation:
    """The storing of a run's events in the log of a thread, until it is closed. What fails is
    logged once, and then nothing more is stored. It belongs to the event loop of its storage."""

    def __init__(self, storage: Storage, clock: Clock, thread_id: str, run_id: str) -> None:
        self.run_id = run_id
        self._storage = storage
        self._clock = clock
        self._thread_id = thread_id
        self._listening = ExitStack()
        self._doorbell = self._listening.enter_context(storage.listen(thread_id))
        self._has_failed = False

    def store(self, event: Event) -> None:
        """Store the event behind those before. Of a thread that was erased nothing is stored."""
        if not (self._has_failed or self._doorbell.is_erased):
            # A copy: the log gives it a number.
            copied = structs.replace(event, thread_id=self._thread_id)
            self._storage.append((copied,), self._fail)

    async def close(self) -> None:
        """Note that the thread was used until now. Returns once all events are stored."""
        with self._listening:
            thread = await self._storage.thread(self._thread_id)
            if thread is None:
                return
            used = replace(thread, updated_at=self._clock.now(), version=thread.version + 1)
            # Another run may have been faster.
            with suppress(Conflict):
                await self._storage.commit(Change(rows=(used,)))

    def _fail(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.error(
                "a run of the program is shown no further", run_id=self.run_id, exc_info=error
            )
