"""The typed events: what happens in a thread, as one tagged union of frozen Structs. No I/O.

On the wire an event is one JSON object. `type` names it, fields at their default are left out, and
`seq` is the thread's own number: 1, 2, 3 … without a gap, given by the event log in the transaction
that stores the event.

    >>> encode(Token(thread_id="t", run_id="r", ts=datetime(2026, 1, 1, tzinfo=UTC), message_id="m",
    content="Hi"))
    b'{"type":"token","ts":"2026-01-01T00:00:00Z","thread_id":"t","run_id":"r","message_id":"m","content":"Hi"}'
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import msgspec

__all__ = ["EVENT_TYPES", "TERMINAL_TYPES", "AnyEvent", "Event", "decode", "encode", "json_schemas"]  # fmt: skip

Json = Any
"""Any JSON value."""


def _now() -> datetime:
    return datetime.now(UTC)


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag_field="type",
    rename=None,
):
    """What every event carries.

    `ts` is when it happened (RFC 3339, UTC). `seq` is 0 until the log has stored the event.
    """

    ts: datetime = msgspec.field(default_factory=_now)
    thread_id: str = ""
    run_id: str = ""
    seq: int = 0


class NodeEvent(Event, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An event inside a graph node.

    `ns` is the path of enclosing subgraph nodes, outermost first; `task_id` is LangGraph's id for
    this execution of the node, the same across a crash and a retry; `attempt` counts its starts in
    this process, from 1.
    """

    node: str = ""
    ns: tuple[str, ...] = ()
    task_id: str = ""
    attempt: int = 1


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may be said of an error: the exception's class, and a sentence that is safe to show."""

    type: str
    message: str = ""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens, as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call that a model asked for."""

    id: str
    name: str
    args: dict[str, Json]


# ── run ───────────────────────────────────────────────────────────────────────────────────────────


class RunStart(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_start"):
    """A run began with a new message."""

    agent: str
    message: str = ""
    metadata: dict[str, Json] = {}


class RunResumed(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_resumed"):
    """A run began with decisions; `approvals` are the ids that were decided."""

    agent: str
    approvals: tuple[str, ...] = ()


class RunPaused(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_paused"):
    """The run ended waiting for a person; `approvals` are the pending ids, `next` the nodes that
    wait."""

    approvals: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


class RunRecovered(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_recovered"):
    """The run goes on after its process died. `message_ids` name messages whose text was cut off:
    discard it."""

    attempt: int
    message_ids: tuple[str, ...] = ()


class RunCancelled(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_cancelled"):
    """The run was stopped on request. `rolled_back` says that the thread's state is what it was
    before the run."""

    reason: str = ""
    rolled_back: bool = False


class Done(Event, frozen=True, kw_only=True, omit_defaults=True, tag="done"):
    """The run ended well. `usage` sums what its models reported; `steps` counts its supersteps."""

    usage: Usage | None = None
    steps: int = 0


class Error(Event, frozen=True, kw_only=True, omit_defaults=True, tag="error"):
    """The run ended badly. `message` is safe to show; the details are in the server's log."""

    code: str
    message: str
    node: str = ""


# ── node ──────────────────────────────────────────────────────────────────────────────────────────


class NodeStart(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="node_start"):
    """A node began; `step` is the superstep. A run has as many as there are different steps in its
    events without `ns`."""

    step: int = 0


class NodeEnd(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="node_end"):
    """A node ended well. A node that paused at an interrupt has a start and no end."""

    step: int = 0


class NodeError(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="node_error"):
    """An attempt of a node failed. If its retry policy allows, another `node_start` of the same
    task follows."""

    error: ErrorInfo


# ── model ─────────────────────────────────────────────────────────────────────────────────────────


class LlmStart(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="llm_start"):
    """A model was called."""

    message_id: str
    model: str = ""


class Token(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="token"):
    """A piece of a message's text; `index` is the content block's."""

    message_id: str
    content: str
    index: int = 0


