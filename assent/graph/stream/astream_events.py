"""The public source: events from `astream_events(version="v2")`, LangChain's public stream. It
costs more than the callbacks, and gives the same events.

`V2Mapper` does no I/O and works for any runnable: a bare model, a chain, a graph. Feed it the raw
events in order:

    mapper = V2Mapper(thread_id="t", run_id="r")
    async for raw in chain.astream_events(question, version="v2"):
        for event in mapper.feed(raw):
            ...

The raw events do not say which call a tool answers, nor that a node, a model or a retriever failed.
`run_graph_v2` notes both with a `Recorder`, and hands each note to the mapper with the raw event
that it belongs to. Without notes those fields stay empty, and what failed has a start and no end.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, dispatch_custom_event
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel

from assent.core.clock import utc_now
from assent.core.events import Event
from assent.graph.stream.callbacks import prepared_config, run_options, tool_output_to
from assent.graph.stream.mapping import Emit, EventMapper, Prompt, plain_message

WRITTEN = "assent:written"
TOOL_PROGRESS = "assent:tool_progress"
"""Custom events for what nodes write to the stream writer and what tools send while they run, so
that both keep their place among the raw events."""


class Failure(NamedTuple):
    """A chain, model or retriever that raised. `told` tells the mapper so."""

    told: Callable[[EventMapper, str, BaseException], None]
    run_id: str
    error: BaseException


Failures = Sequence[Failure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Additions to a raw event: the call that a tool answers, the tool's input if that is a plain
    string, and what failed since the last raw event."""

    tool_call_id: str = ""
    text_input: str | None = None
    failed: Failures = ()


class V2Mapper:
    """Maps raw v2 events to typed ones. Does no I/O."""

    def __init__(
        self, *, thread_id: str = "", run_id: str = "", now: Callable[[], datetime] = utc_now
    ) -> None:
        self._events: list[Event] = []
        self._mapper = EventMapper(self._events.append, thread_id=thread_id, run_id=run_id, now=now)

    def feed(self, raw: Mapping[str, Any], note: Note | None = None) -> list[Event]:
        """The events that follow from the next raw one."""
        note = note or Note()
        self._fail(note.failed)
        self._map(raw, note)
        return self._taken()

    def run_failed(self, error: BaseException, failed: Failures = ()) -> list[Event]:
        """The stream raised `error`, after the last raw event; `failed` is what failed since
        then."""
        self._fail(failed)
        self._mapper.run_failed(error)
        return self._taken()

    def _taken(self) -> list[Event]:
        events = self._events.copy()
        self._events.clear()
        return events

    def _fail(self, failed: Failures) -> None:
        for failure in failed:
            failure.told(self._mapper, failure.run_id, failure.error)

    def _map(self, raw: Mapping[str, Any], note: Note) -> None:
        mapper = self._mapper
        data = raw["data"]
        run_id = raw["run_id"]
        match raw["event"]:
            case "on_chat_model_stream":
                mapper.model_chunk(run_id, data["chunk"])
            case "on_llm_stream":
                chunk = data["chunk"]
                mapper.model_text(run_id, chunk if isinstance(chunk, str) else str(chunk.text))
            case "on_chain_start":
                mapper.chain_start(
                    run_id, raw["name"], raw["tags"], raw["metadata"], data.get("input")
                )
            case "on_chain_end":
                mapper.chain_end(run_id, data.get("output"))
            case "on_chain_stream":
                self._chain_stream(raw, data["chunk"])
            case "on_chat_model_start" | "on_llm_start":
                mapper.model_start(run_id, raw["tags"], raw["metadata"], _given(data.get("input")))
            case "on_chat_model_end" | "on_llm_end":
                mapper.model_end(run_id, _message(data["output"]))
            case "on_tool_start":
                self._tool_start(raw, note)
            case "on_tool_end":
                mapper.tool_end(run_id, data.get("output"))
            case "on_tool_error":
                mapper.tool_error(run_id, data["error"])
            case "on_retriever_start":
                mapper.retriever_start(
                    run_id, raw["name"], _query(data.get("input")), raw["metadata"]
                )
            case "on_retriever_end":
                mapper.retriever_end(run_id, data.get("output"))
            case "on_custom_event":
                self._custom(raw)

    def _tool_start(self, raw: Mapping[str, Any], note: Note) -> None:
        tool_input = raw["data"].get("input") if note.text_input is None else note.text_input
        tool_call_id = note.tool_call_id
        is_alone = not raw["parent_ids"]
        if is_alone and isinstance(tool_input, Mapping) and tool_input.get("type") == "tool_call":
            # A tool that is run by itself may have been invoked with a whole tool call.
            tool_call_id = tool_input.get("id") or ""
            tool_input = tool_input.get("args")
        self._mapper.tool_start(
            raw["run_id"], raw["name"], tool_call_id, tool_input, raw["metadata"]
        )

    def _custom(self, raw: Mapping[str, Any]) -> None:
        name, data, metadata = raw["name"], raw["data"], raw["metadata"]
        if name == WRITTEN:
            self._mapper.written(data, metadata)
        elif name == TOOL_PROGRESS:
            self._mapper.tool_progress(raw["run_id"], data)
        else:
            self._mapper.dispatched(name, data, metadata)

    def _chain_stream(self, raw: Mapping[str, Any], chunk: Any) -> None:
        """A graph that was streamed with "custom" among its modes passes on what its nodes wrote,
        as (mode, data) or (path, mode, data). It does not say which node wrote it."""
        is_graph = raw["metadata"].get("ls_integration") == "langgraph" and not raw["parent_ids"]
        if is_graph and isinstance(chunk, tuple) and len(chunk) in (2, 3) and chunk[-2] == "custom":
            self._mapper.written(chunk[-1], None)


