"""From what LangChain and LangGraph report to typed events. Does no I/O; both sources rest on it.

`EventMapper` takes reports of what happened (a node started, a model sent a chunk, a tool raised)
and emits the events for them. One source calls it from LangChain's callbacks, the other one from
`astream_events(version="v2")`, so the two can differ only in when they call, never in what an event
says.

**Message ids.** A provider may name a message itself, in its first chunk (OpenAI's Responses API).
Otherwise langchain-core names it `lc_run--<run id of the call>`, with `-0` appended if the model
did not stream. So the id is not known when the model is called, and `llm_start` waits for it:

- `llm_start` is emitted with the call's first chunk, even an empty one, or with the whole message
  of a model that does not stream. Its `ts` is the time of the call, so the time to the first token
  can be read off. A call that fails earlier has no events of its own, only its `node_error`.
- Every event of a call carries the id of the first chunk. langchain-core merges chunks under the
  first id that a provider chose, so the message in the state has this id too, unless a provider
  names a message only after its first chunk.

**Order and failures.** A node that pauses (`GraphBubbleUp`), is given an answer that its
`interrupt()` does not take, or is cancelled has a start and no end.
A node that hands over to its parent graph (`ParentCommand`) has ended well. LangGraph cancels an
attempt that ran out of time, which looks like any other cancellation; its `node_error` is emitted
when the same task starts again, or when the run fails with that error.

**JSON.** A value that is not JSON never fails a run: see `event_json`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import ToolException
from langgraph.constants import TAG_HIDDEN, TAG_NOSTREAM
from langgraph.errors import (
    GraphBubbleUp,
    NodeCancelledError,
    NodeTimeoutError,
    ParentCommand,
    is_invalid_resume,
)
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.types import Command

from assent.core.clock import utc_now, uuid7
from assent.core.errors import AssentError
from assent.core.events import (
    Custom,
    ErrorInfo,
    Event,
    LlmEnd,
    LlmError,
    LlmRetry,
    LlmStart,
    Media,
    NodeEnd,
    NodeError,
    NodeStart,
    Progress,
    Reasoning,
    RetrieverEnd,
    RetrieverError,
    RetrieverStart,
    StateUpdate,
    Token,
    ToolCall,
    ToolCallDelta,
    ToolEnd,
    ToolError,
    ToolProgress,
    ToolStart,
    Usage,
    ns_of,
)
from assent.core.json import Json, JsonObject, valid_text
from assent.graph.model_retry import LLM_RETRY
from assent.graph.stream.documents import documents_in, shown_documents
from assent.graph.stream.jsonable import bounded, event_json
from assent.graph.stream.media import media_fields, without_bytes
from assent.graph.stream.updates import changes, name_messages, state_updates
from assent.graph.tool_calls import TIMED_OUT

Emit = Callable[[Event], None]
Metadata = Mapping[str, Any]

REASONING, REFUSAL, TRANSCRIPT = "reasoning", "refusal", "transcript"
"""Kinds of text in a message, beside its words."""

CALL_BYTES = 4096
"""The most bytes of what is told about a model's call, as JSON."""

INNER_TAGS = ("seq:step:", "graph:step:", "langsmith:")
"""The beginnings of tags that LangChain and LangGraph give for themselves."""

INJECTED = (Runtime, ToolRuntime, BaseStore)

Prompt = str | Sequence[BaseMessage]
"""What a model is given: a plain one a text, a chat model messages."""

Place = dict[str, Any]
"""The fields, except `ts`, that events at one place in the graph share: `thread_id`, `run_id`,
`node`, `ns`, `task_id`, `attempt`."""


@dataclass(frozen=True, slots=True)
class NodeRun:
    """A node that has started and not ended; `path` is LangGraph's own name for it, as in
    `outer:id|inner:id`."""

    place: Place
    step: int
    path: str
    inputs: Any

    @property
    def task_id(self) -> str:
        return str(self.place["task_id"])


@dataclass(slots=True)
class ModelCall:
    """A model that was called and has not finished. Its first chunk sets `message_id`;
    `tool_calls` are the ids of the tool calls that its chunks did not number, in order. `metadata`,
    `tags` and `input_characters` are as they are told."""

    place: Place
    called_at: datetime
    model: str
    metadata: JsonObject
    tags: tuple[str, ...]
    input_characters: int
    silent: bool
    message_id: str = ""
    tool_calls: list[str] = field(default_factory=list)