class Reasoning(
    NodeEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="reasoning"
):
    """A piece of a model's reasoning, where the provider shows it."""

    message_id: str
    content: str
    index: int = 0


class ToolCallDelta(
    NodeEvent, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag="tool_call_delta"
):
    """A piece of a tool call: the first names `tool_call_id` and `tool`, each adds to the JSON text
    `args`."""

    message_id: str
    index: int = 0
    tool_call_id: str = ""
    tool: str = ""
    args: str = ""


class LlmEnd(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="llm_end"):
    """A model's message is complete."""

    message_id: str
    model: str = ""
    finish_reason: str = ""
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class LlmRetry(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="llm_retry"):
    """A model is called again, after `tries` that failed and a wait. Discard the text of
    `message_ids`: it is void."""

    error: ErrorInfo
    tries: int = 1
    delay_seconds: float = 0.0
    message_ids: tuple[str, ...] = ()


# ── tool ──────────────────────────────────────────────────────────────────────────────────────────


class ToolStart(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="tool_start"):
    """A tool was called with `input`."""

    tool: str
    tool_call_id: str = ""
    input: Json = None


class ToolProgress(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="tool_progress"):
    """What a tool says of itself while it runs."""

    tool: str
    tool_call_id: str = ""
    data: Json = None


class ToolEnd(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="tool_end"):
    """A tool returned `output`."""

    tool: str
    tool_call_id: str = ""
    output: Json = None


class ToolError(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="tool_error"):
    """A tool raised."""

    tool: str
    tool_call_id: str = ""
    error: ErrorInfo


class ToolUnknown(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="tool_unknown"):
    """A tool was started and its result can never be known, because its process died or it ran out
    of time: a person is asked."""

    tool: str
    tool_call_id: str = ""


# ── person ────────────────────────────────────────────────────────────────────────────────────────


class ApprovalEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An event in the life of an approval. In the feed of all approvals, `about` is the thread that
    it happened on."""

    approval_id: str
    kind: str = ""
    tool: str = ""
    tool_call_id: str = ""
    about: str = ""


class ApprovalRequired(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_required"
):
    """A person is asked. `args` are exactly what will run, `digest` is their SHA-256 over RFC 8785
    JSON. `schema` is what an answer to a question, or an edit's arguments, must be: a JSON
    Schema."""

    args: Json = None
    schema: Json = None
    digest: str = ""
    allowed: tuple[str, ...] = ()
    preview: Json = None
    expires_at: datetime | None = None


class ApprovalDecided(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_decided"
):
    """A person decided: `decision` is one of approve, edit, reject, respond. `grant` names the
    standing grant that decided for him."""

    decision: str
    by: str = ""
    args: Json = None
    message: Json = None
    grant: str = ""


class ApprovalVoted(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_voted"
):
    """One of several who must agree has voted: `votes` of `quorum` now say the same as he. `grant`
    names the standing grant that voted for him."""

    decision: str
    by: str = ""
    message: Json = None
    votes: int = 0
    quorum: int = 1
    grant: str = ""


class ApprovalWithdrawn(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_withdrawn"
):
    """Somebody has taken his vote back."""

    by: str = ""


class ApprovalEdited(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_edited"
):
    """Somebody has changed what is asked, and others must agree: `args` are now exactly what will
    run, and no earlier vote counts."""

    args: Json = None
    digest: str = ""
    by: str = ""
    allowed: tuple[str, ...] = ()
    expires_at: datetime | None = None


class ApprovalDelegated(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_delegated"
):
    """Somebody has handed his say to another: to the person `to`, or to whoever has the `role`."""

    by: str = ""
    to: str = ""
    role: str = ""


class ApprovalCommented(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_commented"
):
    """Somebody has said something about what is asked. It decides nothing."""

    by: str = ""
    text: str = ""


class ApprovalReminder(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_reminder"
):
    """The approval still waits; without `expires_at`, for as long as it takes."""

    expires_at: datetime | None = None


class ApprovalEscalated(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_escalated"
):
    """Others were asked as well, because nobody decided in time: those with the roles and names in
    `to`."""

    to: tuple[str, ...] = ()
    expires_at: datetime | None = None


class ApprovalExpired(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_expired"
):
    """Nobody decided in time. Time never approves."""


class ApprovalCancelled(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_cancelled"
):
    """The run that asked was cancelled, so there is nothing to decide any more."""

    by: str = ""


class ApprovalSuperseded(
    ApprovalEvent, frozen=True, kw_only=True, omit_defaults=True, tag="approval_superseded"
):
    """What was asked no longer stands; `reason` says why."""

    reason: str = ""


# ── other ─────────────────────────────────────────────────────────────────────────────────────────


class StateUpdate(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="state_update"):
    """What a node wrote, by channel. Never the whole state."""

    update: Json = None


class Checkpoint(Event, frozen=True, kw_only=True, omit_defaults=True, tag="checkpoint"):
    """A checkpoint was stored; a reader that wants values loads it by its id."""

    checkpoint_id: str
    step: int = 0
    next: tuple[str, ...] = ()


class Progress(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="progress"):
    """How far a node is, from 0 to 1."""

    progress: float
    message: str = ""


class Custom(NodeEvent, frozen=True, kw_only=True, omit_defaults=True, tag="custom"):
    """What a node wrote to its stream writer."""

    data: Json = None


class BudgetEvent(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The use of a budget: `scope` is whose it is (run, thread or agent), `budget` names it, `used`
    and `limit` share its unit."""

    scope: str
    budget: str
    used: float
    limit: float


