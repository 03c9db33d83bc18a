"""What the server answers and sends, as values.

Each has a default for every field, and ignores fields that it does not know: a client may be older
or newer than its server. `fields` is the whole JSON object as it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

import msgspec

from assent.client.problems import ServerFailed
from assent.core.approval import Comment, Delegation, Edited, Vote
from assent.core.decisions import Decision
from assent.core.events import AnyEvent, Event, decode, event_type
from assent.core.grant import Bound
from assent.core.json import Json, JsonObject


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A value that the server showed; `fields` is all of it, as it came."""

    fields: JsonObject = {}

    def __repr__(self) -> str:
        """Each field once, and not again as it came."""
        names = (name for name in self.__struct_fields__ if name != "fields")
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({shown})"

    @classmethod
    def of(cls, fields: JsonObject) -> Self:
        """The value of this JSON object. Raises `msgspec.ValidationError`."""
        return msgspec.convert({**cls._nested(fields), "fields": fields}, cls)

    @classmethod
    def _nested(cls, fields: JsonObject) -> JsonObject:
        """The fields, of which those that hold values have these."""
        return fields


def _within(kind: type[Value], all_fields: Iterable[JsonObject]) -> tuple[JsonObject, ...]:
    """The fields of values of this kind that stand within another."""
    return tuple({**kind._nested(fields), "fields": fields} for fields in all_fields)


# ── approvals ─────────────────────────────────────────────────────────────────────────────────────


class Yours(msgspec.Struct, frozen=True, kw_only=True):
    """What you may do about an approval: the types of decision that you `may` give, and why not all
    that it takes."""

    may: tuple[str, ...] = ()
    why_not: str | None = None


