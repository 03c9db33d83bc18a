"""Security events: each is an entry of the audit chain, a line of the log, and a count.

Whoever is refused could fill the chain with their attempts. So these are joined: the first of a
kind is noted at once, those that follow it once a minute with their number, and no more than
`MOST_A_MINUTE` entries in all.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import structlog

from assent.core.audit import AuditAction, AuditEntry, Authentication
from assent.core.clock import Clock
from assent.core.errors import AssentError
from assent.core.json import Json
from assent.runs.metrics import Metrics
from assent.storage.base import Change, Storage
from assent.storage.wrapped import told

log = structlog.get_logger(__name__)

EVENTS: Mapping[AuditAction, str] = {
    AuditAction.AUTH_FAILED: "authentication failed",
    AuditAction.REFUSED: "decision refused",
    AuditAction.SUPERSEDED: "approval superseded",
    AuditAction.KEY_MADE: "key made",
    AuditAction.KEY_REVOKED: "key revoked",
    AuditAction.SIGNED_IN: "signed in",
    AuditAction.SIGNED_OUT: "signed out",
}

LOGGED_ELSEWHERE = frozenset({AuditAction.SUPERSEDED})
"""The line of an approval says more (`log_lines.py`)."""

WARNINGS = frozenset({AuditAction.AUTH_FAILED, AuditAction.REFUSED})

MINUTE = 60.0
MOST_A_MINUTE = 60
"""The most entries of what was refused in a minute."""

MOST_WAITING = 1_000
"""The most kinds that wait to be noted. What comes beyond is joined with no name or address."""

LOOK_SECONDS = 1.0


class Refusal(NamedTuple):
    """A kind of what was refused: to be known, at an address; or a decision, to somebody, and
    `why`. Nothing in it is what they have sent."""

    action: AuditAction
    authentication: Authentication = Authentication.ASSENT
    actor: str = ""
    tenant: str | None = None
    address: str = ""
    thread_id: str = ""
    approval_id: str = ""
    why: str = ""

    def entry(self, clock: Clock, count: int) -> AuditEntry:
        """So many of them, as one entry."""
        detail: dict[str, Json] = {"count": count}
        detail |= {"address": self.address} if self.address else {}
        detail |= {"why": self.why} if self.why else {}
        return AuditEntry(
            at=clock.now(),
            action=self.action,
            authentication=self.authentication,
            actor=self.actor,
            tenant=self.tenant,
            thread_id=self.thread_id,
            approval_id=self.approval_id,
            detail=detail,
        )


class Refusals:
    """Notes what was refused in the audit chain. `now` is a monotonic clock."""

    def __init__(
        self, storage: Storage, clock: Clock, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._now = now
        self._waiting: Counter[Refusal] = Counter()
        self._written: dict[Refusal, float] = {}
        """The time of the last entry of each kind, as long as that is less than a minute ago."""
        self._some = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, storage: Storage, clock: Clock) -> AsyncIterator[Refusals]:
        """They are written while the context is entered, and what still waits at its end."""
        refusals = cls(storage, clock)
        writing = asyncio.create_task(refusals._write_on())
        try:
            yield refusals
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            refusals._written.clear()
            await refusals.write()

    def note(self, refusal: Refusal) -> None:
        """Have it written. This does not wait for the storage."""
        if refusal not in self._waiting and len(self._waiting) >= MOST_WAITING:
            refusal = Refusal(refusal.action, address="others")
        self._waiting[refusal] += 1
        self._some.set()

    async def write(self) -> None:
        """Write what is due."""
        now = self._now()
        self._written = {each: at for each, at in self._written.items() if now - at < MINUTE}
        due = [each for each in self._waiting if each not in self._written]
        due = due[: max(0, MOST_A_MINUTE - len(self._written))]
        counts = {each: self._waiting.pop(each) for each in due}
        if not counts:
            return
        entries = tuple(each.entry(self._clock, count) for each, count in counts.items())
        try:
            await self._storage.commit(Change(audit=entries))
        except AssentError:
            # The storage is away, and says so itself. They wait for its return.
            self._waiting.update(counts)
            return
        self._written |= dict.fromkeys(counts, now)

    async def _write_on(self) -> None:
        while True:
            await self._some.wait()
            await self.write()
            if not self._waiting:
                self._some.clear()
            else:
                await asyncio.sleep(LOOK_SECONDS)


def with_security_events(storage: Storage, metrics: Metrics) -> Storage:
    """The same storage, but the security events of each commit are logged and counted."""

    def learn(change: Change) -> None:
        for entry in change.audit:
            if entry.action in EVENTS:
                _tell(entry, metrics)

    return told(storage, learn)


def _tell(entry: AuditEntry, metrics: Metrics) -> None:
    event, count = EVENTS[entry.action], entry.detail.get("count", 1)
    assert isinstance(count, int)
    metrics.security_events[event] += count
    if entry.action in LOGGED_ELSEWHERE:
        return
    values = {
        "by": entry.actor,
        "thread_id": entry.thread_id,
        "approval_id": entry.approval_id,
        **{name: entry.detail.get(name) for name in ("key_id", "address", "why", "count")},
    }
    level = log.warning if entry.action in WARNINGS else log.info
    level(event, **{name: value for name, value in values.items() if value})