class EventMapper:
    """Maps what happens in one run of a graph (or of any runnable) to events, and emits them.

    A `run_id` given to a method is LangChain's id of one node, model, tool or retriever, as a UUID
    or as a string, the same way throughout. Reports about a `run_id` that was not seen to start are
    ignored.

    LangGraph runs sync nodes in threads, so methods may be called from several threads at once, as
    long as the calls for one `run_id` come one after the other: everything that is kept is keyed by
    run or by task, in dicts.
    """

    def __init__(
        self,
        emit: Emit,
        *,
        thread_id: str = "",
        run_id: str = "",
        now: Callable[[], datetime] = utc_now,
        new_id: Callable[[], str] = uuid7,
    ) -> None:
        self._new_id = new_id
        self._emit = emit
        self._thread_id = thread_id
        self._run_id = run_id
        self._now = now
        self._attempts: dict[str, int] = {}
        self._nodes: dict[Hashable, NodeRun] = {}
        self._cancelled: dict[str, NodeRun] = {}
        self._subgraphs: set[str] = set()
        self._calls: dict[Hashable, ModelCall] = {}
        self._message_ids: dict[str, list[str]] = {}
        self._failures: dict[str, tuple[NodeRun, ErrorInfo]] = {}
        self._tools: dict[Hashable, dict[str, Any]] = {}
        self._retrievers: dict[Hashable, dict[str, Any]] = {}

    def close(self) -> None:
        """Emit nothing any more."""
        self._emit = _discard

    # ── nodes ─────────────────────────────────────────────────────────────────────────────────────

    def chain_start(
        self,
        run_id: Hashable,
        name: str | None,
        tags: Sequence[str] | None,
        metadata: Metadata | None,
        inputs: Any = None,
    ) -> None:
        """A chain started on `inputs`. It is a node if LangGraph says so."""
        if not metadata or not _is_node(name, tags, metadata):
            return
        path = metadata["langgraph_checkpoint_ns"]
        _, task_id = _names_and_ids(path)[-1]
        self._fail_lost_attempt(task_id)
        self._void_failed_attempt(task_id)
        self._attempts[task_id] = self._attempts.get(task_id, 0) + 1
        node = NodeRun(self._place(metadata), metadata.get("langgraph_step", 0), path, inputs)
        self._nodes[run_id] = node
        if node.place["ns"]:
            self._subgraphs.add(path.rpartition("|")[0])
        self._emit(
            NodeStart(
                step=node.step,
                triggers=tuple(metadata.get("langgraph_triggers", ())),
                path=event_json(metadata.get("langgraph_path")),
                **self._at(node.place),
            )
        )

    def chain_end(self, run_id: Hashable, output: Any) -> None:
        """A chain ended and returned `output`."""
        node = self._nodes.pop(run_id, None)
        if node is not None:
            self._end(node, output)

    def chain_error(self, run_id: Hashable, error: BaseException) -> None:
        """A chain raised `error`."""
        node = self._nodes.pop(run_id, None)
        if node is None:
            return
        if isinstance(error, ParentCommand):
            self._end(node, _command_for(node, error))
        elif isinstance(error, asyncio.CancelledError):
            self._cancelled[node.task_id] = node
        elif not _asks(error):
            self._fail(node, _error_info(error))

    def run_failed(self, error: BaseException) -> None:
        """The whole run raised `error`. Only now is it known which attempt ran out of time:
        LangGraph notes on the error the ids of the tasks that it came through."""
        if not isinstance(error, NodeTimeoutError | NodeCancelledError):
            return
        notes = " ".join(getattr(error, "__notes__", ()))
        for node in (*self._cancelled.values(), *self._nodes.values()):
            if node.task_id in notes:
                self._fail(node, _error_info(error))

    def _end(self, node: NodeRun, output: Any) -> None:
        self._message_ids.pop(node.task_id, None)
        at = self._at(node.place)
        for update in state_updates(output):
            if node.path in self._subgraphs:
                update = changes(node.inputs, update)
            if update:
                name_messages(update, self._new_id)
                self._emit(StateUpdate(update=without_bytes(event_json(update)), **at))
        self._emit(NodeEnd(step=node.step, **at))

    def _fail(self, node: NodeRun, error: ErrorInfo) -> None:
        self._failures[node.task_id] = node, error
        self._emit(NodeError(error=error, **self._at(node.place)))

    def _fail_lost_attempt(self, task_id: str) -> None:
        """Fail the task's last attempt if it neither ended nor raised: since the task starts again,
        that attempt was cut off for taking too long."""
        lost: list[NodeRun] = []
        for run_id, node in list(self._nodes.items()):
            if node.task_id == task_id:
                lost.append(self._nodes.pop(run_id))
        if task_id in self._cancelled:
            lost.append(self._cancelled.pop(task_id))
        for node in lost:
            self._fail(node, ErrorInfo(type=NodeTimeoutError.__name__))

    def _void_failed_attempt(self, task_id: str) -> None:
        """Void the messages of the task's failed attempt: none of them gets into the state."""
        failure = self._failures.pop(task_id, None)
        message_ids = self._message_ids.pop(task_id, None)
        if failure is None or message_ids is None:
            return
        node, error = failure
        tries = self._attempts[task_id]
        at = self._at(node.place)
        self._emit(LlmRetry(error=error, tries=tries, message_ids=tuple(message_ids), **at))

    # ── models ────────────────────────────────────────────────────────────────────────────────────

    def model_start(
        self,
        run_id: Hashable,
        tags: Sequence[str] | None,
        metadata: Metadata | None,
        given: Sequence[Prompt] = (),
    ) -> None:
        """A chat model or a plain one was called, and was `given` this. Its `llm_start` waits for
        the message's id."""
        place = self._place(metadata)
        if place["task_id"]:
            self._message_ids.setdefault(place["task_id"], [])
        self._calls[run_id] = ModelCall(
            place=place,
            called_at=self._now(),
            model=(metadata or {}).get("ls_model_name") or "",
            metadata=_about_call(metadata or {}),
            tags=tuple(tag for tag in tags or () if _is_given(tag)),
            input_characters=sum(map(_characters, given)),
            silent=TAG_NOSTREAM in (tags or ()),
        )

    def model_chunk(self, run_id: Hashable, chunk: BaseMessage) -> None:
        """A chat model sent a chunk of its message."""
        call = self._calls.get(run_id)
        if call is None:
            return
        if not call.message_id:
            self._open(run_id, call, chunk.id)
        if call.silent:
            return
        content = chunk.content
        # The hot path: most chunks are a piece of text and nothing else.
        if (
            type(content) is str
            and not chunk.additional_kwargs
            and not getattr(chunk, "tool_call_chunks", None)
        ):
            if content:
                self._emit_token(call, content)
            return
        self._emit_content(call, chunk)
        self._emit_tool_call_deltas(call, chunk)

    def model_text(self, run_id: Hashable, text: str) -> None:
        """A plain model sent a piece of its text."""
        call = self._calls.get(run_id)
        if call is None:
            return
        if not call.message_id:
            self._open(run_id, call, None)
        if text and not call.silent:
            self._emit_token(call, text)

    def model_end(self, run_id: Hashable, message: BaseMessage) -> None:
        """A model finished its message. If it did not stream, all of it is emitted now."""
        call = self._calls.pop(run_id, None)
        if call is None:
            return
        if not call.message_id:
            self._open(run_id, call, message.id)
            if not call.silent:
                self._emit_content(call, message)
        response = message.response_metadata
        finish_reason = response.get("finish_reason") or response.get("stop_reason") or ""
        self._emit(
            LlmEnd(
                message_id=call.message_id,
                model=call.model or str(response.get("model_name") or ""),
                finish_reason=str(finish_reason),
                usage=_usage(message),
                tool_calls=_tool_calls(message),
                **self._at(call.place),
            )
        )

    def model_error(self, run_id: Hashable, error: BaseException) -> None:
        """A model raised. The message that it began stays without an end."""
        call = self._calls.pop(run_id, None)
        if call is not None and _is_failure(error):
            at = self._at(call.place)
            info = _error_info(error)
            self._emit(LlmError(message_id=call.message_id, model=call.model, error=info, **at))

    def _open(self, run_id: Hashable, call: ModelCall, message_id: str | None) -> None:
        call.message_id = message_id or f"lc_run--{run_id}"
        message_ids = self._message_ids.get(call.place["task_id"])
        if message_ids is not None:
            message_ids.append(call.message_id)
        at = {**call.place, "ts": call.called_at}
        self._emit(
            LlmStart(
                message_id=call.message_id,
                model=call.model,
                metadata=call.metadata,
                tags=call.tags,
                input_characters=call.input_characters,
                **at,
            )
        )

    def _emit_token(self, call: ModelCall, text: str, index: int = 0, kind: str = "") -> None:
        # Written out, since `**place` would make a token three times as costly.
        place = call.place
        self._emit(
            Token(
                ts=self._now(),
                thread_id=self._thread_id,
                run_id=self._run_id,
                node=place["node"],
                ns=place["ns"],
                task_id=place["task_id"],
                attempt=place["attempt"],
                message_id=call.message_id,
                content=text if text.isascii() else valid_text(text),
                index=index,
                kind=kind,
            )
        )

    def _emit_content(self, call: ModelCall, message: BaseMessage) -> None:
        media: list[tuple[int, dict[str, Any]]] = []
        for index, block in _blocks(message):
            kind, text = _piece(block)
            if kind == REASONING and text:
                self._emit_reasoning(call, text, index)
            elif text:
                self._emit_token(call, text, index, kind)
            fields = media_fields(block)
            if fields is not None:
                media.append((index, fields))
        # Behind all words of the message.
        for index, fields in media:
            at = self._at(call.place)
            self._emit(Media(message_id=call.message_id, index=index, **fields, **at))

    def _emit_reasoning(self, call: ModelCall, text: str, index: int) -> None:
        content = valid_text(text)
        at = self._at(call.place)
        self._emit(Reasoning(message_id=call.message_id, content=content, index=index, **at))

    def _emit_tool_call_deltas(self, call: ModelCall, chunk: BaseMessage) -> None:
        for delta in getattr(chunk, "tool_call_chunks", ()):
            self._emit(
                ToolCallDelta(
                    message_id=call.message_id,
                    index=_call_index(call, delta),
                    tool_call_id=delta.get("id") or "",
                    tool=delta.get("name") or "",
                    args=valid_text(delta.get("args") or ""),
                    **self._at(call.place),
                )
            )

    # ── tools ─────────────────────────────────────────────────────────────────────────────────────

    def tool_start(
        self,
        run_id: Hashable,
        tool: str,
        tool_call_id: str,
        tool_input: Any,
        metadata: Metadata | None,
    ) -> None:
        """A tool was called."""
        run = {**self._place(metadata), "tool": tool, "tool_call_id": tool_call_id}
        self._tools[run_id] = run
        self._emit(ToolStart(input=_shown_input(tool_input), **self._at(run)))

    def tool_progress(self, run_id: Hashable, data: Any) -> None:
        """A tool sent a piece of its output while it runs."""
        run = self._tools.get(run_id)
        if run is not None:
            self._emit(ToolProgress(data=event_json(data), **self._at(run)))

    def tool_end(self, run_id: Hashable, output: Any) -> None:
        """A tool returned. The status of its message says if it turned its own exception into an
        answer (`handle_tool_error`)."""
        run = self._tools.pop(run_id, None)
        if run is None:
            return
        at = self._at(run)
        message = _tool_message(output)
        documents = shown_documents(documents_in(output if message is None else message))
        if message is None:
            shown = without_bytes(event_json(output))
            self._emit(ToolEnd(output=shown, documents=documents, **at))
            return
        at["tool_call_id"] = run["tool_call_id"] or message.tool_call_id
        content = message.content
        if message.status == "error":
            text = valid_text(content) if isinstance(content, str) else ""
            error = ErrorInfo(type=ToolException.__name__, message=text)
            self._emit(ToolError(error=error, **at))
        else:
            shown = without_bytes(event_json(content))
            self._emit(ToolEnd(output=shown, documents=documents, **at))

    def tool_error(self, run_id: Hashable, error: BaseException) -> None:
        """A tool raised. One that asks a person, or whose run is stopped, will be called again and
        has not failed."""
        run = self._tools.pop(run_id, None)
        if run is not None and _is_failure(error):
            self._emit(ToolError(error=_error_info(error), **self._at(run)))

    # ── retrievers ────────────────────────────────────────────────────────────────────────────────

    def retriever_start(
        self, run_id: Hashable, retriever: str, query: Any, metadata: Metadata | None
    ) -> None:
        """A retriever was called. LangChain checks neither what it is asked nor what it returns."""
        run = {**self._place(metadata), "retriever": retriever, "call_id": str(run_id)}
        self._retrievers[run_id] = run
        self._emit(RetrieverStart(query=valid_text(str(query)), **self._at(run)))

    def retriever_end(self, run_id: Hashable, found: Any) -> None:
        """A retriever returned what it found."""
        run = self._retrievers.pop(run_id, None)
        if run is not None:
            documents = [*documents_in(found)]
            shown, count = shown_documents(documents), len(documents)
            self._emit(RetrieverEnd(documents=shown, count=count, **self._at(run)))

    def retriever_error(self, run_id: Hashable, error: BaseException) -> None:
        """A retriever raised."""
        run = self._retrievers.pop(run_id, None)
        if run is not None and _is_failure(error):
            self._emit(RetrieverError(error=_error_info(error), **self._at(run)))

    # ── what nodes write ──────────────────────────────────────────────────────────────────────────

    def written(self, data: Any, metadata: Metadata | None) -> None:
        """Something was written to the stream writer; `{"progress": 0..1, "message"?: str}` is
        progress."""
        at = self._at(self._place(metadata))
        if _is_progress(data):
            message = valid_text(data.get("message", ""))
            self._emit(Progress(progress=float(data["progress"]), message=message, **at))
        else:
            self._emit(Custom(data=event_json(data), **at))

    def dispatched(self, name: str, data: Any, metadata: Metadata | None) -> None:
        """A custom event was dispatched with LangChain's `dispatch_custom_event`, by a node of the
        user's or by one of our own agent's."""
        if name == LLM_RETRY:
            self._model_retried(data, self._place(metadata))
        elif name == TIMED_OUT:
            error = ErrorInfo(type=TimeoutError.__name__, message=data["message"])
            at = self._at(self._place(metadata))
            call = {"tool": data["tool"], "tool_call_id": data["tool_call_id"]}
            self._emit(ToolError(error=error, **call, **at))
        elif _is_progress(data):
            self.written(data, metadata)
        else:
            at = self._at(self._place(metadata))
            self._emit(Custom(name=valid_text(name), data=event_json(data), **at))

    def _model_retried(self, retry: Mapping[str, Any], place: Place) -> None:
        message_ids = self._message_ids.pop(place["task_id"], ())
        self._emit(
            LlmRetry(
                error=ErrorInfo(**retry["error"]),
                tries=retry["tries"],
                delay_seconds=retry["delay_seconds"],
                message_ids=tuple(message_ids),
                **self._at(place),
            )
        )

    # ── places ────────────────────────────────────────────────────────────────────────────────────

    def _place(self, metadata: Metadata | None) -> Place:
        """The place that the metadata names; outside of a graph only the run is known."""
        metadata = metadata or {}
        node, task_id = "", ""
        ns: tuple[str, ...] = ()
        path = metadata.get("langgraph_checkpoint_ns", "")
        tasks = _names_and_ids(path)
        if tasks:
            node = metadata.get("langgraph_node", "")
            task_id = tasks[-1][1]
            ns = _enclosing(path, _callers(metadata.get("langgraph_path", ())))
        return {
            "thread_id": self._thread_id,
            "run_id": self._run_id,
            "node": node,
            "ns": ns,
            "task_id": task_id,
            "attempt": self._attempts.get(task_id, 1),
        }

    def _at(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"ts": self._now(), **fields}


