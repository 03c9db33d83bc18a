"""The rows that storage keeps: frozen values, each with a version.

Where a row has a `tenant`, its owner is a person of that tenant, and nobody of another one sees it.
None is the only tenant of a server that has no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from assent.core.approval import Approval, Outcome
from assent.core.errors import Tampered
from assent.core.grant import Grant
from assent.core.json import Json
from assent.core.metadata import TITLE


class ThreadStatus(StrEnum):
    """The state of a thread: `idle` and `error` can take input, `busy` has an active run,
    `interrupted` waits for decisions."""

    IDLE = "idle"
    BUSY = "busy"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class RunStatus(StrEnum):
    """The state of a run. `pending` waits for its turn, `cancelling` was asked to stop and has not
    yet; these and `running` are not final.

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
"""The statuses of runs that a worker has."""

UNFINISHED = ACTIVE | {RunStatus.PENDING}
"""The statuses that are not final."""


class RunKind(StrEnum):
    """The start of a run: new input (or a checkpoint to go on from), or the decisions that a
    paused thread waited for."""

    INPUT = "input"
    RESUME = "resume"


class CancelMode(StrEnum):
    """The way a run is cancelled: `interrupt` keeps what it did, `rollback` puts the thread's state
    back to where the run began."""

    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"


class EffectStatus(StrEnum):
    """`started` is the intent, written before a tool is called; `finished` has its outcome."""

    STARTED = "started"
    FINISHED = "finished"