class ShownApproval(Value, frozen=True, kw_only=True):
    """One question to people, as it was shown: `args` and `digest` are what is asked now."""

    approval_id: str = ""
    thread_id: str = ""
    run_id: str = ""
    agent: str = ""
    node: str = ""
    tool_call_id: str = ""
    kind: str = ""
    tool: str = ""
    args: Json = None
    schema: Json = None
    digest: str = ""
    status: str = ""
    allowed: tuple[str, ...] = ()
    requested_at: datetime | None = None
    requested_by: tuple[str, ...] = ()
    expires_at: datetime | None = None
    preview: Json = None
    conversation: JsonObject = {}
    risk: str = ""
    roles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    step: int = 0
    edit: Edited | None = None
    votes: tuple[Vote, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    comments: tuple[Comment, ...] = ()
    decision: Decision | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    asked_first: Json = None
    quorum: int = 1
    four_eyes: bool = False
    warnings: tuple[str, ...] = ()
    shortage: str | None = None
    yours: Yours | None = None

    @property
    def is_pending(self) -> bool:
        """True if it still waits for a decision."""
        return self.status == "pending"


class EditPreview(Value, frozen=True, kw_only=True):
    """What an edit would mean: the arguments with their digest, what the tool shows of such a call,
    and what it would take to approve it."""

    args: JsonObject = {}
    digest: str = ""
    preview: Json = None
    warnings: tuple[str, ...] = ()
    risk: str = ""
    quorum: int = 1
    four_eyes: bool = False


class Outcome(Value, frozen=True, kw_only=True):
    """What decisions have led to: the approvals as they are now, by id; the ids of those that still
    wait; and the run that goes on, if none does."""

    thread_id: str = ""
    run_id: str | None = None
    status: str = ""
    decisions: dict[str, ShownApproval] = {}
    pending: tuple[str, ...] = ()
    events: str | None = ""

    @classmethod
    def _nested(cls, fields: JsonObject) -> JsonObject:
        decisions: JsonObject = fields.get("decisions", {})
        shown = _within(ShownApproval, decisions.values())
        return {**fields, "decisions": dict(zip(decisions, shown, strict=True))}


class OneOutcome(Outcome, frozen=True, kw_only=True):
    """The outcome of one of several decisions: `code` is the HTTP status that it alone would have
    got, and `detail` the sentence if it was refused."""

    code: int = 0
    detail: str = ""

    @classmethod
    def _nested(cls, fields: JsonObject) -> JsonObject:
        return {**super()._nested(fields), "code": fields.get("status", 0), "status": ""}


class DecisionLink(Value, frozen=True, kw_only=True):
    """A link by which its recipient can decide. Whoever has the `url` can use it."""

    link_id: str = ""
    url: str = ""
    expires_at: datetime | None = None
    decisions: tuple[str, ...] = ()


class Grant(Value, frozen=True, kw_only=True):
    """A standing grant: calls of the tool within `bounds` that are approved in advance."""

    grant_id: str = ""
    agent: str = ""
    tool: str = ""
    bounds: dict[str, Bound] = {}
    thread_id: str | None = None
    user: str | None = None
    given_by: str = ""
    given_at: datetime | None = None
    until: datetime | None = None
    uses: int = 0
    used: int = 0
    revoked_by: str | None = None
    revoked_at: datetime | None = None


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────


class ApiKey(Value, frozen=True, kw_only=True):
    """An API key, without its text."""

    key_id: str = ""
    person: str = ""
    tenant: str | None = None
    roles: tuple[str, ...] = ()
    made_by: str = ""
    note: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class MadeApiKey(ApiKey, frozen=True, kw_only=True):
    """An API key that was just made. `key` is its text, which is shown this once."""

    key: str = ""

    def __repr__(self) -> str:
        """Without the text."""
        return f"{type(self).__name__}(key_id={self.key_id!r}, person={self.person!r})"


class RevokedKeys(Value, frozen=True, kw_only=True):
    """What was revoked of one person: their keys, and the number of their sessions."""

    keys: tuple[ApiKey, ...] = ()
    sessions: int = 0

    @classmethod
    def _nested(cls, fields: JsonObject) -> JsonObject:
        return {**fields, "keys": _within(ApiKey, fields["keys"])}


class Me(Value, frozen=True, kw_only=True):
    """Whoever asks, and what they may do."""

    name: str = ""
    tenant: str | None = None
    roles: tuple[str, ...] = ()
    rights: tuple[str, ...] = ()
    approves: JsonObject = {}
    authentication: str = ""
    expires_at: datetime | None = None


# ── runs and threads ──────────────────────────────────────────────────────────────────────────────


class Run(Value, frozen=True, kw_only=True):
    """What happens between a message or a decision and the next end or pause."""

    run_id: str = ""
    thread_id: str = ""
    owner: str = ""
    agent: str = ""
    kind: str = ""
    status: str = ""
    attempt: int = 1
    priority: int = 0
    created_at: datetime | None = None
    due_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: JsonObject | None = None
    usage: dict[str, float] = {}
    budget: JsonObject = {}
    metadata: JsonObject = {}
    requested_by: tuple[str, ...] = ()
    schedule_id: str | None = None
    next_run: str | None = None
    paused_run: str | None = None
    checkpoint_id: str | None = None
    reason: str | None = None
    events: str = ""


class RunResult(Value, frozen=True, kw_only=True):
    """The end or the pause of a run. `output` is the agent's last message, `values` the thread's
    state, and `approvals` what waits for people. If the time that was given is over first, `status`
    is that of a run that has not ended."""

    thread_id: str = ""
    run_id: str = ""
    status: str = ""
    error: JsonObject | None = None
    output: str = ""
    approvals: tuple[ShownApproval, ...] = ()
    values: Json = None

    @classmethod
    def _nested(cls, fields: JsonObject) -> JsonObject:
        return {**fields, "approvals": _within(ShownApproval, fields.get("approvals", ()))}


class Thread(Value, frozen=True, kw_only=True):
    """A thread. `approvals` is all that it waits for, and `pending` has their ids; a list of
    threads leaves out `approvals` and `values`."""

    thread_id: str = ""
    owner: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    metadata: JsonObject = {}
    title: str | None = None
    status: str = ""
    pending: tuple[str, ...] = ()
    values: Json = None
    interrupts: JsonObject = {}
    error: JsonObject | None = None
    approvals: tuple[ShownApproval, ...] = ()

    @classmethod
    def _nested(cls, fields: JsonObject) -> JsonObject:
        return {**fields, "approvals": _within(ShownApproval, fields.get("approvals", ()))}


class State(Value, frozen=True, kw_only=True):
    """A state of a thread's history, at one checkpoint."""

    values: Json = None
    next: tuple[str, ...] = ()
    checkpoint: JsonObject | None = None
    parent_checkpoint: JsonObject | None = None
    metadata: JsonObject = {}
    created_at: datetime | None = None
    tasks: tuple[JsonObject, ...] = ()
    interrupts: tuple[JsonObject, ...] = ()
    approvals: tuple[ShownApproval, ...] = ()

    @classmethod
    def _nested(cls, fields: JsonObject) -> JsonObject:
        return {**fields, "approvals": _within(ShownApproval, fields.get("approvals", ()))}

    @property
    def checkpoint_id(self) -> str:
        """The id of its checkpoint."""
        return str((self.checkpoint or {}).get("checkpoint_id", ""))


class WrittenState(Value, frozen=True, kw_only=True):
    """What a state that was written to a thread has led to."""

    checkpoint: JsonObject = {}
    status: str = ""
    approvals: tuple[ShownApproval, ...] = ()

    @classmethod
    def _nested(cls, fields: JsonObject) -> JsonObject:
        return {**fields, "approvals": _within(ShownApproval, fields.get("approvals", ()))}


class Schedule(Value, frozen=True, kw_only=True):
    """Runs at set times."""

    schedule_id: str = ""
    owner: str = ""
    agent: str = ""
    cron: str = ""
    timezone: str = "UTC"
    on_busy: str = ""
    if_missed: str = ""
    enabled: bool = True
    thread_id: str | None = None
    message: Json = None
    input: Json = None
    metadata: JsonObject = {}
    budget: JsonObject = {}
    created_at: datetime | None = None
    requested_by: tuple[str, ...] = ()
    next_at: datetime | None = None
    next_times: tuple[datetime, ...] = ()
    ends_at: datetime | None = None
    last_at: datetime | None = None
    last_run_id: str | None = None
    last_error: str | None = None


# ── files, audit, the server ──────────────────────────────────────────────────────────────────────


class File(Value, frozen=True, kw_only=True):
    """A file that was sent to the server, without its content."""

    file_id: str = ""
    name: str = ""
    mime_type: str = ""
    size: int = 0
    sha256: str = ""
    owner: str = ""
    created_at: datetime | None = None


class AuditRecord(Value, frozen=True, kw_only=True):
    """An entry of the audit chain: who did what, and when."""

    number: int = 0
    at: datetime | None = None
    action: str = ""
    authentication: str = ""
    actor: str = ""
    thread_id: str = ""
    approval_id: str = ""
    run_id: str = ""
    digest: str = ""
    policy: str = ""
    detail: JsonObject = {}
    key: str = ""
    mac: str = ""


class AuditVerification(Value, frozen=True, kw_only=True):
    """What was found of the audit chain: `broken` is the first record that is not as it was
    written, by its `number` and with a `sentence`; `unchecked` counts those whose key the server
    does not have, by key; `head` is the last record that is right."""

    head: JsonObject | None = None
    broken: JsonObject | None = None
    unchecked: dict[str, int] = {}

    @property
    def is_whole(self) -> bool:
        """True if every record is as it was written."""
        return self.broken is None and not self.unchecked


class Agent(Value, frozen=True, kw_only=True):
    """An agent that the server runs."""

    agent: str = ""
    description: str | None = None
    tools: tuple[JsonObject, ...] = ()
    nodes: tuple[str, ...] = ()
    chat_decisions: bool = False


class Health(Value, frozen=True, kw_only=True):
    """The state of the server's process."""

    status: str = ""
    version: str = ""
    timestamp: datetime | None = None


class OpenStream(Value, frozen=True, kw_only=True):
    """A stream that is open at the server. `cursor` is the number of the last event that was read
    for it, `acked` the one that its client says it has."""

    connection_id: str = ""
    transport: str = ""
    thread_id: str | None = None
    feed: str | None = None
    dialect: str = ""
    user: str = ""
    client: str = ""
    since: datetime | None = None
    last_activity: datetime | None = None
    cursor: int = 0
    acked: int | None = None
    lag_seconds: float = 0.0
    unsent_bytes: int | None = None


class Told(Value, frozen=True, kw_only=True):
    """What became of a broadcast: the readers that there were, and its number on the thread."""

    reached: int = 0
    thread_id: str | None = None
    seq: int | None = None


# ── events ────────────────────────────────────────────────────────────────────────────────────────


class UnknownEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a newer server, which this client has no class for; `fields` is all of it."""

    type: str
    seq: int = 0
    thread_id: str = ""
    run_id: str = ""
    fields: JsonObject = {}


SomeEvent = AnyEvent | UnknownEvent


@dataclass(frozen=True, slots=True)
class Heard:
    """An event, and its JSON exactly as it came."""

    event: SomeEvent
    body: bytes

    @classmethod
    def read(cls, body: bytes) -> Heard:
        """The event of this JSON. Raises `ServerFailed` for what is no event at all."""
        try:
            return cls(read_event(body), body)
        except msgspec.DecodeError as error:
            raise ServerFailed(f"The server sent what is no event: {error}.") from error

    @property
    def seq(self) -> int:
        """Its number; 0 if it has none."""
        return self.event.seq

    @property
    def type(self) -> str:
        """Its type, as on the wire."""
        return event_type(self.event) if isinstance(self.event, Event) else self.event.type

    @property
    def fields(self) -> JsonObject:
        """Its JSON object, as it came."""
        fields: JsonObject = msgspec.json.decode(self.body)
        return fields


def read_event(body: bytes) -> SomeEvent:
    """The event of this JSON; one that this client does not know is an `UnknownEvent`."""
    try:
        event: AnyEvent = decode(body)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(body, type=JsonObject)
        return msgspec.convert({**fields, "fields": fields}, UnknownEvent)
    return event


class EventPage(msgspec.Struct, frozen=True):
    """Events of a log, and as `next` the number to go on after, or, of a page that goes back,
    before. `more` is true if there are more already. `last` is that of a page that goes back: from
    the end, the log is followed after it."""

    events: tuple[Heard, ...] = ()
    next: int = 0
    more: bool = False
    last: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """News of a stream's connection: it is `down`, and is tried again after `pause` seconds because
    of this `error`; or it is `up` again."""

    state: Literal["up", "down"]
    pause: float = 0.0
    error: str = ""