def _given(model_input: Any) -> Sequence[Prompt]:
    """What a model was given, if it runs within something. To one that runs by itself LangChain
    gives what its caller did."""
    if not isinstance(model_input, Mapping):
        return ()
    given: Sequence[Prompt] = model_input.get("messages") or model_input.get("prompts") or ()
    return given


def _query(retriever_input: Any) -> Any:
    """The question to a retriever: alone, if it runs by itself."""
    if isinstance(retriever_input, Mapping):
        return retriever_input.get("query", retriever_input)
    return retriever_input


def _message(output: Any) -> BaseMessage:
    """The message of a chat model, or of a plain one, whose output is
    `{"generations": [[{"text", "generation_info"}]]}`."""
    if isinstance(output, BaseMessage):
        return output
    generations = [each for batch in output["generations"] for each in batch]
    generation = generations[0] if generations else {}
    return plain_message(generation.get("text", ""), generation.get("generation_info"))


async def run_graph_v2(
    graph: Pregel[Any, Any, Any, Any],
    graph_input: Any,
    config: RunnableConfig,
    emit: Emit,
    *,
    thread_id: str,
    run_id: str,
    now: Callable[[], datetime] = utc_now,
    **options: Any,
) -> None:
    """Do what `run_graph` does, by way of `astream_events`. Here `emit` is called from the event
    loop only, a little after things happened."""
    mapper = V2Mapper(thread_id=thread_id, run_id=run_id, now=now)
    recorder = Recorder()
    config = prepared_config(graph, config, recorder, partial(dispatch_custom_event, WRITTEN))
    options |= run_options(graph)
    try:
        raw_events: Any = graph.astream_events(graph_input, config, version="v2", **options)
        with tool_output_to(partial(dispatch_custom_event, TOOL_PROGRESS)):
            # If `emit` raises, the graph is stopped here, and not whenever it is found unused.
            async with aclosing(raw_events):
                async for raw in raw_events:
                    for event in mapper.feed(raw, recorder.note_for(raw)):
                        emit(event)
    except BaseException as error:
        for event in mapper.run_failed(error, recorder.last_failures()):
            emit(event)
        raise


class Recorder(AsyncCallbackHandler):
    """Notes what the raw events leave out.

    Raw events are read some time after they were made, so for each start and end it also notes how
    many failures came before: that is where the failed attempt's `node_error` belongs. So it does
    for what is dispatched. It is not inline, like the handler that makes the raw events, so both
    see things in the same order.
    """

    raise_error = True

    def __init__(self) -> None:
        self._failures: list[Failure] = []
        self._passed_on = 0
        self._failures_before: dict[tuple[str, str], int] = {}
        # A run may dispatch many.
        self._before_custom: defaultdict[str, deque[int]] = defaultdict(deque)
        self._tool_inputs: dict[str, tuple[str, str | None]] = {}

    def note_for(self, raw: Mapping[str, Any]) -> Note | None:
        """The note that belongs to this raw event. Ask once for each, in order."""
        run_id = raw["run_id"]
        kind = raw["event"]
        before = 0
        if self._failures_before:
            before = self._failures_before.pop((run_id, _phase(kind)), 0)
        if kind == "on_custom_event" and self._before_custom[run_id]:
            before = self._before_custom[run_id].popleft()
        failed = self._failures[self._passed_on : before]
        self._passed_on = max(self._passed_on, before)
        if kind == "on_tool_start":
            tool_call_id, text_input = self._tool_inputs.pop(run_id, ("", None))
            return Note(tool_call_id=tool_call_id, text_input=text_input, failed=failed)
        return Note(failed=failed) if failed else None

    def last_failures(self) -> Failures:
        """The failures after the last raw event."""
        return self._failures[self._passed_on :]

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._failures.append(Failure(EventMapper.chain_error, str(run_id), error))

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._failures.append(Failure(EventMapper.model_error, str(run_id), error))

    async def on_retriever_error(
        self, error: BaseException, *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._failures.append(Failure(EventMapper.retriever_error, str(run_id), error))

    async def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._before_custom[str(run_id)].append(len(self._failures))

    async def _start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self._mark(run_id, "start")

    async def _end(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self._mark(run_id, "end")

    on_chain_start = on_chat_model_start = on_llm_start = on_retriever_start = _start
    on_chain_end = on_llm_end = on_tool_end = on_tool_error = on_retriever_end = _end

    async def on_tool_start(
        self,
        serialized: Any,
        input_str: str,
        *,
        run_id: UUID,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._mark(run_id, "start")
        text_input = input_str if inputs is None else None
        self._tool_inputs[str(run_id)] = tool_call_id or "", text_input

    def _mark(self, run_id: UUID, phase: str) -> None:
        if len(self._failures) > self._passed_on:
            self._failures_before[str(run_id), phase] = len(self._failures)


def _phase(event: str) -> str:
    """The callback of the run that made the event: its start or its end. A tool that raises has
    ended."""
    if event.endswith("_start"):
        return "start"
    if event.endswith(("_stream", "_event")):
        return ""
    return "end"
