"""What everything durable promises: the rows, the change, and the storage they go through.

A *row* is a frozen value with a `version`. To write one, hand `Storage.commit` a copy whose version is one more than the stored row's
(1 for a new row): the write happens only if nobody else was faster. A *change* names every row and event that belongs
together; it is applied whole or not at all. The logic that makes a change is a pure function of what was read, so when `commit`
raises `Conflict` it reads again and runs again.

Events are numbered per thread inside the transaction that stores them, and are shown to nobody before it has committed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver

from assent.events import Event

Json = Any
"""Any JSON value."""

T = TypeVar("T")


class ThreadStatus(StrEnum):
    """Whether a thread can take input: `idle` and `error` can, `busy` has an active run, `interrupted` waits for decisions."""

    IDLE = "idle"
    BUSY = "busy"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class RunStatus(StrEnum):
    """Where a run stands. `pending` waits for its turn, `cancelling` was asked to stop and has not yet; these and `running` are not final.

    `interrupted` has paused for a person; the run that goes on from there is another one.
    """

    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


ACTIVE = frozenset({RunStatus.RUNNING, RunStatus.CANCELLING})
"""A run with one of these is some worker's."""

UNFINISHED = ACTIVE | {RunStatus.PENDING}
"""What is not final."""


class RunKind(StrEnum):
    """What started a run: new input (or a place in the past to go on from), or the decisions a paused thread waited for."""

    INPUT = "input"
    RESUME = "resume"


class CancelMode(StrEnum):
    """What becomes of what a cancelled run did: `interrupt` keeps it, `rollback` puts the thread's state back to where the run began."""

    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"


class ApprovalStatus(StrEnum):
    """Where an approval stands. Only `pending` is not final."""

    PENDING = "pending"
    APPROVED = "approved"
    EDITED = "edited"
    REJECTED = "rejected"
    RESPONDED = "responded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class ApprovalKind(StrEnum):
    """What a person is asked.

    `tool`: may this call run? `node`: may this node of a user's graph run? `input`: a question a graph asked with `interrupt()`.
    `unknown_outcome`: a call was cut off by a crash; did it happen? `budget`: may more be used?
    """

    TOOL = "tool"
    NODE = "node"
    INPUT = "input"
    UNKNOWN_OUTCOME = "unknown_outcome"
    BUDGET = "budget"


class EffectStatus(StrEnum):
    """`started` is the intent, written before a tool is called; `finished` has its outcome."""

    STARTED = "started"
    FINISHED = "finished"


