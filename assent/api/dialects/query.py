"""The dialect of query sockets: what an agent does for one query, in the events of the document
that describes such a socket.

Each event has a `type`, a `timestamp` in seconds, the `agent_name` and the `task`, and what else it
is about: `action`, `tool_name`, `input_data`, `output_data`, `error`, `metadata`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import singledispatchmethod
from typing import Any

from assent.api.dialects.answers import ANSWER_TYPES, Answer, citations_of
from assent.api.dialects.base import Fold, Foreign, Frame
from assent.api.dialects.positions import event_id, positions_of
from assent.core.events import (
    ApprovalDecided,
    ApprovalRequired,
    Broadcast,
    Done,
    Error,
    ErrorInfo,
    Event,
    LlmEnd,
    LlmError,
    LlmStart,
    Reasoning,
    RetrieverEnd,
    RetrieverError,
    RetrieverStart,
    RunCancelled,
    RunRecovered,
    RunResumed,
    RunStart,
    ToolEnd,
    ToolError,
    ToolStart,
    ToolUnknown,
    decode,
)
from assent.core.json import Json, JsonObject, encode_json
from assent.core.text import because, clipped
from assent.storage.base import LogEntry

EXECUTION_START = "agent_execution_start"
EXECUTION_COMPLETE = "agent_execution_complete"
EXECUTION_ERROR = "agent_execution_error"
"""Events of an execution. After the last two, nothing of it comes any more."""

ALWAYS = frozenset(
    {EXECUTION_START, EXECUTION_COMPLETE, EXECUTION_ERROR, "rag_query_start", "rag_query_end"}
)
"""What is told of an execution to those who do not want to see the agent think."""

VOCABULARY = ALWAYS | {
    *("connection_established", "query_received"),
    *("agent_start", "agent_action", "agent_observation", "agent_end"),
    *("tool_start", "tool_end", "llm_start", "llm_end", "llm_error"),
    *("thinking_start", "thinking_end"),
}
"""All types of events. An operator's message has none of them, so it is not taken for an answer."""

QUERY_TYPES = ANSWER_TYPES | {
    *("run_start", "run_resumed", "run_recovered", "run_cancelled", "done", "error"),
    *("llm_start", "reasoning", "llm_end", "llm_error"),
    *("tool_start", "tool_error", "tool_unknown", "retriever_start", "retriever_error"),
    *("approval_required", "approval_decided", "broadcast"),
}
"""The types of the events that this dialect looks at."""

BROADCAST = "broadcast"
MOST_TYPE_CHARACTERS = 64

NOTICE = "~notice"
"""The type of an entry that no log has: what the socket itself says of a query, as a frame. It goes
among the events, so that it keeps its place there."""

MOST_TASK_CHARACTERS = 200
"""The most of a query that each event repeats."""

MOST_THINKING_CHARACTERS = 64 * 1024
"""The most of the reasoning in one message that is kept for its end."""

CUT_OFF = "The model was cut off."

