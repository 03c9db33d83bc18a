"""The contract of storage: rows, changes, and the `Storage` that every backend implements.

A *row* is a frozen value with a `version`. To write one, give `Storage.commit` a copy whose version
is one higher than the stored row's (1 for a new row): the write succeeds only if nobody else has
written the row in between. A *change* names every row and event that belongs together, and is
applied whole or not at all. It is computed by a pure function of the rows that were read, so after
a `Conflict` the caller reads again and computes again.

Events are numbered per thread inside the transaction that stores them, and no reader sees one
before it has committed.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore
from msgspec import Struct

from assent.core.access import Owner, Sight
from assent.core.approval import Approval, ApprovalStatus
from assent.core.audit import AuditAction, AuditEntry, AuditHead, AuditRecord
from assent.core.errors import FilesFull
from assent.core.events import Event
from assent.core.grant import Grant
from assent.core.policy import Risk
from assent.core.rows import (
    Answer,
    ApiKey,
    Assistant,
    AssistantVersion,
    Effect,
    File,
    FileUse,
    Lease,
    Link,
    Notification,
    NotificationStatus,
    Row,
    Run,
    RunStatus,
    Schedule,
    Session,
    Thread,
    ThreadStatus,
    Ticket,
    Timer,
)
from assent.core.tally import Tally
from assent.storage.chain import Heads, Verification
from assent.storage.files import Files
from assent.storage.store import StoreOptions

T = TypeVar("T")
E = TypeVar("E", bound=Event)

ThreadTime = Literal["created_at", "updated_at"]
"""The times of threads by which they are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """The most runs that may be pending on one thread, and on all threads together."""

    per_thread: int = 100
    in_all: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The most threads, pending runs, bytes of uploads and versions of assistants that one person
    may have, and all people of one tenant together; None for any number."""

    threads: int = 10_000
    pending: int = 1_000
    file_bytes: int = 1 << 30
    assistants: int = 1_000
    tenant_threads: int | None = None
    tenant_pending: int | None = None
    tenant_file_bytes: int | None = None
    tenant_assistants: int | None = None


def files_full(who: str, most: int) -> FilesFull:
    """The refusal of an upload by which there would be more bytes than there may be. `who` is the
    begin of its sentence."""
    return FilesFull(
        f"{who} uploads of {most:,} bytes, or would have more by this one, and may have no more. "
        "Nothing was changed. Delete some, or erase threads that refer to them."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Everything that one transaction writes.

    - `rows` are inserted or updated.
    - `unchanged` rows were read for the change; their versions must still be the same.
    - `removed` rows are deleted; their versions must still be the same.
    - `events` are stored and numbered in order.
    - `audit` entries are added to the audit chain in order.
    - `erase` names a thread whose rows, events and checkpoints are all removed: nobody sees them
      from this change on, and they go from the file in small steps. Its event numbers are never
      used again, and its audit records stay. A change that begins the thread anew may have to wait
      until its old rows have gone.
    - `if_idle`: nothing is done unless the thread to erase is idle. None of its runs is unfinished,
      none of its approvals is pending, and no schedule names it.
    - `if_settled`: nothing is done while the thread to erase owes something to anybody: a
      notification of it is pending, or the answer of an idempotency key names it.
    - `lease`: nothing is done unless this lease still holds. What a run writes under its lease
      waits while the storage is away; any other change is refused then.
    - `queue`: nothing is done if one of its threads, or all, had more pending runs than these.
    - `caps`: nothing is done if the owner of a new row, or their tenant, had more of these then.
    """

    rows: tuple[Row, ...] = ()
    unchanged: tuple[Row, ...] = ()
    removed: tuple[Row, ...] = ()
    events: tuple[Event, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    erase: str | None = None
    if_idle: bool = False
    if_settled: bool = False
    lease: Lease | None = None
    queue: QueueLimits | None = None
    caps: Caps | None = None


def runs_at(change: Change, kinds: type[E] | tuple[type[E], ...]) -> Iterator[tuple[Run, E]]:
    """The runs that the change moves and of which it has such an event, each with that."""
    runs = {row.run_id: row for row in change.rows if isinstance(row, Run)}
    for event in change.events:
        if isinstance(event, kinds) and event.run_id in runs:
            yield runs[event.run_id], event


def together(*changes: Change) -> Change:
    """The changes as one, in their order."""
    written = {_identity(row) for change in changes for row in change.rows}
    return Change(
        rows=tuple(row for change in changes for row in change.rows),
        # A row that one of the changes writes is checked by its write.
        unchanged=tuple(
            row for change in changes for row in change.unchanged if _identity(row) not in written
        ),
        removed=tuple(row for change in changes for row in change.removed),
        events=tuple(event for change in changes for event in change.events),
        audit=tuple(entry for change in changes for entry in change.audit),
        erase=next((change.erase for change in changes if change.erase is not None), None),
        if_idle=any(change.if_idle for change in changes),
        if_settled=any(change.if_settled for change in changes),
        lease=next((change.lease for change in changes if change.lease is not None), None),
        queue=next((change.queue for change in changes if change.queue is not None), None),
        caps=next((change.caps for change in changes if change.caps is not None), None),
    )


def _identity(row: Row) -> tuple[type, str]:
    key = next(iter(type(row).__annotations__))
    return type(row), getattr(row, key)


class LogEntry(Struct, frozen=True, gc=False):
    """An event as stored: `body` is its JSON, `seq` included, ready for the wire.

    One is made for each token and reader. A frozen dataclass takes ten times as long to make, and a
    named tuple five times.
    """

    seq: int
    type: str
    run_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the storage takes no changes. `reason` is a sentence; `since` is a time of
    `time.monotonic`."""

    reason: str
    since: float

    @property
    def seconds(self) -> float:
        """The time that it has lasted."""
        return time.monotonic() - self.since


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What there is to do: the `runs` that have not ended, by status; the `pending` approvals, and
    the time at which the oldest was asked; and the `operations` that wait to be committed.
    `commits` are the seconds that transactions took, and `sizes` how many operations each had."""

    runs: Mapping[str, int]
    pending: int
    oldest: datetime | None
    operations: int
    commits: Tally
    sizes: Tally


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows, and the opaque cursor of the next page (None on the last). A page may have fewer
    than were asked for, though others follow, where they are large; but at least one."""

    rows: tuple[T, ...]
    next: str | None = None


async def all_pages(
    read: Callable[..., Awaitable[Page[T]]], **filters: Any
) -> AsyncIterator[tuple[T, ...]]:
    """The rows of a list, page by page: `all_pages(storage.approvals, thread_id="…")`."""
    cursor: str | None = None
    while True:
        page = await read(**filters, cursor=cursor)
        yield page.rows
        cursor = page.next
        if cursor is None:
            return


async def all_rows(read: Callable[..., Awaitable[Page[T]]], **filters: Any) -> list[T]:
    """Every row of a list, read page by page."""
    rows: list[T] = []
    async for page in all_pages(read, **filters):
        rows += page
    return rows


class Doorbell(Protocol):
    """Rings when a thread's log has grown. It may ring without need. Take it before reading the
    log, so that no event is missed."""

    @property
    def behind(self) -> int:
        """The bytes of the events that came since `wait` returned last."""

    @property
    def is_waiting(self) -> bool:
        """True amid a `wait`, as long as nothing has rung."""

    @property
    def is_erased(self) -> bool:
        """True if the thread was erased since the doorbell was taken."""

    def ring(self) -> None:
        """Ring this one, though nothing was stored."""

    async def wait(self, timeout: float) -> bool:
        """Return at the next ring, or after `timeout` seconds. False once there will be no other
        ring (`Storage.end_listening`)."""


class Reads(ABC):
    """What can be read, by whoever has a sight: rows and logs that it does not show are as if there
    were none. To ask for a log that is not shown raises `NotFound`.

    With encryption at rest, a method that reads one row or the log raises `Tampered` if the stored
    value was changed by another program. Lists leave such rows out, and distrust the rows' threads.
    """

    # ── the event log ──

    @abstractmethod
    async def read_log(
        self,
        thread_id: str,
        after: int = 0,
        *,
        limit: int = 1000,
        types: Collection[str] | None = None,
        run_id: str | None = None,
        most_bytes: int | None = None,
    ) -> tuple[LogEntry, ...]:
        """Read at most `limit` of the thread's events numbered above `after`, in order: only those
        of these types and of this run, if given. Empty if there are none (yet).

        Fewer are returned, but at least one, where they are large: a read takes a bounded amount
        of memory, or at most `most_bytes` of it.

        With `after` 0, reading begins at the first event that is left. Any other `after` raises
        `Gone` if events above it were removed, by retention or because the thread was erased;
        `details["first"]` is the lowest number that is left, or the next one to be given.
        """

    @abstractmethod
    async def read_log_back(
        self,
        thread_id: str,
        before: int | None = None,
        *,
        limit: int = 1000,
        types: Collection[str] | None = None,
        run_id: str | None = None,
        most_bytes: int | None = None,
    ) -> tuple[LogEntry, ...]:
        """Read the newest of the thread's events that are numbered below `before`, or of all, in
        order, the oldest of them first: at most `limit`, and fewer, but at least one, where they
        are large. Empty if none is left there; events that were removed are not missed.

        No more of the log is read than that."""

    @abstractmethod
    async def check_cursor(self, thread_id: str, after: int) -> None:
        """Raise `Gone`, as `read_log` does, if events above the number were removed; or if the
        thread has no such number, so that it is another thread's or of a newer copy of the
        database."""

    @abstractmethod
    async def newest_event(self, thread_id: str, run_id: str) -> LogEntry | None:
        """Return the newest event of the thread that is of this run; None if there is none."""

    @abstractmethod
    async def last_seq(self, thread_id: str) -> int:
        """Return the number of the thread's newest event, 0 if it has none."""

    @abstractmethod
    def listen(self, thread_id: str) -> AbstractContextManager[Doorbell]:
        """Open a doorbell for the thread's log, for as long as the context is entered."""

    # ── threads ──

    @abstractmethod
    async def thread(self, thread_id: str) -> Thread | None:
        """Return the thread, None if there is none."""

    @abstractmethod
    async def threads(
        self,
        *,
        status: ThreadStatus | None = None,
        agent: str | None = None,
        by: ThreadTime = "created_at",
        newest_first: bool = True,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Thread]:
        """List threads in the order of one of their times. `agent` leaves those of that agent, and
        those that are of none yet."""

    # ── runs ──

    @abstractmethod
    async def run(self, run_id: str) -> Run | None:
        """Return the run, None if there is none."""

    @abstractmethod
    async def runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        due_by: datetime | None = None,
        limit: int = 1000,
    ) -> tuple[Run, ...]:
        """List runs, in the order in which they were submitted. `due_by` leaves out pending ones
        that are to start later than that."""

    @abstractmethod
    async def latest_runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        agent: str | None = None,
        owner: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        due_by: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Run]:
        """List runs, the one that was submitted last first. `since` and `until` are the times
        between which they were. `due_by` leaves out pending ones that are to start later than
        that."""

    # ── timers and schedules ──

    @abstractmethod
    async def schedule(self, schedule_id: str) -> Schedule | None:
        """Return the schedule, None if there is none."""

    @abstractmethod
    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[Schedule]:
        """List schedules, newest first."""

    # ── assistants ──

    @abstractmethod
    async def assistant(self, assistant_id: str) -> Assistant | None:
        """Return the assistant, None if there is none."""

    @abstractmethod
    async def assistants(self, *, limit: int = 100, cursor: str | None = None) -> Page[Assistant]:
        """List assistants, newest first."""

    @abstractmethod
    async def assistant_version(self, version_id: str) -> AssistantVersion | None:
        """Return the version of an assistant, None if there is none."""

    @abstractmethod
    async def assistant_versions(
        self, assistant_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[AssistantVersion]:
        """List the versions of an assistant, the last one first. They are removed with it."""

    # ── approvals ──

    @abstractmethod
    async def approval(self, approval_id: str) -> Approval | None:
        """Return the approval, None if there is none."""

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
        risk: Risk | None = None,
        before: datetime | None = None,
        sort: ApprovalOrder = "oldest",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Approval]:
        """List approvals, the `oldest` first, the `newest`, or those that are `expiring` next: then
        those without a deadline come last.

        `run_id` is the run that paused to ask. `role` and `assignee` leave the approvals that the
        role may decide, or the person, either by name or because a vote was delegated to them.
        `before` leaves those that were requested before that time.
        """

    @abstractmethod
    async def grant(self, grant_id: str) -> Grant | None:
        """Return the standing grant, None if there is none."""

    @abstractmethod
    async def grants(self, *, limit: int = 100, cursor: str | None = None) -> Page[Grant]:
        """List standing grants, newest first."""

    @abstractmethod
    async def answer(self, answer_id: str) -> Answer | None:
        """Return the answer that was given under an idempotency key, None if there is none."""

    @abstractmethod
    async def audit(
        self,
        *,
        thread_id: str | None = None,
        approval_id: str | None = None,
        actor: str | None = None,
        action: AuditAction | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        sort: AuditOrder = "oldest",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[AuditRecord]:
        """List the audit chain. Records that cannot be read are left out; verifying the chain finds
        them."""

    @abstractmethod
    async def audit_head(self) -> AuditHead | None:
        """Return the head of the audit chain, its last record; None if the chain is empty."""

    # ── uploads ──

    @abstractmethod
    async def file(self, file_id: str) -> File | None:
        """Return the row of the upload, None if there is none."""

    @abstractmethod
    async def file_uses(self, thread_id: str) -> tuple[FileUse, ...]:
        """List the uploads that the thread refers to."""

    # ── notifications ──

    @abstractmethod
    async def notification(self, notification_id: str) -> Notification | None:
        """Return the notification, None if there is none."""

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
        """List notifications, newest first."""

    @abstractmethod
    async def link(self, link_id: str) -> Link | None:
        """Return the link, None if there is none."""

    # ── what lets people in ──

    @abstractmethod
    async def api_key(self, key_id: str) -> ApiKey | None:
        """Return the key's row, None if there is none."""

    @abstractmethod
    async def api_keys(
        self, *, owner: Owner | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[ApiKey]:
        """List keys, newest first, also those that are over; with an owner, only theirs."""

    @abstractmethod
    async def session(self, session_id: str) -> Session | None:
        """Return the session, None if there is none."""

    @abstractmethod
    async def sessions(
        self, *, owner: Owner | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Session]:
        """List sessions, newest first; with an owner, only theirs."""


ApprovalOrder = Literal["oldest", "newest", "expiring"]
"""Orders of a list of approvals."""

AuditOrder = Literal["oldest", "newest"]
"""Orders of the audit chain."""


class Storage(Reads):
    """Everything durable. An async context manager of the backend opens and closes it.

    Every method raises `Unavailable` if the file or database cannot serve; then nothing was
    changed. What runs write waits instead: events, and whatever is written under a lease. It is
    stored, in its order, once the storage is back. It is given up if the storage is closed before
    that, or its caller is cancelled.

    It reads everything; `seen_by` reads what one request may see.
    """

    checkpointer: BaseCheckpointSaver[Any]
    """The agents' checkpoint saver. A write whose config carries a `Lease` (`LEASE_KEY`) that does
    not hold any more raises `StaleLease`."""

    files: Files
    """The bytes of uploads."""

    @abstractmethod
    def store(self, options: StoreOptions = StoreOptions()) -> BaseStore:
        """Return LangGraph's store, in which agents keep what is to outlive their threads.

        What a run's node or tool puts raises `StaleLease`, and is not stored, once the run's lease
        does not hold any more. Raises `ConfigurationError` if its embeddings cannot be opened."""

    @abstractmethod
    def outage(self) -> Outage | None:
        """Return the reason why changes are refused now; None if they are taken."""

    @abstractmethod
    async def load(self) -> Load:
        """Return how much there is to do, of everybody's."""

    @abstractmethod
    def seen_by(self, sight: Sight) -> Reads:
        """Return what can be read with this sight. It is for one request or stream: what it has
        found to be shown, it goes on reading."""

    # ── changes ──

    @abstractmethod
    async def commit(self, change: Change) -> tuple[int, ...]:
        """Apply the whole change durably, and return the numbers of its events, in order.

        Raises `Conflict` if a row's version is not the expected one (or the row exists, or is
        missing, against expectation) or the thread to erase is not idle or settled as it should be,
        `StaleLease` if the change's lease does not hold any more, `QueueFull` if there would be
        more pending runs than its limits, and `QuotaFull` or `FilesFull` if there would be more
        than its caps; then nothing was changed.
        """

    @abstractmethod
    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        """Queue events behind everything queued before, and return at once. They are numbered and
        shown to readers once they are durable.

        This is the hot path of streaming: many calls share one commit. If the events cannot be
        stored, or the lease does not hold any more (`StaleLease`), `on_error` is called on the
        event loop, and none of these events was stored. A later `commit` returns only after them.

        A storage that has fallen behind may store neighbouring pieces of one message (tokens,
        reasoning, a tool call's arguments) as one event, if they share their `on_error`, which is
        then called once.
        """

    # ── the event log ──

    @abstractmethod
    def end_listening(self) -> None:
        """Ring every doorbell for the last time, because the process is about to end."""

    # ── threads ──

    @abstractmethod
    async def distrust(self, thread_id: str, reason: str, *, stopped: bool = False) -> None:
        """Mark the thread as tampered with, for this reason: a sentence. Its status becomes
        `error`, an event says so, and its unfinished runs end.

        While one of its runs is active, the status stays and the runs do not end, unless
        `stopped` says that no worker runs them any more. Whatever of the rows could not be read is
        empty from then on.
        """

    # ── runs ──

    @abstractmethod
    async def ended_runs(
        self, since: datetime | None = None, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[Run]:
        """List the runs that ended at `since` or later, in the order in which they ended."""

    @abstractmethod
    async def due_runs(
        self, now: datetime, *, agents: Collection[str], limit: int = 100
    ) -> tuple[Run, ...]:
        """List the pending runs of these agents that could start now: each is due and the first of
        its thread, and the thread is free, or the run's already. The highest priority first, then
        the one that was submitted first.

        Of the runs of a thread that were to start at a time, the one with the earliest time is the
        first."""

    @abstractmethod
    async def orphaned_runs(self, *, agents: Collection[str], limit: int = 1000) -> tuple[Run, ...]:
        """List the active runs of these agents that have no worker, or one that is not among
        `workers`, in the order in which they were submitted."""

    @abstractmethod
    async def unfinished_runs(self) -> Mapping[str, int]:
        """Count the runs that have not ended, by agent."""

    @abstractmethod
    async def usage(
        self,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
    ) -> Mapping[str, float]:
        """Sum up what runs have used, by name: the runs of the thread or the agent, created at
        `since` or later. Runs that were removed count too, and may do so for ten minutes longer.
        """

    @abstractmethod
    async def heartbeat(self, worker: str, *, agents: Collection[str]) -> None:
        """Record that the worker is alive and runs these agents: it is one of the `workers`, and
        the count of its heartbeats is one higher."""

    @abstractmethod
    async def workers(self) -> Mapping[str, int]:
        """Return the count of heartbeats of each worker that is not retired.

        A worker whose count does not change any more is dead. No time is stored with it, because
        the clocks of two processes cannot be compared, and may be set.
        """

    @abstractmethod
    async def retire(self, worker: str, heartbeats: int | None = None) -> None:
        """Record that the worker is gone, so that its runs are orphaned at once; if a count of
        `heartbeats` is given, only if it is still the worker's."""

    # ── timers and schedules ──

    @abstractmethod
    async def timer(self, timer_id: str) -> Timer | None:
        """Return the timer, None if there is none."""

    @abstractmethod
    async def due_timers(self, now: datetime, *, limit: int = 100) -> tuple[Timer, ...]:
        """List the timers that are due, the longest due first."""

    @abstractmethod
    async def next_due(self, after: datetime) -> datetime | None:
        """Return the next time after `after` at which a timer, or a pending run with a `due_at`,
        becomes due; None if there is none."""

    # ── approvals ──

    @abstractmethod
    async def verify_audit(self, heads: Heads | None = None) -> Verification:
        """Verify the audit chain, record by record, up to its present end or the first that is
        wrong. `heads` are those that were kept elsewhere. One is verified at a time."""

    @abstractmethod
    async def open_grants(
        self, tenant: str | None, agent: str, tools: Collection[str], now: datetime
    ) -> tuple[Grant, ...]:
        """List the tenant's grants for these tools of the agent that could be used now, oldest
        first."""

    @abstractmethod
    async def effect(self, key: str) -> Effect | None:
        """Return the effect with this idempotency key, None if there is none."""

    @abstractmethod
    async def effects(self, thread_id: str, tool_call_id: str) -> tuple[Effect, ...]:
        """List the effects of one tool call, in the order in which they started. Raises `Tampered`
        rather than leave one out, because a caller that missed it would run the call again."""

    # ── uploads ──

    @abstractmethod
    async def links_of(self, thread_id: str) -> tuple[Link, ...]:
        """List the links to approvals of the thread, used or not."""

    @abstractmethod
    async def uploads_of(
        self, owner: Owner, *, limit: int = 100, cursor: str | None = None
    ) -> Page[File]:
        """List the rows of a person's uploads, newest first."""

    @abstractmethod
    async def size_of_files(self) -> int:
        """Sum up the bytes of all uploads."""

    @abstractmethod
    async def size_of_files_of(self, owner: Owner) -> tuple[int, int]:
        """Sum up the bytes of a person's uploads, and of those of all people of their tenant."""

    @abstractmethod
    async def known_files(self, file_ids: Sequence[str]) -> frozenset[str]:
        """Return those of the ids that uploads have."""

    @abstractmethod
    async def remove_file(self, file_id: str) -> bool:
        """Remove the row of the upload, unless a thread refers to it. Return whether it is gone."""

    @abstractmethod
    async def remove_unused_files(self, before: datetime) -> tuple[str, ...]:
        """Remove the rows of some uploads to which no thread refers, if they are from before that
        time or have been referred to, and return their ids. Call it again until it returns
        none."""

    # ── notifications ──

    @abstractmethod
    async def due_notifications(
        self, endpoint: str, now: datetime, *, limit: int = 100
    ) -> tuple[Notification, ...]:
        """List the notifications to send to the endpoint now, the longest due first."""

    @abstractmethod
    async def next_notification(self, endpoint: str) -> datetime | None:
        """Return the time of the endpoint's next notification; None if none is pending."""

    # ── what lets people in ──

    @abstractmethod
    async def ticket(self, ticket_id: str) -> Ticket | None:
        """Return the ticket, None if there is none."""

    # ── retention ──

    @abstractmethod
    async def idle_threads(
        self, since: datetime, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Thread]:
        """List the threads that have been idle since `since` or longer, the longest idle first: on
        which no run has begun or ended since then, and that `Change.if_idle` admits.

        Those are left out that were tampered with, that an idempotency key's answer names, and that
        a clock makes look older than they are: one of their runs was submitted after one that is
        newer than `since`.
        """

    @abstractmethod
    async def remove_runs(self, before: datetime) -> int:
        """Remove the runs that ended before `before`, with their approvals and effects, a few in
        each transaction, and return how many rows were removed.

        It leaves whatever belongs to threads that `Change.if_idle` would not admit, the last run of
        each thread, and approvals of budgets. What the runs have used goes on counting.
        """

    @abstractmethod
    async def remove_events(self, before: datetime, *, feeds_only: bool = False) -> int:
        """Remove the events that happened before `before`, of all logs or only of those that are no
        thread's, a few in each transaction, and return how many were removed.

        A log is only cut at its beginning, and never beyond an event of an unfinished run, or of a
        run that paused for an approval that is still pending. The other events keep their numbers.
        """

    @abstractmethod
    async def remove_answers(self, before: datetime) -> int:
        """Remove the answers given before `before`, and return how many were removed."""

    @abstractmethod
    async def remove_grants(self, before: datetime) -> int:
        """Remove the standing grants that were over at `before`, and return how many."""

    @abstractmethod
    async def remove_links(self, before: datetime) -> int:
        """Remove the links that had expired at `before`, and return how many."""

    @abstractmethod
    async def remove_sign_ins(self, before: datetime) -> int:
        """Remove the sessions and tickets that had expired before that time, and return how
        many."""

    @abstractmethod
    async def remove_items(self, before: datetime) -> int:
        """Remove the store's items that had expired at `before`, and return how many."""

    @abstractmethod
    async def forget_times_of_usage(self, before: datetime) -> None:
        """Add up what removed runs have used that were created before `before`: from then on it
        counts only where no time is asked for."""

    @abstractmethod
    async def remove_notifications(
        self,
        status: NotificationStatus,
        before: datetime,
        *,
        other_than: Collection[str] = (),
    ) -> int:
        """Remove some notifications that have this status and were made before `before`, but for
        those to the endpoints `other_than`, and for what was delivered of approvals that are
        pending, in one transaction, and return how many. Call it again until it returns 0."""

    @abstractmethod
    async def prune_checkpoints(self, thread_ids: Sequence[str], keep: int) -> None:
        """Remove the threads' checkpoints except the latest `keep` of each namespace, and whatever
        those need to be rebuilt. What a subgraph's call stored goes with the step that it was made
        in.

        It leaves threads on which a run is active or waits for a person, since that may be rolled
        back to a checkpoint from before it."""

    @abstractmethod
    async def shrink(self) -> None:
        """Give unused space back to the disk, a little at a time."""
