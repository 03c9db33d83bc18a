"""What everything durable promises: the rows, the change, and the storage they go through.

A *row* is a frozen value with a `version`. To write one, hand `Storage.commit` a copy whose version
is one more than the stored row's (1 for a new row): the write happens only if nobody else was
faster. A *change* names every row and event that belongs together; it is applied whole or not at
all. The logic that makes a change is a pure function of what was read, so when `commit` raises
`Conflict` it reads again and runs again.

Events are numbered per thread inside the transaction that stores them, and are shown to nobody
before it has committed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver

from assent.core.events import Event
from assent.core.rows import (
    Answer,
    Approval,
    ApprovalStatus,
    AuditEntry,
    AuditHead,
    AuditRecord,
    Effect,
    Lease,
    Link,
    Notification,
    NotificationStatus,
    Row,
    Run,
    RunStatus,
    Schedule,
    StandingGrant,
    Thread,
    ThreadStatus,
    Timer,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What belongs together. `rows` are written; `unchanged` were read, and must not have moved;
    `removed` were read, and are removed if they have not moved; `events` are stored and numbered in
    order; `audit` is added to the audit chain, in order; `erase` names a thread whose rows, events
    and checkpoints are all removed (its numbering is not: a number is never used twice; nor are its
    audit records). With a `lease`, nothing is done unless it still holds."""

    rows: tuple[Row, ...] = ()
    unchanged: tuple[Row, ...] = ()
    removed: tuple[Row, ...] = ()
    events: tuple[Event, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    erase: str | None = None
    lease: Lease | None = None


def together(*changes: Change) -> Change:
    """All of them in one, in their order."""
    written = {_identity(row) for change in changes for row in change.rows}
    return Change(
        rows=tuple(row for change in changes for row in change.rows),
        # What one of them writes, that one has checked.
        unchanged=tuple(
            row for change in changes for row in change.unchanged if _identity(row) not in written
        ),
        removed=tuple(row for change in changes for row in change.removed),
        events=tuple(event for change in changes for event in change.events),
        audit=tuple(entry for change in changes for entry in change.audit),
        erase=next((change.erase for change in changes if change.erase is not None), None),
        lease=next((change.lease for change in changes if change.lease is not None), None),
    )


def _identity(row: Row) -> tuple[type, str]:
    key = next(iter(type(row).__annotations__))
    return type(row), getattr(row, key)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An event as stored: `body` is its JSON, `seq` included, ready for the wire."""

    seq: int
    type: str
    run_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows, and the opaque cursor of the next ones (None at the end)."""

    rows: tuple[T, ...]
    next: str | None = None


class Doorbell(Protocol):
    """Rings when a thread's log has grown. It may ring for nothing, and must be listened to before
    the log is read."""

    async def wait(self, timeout: float) -> bool:
        """Return at the next ring, or after `timeout` seconds; False if there will be no other
        (`Storage.end_listening`)."""


class Storage(ABC):
    """Everything durable, behind one door. Opened and closed as an async context manager by whoever
    puts the program together.

    Every method raises `Unavailable` when the file or database cannot serve it; then nothing was
    changed. With encryption at rest, one that reads raises `Tampered` for what is not what was
    stored there; lists leave such rows out, and distrust their threads.
    """

    checkpointer: BaseCheckpointSaver[Any]
    """Where the agents' checkpoints go. One whose config carries a `Lease` (`LEASE_KEY`) is refused
    with `StaleLease` unless that holds."""

    @abstractmethod
    async def commit(self, change: Change) -> tuple[int, ...]:
        """Apply the change whole, durably; return the numbers its events were given, in order.

        Raises `Conflict` if a row's version has moved (one that exists, or does not, against
        expectation), and `StaleLease` if the change's lease does not hold any more; then nothing
        was changed.
        """

    @abstractmethod
    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        """Queue events behind everything queued before, and return at once. They are numbered and
        shown once they are durable.

        This is the streaming hot path: many calls share one commit. Should the commit fail, or the
        lease not hold any more (`StaleLease`), `on_error` is called on the event loop and none of
        these events was stored. A later `commit` returns only after them.

        A storage that has fallen behind may store neighbouring pieces of one message (tokens,
        reasoning, a tool call's arguments) as one event, if they share their `on_error`, which is
        then called once.
        """

    @abstractmethod
    async def read_log(
        self,
        thread_id: str,
        after: int = 0,
        *,
        limit: int = 1000,
        types: Collection[str] | None = None,
        run_id: str | None = None,
    ) -> tuple[LogEntry, ...]:
        """The thread's events numbered above `after`, in order, at most `limit`; only those of
        these types and of this run, if given. Empty if there is none (yet).

        `after` 0 asks for whatever there is. Any other raises `Gone` if events above it were
        removed, by retention or because the thread was erased; `details["first"]` is the lowest
        number that is left, or will be the next.
        """

    @abstractmethod
    async def last_seq(self, thread_id: str) -> int:
        """The number of the thread's newest event; 0 if it has none."""

    @abstractmethod
    async def remove_events(self, before: datetime) -> int:
        """Remove events that happened before `before`, a few per transaction; return how many.

        A log is only cut at its beginning, and never beyond an event of a run that is not final, or
        of one that paused for an approval that is still pending. Numbers stay as they are.
        """

    @abstractmethod
    async def prune_checkpoints(self, thread_ids: Sequence[str], keep: int) -> None:
        """Remove the threads' checkpoints but for the latest `keep` of each namespace, and what
        those need to be rebuilt."""

    @abstractmethod
    async def distrust(self, thread_id: str, reason: str, *, stopped: bool = False) -> None:
        """Mark the thread as tampered with, for this reason: a sentence. Its status becomes
        `error`, and an event says so.

        If a run is active on it, the status stays until that ends; unless all its runs have
        `stopped`, and are ended here. What of the rows could not be read is empty then.
        """

    @abstractmethod
    async def shrink(self) -> None:
        """Give room that is no longer used back to the disk, a little at a time."""

    @abstractmethod
    def listen(self, thread_id: str) -> AbstractContextManager[Doorbell]:
        """The thread's doorbell, for as long as the context is entered."""

    @abstractmethod
    def end_listening(self) -> None:
        """The process is about to end: whoever listens comes to the end of what there is, and need
        not wait for more."""

    @abstractmethod
    async def thread(self, thread_id: str) -> Thread | None: ...

    @abstractmethod
    async def threads(
        self, *, status: ThreadStatus | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Thread]:
        """Newest first."""

    @abstractmethod
    async def run(self, run_id: str) -> Run | None: ...

    @abstractmethod
    async def runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        limit: int = 1000,
    ) -> tuple[Run, ...]:
        """Oldest first."""

    @abstractmethod
    async def latest_runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Run]:
        """Newest first."""

    @abstractmethod
    async def due_runs(self, now: datetime, *, limit: int = 100) -> tuple[Run, ...]:
        """The pending runs that could start now: due, the first of its thread, and the thread is
        free or the run's already. Those of the highest priority first, then the oldest."""

    @abstractmethod
    async def orphaned_runs(self, now: datetime, *, limit: int = 1000) -> tuple[Run, ...]:
        """The active runs whose worker is none, or has not been heard of in time (`heartbeat`). Oldest
        first."""

    @abstractmethod
    async def usage(
        self,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
    ) -> Mapping[str, float]:
        """The sums of what runs have used, by name: those of the thread or the agent, that were
        created at `since` or later."""

    @abstractmethod
    async def heartbeat(self, worker: str, until: datetime) -> None:
        """The worker lives, and is to be thought so until then."""

    @abstractmethod
    async def retire(self, worker: str) -> None:
        """The worker is gone: its runs are anybody's."""

    @abstractmethod
    async def timer(self, timer_id: str) -> Timer | None: ...

    @abstractmethod
    async def due_timers(self, now: datetime, *, limit: int = 100) -> tuple[Timer, ...]:
        """The timers whose time has come, the longest due first."""

    @abstractmethod
    async def next_due(self, after: datetime) -> datetime | None:
        """When the next timer, or pending run with a `due_at`, becomes due after `after`; None if
        there is none."""

    @abstractmethod
    async def schedule(self, schedule_id: str) -> Schedule | None: ...

    @abstractmethod
    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[Schedule]:
        """Newest first."""

    @abstractmethod
    async def ended_runs(
        self, since: datetime | None = None, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[Run]:
        """Runs that ended at `since` or later, in the order in which they ended."""

    @abstractmethod
    async def approval(self, approval_id: str) -> Approval | None: ...

    @abstractmethod
    async def approvals(
        self,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        status: ApprovalStatus | None = None,
        agent: str | None = None,
        tool: str | None = None,
        role: str | None = None,
        assignee: str | None = None,
        before: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Approval]:
        """Oldest first; `run_id` is the run that paused to ask. Those that the `role` may decide,
        or the `assignee`, by name or by a say that was handed to him; and those that were asked
        `before` a time."""

    @abstractmethod
    async def grant(self, grant_id: str) -> StandingGrant | None: ...

    @abstractmethod
    async def grants(
        self, *, thread_id: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[StandingGrant]:
        """Newest first."""

    @abstractmethod
    async def open_grants(
        self, agent: str, tools: Collection[str], now: datetime
    ) -> tuple[StandingGrant, ...]:
        """Those for these tools of the agent that could be used now, the oldest first."""

    @abstractmethod
    async def answer(self, answer_id: str) -> Answer | None: ...

    @abstractmethod
    async def remove_answers(self, before: datetime) -> int:
        """Remove answers that were given before that time; return how many."""

    @abstractmethod
    async def effect(self, key: str) -> Effect | None: ...

    @abstractmethod
    async def effects(self, thread_id: str, tool_call_id: str) -> tuple[Effect, ...]:
        """Those of one call of a model, in the order in which they started."""

    @abstractmethod
    async def audit(
        self,
        *,
        thread_id: str | None = None,
        approval_id: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[AuditRecord]:
        """The audit chain, oldest first. A record that does not open is left out; verifying the
        chain finds it."""

    @abstractmethod
    async def audit_head(self) -> AuditHead | None:
        """The last record of the audit chain; None if there is none."""

    @abstractmethod
    async def notification(self, notification_id: str) -> Notification | None: ...

    @abstractmethod
    async def notifications(
        self,
        *,
        status: NotificationStatus | None = None,
        endpoint: str | None = None,
        approval_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Notification]:
        """Newest first."""

    @abstractmethod
    async def due_notifications(
        self, endpoint: str, now: datetime, *, limit: int = 100
    ) -> tuple[Notification, ...]:
        """What is to be told to the endpoint now, the longest due first."""

    @abstractmethod
    async def next_notification(self, endpoint: str) -> datetime | None:
        """When the endpoint is to be told something; None if there is nothing."""

    @abstractmethod
    async def remove_notifications(self, status: NotificationStatus, before: datetime) -> int:
        """Remove those with this status that were made before then, a few in one transaction;
        return how many."""

    @abstractmethod
    async def link(self, link_id: str) -> Link | None: ...
