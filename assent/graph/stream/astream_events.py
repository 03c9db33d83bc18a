"""The other source: events out of `astream_events(version="v2")`, LangChain's public stream. It
costs more, and says the same.

`V2Mapper` is pure and works for any runnable: a bare model, a chain, a graph. Feed it the raw
events in order:

    mapper = V2Mapper(thread_id="t", run_id="r")
    async for raw in chain.astream_events(question, version="v2"):
        for event in mapper.feed(raw):
            ...

The stream leaves out which call a tool answers and that a node failed. `run_graph_v2` has a small
recorder listen for these, and hands what it noted to the mapper as a value, with the raw event that
it belongs to. Without notes those fields stay empty and a node that failed has a start and no end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, dispatch_custom_event
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl

from assent.core.clock import utc_now
from assent.graph.stream.callbacks import Emit, prepared_config, run_options, tools_heard_by
from assent.graph.stream.mapping import EventFold, Events

__all__ = ["Note", "V2Mapper", "run_graph_v2"]

WRITTEN = "assent:written"
TOOL_PROGRESS = "assent:tool_progress"
"""Custom events that carry what is written to the stream writer and what a tool sends while it
runs, so that both keep their place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What a raw event leaves out: the call that a tool answers, its input if that is a plain
    string, and the chains that failed since the last raw event, as (run id, exception)."""

    tool_call_id: str = ""
    text_input: str | None = None
    failed: Sequence[tuple[str, BaseException]] = ()


class V2Mapper:
    """Folds raw v2 events into typed ones. Does no I/O."""

    def __init__(
        self, *, thread_id: str = "", run_id: str = "", now: Callable[[], datetime] = utc_now
    ) -> None:
        self._fold = EventFold(thread_id=thread_id, run_id=run_id, now=now)

    def feed(self, raw: Mapping[str, Any], note: Note | None = None) -> Events:
        """The events that follow from the next raw one."""
        note = note or Note()
        failed = [
            event
            for run_id, error in note.failed
            for event in self._fold.chain_error(run_id, error)
        ]
        events = self._one(raw, note)
        return [*failed, *events] if failed else events

    def run_failed(
        self, error: BaseException, failed: Sequence[tuple[str, BaseException]] = ()
    ) -> Events:
        """The stream raised `error`, after the last raw event; `failed` are the chains that failed
        since then."""
        events = [
            event for run_id, cause in failed for event in self._fold.chain_error(run_id, cause)
        ]
        return [*events, *self._fold.run_failed(error)]

    def _one(self, raw: Mapping[str, Any], note: Note) -> Events:
        fold, data, run_id = self._fold, raw["data"], raw["run_id"]
        match raw["event"]:
            case "on_chat_model_stream":
                return fold.model_chunk(run_id, data["chunk"])
            case "on_llm_stream":
                return fold.model_text(run_id, _text(data["chunk"]))
            case "on_chain_start":
                return fold.chain_start(
                    run_id, raw["name"], raw["tags"], raw["metadata"], data.get("input")
                )
            case "on_chain_end":
                return fold.chain_end(run_id, data.get("output"))
            case "on_chain_stream":
                return self._written(raw, data["chunk"])
            case "on_chat_model_start" | "on_llm_start":
                return fold.model_start(run_id, raw["tags"], raw["metadata"])
            case "on_chat_model_end":
                output = data["output"]
                return fold.model_end(run_id, output if isinstance(output, BaseMessage) else None)
            case "on_llm_end":
                return self._plain_model_end(run_id, data["output"])
            case "on_tool_start":
                return self._tool_start(raw, note)
            case "on_tool_end":
                return fold.tool_end(run_id, data.get("output"))
            case "on_tool_error":
                return fold.tool_error(run_id, data["error"])
            case "on_custom_event":
                return self._custom(raw)
        return ()

    def _tool_start(self, raw: Mapping[str, Any], note: Note) -> Events:
        """A tool that is run by itself has as its input whatever it was invoked with, which may be
        a whole tool call."""
        tool_input = raw["data"].get("input") if note.text_input is None else note.text_input
        tool_call_id = note.tool_call_id
        if (
            not raw["parent_ids"]
            and isinstance(tool_input, Mapping)
            and tool_input.get("type") == "tool_call"
        ):
            tool_call_id, tool_input = tool_input.get("id") or "", tool_input.get("args")
        return self._fold.tool_start(
            raw["run_id"], raw["name"], tool_call_id, tool_input, raw["metadata"]
        )

    def _plain_model_end(self, run_id: str, output: Any) -> Events:
        """A plain model's output is `{"generations": [[{"text", "generation_info"}]]}`."""
        generation: Mapping[str, Any] = next(
            (generation for batch in output["generations"] for generation in batch), {}
        )
        info = generation.get("generation_info") or {}
        return self._fold.model_end(
            run_id,
            None,
            text=generation.get("text", ""),
            finish_reason=str(info.get("finish_reason") or ""),
        )

    def _custom(self, raw: Mapping[str, Any]) -> Events:
        name, data, metadata = raw["name"], raw["data"], raw["metadata"]
        if name == WRITTEN:
            return self._fold.written(data, metadata)
        if name == TOOL_PROGRESS:
            return self._fold.tool_progress(raw["run_id"], data)
        return self._fold.dispatched(name, data, metadata)

    def _written(self, raw: Mapping[str, Any], chunk: Any) -> Events:
        """A graph that was streamed with "custom" among its modes tells what its nodes wrote, as
        (mode, data) or (path, mode, data).

        It does not tell which node wrote it.
        """
        is_graph = raw["metadata"].get("ls_integration") == "langgraph" and not raw["parent_ids"]
        if is_graph and isinstance(chunk, tuple) and len(chunk) in (2, 3) and chunk[-2] == "custom":
            return self._fold.written(chunk[-1], None)
        return ()