class NotificationStatus(StrEnum):
    """Where a notification stands. `dead` is one that was tried for days, and is not tried again unless somebody asks for it."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation. `pending` are the approvals it waits for; `checkpoint_id` is its head, written when a run stops; `tampered` says what
    of it was found not to be what was stored: then nothing of it is run any more."""

    thread_id: str
    owner: str
    status: ThreadStatus
    created_at: datetime
    updated_at: datetime
    agent: str | None = None
    run_id: str | None = None
    checkpoint_id: str | None = None
    pending: tuple[str, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)
    version: int = 1
    tampered: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What happens between an input or a decision and the next `done`, `run_paused`, `error` or `run_cancelled`.

    `input` is `{"message"?: str, "checkpoint_id"?: str}`, or `{"paused_run": run_id, "message"?: str}` for a run that goes on with the
    decisions on what that run asked, or `{"fork_of": thread_id, "checkpoint_id": str}` for one that begins its thread with that state.
    A `pending` run starts when its thread is free, not before `due_at`, those of a higher `priority` first. `worker` is who runs it, and
    `attempt` counts its starts: together they are its lease, with `attempt` as the fencing token. `cancel` says how it was asked to stop.
    `at_checkpoint` is where the last recovery found it, and `stuck` how many in a row found it there. `budget` is what it may use, and
    `usage` what it has used, in numbers by name."""

    run_id: str
    thread_id: str
    owner: str
    agent: str
    kind: RunKind
    status: RunStatus
    created_at: datetime
    input: Mapping[str, Json]
    attempt: int = 0
    priority: int = 0
    due_at: datetime | None = None
    worker: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel: CancelMode | None = None
    at_checkpoint: str | None = None
    stuck: int = 0
    error: Mapping[str, Json] | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    budget: Mapping[str, Json] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    schedule_id: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One question to people, and what was decided.

    `digest` is the SHA-256 over the RFC 8785 form of exactly what was asked first; `interrupt_id` is LangGraph's id where the question came
    from `interrupt()`; `decision` is `{"type": …, "args"?: …, "message"?: …}`. `schema` is a JSON Schema of what an answer to a question of
    kind `input`, or an edit's arguments, must be; None leaves it open, or to the tool.

    `policy` is what it was asked under, and `policy_digest` tells it from others. `requested_by` is for whom the agent works. `roles` and
    `names` may decide now, and `assignees` are the names that a say was handed to; `step` counts the escalations, whose people were asked
    at `step_at`. `edit`, `votes`, `delegations` and `comments` are those of `assent.approvals.machine`, as JSON. `shown` is the
    conversation's last turn, for people to read.
    """

    approval_id: str
    thread_id: str
    run_id: str
    owner: str
    agent: str
    kind: ApprovalKind
    status: ApprovalStatus
    requested_at: datetime
    digest: str
    allowed: tuple[str, ...]
    tool: str = ""
    tool_call_id: str = ""
    message_id: str = ""
    args: Json = None
    schema: Mapping[str, Json] | None = None
    preview: Json = None
    node: str = ""
    checkpoint_id: str | None = None
    interrupt_id: str | None = None
    expires_at: datetime | None = None
    decision: Mapping[str, Json] | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    requested_by: str = ""
    risk: str = "medium"
    roles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    step: int = 0
    step_at: datetime | None = None
    reminded_at: datetime | None = None
    policy_digest: str = ""
    policy: Mapping[str, Json] = field(default_factory=dict)
    edit: Mapping[str, Json] | None = None
    votes: tuple[Mapping[str, Json], ...] = ()
    delegations: tuple[Mapping[str, Json], ...] = ()
    comments: tuple[Mapping[str, Json], ...] = ()
    shown: Mapping[str, Json] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingGrant:
    """What a person, with the roles that he had then, approves in advance: calls of the agent's tool with arguments within `bounds`, in
    the thread (`thread_id`) or for the `user` or both, before `until`, at most `uses` times.

    `bounds` are those of `assent.approvals.grants`.
    """

    grant_id: str
    agent: str
    tool: str
    bounds: Mapping[str, Json]
    given_by: str
    roles: tuple[str, ...]
    given_at: datetime
    until: datetime
    uses: int
    thread_id: str = ""
    user: str = ""
    used: int = 0
    revoked_by: str | None = None
    revoked_at: datetime | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client was answered under an idempotency key of its own. `answer_id` is made of key and owner; `asked` is a digest of what was
    asked; `first_seq` is the number of the first event that tells of it."""

    answer_id: str
    owner: str
    thread_id: str
    asked: str
    created_at: datetime
    first_seq: int
    body: Mapping[str, Json]
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One tool call in the world: its intent row, then its outcome.

    `key` is the idempotency key; `outcome` is the tool message that the call ended with, as JSON.
    """

    key: str
    thread_id: str
    run_id: str
    tool: str
    tool_call_id: str
    digest: str
    status: EffectStatus
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Json = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """Something to be done at a time, not before. `kind` names who does it, and `payload` is what he needs to know.

    Whoever does it removes the timer, or moves it to another time, in the change that it makes: so it is done once.
    """

    timer_id: str
    kind: str
    due_at: datetime
    thread_id: str = ""
    payload: Mapping[str, Json] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A run again and again, at the times of a cron expression in a time zone. `input` is its runs'; on a thread of its own each time,
    unless `thread_id` names one, each with this `budget`. `next_at` is None while it is not `enabled`, or when no time is left. `last_at`
    is when the last run was due, and `last_error` a sentence: why there was none at the last time."""

    schedule_id: str
    owner: str
    agent: str
    cron: str
    timezone: str
    input: Mapping[str, Json]
    created_at: datetime
    thread_id: str = ""
    on_busy: str = "enqueue"
    if_missed: str = "once"
    enabled: bool = True
    next_at: datetime | None = None
    last_at: datetime | None = None
    last_run_id: str | None = None
    last_error: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    budget: Mapping[str, Json] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What is to be told to an endpoint, by its name. `notification_id` is the same at each attempt, so that who is told twice can tell.

    `event` is the type of the event it tells of, and `payload` what it says. `next_at` is when it is tried (again), None unless it is
    pending; `attempts` counts those that failed, and `last_error` is a sentence: why the last one did.
    """

    notification_id: str
    endpoint: str
    event: str
    thread_id: str
    approval_id: str
    run_id: str
    payload: Mapping[str, Json]
    status: NotificationStatus
    created_at: datetime
    next_at: datetime | None = None
    attempts: int = 0
    last_error: str | None = None
    delivered_at: datetime | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link by which one person may decide one approval once: what has this `digest`, until `expires_at`. `decisions` are those that
    it is for; `created_by` is who asked for it. What the person is sent is made from it with a key, and not stored."""

    link_id: str
    approval_id: str
    thread_id: str
    digest: str
    recipient: str
    created_at: datetime
    expires_at: datetime
    decisions: tuple[str, ...]
    created_by: str = ""
    used_at: datetime | None = None
    version: int = 1


Row = Thread | Run | Approval | StandingGrant | Answer | Effect | Timer | Schedule | Notification | Link


class AuditAction(StrEnum):
    """What is audited: each word that an approval's events tell of, the life of standing grants, and that a thread was erased."""

    ASKED = "asked"
    VOTED = "voted"
    DECIDED = "decided"
    EDITED = "edited"
    WITHDRAWN = "withdrawn"
    DELEGATED = "delegated"
    COMMENTED = "commented"
    REMINDED = "reminded"
    ESCALATED = "escalated"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    GRANTED = "granted"
    REVOKED = "revoked"
    LINK_USED = "link_used"
    ERASED = "erased"


