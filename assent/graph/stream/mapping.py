"""What LangChain and LangGraph report, as typed events. Pure: values in, events out; both sources
stand on it.

`EventFold` is told what happened (a node started, a model sent a chunk, a tool raised) and answers
with the events to emit. The fast source tells it from inside LangChain's callbacks, the other one
from `astream_events(version="v2")`; so they can only differ in *when* they tell, never in what an
event says.

**The message id.** A provider may name a message itself, and the name comes with its first chunk
(OpenAI's Responses API); where it names none, langchain-core names it `lc_run--<run id of the
call>` (with `-0` behind it if the model did not stream). So the id is not known when the model is
called, and `llm_start` waits for it:

- `llm_start` is emitted with the call's first chunk, even an empty one, or with its whole message
  if it does not stream. Its `ts` is when the model was *called*, so the time to the first token can
  still be read off. A call that fails before that leaves no events; the `node_error` tells of it.
- Every event of the call carries the first chunk's id, whatever later chunks say. Merging chunks,
  langchain-core prefers the first id that a provider chose, so this is the id of the message in the
  state, unless a provider names a message only after its first chunk.

**Order and failures.** A node that pauses (`GraphBubbleUp`) or is cancelled has a start and no end.
A node that hands over to its parent graph (`ParentCommand`) has ended well. LangGraph cancels an
attempt that ran out of time, which looks like any other cancelling; its `node_error` is made when
the same task starts again, or when the run ends with that error.

**JSON.** Nothing here fails because a value is not JSON: what cannot be shown is replaced by its
type's name in angle brackets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.tools import ToolException
from langgraph.constants import TAG_HIDDEN, TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp, NodeCancelledError, NodeTimeoutError, ParentCommand
from langgraph.prebuilt import ToolRuntime
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from langgraph.types import Command
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from assent.core.clock import utc_now
from assent.core.errors import AssentError
from assent.core.events import (
    Custom,
    ErrorInfo,
    Event,
    Json,
    LlmEnd,
    LlmRetry,
    LlmStart,
    NodeEnd,
    NodeError,
    NodeStart,
    Progress,
    Reasoning,
    StateUpdate,
    Token,
    ToolCall,
    ToolCallDelta,
    ToolEnd,
    ToolError,
    ToolProgress,
    ToolStart,
    Usage,
)
from assent.graph.model_retry import LLM_RETRY
from assent.graph.tool_calls import TIMED_OUT

__all__ = ["EventFold", "to_json"]

Metadata = Mapping[str, Any]
Events = Sequence[Event]

ROOT_CHANNEL = "__root__"
MAX_DEPTH = 20
"""How deep a value that pydantic cannot serialise whole is searched for parts that it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the graph something happens; all empty outside of a graph."""

    node: str = ""
    ns: tuple[str, ...] = ()
    task_id: str = ""
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRun:
    """A node that has started and not ended; `path` is LangGraph's own name for it, as in
    `outer:id|inner:id`."""

    place: Place
    step: int
    path: str
    inputs: Any


@dataclass(slots=True, kw_only=True)
class ModelCall:
    """A model that was called and has not finished. Its first chunk sets `message_id`, which is why
    this one is not frozen."""

    place: Place
    called_at: datetime
    model: str
    silent: bool
    message_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """A tool that was called and has not returned."""

    place: Place
    tool: str
    tool_call_id: str


class EventFold:
    """Folds what happens in one run of a graph (or of any runnable) into events.

    Each method answers with the events to emit, in order, possibly none. A `run_id` here is
    LangChain's, as a UUID or as a string, the same way throughout. What it is told of a run that it
    has not seen start is ignored.

    It may be told things from several threads at once (LangGraph runs sync nodes in threads), as
    long as those of one run come one after the other: all that it keeps is by run or by task, in
    dicts.
    """

    def __init__(
        self, *, thread_id: str = "", run_id: str = "", now: Callable[[], datetime] = utc_now
    ) -> None:
        self._thread_id = thread_id
        self._run_id = run_id
        self._now = now
        self._attempts: dict[str, int] = {}
        self._nodes: dict[Hashable, NodeRun] = {}
        self._cancelled: dict[str, NodeRun] = {}
        self._subgraphs: set[str] = set()
        self._calls: dict[Hashable, ModelCall] = {}
        self._spoken: dict[str, list[str]] = {}
        self._failures: dict[str, tuple[ErrorInfo, Place]] = {}
        self._tools: dict[Hashable, ToolRun] = {}

    # ── nodes ─────────────────────────────────────────────────────────────────────────────────────

    def chain_start(
        self,
        run_id: Hashable,
        name: str | None,
        tags: Sequence[str] | None,
        metadata: Metadata | None,
        inputs: Any = None,
    ) -> Events:
        """A chain started on `inputs`: a node, if LangGraph says so."""
        if not metadata or not _is_node(name, tags, metadata):
            return ()
        path = metadata.get("langgraph_checkpoint_ns", "")
        _, task_id = _names_and_ids(path)[-1]
        before = (*self._lost_attempt(task_id), *self._void_attempt(task_id))
        self._attempts[task_id] = self._attempts.get(task_id, 0) + 1
        node = NodeRun(
            place=self._place(metadata),
            step=metadata.get("langgraph_step", 0),
            path=path,
            inputs=inputs,
        )
        self._nodes[run_id] = node
        if node.place.ns:
            self._subgraphs.add(path.rpartition("|")[0])
        return *before, NodeStart(step=node.step, **self._at(node.place))

    def chain_end(self, run_id: Hashable, output: Any) -> Events:
        """A chain ended and returned `output`."""
        node = self._nodes.pop(run_id, None)
        return self._ended(node, output) if node else ()

    def chain_error(self, run_id: Hashable, error: BaseException) -> Events:
        """A chain raised `error`."""
        node = self._nodes.pop(run_id, None)
        if node is None:
            return ()
        if isinstance(error, ParentCommand):
            return self._ended(node, _command_for(node, error))
        if isinstance(error, asyncio.CancelledError):
            self._cancelled[node.place.task_id] = node
            return ()
        if isinstance(error, GraphBubbleUp):
            return ()
        return (self._node_error(node, _error_info(error)),)

    def run_failed(self, error: BaseException) -> Events:
        """The whole run raised `error`: the attempt that ran out of time is only now known to have
        failed of it.

        LangGraph notes the ids of the tasks that an error came through on the error itself.
        """
        if not isinstance(error, NodeTimeoutError | NodeCancelledError):
            return ()
        notes = " ".join(getattr(error, "__notes__", ()))
        unfinished = (*self._cancelled.values(), *self._nodes.values())
        return [
            self._node_error(node, _error_info(error))
            for node in unfinished
            if node.place.task_id in notes
        ]

    def _ended(self, node: NodeRun, output: Any) -> Events:
        self._spoken.pop(node.place.task_id, None)
        at = self._at(node.place)
        updates = _updates(output)
        if node.path in self._subgraphs:
            updates = (news for update in updates if (news := _news(node.inputs, update)))
        told = [StateUpdate(update=to_json(update), **at) for update in updates]
        return *told, NodeEnd(step=node.step, **at)

    def _lost_attempt(self, task_id: str) -> Events:
        """A task starts again although its last attempt neither ended nor raised: it was cut off
        for taking too long."""
        unfinished = [
            run_id for run_id, node in list(self._nodes.items()) if node.place.task_id == task_id
        ]
        lost = [self._nodes.pop(run_id) for run_id in unfinished]
        if cancelled := self._cancelled.pop(task_id, None):
            lost.append(cancelled)
        return [self._node_error(node, ErrorInfo(type=NodeTimeoutError.__name__)) for node in lost]

    def _void_attempt(self, task_id: str) -> Events:
        """A task starts again whose last attempt has called a model: nothing that was said in that
        attempt gets into the state."""
        failure = self._failures.pop(task_id, None)
        spoken = self._spoken.pop(task_id, None)
        if failure is None or spoken is None:
            return ()
        error, place = failure
        tries = self._attempts[task_id]
        return (LlmRetry(error=error, tries=tries, message_ids=tuple(spoken), **self._at(place)),)

    def _node_error(self, node: NodeRun, error: ErrorInfo) -> NodeError:
        self._failures[node.place.task_id] = error, node.place
        return NodeError(error=error, **self._at(node.place))

    # ── models ────────────────────────────────────────────────────────────────────────────────────

    def model_start(
        self, run_id: Hashable, tags: Sequence[str] | None, metadata: Metadata | None
    ) -> Events:
        """A chat model or a plain one was called. Its `llm_start` waits for the message's id."""
        metadata = metadata or {}
        place = self._place(metadata)
        if place.task_id:
            self._spoken.setdefault(place.task_id, [])
        self._calls[run_id] = ModelCall(
            place=place,
            called_at=self._now(),
            model=metadata.get("ls_model_name") or "",
            silent=TAG_NOSTREAM in (tags or ()),
        )
        return ()

    def model_chunk(self, run_id: Hashable, chunk: BaseMessage) -> Events:
        """A chat model sent a chunk of its message. This is the hot path: most chunks are a piece
        of text and nothing else."""
        call = self._calls.get(run_id)
        if call is None:
            return ()
        opened = () if call.message_id else self._open(run_id, call, chunk.id)
        if call.silent:
            return opened
        content = chunk.content
        if (
            type(content) is str
            and not chunk.additional_kwargs
            and not getattr(chunk, "tool_call_chunks", None)
        ):
            return (*opened, self._token(call, content)) if content else opened
        return *opened, *self._content(call, chunk), *self._tool_call_deltas(call, chunk)

    def model_text(self, run_id: Hashable, text: str) -> Events:
        """A plain model sent a piece of its text."""
        call = self._calls.get(run_id)
        if call is None:
            return ()
        opened = () if call.message_id else self._open(run_id, call, None)
        return (*opened, self._token(call, text)) if text and not call.silent else opened

    def model_end(
        self,
        run_id: Hashable,
        message: BaseMessage | None,
        *,
        text: str = "",
        finish_reason: str = "",
    ) -> Events:
        """A chat model finished its `message`, or a plain one its `text`. If it did not stream, all
        of it is told now."""
        call = self._calls.pop(run_id, None)
        if call is None:
            return ()
        told: Events = ()
        if not call.message_id:
            opened = self._open(run_id, call, message.id if message else None)
            whole = (
                self._content(call, message)
                if message
                else [self._token(call, text)]
                if text
                else []
            )
            told = opened if call.silent else (*opened, *whole)
        return *told, self._llm_end(call, message, finish_reason)

    def model_error(self, run_id: Hashable) -> Events:
        """A model raised: what it said so far stays without an end."""
        self._calls.pop(run_id, None)
        return ()

    def _open(self, run_id: Hashable, call: ModelCall, message_id: str | None) -> Events:
        call.message_id = message_id or f"lc_run--{run_id}"
        if (spoken := self._spoken.get(call.place.task_id)) is not None:
            spoken.append(call.message_id)
        at = self._at(call.place) | {"ts": call.called_at}
        return (LlmStart(message_id=call.message_id, model=call.model, **at),)

    def _token(self, call: ModelCall, text: str, index: int = 0) -> Token:
        place = call.place
        return Token(
            ts=self._now(),
            thread_id=self._thread_id,
            run_id=self._run_id,
            node=place.node,
            ns=place.ns,
            task_id=place.task_id,
            attempt=place.attempt,
            message_id=call.message_id,
            content=text if text.isascii() else _encodable(text),
            index=index,
        )

    def _content(self, call: ModelCall, message: BaseMessage) -> Iterator[Event]:
        for is_reasoning, index, text in _pieces(message):
            if is_reasoning:
                yield Reasoning(
                    message_id=call.message_id,
                    content=_encodable(text),
                    index=index,
                    **self._at(call.place),
                )
            else:
                yield self._token(call, text, index)

    def _tool_call_deltas(self, call: ModelCall, chunk: BaseMessage) -> Iterator[Event]:
        for delta in getattr(chunk, "tool_call_chunks", ()):
            yield ToolCallDelta(
                message_id=call.message_id,
                index=_index(delta.get("index")),
                tool_call_id=delta.get("id") or "",
                tool=delta.get("name") or "",
                args=_encodable(delta.get("args") or ""),
                **self._at(call.place),
            )

    def _llm_end(self, call: ModelCall, message: BaseMessage | None, finish_reason: str) -> LlmEnd:
        response: Mapping[str, Any] = message.response_metadata if message else {}
        return LlmEnd(
            message_id=call.message_id,
            model=call.model or str(response.get("model_name") or ""),
            finish_reason=finish_reason
            or str(response.get("finish_reason") or response.get("stop_reason") or ""),
            usage=_usage(message),
            tool_calls=_tool_calls(message),
            **self._at(call.place),
        )

    def _model_retried(self, told: Mapping[str, Any], place: Place) -> Events:
        """Our own agent's node calls its model again (`retrying.py`)."""
        void = tuple(self._spoken.pop(place.task_id, ()))
        error = ErrorInfo(**told["error"])
        retry = LlmRetry(
            error=error,
            tries=told["tries"],
            delay_seconds=told["delay_seconds"],
            message_ids=void,
            **self._at(place),
        )
        return (retry,)

    # ── tools ─────────────────────────────────────────────────────────────────────────────────────

    def tool_start(
        self,
        run_id: Hashable,
        tool: str,
        tool_call_id: str,
        tool_input: Any,
        metadata: Metadata | None,
    ) -> Events:
        """A tool was called."""
        run = ToolRun(place=self._place(metadata or {}), tool=tool, tool_call_id=tool_call_id)
        self._tools[run_id] = run
        return (ToolStart(input=_shown_input(tool_input), **self._of(run)),)

    def tool_progress(self, run_id: Hashable, data: Any) -> Events:
        """A tool sent a piece of its output while it runs."""
        run = self._tools.get(run_id)
        return (ToolProgress(data=to_json(data), **self._of(run)),) if run else ()

    def tool_end(self, run_id: Hashable, output: Any) -> Events:
        """A tool returned. A tool that turned its own exception into an answer
        (`handle_tool_error`) says so in the status."""
        run = self._tools.pop(run_id, None)
        if run is None:
            return ()
        message = _tool_message(output)
        of = self._of(run)
        if message is not None and not run.tool_call_id:
            of["tool_call_id"] = message.tool_call_id
        if message is not None and message.status == "error":
            text = message.content if isinstance(message.content, str) else ""
            return (
                ToolError(
                    error=ErrorInfo(type=ToolException.__name__, message=_encodable(text)), **of
                ),
            )
        return (ToolEnd(output=to_json(output if message is None else message.content), **of),)

    def tool_error(self, run_id: Hashable, error: BaseException) -> Events:
        """A tool raised. One that asks a person, or whose run is stopped, will be called again and
        has not failed."""
        run = self._tools.pop(run_id, None)
        if run is None or isinstance(error, GraphBubbleUp | asyncio.CancelledError):
            return ()
        return (ToolError(error=_error_info(error), **self._of(run)),)

    # ── other ─────────────────────────────────────────────────────────────────────────────────────

    def written(self, data: Any, metadata: Metadata | None) -> Events:
        """Something was written to the stream writer; `{"progress": 0..1, "message"?: str}` is
        progress."""
        at = self._at(self._place(metadata or {}))
        if _is_progress(data):
            return (
                Progress(
                    progress=float(data["progress"]),
                    message=_encodable(data.get("message", "")),
                    **at,
                ),
            )
        return (Custom(data=to_json(data), **at),)

    def dispatched(self, name: str, data: Any, metadata: Metadata | None) -> Events:
        """A custom event was dispatched through LangChain's `dispatch_custom_event`: by a node, or
        by our own agent's."""
        if name == LLM_RETRY:
            return self._model_retried(data, self._place(metadata or {}))
        if name == TIMED_OUT:
            error = ErrorInfo(type=TimeoutError.__name__, message=data["message"])
            return (
                ToolError(
                    tool=data["tool"],
                    tool_call_id=data["tool_call_id"],
                    error=error,
                    **self._at(self._place(metadata or {})),
                ),
            )
        return self.written(data if _is_progress(data) else {"name": name, "data": data}, metadata)

    def _place(self, metadata: Metadata) -> Place:
        tasks = _names_and_ids(metadata.get("langgraph_checkpoint_ns", ""))
        if not tasks:
            return Place()
        enclosing = tasks[: -1 - _callers(metadata.get("langgraph_path", ()))]
        node, task_id = metadata.get("langgraph_node", ""), tasks[-1][1]
        return Place(
            node=node,
            ns=tuple(name for name, _ in enclosing),
            task_id=task_id,
            attempt=self._attempts.get(task_id, 1),
        )

    def _at(self, place: Place) -> dict[str, Any]:
        return {
            "ts": self._now(),
            "thread_id": self._thread_id,
            "run_id": self._run_id,
            "node": place.node,
            "ns": place.ns,
            "task_id": place.task_id,
            "attempt": place.attempt,
        }

    def _of(self, run: ToolRun) -> dict[str, Any]:
        return {**self._at(run.place), "tool": run.tool, "tool_call_id": run.tool_call_id}


