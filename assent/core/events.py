"""The typed events of a thread: one tagged union of frozen Structs. No I/O.

On the wire an event is one JSON object. `type` names it, fields at their default are left out, and
`seq` is the thread's own number: 1, 2, 3 … without a gap, given by the event log in the transaction
that stores the event.

    >>> encode(Token(ts=datetime(2026, 1, 1, tzinfo=UTC), message_id="m", content="Hi"))
    b'{"type":"token","ts":"2026-01-01T00:00:00Z","message_id":"m","content":"Hi"}'
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, dataclass_transform, get_args

import msgspec

from assent.core.clock import utc_now
from assent.core.json import Json, JsonObject


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,
    tag_field="type",
):
    """The fields of every event.

    `ts` is the time when it happened (RFC 3339, UTC). `seq` is 0 until the log has stored the
    event.
    """

    ts: datetime = msgspec.field(default_factory=utc_now)
    thread_id: str = ""
    run_id: str = ""
    seq: int = 0


class NodeEvent(Event, kw_only=True):
    """An event inside a graph node.

    `ns` is LangGraph's path of the enclosing subgraph nodes, outermost first, each with the id of
    its task: `outer:6f2c…`; `task_id` is LangGraph's id for this execution of the node, the same
    across a crash and a retry; `attempt` counts its starts in this process, from 1.
    """

    node: str = ""
    ns: tuple[str, ...] = ()
    task_id: str = ""
    attempt: int = 1


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it may be shown: the exception's class, and a sentence without secrets."""

    type: str
    message: str = ""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Numbers of tokens, as the provider counted them.

    Of the input, `cache_read_tokens` were read from the provider's cache and `cache_write_tokens`
    written to it; of the output, `reasoning_tokens` are reasoning.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call that a model asked for."""

    id: str
    name: str
    args: JsonObject


class SourceDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document that a retriever or a tool has found: the beginning of its `text`, and of its
    `metadata` what is not too long."""

    id: str = ""
    text: str = ""
    metadata: JsonObject = {}


# ── run ───────────────────────────────────────────────────────────────────────────────────────────


class RunEvent(Event, kw_only=True):
    """An event in the life of a run. In the feed of an agent or a person, `about` is the thread
    that it happened on, and `agent` the run's."""

    about: str = ""
    agent: str = ""


class RunStart(RunEvent, kw_only=True, tag="run_start"):
    """A run began with new input: the text of a `message`, or the graph's own `input`."""

    agent: str
    message: str = ""
    input: Json = None
    metadata: JsonObject = {}


class RunResumed(RunEvent, kw_only=True, tag="run_resumed"):
    """A run began with decisions; `approvals` are the ids of the decided approvals. It goes on
    where the run `paused_run` has paused."""

    agent: str
    approvals: tuple[str, ...] = ()
    paused_run: str = ""


class RunPaused(RunEvent, kw_only=True, tag="run_paused"):
    """The run paused for a person; `approvals` are the pending ids, `next` the nodes that wait. If
    standing grants have answered all of them, nobody is waited for: `next_run` goes on at once."""

    approvals: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    next_run: str = ""


class RunRecovered(RunEvent, kw_only=True, tag="run_recovered"):
    """The run goes on after its process died. `message_ids` name messages that were cut off:
    discard their text."""

    attempt: int
    message_ids: tuple[str, ...] = ()


class RunCancelled(RunEvent, kw_only=True, tag="run_cancelled"):
    """The run was stopped on request. If `rolled_back`, the thread's state is as it was before the
    run."""

    reason: str = ""
    rolled_back: bool = False


class Done(RunEvent, kw_only=True, tag="done"):
    """The run ended well. `usage` sums its models' tokens; `steps` counts its supersteps."""

    usage: Usage | None = None
    steps: int = 0


class Error(RunEvent, kw_only=True, tag="error"):
    """The run failed. `message` is safe to show; the details are in the server's log."""

    code: str
    message: str
    node: str = ""


# ── node ──────────────────────────────────────────────────────────────────────────────────────────


class NodeStart(NodeEvent, kw_only=True, tag="node_start"):
    """A node began in the superstep `step`. A run has as many supersteps as there are different
    steps in its events without `ns`. `triggers` are the channels that started it, and `path` says
    where it stands among the tasks of its step, both as LangGraph names them."""

    step: int = 0
    triggers: tuple[str, ...] = ()
    path: Json = None


class NodeEnd(NodeEvent, kw_only=True, tag="node_end"):
    """A node ended well. A node that paused at an interrupt has a start and no end."""

    step: int = 0


class NodeError(NodeEvent, kw_only=True, tag="node_error"):
    """An attempt of a node failed. If its retry policy allows, another `node_start` of the same
    task follows."""

    error: ErrorInfo