Told = tuple[str, JsonObject]
"""An event's type, and its fields beside those that all have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Foreign):
    """The events of the execution that answers a query on a thread. Without `thinking` only its
    beginning, its end and what was looked up."""

    session_id: str = ""
    thread_id: str = ""
    agent: str = ""
    text: str = ""
    case_id: int | str | None = None
    query_id: str | None = None
    thinking: bool = True

    name = "query"
    types = QUERY_TYPES

    @property
    def asked(self) -> JsonObject:
        """The query and its case."""
        return {"query": self.text, "case_id": self.case_id}

    def fold(self) -> Fold:
        return _Execution(self).frames

    def event(self, kind: str, at: datetime, fields: JsonObject, **metadata: Json) -> JsonObject:
        """An event of the query."""
        about = {name: value for name, value in self._ids(metadata) if value is not None}
        return {
            "type": kind,
            "timestamp": at.timestamp(),
            "session_id": self.session_id,
            "agent_name": self.agent,
            "task": clipped(self.text, MOST_TASK_CHARACTERS),
            **fields,
            "metadata": {**about, **fields.get("metadata", {})},
        }

    def problem(self, sentence: str, at: datetime) -> JsonObject:
        """The event with which the execution ends where no event of the log says so."""
        return self.event(EXECUTION_ERROR, at, {"error": sentence, "metadata": self.asked})

    def _ids(self, more: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
        yield from more.items()
        yield "query_id", self.query_id
        yield "thread_id", self.thread_id


def notice(event: JsonObject) -> LogEntry:
    """The event as an entry among others. It has no number."""
    return LogEntry(0, NOTICE, "", encode_json(event))


class _Execution:
    """Folds the events of an execution."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._answer = Answer()
        self._has_begun = False
        # The reasoning so far of each message that has not ended.
        self._thoughts: dict[str, str] = {}

    def frames(self, entry: LogEntry) -> Sequence[Frame]:
        """The frames of the next entry."""
        if entry.type == NOTICE:
            return (Frame("", "", entry.body),)
        if entry.type not in QUERY_TYPES:
            return ()
        event = decode(entry.body)
        if isinstance(event, Broadcast):
            return (Frame("", "", encode_json(_broadcast(event))),)
        self._answer.add(event)
        told = [each for each in self._told(event) if self._query.thinking or each[0] in ALWAYS]
        positions = positions_of(entry.seq, len(told))
        log_id = self._query.thread_id
        frames: list[Frame] = []
        for position, (kind, fields) in zip(positions, told, strict=False):
            id = event_id(log_id, *position)
            data = encode_json(self._query.event(kind, event.ts, fields, event_id=id))
            frames.append(Frame(str(position), "", data))
        return frames

    @singledispatchmethod
    def _told(self, event: Event) -> Iterator[Told]:
        """What is told of the event."""
        return iter(())

    # ── the execution ──

    @_told.register
    def _started(self, event: RunStart | RunResumed) -> Iterator[Told]:
        # One that a message has decided about begins with that decision.
        if self._has_begun:
            return
        self._has_begun = True
        yield EXECUTION_START, {"input_data": self._query.asked}
        yield "agent_start", {"input_data": self._query.asked}

    @_told.register
    def _recovered(self, event: RunRecovered) -> Iterator[Told]:
        for message_id in event.message_ids:
            yield from self._cut_off(message_id)

    @_told.register
    def _done(self, event: Done) -> Iterator[Told]:
        yield from self._all_cut_off()
        text, citations = self._answer.text or "", self._answer.citations
        yield "agent_end", {}
        yield EXECUTION_COMPLETE, {"output_data": {"answer": text, "citations": citations}}

    @_told.register
    def _failed(self, event: Error) -> Iterator[Told]:
        return self._ended_by(event.message, event.code)

    @_told.register
    def _cancelled(self, event: RunCancelled) -> Iterator[Told]:
        error = f"The run was cancelled{because(event.reason)}."
        return self._ended_by(error, "cancelled")

    def _ended_by(self, error: str, code: str) -> Iterator[Told]:
        yield from self._all_cut_off()
        yield "agent_end", {}
        metadata = {**self._query.asked, "code": code}
        yield EXECUTION_ERROR, {"error": error, "metadata": metadata}

    # ── models ──

    @_told.register
    def _llm_start(self, event: LlmStart) -> Iterator[Told]:
        self._thoughts[event.message_id] = ""
        yield from _call_begun(event)

    @_told.register
    def _reasoning(self, event: Reasoning) -> Iterator[Told]:
        thought = self._thoughts.get(event.message_id)
        if thought is not None and len(thought) < MOST_THINKING_CHARACTERS:
            whole = thought + event.content
            self._thoughts[event.message_id] = whole[:MOST_THINKING_CHARACTERS]
        return iter(())

    @_told.register
    def _llm_end(self, event: LlmEnd) -> Iterator[Told]:
        yield self._thought(event.message_id)
        metadata = {**_of_call(event), "finish_reason": event.finish_reason, "usage": event.usage}
        yield "llm_end", {"metadata": metadata}
        for call in event.tool_calls:
            yield (
                "agent_action",
                {
                    "action": "tool_usage",
                    "tool_name": call.name,
                    "input_data": call.args,
                    "metadata": {"tool_call_id": call.id},
                },
            )

    @_told.register
    def _llm_error(self, event: LlmError) -> Iterator[Told]:
        if not event.message_id:
            yield from _call_begun(event)
        yield self._thought(event.message_id)
        error = _failure("model", event.error)
        yield "llm_error", {"error": error, "metadata": _of_call(event)}

    def _thought(self, message_id: str) -> Told:
        thought = self._thoughts.pop(message_id, "")
        return "thinking_end", {
            "output_data": {"thinking": thought},
            "metadata": {"message_id": message_id},
        }

    def _cut_off(self, message_id: str) -> Iterator[Told]:
        if message_id in self._thoughts:
            yield self._thought(message_id)
            yield "llm_error", {"error": CUT_OFF, "metadata": {"message_id": message_id}}

    def _all_cut_off(self) -> Iterator[Told]:
        for message_id in tuple(self._thoughts):
            yield from self._cut_off(message_id)

    # ── tools, documents and people ──

    @_told.register
    def _tool_start(self, event: ToolStart) -> Iterator[Told]:
        yield "tool_start", {**_of_tool(event), "input_data": event.input}

    @_told.register
    def _tool_end(self, event: ToolEnd) -> Iterator[Told]:
        output: JsonObject = {"result": event.output}
        if event.documents:
            output["citations"] = citations_of(event.documents)
        return _observed(event, {"output_data": output})

    @_told.register
    def _tool_error(self, event: ToolError) -> Iterator[Told]:
        error = _failure("tool", event.error)
        return _observed(event, {"error": error})

    @_told.register
    def _tool_unknown(self, event: ToolUnknown) -> Iterator[Told]:
        return _observed(event, {"error": "The tool was started, and nobody knows its result."})

    @_told.register
    def _retriever_start(self, event: RetrieverStart) -> Iterator[Told]:
        asked = {**self._query.asked, "query": event.query}
        yield "rag_query_start", {**_of_retriever(event), "input_data": asked}

    @_told.register
    def _retriever_end(self, event: RetrieverEnd) -> Iterator[Told]:
        found = {"documents": event.count, "citations": citations_of(event.documents)}
        yield "rag_query_end", {**_of_retriever(event), "output_data": found}

    @_told.register
    def _retriever_error(self, event: RetrieverError) -> Iterator[Told]:
        error = _failure("retriever", event.error)
        yield "rag_query_end", {**_of_retriever(event), "error": error}

    @_told.register
    def _asked(self, event: ApprovalRequired) -> Iterator[Told]:
        metadata = {
            "approval_id": event.approval_id,
            "digest": event.digest,
            "kind": event.kind,
            "tool_call_id": event.tool_call_id,
        }
        yield (
            "agent_action",
            {
                "action": "approval_required",
                "tool_name": event.tool,
                "input_data": event.args,
                "metadata": metadata,
            },
        )

    @_told.register
    def _decided(self, event: ApprovalDecided) -> Iterator[Told]:
        said = {"decision": event.decision, "message": event.message}
        metadata = {"approval_id": event.approval_id, "tool_call_id": event.tool_call_id}
        yield (
            "agent_observation",
            {"tool_name": event.tool, "output_data": said, "metadata": metadata},
        )