# ── reading what LangGraph says ───────────────────────────────────────────────────────────────────


def _is_node(name: str | None, tags: Sequence[str] | None, metadata: Metadata) -> bool:
    """Whether a chain is a node itself: a runnable inside of it may bear its name, but not the
    tag."""
    if (
        name != metadata.get("langgraph_node")
        or not tags
        or TAG_HIDDEN in tags
        or name == "__start__"
    ):
        return False
    if not metadata.get("langgraph_checkpoint_ns"):
        return False
    return any(tag.startswith("graph:step:") for tag in tags)


def _names_and_ids(path: str) -> list[tuple[str, str]]:
    """The tasks in `outer:id|inner:id`. A part that is a bare number only numbers a node's second,
    third … subgraph."""
    return [
        (name, id_) for name, _, id_ in (part.partition(":") for part in path.split("|")) if id_
    ]


def _callers(path: Sequence[Any]) -> int:
    """How many tasks of the same graph called this one. LangGraph nests the handler of a node's
    error under that node, and a functional `@task` under its caller, although neither is a
    subgraph."""
    if tuple(path[-2:]) == ("node_error_handler", False):
        return 1
    is_call = len(path) == 4 and path[0] == "__pregel_push" and path[-1] is True
    return 1 + _callers(path[1]) if is_call else 0