# ── model ─────────────────────────────────────────────────────────────────────────────────────────


class LlmStart(NodeEvent, kw_only=True, tag="llm_start"):
    """A model was called. `metadata` is what LangGraph and LangChain say about the call, by keys
    that begin with `langgraph_` or `ls_`, and the agent's name by `lc_agent_name`; `tags` are those
    that its code gave it. The text that it was given has `input_characters`, and costs about
    `estimated_cost`, if the model has a price."""

    message_id: str
    model: str = ""
    metadata: JsonObject = {}
    tags: tuple[str, ...] = ()
    input_characters: int = 0
    estimated_cost: float | None = None


class Token(NodeEvent, kw_only=True, tag="token"):
    """A piece of a message's text; `index` is that of its content block. `kind` is `refusal` if the
    model says that it will not, `transcript` for the words of audio, else empty."""

    message_id: str
    content: str
    index: int = 0
    kind: str = ""


class Reasoning(NodeEvent, kw_only=True, tag="reasoning"):
    """A piece of a model's reasoning, where the provider shows it."""

    message_id: str
    content: str
    index: int = 0


class Media(NodeEvent, kw_only=True, tag="media"):
    """An image, audio, video or file in a model's message, by reference: its `url`, the provider's
    `file_id`, or, if it came as `size` bytes, the message with this id in the thread's state.
    `media` is which of the four."""

    message_id: str
    media: str
    index: int = 0
    mime_type: str = ""
    url: str = ""
    file_id: str = ""
    size: int = 0


class ToolCallDelta(NodeEvent, kw_only=True, tag="tool_call_delta"):
    """A piece of a tool call: the first one names `tool_call_id` and `tool`, each one continues the
    JSON text `args`."""

    message_id: str
    index: int = 0
    tool_call_id: str = ""
    tool: str = ""
    args: str = ""


class LlmEnd(NodeEvent, kw_only=True, tag="llm_end"):
    """A model's message is complete. `cost` is that of its `usage`, if the model has a price."""

    message_id: str
    model: str = ""
    finish_reason: str = ""
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    cost: float | None = None


class LlmError(NodeEvent, kw_only=True, tag="llm_error"):
    """A call of a model failed. Discard the text of `message_id`, which is empty if none of it had
    come: then there was no `llm_start` either."""

    message_id: str = ""
    model: str = ""
    error: ErrorInfo


class LlmRetry(NodeEvent, kw_only=True, tag="llm_retry"):
    """A model is called again, after `tries` that failed and a wait. Discard the text of
    `message_ids`."""

    error: ErrorInfo
    tries: int = 1
    delay_seconds: float = 0.0
    message_ids: tuple[str, ...] = ()


# ── tool ──────────────────────────────────────────────────────────────────────────────────────────


class ToolStart(NodeEvent, kw_only=True, tag="tool_start"):
    """A tool was called with `input`."""

    tool: str
    tool_call_id: str = ""
    input: Json = None


class ToolProgress(NodeEvent, kw_only=True, tag="tool_progress"):
    """A tool sent output while it runs."""

    tool: str
    tool_call_id: str = ""
    data: Json = None


class ToolEnd(NodeEvent, kw_only=True, tag="tool_end"):
    """A tool returned `output`. `documents` are the first of LangChain's documents in it."""

    tool: str
    tool_call_id: str = ""
    output: Json = None
    documents: tuple[SourceDocument, ...] = ()


class ToolError(NodeEvent, kw_only=True, tag="tool_error"):
    """A tool raised."""

    tool: str
    tool_call_id: str = ""
    error: ErrorInfo


class ToolUnknown(NodeEvent, kw_only=True, tag="tool_unknown"):
    """A tool was started and its result can never be known, because its process died or it ran out
    of time. A person is asked."""

    tool: str
    tool_call_id: str = ""


# ── retriever ─────────────────────────────────────────────────────────────────────────────────────


class RetrieverEvent(NodeEvent, kw_only=True):
    """An event of a retriever's call. `call_id` is LangChain's id of the call."""

    retriever: str
    call_id: str = ""


class RetrieverStart(RetrieverEvent, kw_only=True, tag="retriever_start"):
    """A retriever was called with `query`."""

    query: str = ""


class RetrieverEnd(RetrieverEvent, kw_only=True, tag="retriever_end"):
    """A retriever found `count` documents. `documents` are the first of them."""

    documents: tuple[SourceDocument, ...] = ()
    count: int = 0


class RetrieverError(RetrieverEvent, kw_only=True, tag="retriever_error"):
    """A retriever raised."""

    error: ErrorInfo