def _broadcast(event: Broadcast) -> JsonObject:
    """An operator's message, under the type that they gave it, unless that is one of ours."""
    kind: Any = event.data.get("type") if isinstance(event.data, dict) else None
    is_usable = isinstance(kind, str) and 0 < len(kind) <= MOST_TYPE_CHARACTERS
    if not is_usable or kind in VOCABULARY:
        kind = BROADCAST
    return {"type": kind, "timestamp": event.ts.timestamp(), "message": event.message}


def _failure(what: str, error: ErrorInfo) -> str:
    return error.message or f"The {what} failed: {error.type}."


def _of_call(event: LlmStart | LlmEnd | LlmError) -> JsonObject:
    return {"message_id": event.message_id, "model": event.model}


def _call_begun(event: LlmStart | LlmError) -> Iterator[Told]:
    yield "llm_start", {"metadata": _of_call(event)}
    yield "thinking_start", {"metadata": {"message_id": event.message_id}}


def _of_tool(event: ToolStart | ToolEnd | ToolError | ToolUnknown) -> JsonObject:
    return {"tool_name": event.tool, "metadata": {"tool_call_id": event.tool_call_id}}


def _observed(event: ToolEnd | ToolError | ToolUnknown, fields: JsonObject) -> Iterator[Told]:
    for kind in ("tool_end", "agent_observation"):
        yield kind, {**_of_tool(event), **fields}


def _of_retriever(event: RetrieverStart | RetrieverEnd | RetrieverError) -> JsonObject:
    return {"tool_name": event.retriever, "metadata": {"call_id": event.call_id}}