class BudgetWarning(
    BudgetEvent, frozen=True, kw_only=True, omit_defaults=True, tag="budget_warning"
):
    """Most of a budget is used: 80 %."""


class BudgetExceeded(
    BudgetEvent, frozen=True, kw_only=True, omit_defaults=True, tag="budget_exceeded"
):
    """A budget is used up. If work is left, the run ends, or pauses for a person to grant more."""


class Broadcast(Event, frozen=True, kw_only=True, omit_defaults=True, tag="broadcast"):
    """What an operator says to everybody."""

    message: str
    data: Json = None


AnyEvent = (
    RunStart | RunResumed | RunPaused | RunRecovered | RunCancelled | Done | Error
    | NodeStart | NodeEnd | NodeError
    | LlmStart | Token | Reasoning | ToolCallDelta | LlmEnd | LlmRetry
    | ToolStart | ToolProgress | ToolEnd | ToolError | ToolUnknown
    | ApprovalRequired | ApprovalVoted | ApprovalWithdrawn | ApprovalEdited | ApprovalDelegated | ApprovalCommented
    | ApprovalDecided | ApprovalReminder | ApprovalEscalated | ApprovalExpired | ApprovalCancelled | ApprovalSuperseded
    | StateUpdate | Checkpoint | Progress | Custom | BudgetWarning | BudgetExceeded | Broadcast
)  # fmt: skip
"""The union, told apart by `type`."""

EVENT_TYPES: dict[str, type[Event]] = {
    str(cls.__struct_config__.tag): cls for cls in get_args(AnyEvent)
}
"""Every event class by its `type`."""

TERMINAL_TYPES = frozenset({"done", "error", "run_paused", "run_cancelled"})
"""A run's last event is one of these, and a stream that follows one run ends after it."""

encode = msgspec.json.Encoder().encode
"""An event as JSON bytes."""

decode = msgspec.json.Decoder(AnyEvent).decode
"""JSON bytes as an event. Raises `msgspec.ValidationError` if they are not one."""


def event_type(event: Event) -> str:
    """The event's `type` on the wire."""
    return str(event.__struct_config__.tag)


def json_schemas(
    ref_template: str = "#/components/schemas/{name}",
) -> tuple[dict[str, Json], dict[str, Json]]:
    """The union's JSON schema, and the named schemas it refers to."""
    (schema,), components = msgspec.json.schema_components([AnyEvent], ref_template=ref_template)
    return schema, components
