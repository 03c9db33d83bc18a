"""The fast source: events from LangChain's callbacks, as things happen.

An inline callback handler sees every node, model, tool and retriever of the run at the moment it
starts, sends something and ends, and emits right there. `astream` only drives the graph. It is
asked to stream nothing, since each stream mode costs CPU per token and is later than the callbacks.
This source and `astream_events.py` give the same events, as a test makes sure.

Three things rest on internals of LangChain and LangGraph, since neither has a public way:

1. A model streams inside `ainvoke` if some handler has `tap_output_aiter` and `tap_output_iter`;
   ours return their input. The handler does not inherit `_StreamingCallbackHandler`: LangGraph
   would then stream every node too, which costs more and adds nothing.
2. `get_stream_writer()` returns the writer of the `Runtime` in the run's config. Ours emits at once
   and knows its node. LangGraph's own (stream mode "custom") names no node, and delivers after
   events that happened later.
3. `ToolRuntime.emit_output_delta` finds its writer in a context variable, which stream mode "tools"
   would set for each call. Ours is set once for the run, and knows the call by the config that
   LangChain sets around it.

A limit of langchain-core comes with this: where any handler is inline, a plain model (not a
chat model) that is called asynchronously does not report its start to the handlers that are not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, var_child_runnable_config
from langgraph._internal._constants import CONFIG_KEY_RUNTIME, CONFIG_KEY_STREAM
from langgraph.errors import GraphInterrupt
from langgraph.pregel import Pregel
from langgraph.pregel._tools import _tool_call_writer
from langgraph.pregel.protocol import StreamProtocol
from langgraph.runtime import Runtime

from assent.core.clock import utc_now
from assent.graph.stream.mapping import Emit, EventMapper, plain_message

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
    **options: Any,
) -> None:
    """Run `graph` to its end or its next pause, and call `emit` with each event, in order, as it
    happens.

    `emit` is called from inside LangChain's callbacks, so it must return at once, and it must be
    safe to call from any thread: LangGraph runs sync nodes in threads. What it raises fails the
    run. It is not called any more once this has returned or raised, whatever a cancelled sync node
    still does in its thread.

    The callbacks in `config` are kept. `options` are arguments for the graph's `astream`, such as
    `context` and `control`. Checkpoints are written with durability "sync". Raises what the graph
    raises, after the `node_error` of the node that raised it.

    If one of several tools that run side by side in a node asks a person, or fails, LangGraph
    leaves the others running. Here a pause waits for them, and a failure cuts them off.
    """
    mapper = EventMapper(emit, thread_id=thread_id, run_id=run_id, now=now)
    handler = EventHandler(mapper)
    config = prepared_config(graph, config, handler, handler.write)
    try:
        with tool_output_to(handler.tool_progress):
            async for _ in graph.astream(graph_input, config, **run_options(graph), **options):
                pass
            if handler.asked:
                await handler.tools_ended()
    except BaseException as error:
        await handler.cut_off_tools()
        mapper.run_failed(error)
        raise
    finally:
        mapper.close()


def run_options(graph: Pregel[Any, Any, Any, Any]) -> dict[str, Any]:
    """The options that both sources run a graph with: stream nothing, and store each checkpoint
    before the next superstep begins."""
    durability = {"durability": "sync"} if graph.checkpointer else {}
    return {"stream_mode": [], **durability}


def prepared_config(
    graph: Pregel[Any, Any, Any, Any],
    config: RunnableConfig,
    handler: BaseCallbackHandler,
    write: Callable[[Any], None],
) -> RunnableConfig:
    """The config with `handler` after its own callbacks, and with `write` as the writer that
    `get_stream_writer()` returns."""
    has_limit = "recursion_limit" in config
    config = ensure_config(config)
    if not has_limit:
        # LangChain's default is not LangGraph's, and would hide the graph's own.
        config.pop("recursion_limit", None)
    callbacks = config.get("callbacks")
    if isinstance(callbacks, BaseCallbackManager):
        callbacks = callbacks.copy()
        callbacks.add_handler(handler, inherit=True)
    else:
        callbacks = [*(callbacks or ()), handler]
    given = config.get("configurable", {})
    # A graph takes its store from a runtime that it is given, be it the one of a graph around it.
    runtime = given.get(CONFIG_KEY_RUNTIME) or Runtime(store=graph.store)
    configurable = {
        **given,
        CONFIG_KEY_RUNTIME: runtime.override(stream_writer=write),
        # LangGraph keeps the writer only if it also finds a stream that listens; this one listens
        # to no mode.
        CONFIG_KEY_STREAM: StreamProtocol(lambda _: None, set()),
    }
    return {**config, "callbacks": callbacks, "configurable": configurable}


@contextmanager
def tool_output_to(write: Callable[[Any], None]) -> Iterator[None]:
    """Pass to `write` what tools send with `emit_output_delta`."""
    token = _tool_call_writer.set(write)
    try:
        yield
    finally:
        _tool_call_writer.reset(token)


class EventHandler(BaseCallbackHandler):
    """Reports LangChain's callbacks to an `EventMapper`."""

    run_inline = True
    # LangChain swallows what a handler raises; an event that cannot be emitted must stop the run
    # instead.
    raise_error = True

    def __init__(self, mapper: EventMapper) -> None:
        self.asked = False
        self._mapper = mapper
        self._run_task = asyncio.current_task()
        self._tool_tasks: set[asyncio.Task[Any]] = set()

    async def tools_ended(self) -> None:
        """Wait for the asyncio tasks in which tools still run."""
        if self._tool_tasks:
            await asyncio.wait(self._tool_tasks)

    async def cut_off_tools(self) -> None:
        """Cancel the asyncio tasks in which tools still run, and wait for them."""
        for task in self._tool_tasks:
            task.cancel()
        await self.tools_ended()

    def _note_tool_task(self) -> None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            # A sync tool in a thread, for which somebody waits in any case.
            return
        if task is not None and task is not self._run_task:
            self._tool_tasks.add(task)
            task.add_done_callback(self._tool_tasks.discard)

    def write(self, data: Any) -> None:
        """Stand in for LangGraph's stream writer."""
        config = var_child_runnable_config.get() or {}
        self._mapper.written(data, config.get("metadata"))

    def tool_progress(self, delta: Any) -> None:
        """Stand in for LangGraph's writer of tool output. The tool is the run whose children the
        current config is for."""
        callbacks = (var_child_runnable_config.get() or {}).get("callbacks")
        if isinstance(callbacks, BaseCallbackManager):
            self._mapper.tool_progress(callbacks.parent_run_id, delta)

    def tap_output_aiter(self, run_id: UUID, output: T) -> T:
        """Make models stream; see the module's docstring."""
        return output

    def tap_output_iter(self, run_id: UUID, output: T) -> T:
        """Make models stream; see the module's docstring."""
        return output

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, name: str | None = None, **kwargs: Any
    ) -> None:
        self._mapper.chain_start(run_id, name, kwargs.get("tags"), kwargs.get("metadata"), inputs)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._mapper.chain_end(run_id, outputs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self.asked = self.asked or isinstance(error, GraphInterrupt)
        self._mapper.chain_error(run_id, error)

    def on_chat_model_start(
        self, serialized: Any, messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._mapper.model_start(run_id, kwargs.get("tags"), kwargs.get("metadata"), messages)

    def on_llm_start(
        self, serialized: Any, prompts: list[str], *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._mapper.model_start(run_id, kwargs.get("tags"), kwargs.get("metadata"), prompts)

    def on_llm_new_token(
        self, token: Any, *, chunk: Generation | None = None, run_id: UUID, **kwargs: Any
    ) -> None:
        if isinstance(chunk, ChatGenerationChunk):
            self._mapper.model_chunk(run_id, chunk.message)
        else:
            self._mapper.model_text(run_id, chunk.text if chunk else token)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        generations = [each for batch in response.generations for each in batch]
        generation = generations[0] if generations else Generation(text="")
        if isinstance(generation, ChatGeneration):
            message = generation.message
        else:
            message = plain_message(generation.text, generation.generation_info)
        self._mapper.model_end(run_id, message)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._mapper.model_error(run_id, error)

    def on_tool_start(
        self,
        serialized: Any,
        input_str: str,
        *,
        run_id: UUID,
        inputs: dict[str, Any] | None = None,
        tool_call_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._note_tool_task()
        tool = kwargs.get("name") or (serialized or {}).get("name", "")
        tool_input = input_str if inputs is None else inputs
        self._mapper.tool_start(
            run_id, tool, tool_call_id or "", tool_input, kwargs.get("metadata")
        )

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._mapper.tool_end(run_id, output)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._mapper.tool_error(run_id, error)

    def on_retriever_start(
        self, serialized: Any, query: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        retriever = kwargs.get("name") or (serialized or {}).get("name", "")
        self._mapper.retriever_start(run_id, retriever, query, kwargs.get("metadata"))

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._mapper.retriever_end(run_id, documents)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._mapper.retriever_error(run_id, error)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._mapper.dispatched(name, data, kwargs.get("metadata"))