class Authentication(StrEnum):
    """How it was known who somebody is. `local` is anybody who reaches a server that has no keys; `grant` is a standing grant that acted
    for who gave it. With `time` and `assent` it was nobody: a deadline, or the program by itself."""

    API_KEY = "api_key"
    SIGNED_LINK = "signed_link"
    LOCAL = "local"
    GRANT = "grant"
    TIME = "time"
    ASSENT = "assent"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What is written down for good: who (`actor`, "" for nobody) did what and when, and how he was known to be that.

    `digest` is of what he was shown, and `policy` that of the policy it was judged by ("" if there is none). `detail` has what else belongs
    to the action, by name. It outlives the thread, so it holds digests of what people and models wrote, and not the words.
    """

    at: datetime
    action: AuditAction
    authentication: Authentication
    actor: str = ""
    thread_id: str = ""
    approval_id: str = ""
    run_id: str = ""
    digest: str = ""
    policy: str = ""
    detail: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """An entry in its place in the chain: the `number`th. `mac` (hex) binds it to all before it, with the secret of the key `key`."""

    number: int
    entry: AuditEntry
    key: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """Where the chain ends: its last record's number, mac and time. Kept elsewhere, it proves later that nothing up to there was cut."""

    number: int
    mac: str
    key: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write what belongs to a run: its events and the checkpoints of its thread. `token` is the run's `attempt` when the lease
    was given. Once the run was given to somebody else, or has ended, what comes with this lease is refused."""

    run_id: str
    token: int


LEASE_KEY = "__assent_lease"
"""Where in `config["configurable"]` a run carries its `Lease` to the checkpointer. LangGraph keeps names that start with `__` out of
what it stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What belongs together. `rows` are written; `unmoved` were read, and must not have moved; `removed` were read, and are removed if they
    have not moved; `events` are stored and numbered in order; `audit` is added to the audit chain, in order; `erase` names a thread whose
    rows, events and checkpoints are all removed (its numbering is not: a number is never used twice; nor are its audit records). With a
    `lease`, nothing is done unless it still holds."""

    rows: tuple[Row, ...] = ()
    unmoved: tuple[Row, ...] = ()
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
        unmoved=tuple(row for change in changes for row in change.unmoved if _identity(row) not in written),
        removed=tuple(row for change in changes for row in change.removed),
        events=tuple(event for change in changes for event in change.events),
        audit=tuple(entry for change in changes for entry in change.audit),
        erase=next((change.erase for change in changes if change.erase is not None), None),
        lease=next((change.lease for change in changes if change.lease is not None), None),
    )


def _identity(row: Row) -> tuple[type, str]:
    return type(row), str(getattr(row, fields(row)[0].name))


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


class Ring(Protocol):
    """Rings when a thread's log has grown. It may ring for nothing, and must be listened to before the log is read."""

    async def wait(self, timeout: float) -> bool:
        """Return at the next ring, or after `timeout` seconds; False if there will be no other (`Storage.end_listening`)."""