def _discard(event: Event) -> None:
    pass


# ── reading what LangGraph reports ────────────────────────────────────────────────────────────────


def _is_node(name: str | None, tags: Sequence[str] | None, metadata: Metadata) -> bool:
    """True if a chain is a node itself. A runnable inside of it may have the node's name, but not
    the tag."""
    if not tags or TAG_HIDDEN in tags or name == "__start__":
        return False
    if name != metadata.get("langgraph_node") or not metadata.get("langgraph_checkpoint_ns"):
        return False
    return any(tag.startswith("graph:step:") for tag in tags)


def _names_and_ids(path: str) -> list[tuple[str, str]]:
    """The tasks in `outer:id|inner:id`. A part that is a bare number only numbers a node's second,
    third … subgraph."""
    tasks: list[tuple[str, str]] = []
    for part in path.split("|"):
        name, _, task_id = part.partition(":")
        if task_id:
            tasks.append((name, task_id))
    return tasks


def _callers(path: Sequence[Any]) -> int:
    """The number of tasks of the same graph that called this one. LangGraph nests the handler of a
    node's error under that node, and a functional `@task` under its caller, although neither is a
    subgraph."""
    if tuple(path[-2:]) == ("node_error_handler", False):
        return 1
    is_call = len(path) == 4 and path[0] == "__pregel_push" and path[-1] is True
    return 1 + _callers(path[1]) if is_call else 0