# ── person ────────────────────────────────────────────────────────────────────────────────────────


class ApprovalEvent(Event, kw_only=True):
    """An event in the life of an approval. In the feed of all approvals, `about` is the thread that
    it happened on. `agent` is the agent that asks, and `node` its node that waits."""

    approval_id: str
    kind: str = ""
    tool: str = ""
    tool_call_id: str = ""
    about: str = ""
    agent: str = ""
    node: str = ""


class ApprovalRequired(ApprovalEvent, kw_only=True, tag="approval_required"):
    """A person is asked. `args` are exactly what will run, `digest` is their SHA-256 over RFC 8785
    JSON. `schema` is what an answer to a question, or an edit's arguments, must be: a JSON
    Schema. `requested_by` are the people whose words or changes it can be traced to. Several
    questions of one `interrupt()` have its `interrupt_id`, and come in their order."""

    args: Json = None
    schema: Json = None
    digest: str = ""
    allowed: tuple[str, ...] = ()
    requested_by: tuple[str, ...] = ()
    preview: Json = None
    expires_at: datetime | None = None
    interrupt_id: str | None = None


class ApprovalDecided(ApprovalEvent, kw_only=True, tag="approval_decided"):
    """A person decided: `decision` is one of approve, edit, reject, respond. `grant` names the
    standing grant that decided for them."""

    decision: str
    by: str = ""
    args: Json = None
    message: Json = None
    grant: str = ""


class ApprovalVoted(ApprovalEvent, kw_only=True, tag="approval_voted"):
    """One of several people who must agree has voted: `votes` of `quorum` now say the same. `grant`
    names the standing grant that voted for them."""

    decision: str
    by: str = ""
    message: Json = None
    votes: int = 0
    quorum: int = 1
    grant: str = ""


class ApprovalWithdrawn(ApprovalEvent, kw_only=True, tag="approval_withdrawn"):
    """A person has withdrawn their vote."""

    by: str = ""


class ApprovalEdited(ApprovalEvent, kw_only=True, tag="approval_edited"):
    """A person has edited the call, and others must agree: `args` are now exactly what will run,
    and earlier votes no longer count."""

    args: Json = None
    digest: str = ""
    by: str = ""
    allowed: tuple[str, ...] = ()
    expires_at: datetime | None = None


class ApprovalDelegated(ApprovalEvent, kw_only=True, tag="approval_delegated"):
    """A person has delegated their decision: to the person `to`, or to whoever has the `role`."""

    by: str = ""
    to: str = ""
    role: str = ""


class ApprovalCommented(ApprovalEvent, kw_only=True, tag="approval_commented"):
    """A person has commented on the approval. That decides nothing."""

    by: str = ""
    text: str = ""


class ApprovalReminder(ApprovalEvent, kw_only=True, tag="approval_reminder"):
    """The approval is still pending; without `expires_at`, for as long as it takes."""

    expires_at: datetime | None = None


class ApprovalEscalated(ApprovalEvent, kw_only=True, tag="approval_escalated"):
    """Nobody decided in time, so others are asked as well: the roles and names in `to`."""

    to: tuple[str, ...] = ()
    expires_at: datetime | None = None


class ApprovalExpired(ApprovalEvent, kw_only=True, tag="approval_expired"):
    """Nobody decided in time. Time never approves."""


class ApprovalCancelled(ApprovalEvent, kw_only=True, tag="approval_cancelled"):
    """The run that asked was cancelled, so there is nothing to decide any more."""

    by: str = ""


class ApprovalSuperseded(ApprovalEvent, kw_only=True, tag="approval_superseded"):
    """The approval is void; `reason` says why."""

    reason: str = ""


class Interrupt(NodeEvent, kw_only=True, tag="interrupt"):
    """A node called `interrupt()` with `value`, and the run pauses. `response_schema` is the JSON
    Schema of what it takes as the answer, if it says so."""

    interrupt_id: str
    value: Json = None
    response_schema: Json = None


# ── other ─────────────────────────────────────────────────────────────────────────────────────────


ROOT_CHANNEL = "__root__"
"""LangGraph's channel for the whole of a state that is not an object."""


def as_written(update: Json) -> Json:
    """An update by channel as the graph's code wrote it, also where the state is no object."""
    if isinstance(update, dict) and update.keys() == {ROOT_CHANNEL}:
        return update[ROOT_CHANNEL]
    return update


class StateUpdate(NodeEvent, kw_only=True, tag="state_update"):
    """The values that a node wrote, by channel. Never the whole state."""

    update: Json = None