class Storage(ABC):
    """Everything durable, behind one door. Opened and closed as an async context manager by whoever puts the program together.

    Every method raises `Unavailable` when the file or database cannot serve it; then nothing was changed. With encryption at rest, one that
    reads raises `Tampered` for what is not what was stored there; lists leave such rows out, and distrust their threads.
    """

    checkpointer: BaseCheckpointSaver[Any]
    """Where the agents' checkpoints go. One whose config carries a `Lease` (`LEASE_KEY`) is refused with `StaleLease` unless that holds."""

    @abstractmethod
    async def commit(self, change: Change) -> tuple[int, ...]:
        """Apply the change whole, durably; return the numbers its events were given, in order.

        Raises `Conflict` if a row's version has moved (one that exists, or does not, against expectation), and `StaleLease` if the
        change's lease does not hold any more; then nothing was changed.
        """

    @abstractmethod
    def append(self, events: Sequence[Event], on_error: Callable[[Exception], None], lease: Lease | None = None) -> None:
        """Queue events behind everything queued before, and return at once. They are numbered and shown once they are durable.

        This is the streaming hot path: many calls share one commit. Should the commit fail, or the lease not hold any more (`StaleLease`),
        `on_error` is called on the event loop and none of these events was stored. A later `commit` returns only after them.

        A storage that has fallen behind may store neighbouring pieces of one message (tokens, reasoning, a tool call's arguments) as one
        event, if they share their `on_error`, which is then called once.
        """

    @abstractmethod
    async def read_log(
        self, thread_id: str, after: int = 0, *, limit: int = 1000, types: Collection[str] | None = None, run_id: str | None = None
    ) -> tuple[LogEntry, ...]:
        """The thread's events numbered above `after`, in order, at most `limit`; only those of these types and of this run, if given. Empty
        if there is none (yet).

        `after` 0 asks for whatever there is. Any other raises `Gone` if events above it were removed, by retention or because the thread
        was erased; `details["first"]` is the lowest number that is left, or will be the next.
        """

    @abstractmethod
    async def last_seq(self, thread_id: str) -> int:
        """The number of the thread's newest event; 0 if it has none."""

    @abstractmethod
    async def remove_events(self, before: datetime) -> int:
        """Remove events that happened before `before`, a few per transaction; return how many.

        A log is only cut at its beginning, and never beyond an event of a run that is not final, or of one that paused for an approval
        that is still pending. Numbers stay as they are.
        """

    @abstractmethod
    async def prune_checkpoints(self, thread_ids: Sequence[str], keep: int) -> None:
        """Remove the threads' checkpoints but for the latest `keep` of each namespace, and what those need to be rebuilt."""

    @abstractmethod
    async def distrust(self, thread_id: str, reason: str, *, stopped: bool = False) -> None:
        """Mark the thread as tampered with, for this reason: a sentence. Its status becomes `error`, and an event says so.

        If a run is active on it, the status stays until that ends; unless all its runs have `stopped`, and are ended here. What of the
        rows could not be read is empty then.
        """

    @abstractmethod
    async def shrink(self) -> None:
        """Give room that is no longer used back to the disk, a little at a time."""

    @abstractmethod
    def listen(self, thread_id: str) -> AbstractContextManager[Ring]:
        """The thread's doorbell, for as long as the context is entered."""

    @abstractmethod
    def end_listening(self) -> None:
        """The process is about to end: whoever listens comes to the end of what there is, and need not wait for more."""

    @abstractmethod
    async def thread(self, thread_id: str) -> Thread | None: ...

    @abstractmethod
    async def threads(self, *, status: ThreadStatus | None = None, limit: int = 100, cursor: str | None = None) -> Page[Thread]:
        """Newest first."""

    @abstractmethod
    async def run(self, run_id: str) -> Run | None: ...

    @abstractmethod
    async def runs(
        self, *, thread_id: str | None = None, status: Collection[RunStatus] | None = None, limit: int = 1000
    ) -> tuple[Run, ...]:
        """Oldest first."""

    @abstractmethod
    async def latest_runs(
        self, *, thread_id: str | None = None, status: Collection[RunStatus] | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Run]:
        """Newest first."""

    @abstractmethod
    async def due_runs(self, now: datetime, *, limit: int = 100) -> tuple[Run, ...]:
        """The pending runs that could start now: due, the first of its thread, and the thread is free or the run's already. Those of the
        highest priority first, then the oldest."""

    @abstractmethod
    async def orphaned_runs(self, now: datetime, *, limit: int = 1000) -> tuple[Run, ...]:
        """The active runs whose worker is none, or has not been heard of in time (`beat`). Oldest first."""

    @abstractmethod
    async def used(self, *, thread_id: str | None = None, agent: str | None = None, since: datetime | None = None) -> Mapping[str, float]:
        """The sums of what runs have used, by name: those of the thread or the agent, that were created at `since` or later."""

    @abstractmethod
    async def beat(self, worker: str, until: datetime) -> None:
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
        """When the next timer, or pending run with a `due_at`, becomes due after `after`; None if there is none."""

    @abstractmethod
    async def schedule(self, schedule_id: str) -> Schedule | None: ...

    @abstractmethod
    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[Schedule]:
        """Newest first."""

    @abstractmethod
    async def ended_runs(self, since: datetime | None = None, *, limit: int = 1000, cursor: str | None = None) -> Page[Run]:
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
        """Oldest first; `run_id` is the run that paused to ask. Those that the `role` may decide, or the `assignee`, by name or by a say
        that was handed to him; and those that were asked `before` a time."""

    @abstractmethod
    async def grant(self, grant_id: str) -> StandingGrant | None: ...

    @abstractmethod
    async def grants(self, *, thread_id: str | None = None, limit: int = 100, cursor: str | None = None) -> Page[StandingGrant]:
        """Newest first."""

    @abstractmethod
    async def open_grants(self, agent: str, tools: Collection[str], now: datetime) -> tuple[StandingGrant, ...]:
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
        """The audit chain, oldest first. A record that does not open is left out; verifying the chain finds it."""

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
    async def due_notifications(self, endpoint: str, now: datetime, *, limit: int = 100) -> tuple[Notification, ...]:
        """What is to be told to the endpoint now, the longest due first."""

    @abstractmethod
    async def next_notification(self, endpoint: str) -> datetime | None:
        """When the endpoint is to be told something; None if there is nothing."""

    @abstractmethod
    async def remove_notifications(self, status: NotificationStatus, before: datetime) -> int:
        """Remove those with this status that were made before then, a few in one transaction; return how many."""

    @abstractmethod
    async def link(self, link_id: str) -> Link | None: ...