def _enclosing(path: str, callers: int) -> tuple[str, ...]:
    """The path of the graph that a task is in: without the task itself, and without those tasks of
    the same graph that called it."""
    parts = list(ns_of(path))
    for _ in range(1 + callers):
        while parts and ":" not in parts.pop():
            pass
    return tuple(parts)


def _about_call(metadata: Metadata) -> JsonObject:
    """What LangGraph and LangChain say about a model's call. If that is too much, the longest goes
    first."""
    told: JsonObject = {}
    for key, value in metadata.items():
        # What the caller's config has of these is about the person who asks.
        is_told = key.startswith(("langgraph_", "ls_")) or key == "lc_agent_name"
        if is_told and not key.startswith("langgraph_auth_"):
            told[key] = event_json(value)
    return bounded(told, CALL_BYTES)


def _is_given(tag: str) -> bool:
    """True for a tag that the code around a model gave it."""
    return tag != TAG_NOSTREAM and not tag.startswith(INNER_TAGS)


def _command_for(node: NodeRun, error: ParentCommand) -> Command[Any] | None:
    """The command that a subgraph handed to this node's graph, or None if it goes further up and is
    written there."""
    command: Command[Any] = error.args[0]
    without_ids = "|".join(name for name, _ in _names_and_ids(node.path))
    return command if command.graph in (node.path, without_ids, node.place["node"]) else None


