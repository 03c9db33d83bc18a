"""The fast source: events out of LangChain's callbacks, as they happen.

An inline callback handler sees every node, model and tool of the run at the moment it starts,
speaks and ends, and emits right there. `astream` only drives the graph; it is asked to stream
nothing, since each mode costs CPU per token and tells later than the callbacks. This source and
`source_v2` say the same; a test holds them to it.

What rests on LangChain's and LangGraph's internals, since neither has a public way:

1. A model streams inside `ainvoke` if some handler has `tap_output_aiter` and `tap_output_iter`;
   ours return their input. The handler does not inherit `_StreamingCallbackHandler`: LangGraph
   would then stream every node too, which costs more and tells nothing.
2. `get_stream_writer()` gives the writer of the `Runtime` in the run's config. Ours emits at once
   and knows its node; LangGraph's own (stream mode "custom") names no node, and what it carries
   arrives after events that happened later.
3. `ToolRuntime.emit_output_delta` looks for its writer in a context variable, which stream mode
   "tools" would set for each call. Ours is set once for the run, and knows the call by the config
   that LangChain sets around it.

A limit of langchain-core that this brings along: where any handler is inline, a plain model (not a
chat model) that is called asynchronously does not report its start to the handlers that are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, GenerationChunk, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph._internal._constants import CONFIG_KEY_RUNTIME, CONFIG_KEY_STREAM
from langgraph.pregel import Pregel
from langgraph.pregel._tools import _tool_call_writer
from langgraph.pregel.protocol import StreamProtocol
from langgraph.runtime import RunControl, Runtime

from assent.core.clock import utc_now
from assent.core.events import Event
from assent.graph.stream.mapping import EventFold, Events

__all__ = ["run_graph"]

Emit = Callable[[Event], None]
T = TypeVar("T")


async def run_graph(
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
    """Run `graph` to its end or its next pause, and call `emit` with each event in order, while it
    happens.

    `emit` is called from inside LangChain's callbacks, so it must return at once, and it must be
    safe to call from any thread: what happens inside of a sync node comes from the thread that
    LangGraph runs it in. What it raises fails the run. It is not called any more once this has
    returned or raised, whatever a cancelled sync node still does in its thread.

    `config` is the run's, its callbacks are kept; `context` and `control` are handed to the graph.
    Checkpoints are written with durability "sync". Raises what the graph raises, after the
    `node_error` of the node that raised it.
    """
    handler = EventHandler(EventFold(thread_id=thread_id, run_id=run_id, now=now), emit)
    options = run_options(graph, context=context, control=control)
    try:
        with tools_heard_by(handler.tool_progress):
            async for _ in graph.astream(
                graph_input, prepared_config(config, handler, handler.write), **options
            ):
                pass
    except BaseException as error:
        handler.run_failed(error)
        raise
    finally:
        handler.close()


def run_options(
    graph: Pregel[Any, Any, Any, Any], *, context: Any, control: RunControl | None
) -> dict[str, Any]:
    """What both sources ask of a graph: to stream nothing, and to have saved a step before the next
    one begins."""
    durability = {"durability": "sync"} if graph.checkpointer else {}
    return {"stream_mode": [], "context": context, "control": control, **durability}


def prepared_config(
    config: RunnableConfig, handler: BaseCallbackHandler, write: Callable[[Any], None]
) -> RunnableConfig:
    """The config with `handler` behind its own callbacks, and with `write` as what
    `get_stream_writer()` gives."""
    config = ensure_config(config)
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        callbacks = callbacks.copy()
        callbacks.add_handler(handler, inherit=True)
    else:
        callbacks = [*(callbacks or ()), handler]
    configurable = {
        **config.get("configurable", {}),
        CONFIG_KEY_RUNTIME: Runtime(stream_writer=write),
        # LangGraph keeps the writer that it finds only where it also finds a stream that listens;
        # this one listens to no mode.
        CONFIG_KEY_STREAM: StreamProtocol(lambda _: None, set()),
    }
    return {**config, "callbacks": callbacks, "configurable": configurable}


@contextmanager
def tools_heard_by(write: Callable[[Any], None]) -> Iterator[None]:
    """Within this context, let `write` have what tools send with `emit_output_delta`."""
    token = _tool_call_writer.set(write)
    try:
        yield
    finally:
        _tool_call_writer.reset(token)


class EventHandler(BaseCallbackHandler):
    """Tells an `EventFold` what happens, and emits what it answers."""

    run_inline = True
    # LangChain swallows what a handler raises; an event that cannot be emitted must stop the run
    # instead.
    raise_error = True

    def __init__(self, fold: EventFold, emit: Emit) -> None:
        self._fold = fold
        self._emit = emit

    def close(self) -> None:
        """Emit nothing any more."""
        self._emit = _ignore

    def run_failed(self, error: BaseException) -> None:
        """The run raised."""
        self._emit_all(self._fold.run_failed(error))

    def write(self, data: Any) -> None:
        """Stand in for LangGraph's stream writer."""
        config = var_child_runnable_config.get() or {}
        self._emit_all(self._fold.written(data, config.get("metadata")))

    def tool_progress(self, delta: Any) -> None:
        """Stand in for LangGraph's writer of tool output. The tool is the run whose children the
        current config is for."""
        callbacks = (var_child_runnable_config.get() or {}).get("callbacks")
        if isinstance(callbacks, BaseCallbackManager):
            self._emit_all(self._fold.tool_progress(callbacks.parent_run_id, delta))

    def _emit_all(self, events: Events) -> None:
        for event in events:
            self._emit(event)

    def tap_output_aiter(self, run_id: UUID, output: T) -> T:
        """Makes models stream; see the module's docstring."""
        return output

    def tap_output_iter(self, run_id: UUID, output: T) -> T:
        """Makes models stream; see the module's docstring."""
        return output

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._emit_all(self._fold.chain_start(run_id, name, tags, metadata, inputs))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._emit_all(self._fold.chain_end(run_id, outputs))

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._emit_all(self._fold.chain_error(run_id, error))

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._emit_all(self._fold.model_start(run_id, tags, metadata))

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._emit_all(self._fold.model_start(run_id, tags, metadata))

    def on_llm_new_token(
        self,
        token: Any,
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        if isinstance(chunk, ChatGenerationChunk):
            events = self._fold.model_chunk(run_id, chunk.message)
        else:
            events = self._fold.model_text(run_id, chunk.text if chunk else token)
        for event in events:
            self._emit(event)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        generation = next(
            (generation for batch in response.generations for generation in batch), None
        )
        if isinstance(generation, ChatGeneration):
            self._emit_all(self._fold.model_end(run_id, generation.message))
        else:
            info = (generation.generation_info if generation else None) or {}
            text, finish_reason = (
                generation.text if generation else "",
                str(info.get("finish_reason") or ""),
            )
            self._emit_all(
                self._fold.model_end(run_id, None, text=text, finish_reason=finish_reason)
            )

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._emit_all(self._fold.model_error(run_id))

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
        name: str | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        tool = name or (serialized or {}).get("name", "")
        self._emit_all(
            self._fold.tool_start(
                run_id, tool, tool_call_id or "", input_str if inputs is None else inputs, metadata
            )
        )

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._emit_all(self._fold.tool_end(run_id, output))

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._emit_all(self._fold.tool_error(run_id, error))

    def on_custom_event(
        self,
        name: str,
        data: Any,
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._emit_all(self._fold.dispatched(name, data, metadata))


def _ignore(event: Event) -> None:
    """What comes after the run's end is nobody's."""