async def run_graph_v2(
    graph: Pregel[Any, Any, Any, Any],
    graph_input: Any,
    config: RunnableConfig,
    emit: Emit,
    *,
    thread_id: str,
    run_id: str,
    now: Callable[[], datetime] = utc_now,
    context: Any = None,
    control: RunControl | None = None,
) -> None:
    """As `run_graph`, by way of `astream_events`. Here `emit` is called from the event loop only, a
    little after things happened."""
    mapper = V2Mapper(thread_id=thread_id, run_id=run_id, now=now)
    recorder = Recorder()
    options = run_options(graph, context=context, control=control)
    try:
        with tools_heard_by(partial(dispatch_custom_event, TOOL_PROGRESS)):
            config = prepared_config(config, recorder, partial(dispatch_custom_event, WRITTEN))
            async for raw in graph.astream_events(graph_input, config, version="v2", **options):
                for event in mapper.feed(raw, recorder.note_for(raw)):
                    emit(event)
    except BaseException as error:
        for event in mapper.run_failed(error, recorder.last_failures()):
            emit(event)
        raise


def _text(chunk: Any) -> str:
    return chunk if isinstance(chunk, str) else str(chunk.text)


class Recorder(AsyncCallbackHandler):
    """Notes what the raw events leave out.

    Raw events are read some time after they were made, so it also notes how many failures came
    before each start and end: there the failed attempt's `node_error` goes. It is not inline, like
    the handler that makes the raw events, so both see things in the same order.
    """

    raise_error = True

    def __init__(self) -> None:
        self._failures: list[tuple[str, BaseException]] = []
        self._told = 0
        self._before: dict[tuple[str, str], int] = {}
        self._tool_inputs: dict[str, tuple[str, str | None]] = {}

    def note_for(self, raw: Mapping[str, Any]) -> Note | None:
        """What belongs to this raw event. To be asked once for each, in order."""
        run_id = raw["run_id"]
        seen = self._before.pop((run_id, _phase(raw["event"])), 0) if self._before else 0
        failed = self._failures[self._told : seen]
        self._told = max(self._told, seen)
        if raw["event"] == "on_tool_start":
            tool_call_id, text_input = self._tool_inputs.pop(run_id, ("", None))
            return Note(tool_call_id=tool_call_id, text_input=text_input, failed=failed)
        return Note(failed=failed) if failed else None

    def last_failures(self) -> Sequence[tuple[str, BaseException]]:
        """What failed after the last raw event."""
        return self._failures[self._told :]

    def _mark(self, run_id: UUID, phase: str) -> None:
        if len(self._failures) > self._told:
            self._before[str(run_id), phase] = len(self._failures)

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._failures.append((str(run_id), error))

    async def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._mark(run_id, "start")

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._mark(run_id, "end")

    async def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._mark(run_id, "start")

    async def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._mark(run_id, "start")

    async def on_llm_end(self, response: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._mark(run_id, "end")

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
        self._tool_inputs[str(run_id)] = tool_call_id or "", input_str if inputs is None else None

    async def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._mark(run_id, "end")

    async def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._mark(run_id, "end")


def _phase(event: str) -> str:
    """Which of a run's two callbacks made the event: its start or its end; a tool that raises has
    ended."""
    return (
        "start"
        if event.endswith("_start")
        else ""
        if event.endswith(("_stream", "_event"))
        else "end"
    )