def _command_for(node: NodeRun, error: ParentCommand) -> Command[Any] | None:
    """The command that a subgraph handed to this node's graph, or nothing if it goes further up:
    there it is written."""
    command: Command[Any] = error.args[0]
    without_ids = "|".join(name for name, _ in _names_and_ids(node.path))
    return command if command.graph in (node.path, without_ids, node.place.node) else None


def _updates(output: Any) -> Iterator[Any]:
    """What a node's return value writes, by channel: none, one or several updates."""
    if isinstance(output, Command):
        yield from _command_updates(output)
    elif isinstance(output, list | tuple) and any(isinstance(item, Command) for item in output):
        for item in output:
            yield from _updates(item)
    elif isinstance(output, Mapping | BaseModel) or is_dataclass(output):
        if update := _by_channel(output):
            yield update
    elif output is not None:
        yield {ROOT_CHANNEL: output}


def _command_updates(command: Command[Any]) -> Iterator[Any]:
    if command.graph == Command.PARENT or command.update is None:
        return
    if isinstance(command.update, list | tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in command.update
    ):
        yield from ({channel: value} for channel, value in command.update)
    else:
        yield from _updates(command.update)


def _by_channel(state: Any) -> Mapping[str, Any]:
    """A state as a mapping: of an object only the fields that are set, since those are what
    LangGraph writes."""
    if isinstance(state, BaseModel):
        named = {name: getattr(state, name) for name in type(state).model_fields}
        return {
            name: value
            for name, value in named.items()
            if value is not None or name in state.model_fields_set
        }
    if is_dataclass(state):
        return {
            field.name: value
            for field in fields(state)
            if (value := getattr(state, field.name)) is not None
        }
    mapping: Mapping[str, Any] = state
    return mapping


