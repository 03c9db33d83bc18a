"""The rows that storage keeps: frozen values, each with a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from assent.core.approval import Approval, Outcome
from assent.core.grant import Grant
from assent.core.json import Json


class ThreadStatus(StrEnum):
    """Whether a thread can take input: `idle` and `error` can, `busy` has an active run,
    `interrupted` waits for decisions."""

    IDLE = "idle"
    BUSY = "busy"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class RunStatus(StrEnum):
    """Where a run stands. `pending` waits for its turn, `cancelling` was asked to stop and has not
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
"""A run with one of these is some worker's."""

UNFINISHED = ACTIVE | {RunStatus.PENDING}
"""What is not final."""


class RunKind(StrEnum):
    """What started a run: new input (or a place in the past to go on from), or the decisions a
    paused thread waited for."""

    INPUT = "input"
    RESUME = "resume"


class CancelMode(StrEnum):
    """What becomes of what a cancelled run did: `interrupt` keeps it, `rollback` puts the thread's
    state back to where the run began."""

    INTERRUPT = "interrupt"
    ROLLBACK = "rollback"


class EffectStatus(StrEnum):
    """`started` is the intent, written before a tool is called; `finished` has its outcome."""

    STARTED = "started"
    FINISHED = "finished"


class NotificationStatus(StrEnum):
    """Where a notification stands. `dead` is one that was tried for days, and is not tried again
    unless somebody asks for it."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation. `pending` are the approvals it waits for; `checkpoint_id` is its head,
    written when a run stops; `tampered` says what of it was found not to be what was stored: then
    nothing of it is run any more."""

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
    """What happens between an input or a decision and the next `done`, `run_paused`, `error` or
    `run_cancelled`.

    `input` is `{"message"?: str, "checkpoint_id"?: str}`, or `{"paused_run": run_id, "message"?:
    str}` for a run that goes on with the decisions on what that run asked, or `{"fork_of":
    thread_id, "checkpoint_id": str}` for one that begins its thread with that state. A `pending`
    run starts when its thread is free, not before `due_at`, those of a higher `priority` first.
    `worker` is who runs it, and `attempt` counts its starts: together they are its lease, with
    `attempt` as the fencing token. `cancel` says how it was asked to stop. `at_checkpoint` is where
    the last recovery found it, and `stuck` how many in a row found it there. `budget` is what it
    may use, and `usage` what it has used, in numbers by name."""

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
class Answer:
    """The outcome of a request that came with an idempotency key; None for a key that was claimed
    for a request of several parts. `answer_id` is made of key and owner."""

    answer_id: str
    owner: str
    thread_id: str
    request_digest: str
    created_at: datetime
    outcome: Outcome | None = None
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
    """Something to be done at a time, not before. `kind` names who does it, and `payload` is what
    he needs to know.

    Whoever does it removes the timer, or moves it to another time, in the change that it makes: so
    it is done once.
    """

    timer_id: str
    kind: str
    due_at: datetime
    thread_id: str = ""
    payload: Mapping[str, Json] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A run again and again, at the times of a cron expression in a time zone. `input` is its
    runs'; on a thread of its own each time, unless `thread_id` names one, each with this `budget`.
    `next_at` is None while it is not `enabled`, or when no time is left. `last_at` is when the last
    run was due, and `last_error` a sentence: why there was none at the last time."""

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
    """What is to be told to an endpoint, by its name. `notification_id` is the same at each
    attempt, so that who is told twice can tell.

    `event` is the type of the event it tells of, and `payload` what it says. `next_at` is when it
    is tried (again), None unless it is pending; `attempts` counts those that failed, and
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
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link by which one person may decide one approval once: what has this `digest`, until
    `expires_at`. `decisions` are those that it is for; `created_by` is who asked for it. What the
    person is sent is made from it with a key, and not stored."""

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


Row = Thread | Run | Approval | Grant | Answer | Effect | Timer | Schedule | Notification | Link


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write what belongs to a run: its events and the checkpoints of its thread.
    `token` is the run's `attempt` when the lease was given. Once the run was given to somebody
    else, or has ended, what comes with this lease is refused."""

    run_id: str
    token: int


LEASE_KEY = "__assent_lease"
"""Where in `config["configurable"]` a run carries its `Lease` to the checkpointer. LangGraph keeps
names that start with `__` out of what it stores."""