class Checkpoint(Event, kw_only=True, tag="checkpoint"):
    """A checkpoint was stored, after the superstep `step`, in the graph or in the subgraph `ns`; a
    reader that wants values loads it by its id. `source` says what made it: `input`, `loop`,
    `update` or `fork`. The last one without `ns` before a run's last event is the thread's head,
    unless the run was rolled back."""

    checkpoint_id: str
    step: int = 0
    parent_id: str = ""
    source: str = ""
    ns: tuple[str, ...] = ()


class Progress(NodeEvent, kw_only=True, tag="progress"):
    """The progress of a node, from 0 to 1."""

    progress: float
    message: str = ""


class Custom(NodeEvent, kw_only=True, tag="custom"):
    """A node wrote `data` to its stream writer, or dispatched it under a `name`. With the name
    `assent:message_left_out`, `data` has the `id` of a message of the `input` that did not join the
    conversation, and the `reason`."""

    name: str = ""
    data: Json = None


class BudgetEvent(Event, kw_only=True):
    """The use of a budget: `scope` is whose it is (run, thread or agent), `budget` names it, `used`
    and `limit` share its unit."""

    scope: str
    budget: str
    used: float
    limit: float


class BudgetWarning(BudgetEvent, kw_only=True, tag="budget_warning"):
    """80 % of a budget is used."""


class BudgetExceeded(BudgetEvent, kw_only=True, tag="budget_exceeded"):
    """A budget is used up. If work is left, the run ends, or pauses for a person to grant more."""


class Broadcast(Event, kw_only=True, tag="broadcast"):
    """A message from an operator to everybody, or to those who follow one thread. `by` is the name
    of who sent it. In the log of those to everybody, `tenant` is whose people are meant."""

    message: str
    data: Json = None
    by: str = ""
    tenant: str | None = None


AnyEvent = (
    RunStart | RunResumed | RunPaused | RunRecovered | RunCancelled | Done | Error
    | NodeStart | NodeEnd | NodeError
    | LlmStart | Token | Reasoning | Media | ToolCallDelta | LlmEnd | LlmError | LlmRetry
    | ToolStart | ToolProgress | ToolEnd | ToolError | ToolUnknown
    | RetrieverStart | RetrieverEnd | RetrieverError
    | ApprovalRequired | ApprovalVoted | ApprovalWithdrawn | ApprovalEdited
    | ApprovalDelegated | ApprovalCommented | ApprovalDecided | ApprovalReminder
    | ApprovalEscalated | ApprovalExpired | ApprovalCancelled | ApprovalSuperseded
    | Interrupt | StateUpdate | Checkpoint | Progress | Custom
    | BudgetWarning | BudgetExceeded | Broadcast
)  # fmt: skip
"""Any event; `type` names it."""

EVENT_TYPES: dict[str, type[Event]] = {
    str(cls.__struct_config__.tag): cls for cls in get_args(AnyEvent)
}
"""Every event class by its `type`."""

TERMINAL_TYPES = frozenset({"done", "error", "run_paused", "run_cancelled"})
"""Types of a run's last event. A stream that follows one run ends after it, unless it is a
`run_paused` that names the run which goes on."""

FEED_TYPES = frozenset(
    name for name, cls in EVENT_TYPES.items() if issubclass(cls, RunEvent | ApprovalEvent)
)
"""Types of the events that the feeds of agents and people have copies of: those in the lives of
runs and of approvals."""

encode = msgspec.json.Encoder().encode
"""Encode an event as JSON bytes."""

decode = msgspec.json.Decoder(AnyEvent).decode
"""Decode JSON bytes to an event. Raises `msgspec.ValidationError` if they are none."""


def ns_of(checkpoint_ns: str) -> tuple[str, ...]:
    """The `ns` of events in the subgraph that LangGraph gives this namespace; () for the graph
    itself."""
    return tuple(checkpoint_ns.split("|")) if checkpoint_ns else ()


def event_type(event: Event) -> str:
    """The event's `type` on the wire."""
    return str(event.__struct_config__.tag)


ALWAYS_SENT = ("type", "seq", "ts", "thread_id", "run_id")
"""The fields that every event of a run has on the wire."""


def json_schemas(*others: Any) -> tuple[list[JsonObject], JsonObject]:
    """The JSON schemas of any event and of these other types, and the named schemas that they refer
    to, for an OpenAPI document."""
    schemas, components = msgspec.json.schema_components(
        [AnyEvent, *others], ref_template="#/components/schemas/{name}"
    )
    for cls in get_args(AnyEvent):
        schema = components[cls.__name__]
        # An operator's message is of no run; and one to everybody has no number.
        always = ALWAYS_SENT if cls is not Broadcast else ("type", "ts")
        schema["required"] = list(dict.fromkeys([*always, *schema["required"]]))
    return [*schemas], components