def _news(inputs: Any, update: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a subgraph changed. It returns all of its state, earlier messages too, and telling that
    each time would tell a thread's messages as often as it has turns."""
    before = (
        _by_channel(inputs)
        if isinstance(inputs, Mapping | BaseModel) or is_dataclass(inputs)
        else {}
    )
    return {
        channel: news
        for channel, value in update.items()
        for news in _new_part(value, before, channel)
    }


def _new_part(value: Any, before: Mapping[str, Any], channel: str) -> Iterator[Any]:
    """A channel's new value, of messages only the new ones; nothing if nothing is new."""
    if channel not in before:
        yield value
    elif not _same(value, before[channel]):
        is_messages = (
            isinstance(value, list)
            and value
            and all(isinstance(item, BaseMessage) for item in value)
        )
        if not is_messages or not isinstance(before[channel], list):
            yield value
            return
        known = {
            message.id: message for message in before[channel] if isinstance(message, BaseMessage)
        }
        if news := [
            message
            for message in value
            if message.id is None or not _same(message, known.get(message.id))
        ]:
            yield news


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, as far as they let themselves be compared (arrays do not)."""
    try:
        return one is other or bool(one == other)
    except Exception:
        return False


def _is_progress(data: Any) -> bool:
    if not isinstance(data, Mapping) or not {"progress"} <= data.keys() <= {"progress", "message"}:
        return False
    progress = data["progress"]
    is_number = isinstance(progress, int | float) and not isinstance(progress, bool)
    return is_number and 0 <= progress <= 1 and isinstance(data.get("message", ""), str)


# ── reading what models and tools say ─────────────────────────────────────────────────────────────


def _pieces(message: BaseMessage) -> Iterator[tuple[bool, int, str]]:
    """The text in a message or a chunk, as (whether it is reasoning, content block's index, text),
    without empty pieces."""
    extra = message.additional_kwargs
    if text := _reasoning_text(extra.get("reasoning_content") or extra.get("reasoning")):
        yield True, 0, text
    if isinstance(message.content, str):
        if message.content:
            yield False, 0, message.content
        return
    for position, block in enumerate(message.content):
        if isinstance(block, str):
            if block:
                yield False, position, block
            continue
        index = _index(block.get("index"), position)
        kind = block.get("type")
        if kind == "text" and (text := block.get("text") or ""):
            yield False, index, text
        elif kind in ("thinking", "reasoning", "reasoning_content") and (
            text := _reasoning_text(block)
        ):
            yield True, index, text


def _reasoning_text(block: Any) -> str:
    """Reasoning as providers write it: a string, Anthropic's `thinking`, Bedrock's
    `reasoning_content`, OpenAI's list of summaries."""
    if isinstance(block, str):
        return block
    if isinstance(block, list):
        return "".join(_reasoning_text(part) for part in block)
    if not isinstance(block, Mapping):
        return ""
    keys = ("thinking", "reasoning", "reasoning_content", "summary", "text")
    return next((text for key in keys if (text := _reasoning_text(block.get(key)))), "")


def _index(index: Any, default: int = 0) -> int:
    return index if isinstance(index, int) else default


def _usage(message: BaseMessage | None) -> Usage | None:
    usage = getattr(message, "usage_metadata", None)
    if not usage:
        return None
    return Usage(
        input_tokens=usage.get("input_tokens") or 0,
        output_tokens=usage.get("output_tokens") or 0,
        total_tokens=usage.get("total_tokens") or 0,
    )


def _tool_calls(message: BaseMessage | None) -> tuple[ToolCall, ...]:
    calls = getattr(message, "tool_calls", None) or ()
    return tuple(
        ToolCall(id=call.get("id") or "", name=call["name"], args=to_json(call["args"]))
        for call in calls
    )


def _shown_input(tool_input: Any) -> Json:
    """The arguments of a call as the model wrote them. LangChain leaves out what is injected by
    annotation; what a tool declares otherwise is known by its type, never by its name: `state` may
    well be an argument that the model gave."""
    if isinstance(tool_input, Mapping):
        tool_input = {name: value for name, value in tool_input.items() if not _is_injected(value)}
    return to_json(tool_input)


def _is_injected(value: Any) -> bool:
    return isinstance(value, Runtime | ToolRuntime | BaseStore)


def _tool_message(output: Any) -> ToolMessage | None:
    """The message in what a tool returned: itself, or the one in a command's update."""
    if isinstance(output, ToolMessage):
        return output
    if isinstance(output, Command):
        update = output.update
        values = (
            update.values()
            if isinstance(update, Mapping)
            else [value for _, value in update]
            if isinstance(update, list)
            else ()
        )
        messages = (item for value in values if isinstance(value, list | tuple) for item in value)
        return next((item for item in messages if isinstance(item, ToolMessage)), None)
    return None


def _error_info(error: BaseException) -> ErrorInfo:
    """What may be said of an exception. Its text may hold anything (a query, a path, a key), unless
    it was written to be shown."""
    is_safe = isinstance(error, AssentError | ToolException)
    return ErrorInfo(type=type(error).__name__, message=_encodable(str(error)) if is_safe else "")


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────


def to_json(value: Any) -> Json:
    """Any value as JSON: messages, models and dataclasses as objects, bytes as base64, the unknown
    as its type's name. Never raises."""
    try:
        jsonable = to_jsonable_python(
            value, fallback=_type_name, serialize_unknown=True, bytes_mode="base64"
        )
        return _encodable(jsonable) if isinstance(jsonable, str) else _checked(jsonable)
    except Exception:
        return _salvaged(value, MAX_DEPTH)


def _checked(jsonable: Any) -> Json:
    """The value as it is, unless some text in it cannot be encoded."""
    if isinstance(jsonable, dict):
        return {_encodable(key): _checked(item) for key, item in jsonable.items()}
    if isinstance(jsonable, list):
        return [_checked(item) for item in jsonable]
    return _encodable(jsonable) if isinstance(jsonable, str) else jsonable


def _salvaged(value: Any, depth: int) -> Json:
    """What can be shown of a value that pydantic refuses whole: it contains itself, or one of its
    parts raises."""
    if depth and isinstance(value, Mapping):
        return {_encodable(str(key)): _salvaged(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_salvaged(item, depth - 1) for item in value]
    try:
        return _checked(to_jsonable_python(value, fallback=_type_name, bytes_mode="base64"))
    except Exception:
        return _type_name(value)


def _type_name(value: Any) -> str:
    return f"<{type(value).__name__}>"


def _encodable(text: str) -> str:
    """The text with what UTF-8 cannot hold replaced: a provider that splits a stream amid a
    character sends half surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