def _is_progress(data: Any) -> bool:
    if not isinstance(data, Mapping) or not {"progress"} <= data.keys() <= {"progress", "message"}:
        return False
    progress = data["progress"]
    is_number = isinstance(progress, int | float) and not isinstance(progress, bool)
    return is_number and 0 <= progress <= 1 and isinstance(data.get("message", ""), str)


# ── reading what models and tools send ────────────────────────────────────────────────────────────


def plain_message(text: str, generation_info: Mapping[str, Any] | None) -> AIMessage:
    """A plain model's output as the message that `model_end` takes."""
    reason = (generation_info or {}).get("finish_reason")
    return AIMessage(text, response_metadata={"finish_reason": reason})


def _characters(prompt: Prompt) -> int:
    """The characters of the text that a model is given."""
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(message.text) for message in prompt)


def _piece(block: str | dict[str, Any]) -> tuple[str, str]:
    """The text of a content block, and its kind: that of a `token`, or `REASONING`."""
    if isinstance(block, str):
        return "", block
    match block.get("type"):
        case "text":
            return "", block.get("text") or ""
        case "thinking" | "reasoning" | "reasoning_content":
            return REASONING, _reasoning_text(block)
        case "refusal":
            return REFUSAL, block.get("refusal") or ""
        case "audio":
            return TRANSCRIPT, block.get("transcript") or ""
    return "", ""