class NotificationStatus(StrEnum):
    """The state of a notification. A `dead` one was tried for days, and is tried again only if
    somebody asks for it."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation. `pending` are the ids of the approvals it waits for; `checkpoint_id` is its
    head, written when a run stops. `requested_by` are the people who wrote to its conversation and
    whom nobody has agreed with since (`assent.approvals.requesters`). `tampered` is a sentence on
    what was found not to be as it was stored: then nothing runs on the thread any more.
    `assistant_id` is that of the `Assistant` that its last run was begun with, if it was one."""

    thread_id: str
    owner: str
    status: ThreadStatus
    created_at: datetime
    updated_at: datetime
    agent: str | None = None
    run_id: str | None = None
    checkpoint_id: str | None = None
    pending: tuple[str, ...] = ()
    requested_by: tuple[str, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)
    tenant: str | None = None
    version: int = 1
    tampered: str | None = None
    assistant_id: str | None = None

    @property
    def title(self) -> str | None:
        """The beginning of the first message of a person, or what somebody has called it since. It
        is kept with the metadata, and so is sealed where they are."""
        title = self.metadata.get(TITLE)
        return title if isinstance(title, str) else None

    def check_trusted(self) -> None:
        """Raise `Tampered` if the thread is marked as tampered with."""
        if self.tampered is not None:
            raise Tampered(self.tampered, thread_id=self.thread_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The work between an input or a decision and the next `done`, `run_paused`, `error` or
    `run_cancelled`.

    `input` has the fields of `core.run_input.RunInput` that were given, with `"checkpoint_id"` for
    a run that goes on from there, and `"on_busy"` if it was not to fail because of others;
    `"paused_run"` for one that goes on with the decisions on what that run asked; and `"fork_of":
    thread_id` and `"checkpoint_id"` for one that begins its thread with that state. One with an
    `"update"` writes its input to the state, `"as_node"` if that is said. A `pending` run starts
    when its thread is free, not before `due_at`, those of a higher `priority` first.

    A paused run whose questions standing grants have answered names the run that went on at once,
    `next_run`.

    `worker` runs it, and `attempt` counts its starts: together they are its lease, with `attempt`
    as the fencing token. `cancel` says how it was asked to stop. `at_checkpoint` is where the last
    recovery found it, and `stuck` how many in a row found it there. `budget` limits what it may
    use, and `usage` is what it has used, in numbers by name. `requested_by` are the people whose
    words and changes it acts on, the one who started it first. `trace` is the W3C traceparent of
    the request that started it.
    """

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
    requested_by: tuple[str, ...] = ()
    schedule_id: str | None = None
    next_run: str | None = None
    trace: str | None = None
    tenant: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outcome of a request that came with an idempotency key; None for a key that was claimed
    for a request of several parts. `answer_id` is made of key and owner."""

    answer_id: str
    owner: str
    thread_id: str
    request_digest: str
    created_at: datetime
    outcome: Outcome | None = None
    tenant: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One tool call in the world: its intent row, then its outcome.

    `key` is the idempotency key; `message_id` that of the model's message that asked for the call,
    empty if it is not known; `outcome` is the tool message that the call ended with, as JSON.
    """

    key: str
    thread_id: str
    run_id: str
    tool: str
    tool_call_id: str
    message_id: str
    digest: str
    status: EffectStatus
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Json = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A thing to do at a time, and not before. `kind` names the handler, and `payload` is what that
    needs to know.

    The handler removes the timer, or moves it, in the change that it commits: so it is done once.
    """

    timer_id: str
    kind: str
    due_at: datetime
    thread_id: str = ""
    payload: Mapping[str, Json] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Runs at the times of a cron expression in a time zone, each with this `input` and `budget`,
    and on a thread of its own unless `thread_id` names one.

    `requested_by` are the owner, and who has changed it since. `next_at` is None while the schedule
    is not `enabled`, or when no time is left, as after `ends_at`. `last_at` is when the last run
    was due, and `last_error` a sentence: why there was none at the last time.
    """

    schedule_id: str
    owner: str
    agent: str
    cron: str
    timezone: str
    input: Mapping[str, Json]
    created_at: datetime
    requested_by: tuple[str, ...] = ()
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
    ends_at: datetime | None = None
    tenant: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """An agent with settings of its own: the `config`, `context` and `metadata` that lie under
    those of the runs that are begun with it.

    They are those of the version with this `number`, which need not be the last one that was made,
    `last_number`. `requested_by` are the people whose words they are. Its `thread_id` is empty.
    """

    assistant_id: str
    owner: str
    agent: str
    name: str
    created_at: datetime
    updated_at: datetime
    number: int = 1
    last_number: int = 1
    description: str | None = None
    config: Mapping[str, Json] = field(default_factory=dict)
    context: Mapping[str, Json] = field(default_factory=dict)
    metadata: Mapping[str, Json] = field(default_factory=dict)
    requested_by: tuple[str, ...] = ()
    thread_id: str = ""
    tenant: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantVersion:
    """An assistant as it was made or changed once, to go back to. `version_id` is made of the
    assistant's id and the `number`. Its `thread_id` is empty."""

    version_id: str
    assistant_id: str
    number: int
    owner: str
    agent: str
    name: str
    created_at: datetime
    description: str | None = None
    config: Mapping[str, Json] = field(default_factory=dict)
    context: Mapping[str, Json] = field(default_factory=dict)
    metadata: Mapping[str, Json] = field(default_factory=dict)
    requested_by: tuple[str, ...] = ()
    thread_id: str = ""
    tenant: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """A message to an endpoint, by its name. `notification_id` is the same at each attempt, so that
    a receiver can tell a repetition.

    `event` is the type of the event that it reports, and `payload` its content. `next_at` is when
    it is tried (again), None unless it is pending; `attempts` counts those that failed, and
    `last_error` is a sentence: why the last one did.
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
    tenant: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link by which one person may decide one approval once, for arguments with this `digest`,
    until `expires_at`. `decisions` are the types that it offers; `created_by` asked for it. The
    token that the person is sent is made from it with a key, and not stored."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An upload: its bytes are elsewhere (`storage/files.py`). `mime_type` is what its first bytes
    say. Its `thread_id` is empty; `FileUse` says which threads refer to it."""

    file_id: str
    owner: str
    created_at: datetime
    mime_type: str
    size: int
    sha256: str
    name: str
    thread_id: str = ""
    tenant: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUse:
    """A thread refers to a file, so that it is kept as long as the thread."""

    use_id: str
    file_id: str
    thread_id: str
    purpose: str = "message"
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of a person, without its text: `mac` (hex) is made of that with a secret, and `proof`
    (hex) of everything here that says what the key is worth, so that nobody who can write to the
    file can raise it.

    It gives the `roles`. `made_by` is who made it, and so knows its text; empty for whoever has the
    server's machine. Its `thread_id` is empty.
    """

    key_id: str
    person: str
    roles: tuple[str, ...]
    mac: str
    proof: str
    made_by: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    note: str = ""
    thread_id: str = ""
    tenant: str | None = None
    version: int = 1

    def is_good(self, now: datetime) -> bool:
        """True if it is neither revoked nor expired."""
        has_expired = self.expires_at is not None and now >= self.expires_at
        return self.revoked_at is None and not has_expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser in which somebody has signed in. `session_id` (hex) is made of the cookie's text
    with a secret, and `proof` (hex) of what the session is worth. `known_to` are the others who
    know the secret that it came from.

    `credential` says what it was signed in with: it is good only as long as that is, and until
    `expires_at`. `seen_at` is when it was last used. Its `thread_id` is empty.
    """

    session_id: str
    person: str
    roles: tuple[str, ...]
    proof: str
    credential: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    known_to: tuple[str, ...] = ()
    thread_id: str = ""
    tenant: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The right to open one stream, at this `path` and over this `transport`, once and until
    `expires_at`. `ticket_id` (hex) is made of its text with a secret, and `proof` (hex) of what it
    is worth.

    The stream is opened as the person, with the `roles`, whom the `credential` shows, until
    `credential_ends`. `known_to` are the others who know the secret of that. Its `thread_id` is
    empty.
    """

    ticket_id: str
    person: str
    roles: tuple[str, ...]
    proof: str
    path: str
    transport: str
    credential: str
    created_at: datetime
    expires_at: datetime
    credential_ends: datetime | None = None
    known_to: tuple[str, ...] = ()
    thread_id: str = ""
    tenant: str | None = None
    version: int = 1


Row = (
    Thread
    | Run
    | Approval
    | Grant
    | Answer
    | Effect
    | Timer
    | Schedule
    | Assistant
    | AssistantVersion
    | Notification
    | Link
    | File
    | FileUse
    | ApiKey
    | Session
    | Ticket
)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write the events of a run and the checkpoints of its thread. `token` is the
    run's `attempt` when the lease was given: once the run has another worker, or has ended, writes
    with this lease are refused."""

    run_id: str
    token: int


LEASE_KEY = "__assent_lease"
"""The key in `config["configurable"]` by which a run carries its `Lease` to the checkpointer.
LangGraph does not store names that start with `__`."""

TENANT_KEY = "__assent_tenant"
"""The key beside it by which a run carries its tenant to the store, if it has one."""