def _blocks(message: BaseMessage) -> Iterator[tuple[int, Any]]:
    """The content blocks of a message or a chunk, with their indexes, and as such what some
    providers have beside the content."""
    extra = message.additional_kwargs
    reasoning = extra.get("reasoning_content") or extra.get("reasoning")
    if reasoning:
        yield 0, {"type": "reasoning", "reasoning": reasoning}
    blocks = [message.content] if isinstance(message.content, str) else message.content
    for position, block in enumerate(blocks):
        if isinstance(block, Mapping) and block.get("type") == "non_standard":
            block = block.get("value") or block
        index = block.get("index") if isinstance(block, Mapping) else position
        yield _index(index, position), block
    # OpenAI's chat completions have these there.
    refusal, audio = extra.get("refusal"), extra.get("audio")
    if isinstance(refusal, str):
        yield 0, {"type": "refusal", "refusal": refusal}
    if isinstance(audio, Mapping):
        yield 0, {**audio, "type": "audio"}


def _reasoning_text(block: Any) -> str:
    """Reasoning as providers write it: a string, Anthropic's `thinking`, Bedrock's
    `reasoning_content`, OpenAI's list of summaries."""
    if isinstance(block, str):
        return block
    if isinstance(block, list):
        return "".join(_reasoning_text(part) for part in block)
    if isinstance(block, Mapping):
        for key in ("thinking", "reasoning", "reasoning_content", "summary", "text"):
            text = _reasoning_text(block.get(key))
            if text:
                return text
    return ""


def _index(index: Any, default: int = 0) -> int:
    return index if isinstance(index, int) else default


def _call_index(call: ModelCall, delta: Mapping[str, Any]) -> int:
    """The place of a tool call among those of its message. Providers that do not number the pieces
    name the call in its first one, and go on with it."""
    if isinstance(delta.get("index"), int):
        return int(delta["index"])
    call_id = delta.get("id")
    if call_id and call_id not in call.tool_calls:
        call.tool_calls.append(call_id)
    if call_id:
        return call.tool_calls.index(call_id)
    return max(len(call.tool_calls) - 1, 0)


def _usage(message: BaseMessage) -> Usage | None:
    usage = getattr(message, "usage_metadata", None)
    if not usage:
        return None
    of_input = usage.get("input_token_details") or {}
    of_output = usage.get("output_token_details") or {}
    return Usage(
        input_tokens=usage.get("input_tokens") or 0,
        output_tokens=usage.get("output_tokens") or 0,
        total_tokens=usage.get("total_tokens") or 0,
        cache_read_tokens=of_input.get("cache_read") or 0,
        cache_write_tokens=of_input.get("cache_creation") or 0,
        reasoning_tokens=of_output.get("reasoning") or 0,
    )


def _tool_calls(message: BaseMessage) -> tuple[ToolCall, ...]:
    calls: list[ToolCall] = []
    for call in getattr(message, "tool_calls", ()):
        args = event_json(call["args"])
        calls.append(ToolCall(id=call.get("id") or "", name=call["name"], args=args))
    return tuple(calls)


def _shown_input(tool_input: Any) -> Json:
    """The arguments of a call as the model wrote them.

    LangChain leaves out what it injects by annotation. What a tool declares in another way is known
    by its type, never by its name: `state` may well be an argument that the model gave.
    """
    if not isinstance(tool_input, Mapping):
        return event_json(tool_input)
    return event_json(
        {name: value for name, value in tool_input.items() if not isinstance(value, INJECTED)}
    )


def _tool_message(output: Any) -> ToolMessage | None:
    """The message in what a tool returned: the output itself, or the first one in the update of a
    command."""
    if isinstance(output, ToolMessage):
        return output
    if not isinstance(output, Command):
        return None
    update = output.update
    pairs = list(update.items()) if isinstance(update, Mapping) else update
    if not isinstance(pairs, list):
        return None
    for _, value in pairs:
        items = value if isinstance(value, list | tuple) else ()
        for item in items:
            if isinstance(item, ToolMessage):
                return item
    return None


def _asks(error: BaseException) -> bool:
    """True for what LangGraph raises where a person is asked, or asked again since their answer was
    invalid."""
    return isinstance(error, GraphBubbleUp) or is_invalid_resume(error)


def _is_failure(error: BaseException) -> bool:
    """False for what is raised where nothing failed: a person is asked, or nobody waits for the
    result any more."""
    return not (_asks(error) or isinstance(error, asyncio.CancelledError | GeneratorExit))


def _error_info(error: BaseException) -> ErrorInfo:
    """The error's class, and its text only if that was written to be shown: any other text may hold
    a query, a path, a key."""
    message = ""
    if isinstance(error, AssentError | ToolException):
        message = valid_text(str(error))
    return ErrorInfo(type=type(error).__name__, message=message)
