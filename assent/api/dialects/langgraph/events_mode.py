"""LangGraph's stream mode `events`: what happens in a run as LangChain's `astream_events` tells it.

    event: events   {"event": "on_chat_model_stream", "name": "gpt", "run_id": "…", "tags": [],
                     "metadata": {…}, "data": {"chunk": {…}}, "parent_ids": ["…"]}

There are the events of the graph, its nodes, models, tools and retrievers, and those that were
dispatched under a name. What the log has not is left out: the chains within a node, and the prompts
of models. A tool is known by the id of its call, and a node by that of its task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import singledispatchmethod

from msgspec import Raw

from assent.api.dialects.messages import Writing
from assent.core.events import (
    Custom,
    Done,
    Event,
    LlmEnd,
    LlmStart,
    NodeEnd,
    NodeEvent,
    NodeStart,
    Reasoning,
    RetrieverEnd,
    RetrieverEvent,
    RetrieverStart,
    RunPaused,
    RunResumed,
    RunStart,
    StateUpdate,
    Token,
    ToolCallDelta,
    ToolEnd,
    ToolError,
    ToolStart,
)
from assent.core.json import Json, JsonObject, encode_json

OF_MODEL = "lc_run--"
"""The beginning of the id that LangChain gives a message: the id of the model's call follows."""


class RunEvents:
    """Folds the events of a run into LangChain's. `input_of` gives what a node was given, and
    `values` the state of the graph."""

    def __init__(
        self, input_of: Callable[[NodeStart], Json], values: Callable[[], bytes | None]
    ) -> None:
        self._input_of = input_of
        self._values = values
        self._agent = ""
        self._nodes: dict[str, NodeStart] = {}
        self._inputs: dict[str, Json] = {}
        self._updates: dict[str, list[Json]] = {}
        self._calls: dict[str, LlmStart] = {}
        self._writing: dict[str, Writing] = {}

    @singledispatchmethod
    def told(self, event: Event) -> Iterator[JsonObject]:
        """LangChain's events of this one."""
        return iter(())

    # ── the graph ──

    @told.register
    def _run_start(self, event: RunStart) -> Iterator[JsonObject]:
        self._agent = event.agent
        given = event.input if event.input is not None else event.message
        yield self._of_graph(event, "on_chain_start", {"input": given})

    @told.register
    def _run_resumed(self, event: RunResumed) -> Iterator[JsonObject]:
        self._agent = event.agent
        yield self._of_graph(event, "on_chain_start", {"input": None})

    @told.register
    def _run_end(self, event: Done | RunPaused) -> Iterator[JsonObject]:
        values = self._values()
        output = None if values is None else Raw(values)
        yield self._of_graph(event, "on_chain_end", {"output": output})

    def _of_graph(self, event: Event, kind: str, data: JsonObject) -> JsonObject:
        return {
            "event": kind,
            "name": self._agent,
            "run_id": event.run_id,
            "tags": [],
            "metadata": _metadata(event),
            "data": data,
            "parent_ids": [],
        }

    # ── nodes ──

    @told.register
    def _node_start(self, event: NodeStart) -> Iterator[JsonObject]:
        self._nodes[event.task_id] = event
        self._inputs[event.task_id] = given = self._input_of(event)
        self._updates[event.task_id] = []
        yield self._of_node(event, event, "on_chain_start", {"input": given})

    @told.register
    def _updated(self, event: StateUpdate) -> Iterator[JsonObject]:
        start = self._nodes.get(event.task_id)
        if start is not None:
            self._updates[event.task_id].append(event.update)
            yield self._of_node(event, start, "on_chain_stream", {"chunk": event.update})

    @told.register
    def _node_end(self, event: NodeEnd) -> Iterator[JsonObject]:
        start = self._nodes.get(event.task_id)
        if start is None:
            return
        updates = self._updates.pop(event.task_id)
        if not updates:
            yield self._of_node(event, start, "on_chain_stream", {"chunk": None})
        output = updates[0] if len(updates) == 1 else updates or None
        data = {"output": output, "input": self._inputs.pop(event.task_id)}
        yield self._of_node(event, start, "on_chain_end", data)
        del self._nodes[event.task_id]

    def _of_node(
        self, event: NodeEvent, start: NodeStart, kind: str, data: JsonObject
    ) -> JsonObject:
        tags = [f"graph:step:{start.step}"]
        return self._within(event, kind, event.node, event.task_id, data, tags=tags)

    def _within(
        self,
        event: NodeEvent,
        kind: str,
        name: str,
        run_id: str,
        data: JsonObject,
        *,
        tags: list[str] | None = None,
        more: JsonObject | None = None,
    ) -> JsonObject:
        """An event of a node, or of something in it."""
        around = [event.run_id, *(place.rpartition(":")[2] for place in event.ns)]
        is_node = run_id == event.task_id
        return {
            "event": kind,
            "name": name,
            "run_id": run_id,
            "tags": tags or [],
            "metadata": {**self._about(event), **(more or {})},
            "data": data,
            "parent_ids": around if is_node or not event.task_id else [*around, event.task_id],
        }

    def _about(self, event: NodeEvent) -> JsonObject:
        start = self._nodes.get(event.task_id)
        about = _metadata(event)
        if event.node:
            about["langgraph_node"] = event.node
            place = f"{event.node}:{event.task_id}"
            about["langgraph_checkpoint_ns"] = "|".join((*event.ns, place))
        if start is not None:
            about["langgraph_step"] = start.step
            about["langgraph_triggers"] = start.triggers
            about["langgraph_path"] = start.path
        return about

    # ── models ──

    @told.register
    def _llm_start(self, event: LlmStart) -> Iterator[JsonObject]:
        self._calls[event.message_id] = event
        yield self._of_model(event, event.message_id, "on_chat_model_start", {"input": None})

    @told.register
    def _token(self, event: Token) -> Iterator[JsonObject]:
        return self._piece(event, event.message_id, self._writing_of(event.message_id).token(event))

    @told.register
    def _reasoning(self, event: Reasoning) -> Iterator[JsonObject]:
        piece = self._writing_of(event.message_id).reasoning(event)
        return self._piece(event, event.message_id, piece)

    @told.register
    def _call(self, event: ToolCallDelta) -> Iterator[JsonObject]:
        return self._piece(event, event.message_id, self._writing_of(event.message_id).call(event))

    @told.register
    def _llm_end(self, event: LlmEnd) -> Iterator[JsonObject]:
        writing = self._writing_of(event.message_id)
        yield from self._piece(event, event.message_id, writing.end(event))
        output = {"output": writing.so_far(), "input": None}
        yield self._of_model(event, event.message_id, "on_chat_model_end", output)
        self._writing.pop(event.message_id, None)
        self._calls.pop(event.message_id, None)

    def _writing_of(self, message_id: str) -> Writing:
        return self._writing.setdefault(message_id, Writing(message_id))

    def _piece(
        self, event: NodeEvent, message_id: str, piece: JsonObject | None
    ) -> Iterator[JsonObject]:
        if piece is not None:
            yield self._of_model(event, message_id, "on_chat_model_stream", {"chunk": piece})

    def _of_model(
        self, event: NodeEvent, message_id: str, kind: str, data: JsonObject
    ) -> JsonObject:
        call = self._calls.get(message_id)
        name = call.model if call else ""
        tags = [*call.tags] if call else []
        more = call.metadata if call else {}
        run_id = message_id.removeprefix(OF_MODEL)
        return self._within(event, kind, name, run_id, data, tags=tags, more=more)

    # ── tools and retrievers ──

    @told.register
    def _tool_start(self, event: ToolStart) -> Iterator[JsonObject]:
        run_id = self._tool_run(event)
        self._inputs[run_id] = event.input
        yield self._within(event, "on_tool_start", event.tool, run_id, {"input": event.input})

    @told.register
    def _tool_end(self, event: ToolEnd) -> Iterator[JsonObject]:
        run_id = self._tool_run(event)
        data = {"output": _tool_output(event), "input": self._inputs.pop(run_id, None)}
        yield self._within(event, "on_tool_end", event.tool, run_id, data)

    @told.register
    def _tool_error(self, event: ToolError) -> Iterator[JsonObject]:
        run_id = self._tool_run(event)
        data = {"error": event.error.type, "input": self._inputs.pop(run_id, None)}
        yield self._within(event, "on_tool_error", event.tool, run_id, data)

    def _tool_run(self, event: ToolStart | ToolEnd | ToolError) -> str:
        return event.tool_call_id or f"{event.task_id}:{event.tool}"

    @told.register
    def _retriever_start(self, event: RetrieverStart) -> Iterator[JsonObject]:
        return self._of_retriever(event, "on_retriever_start", {"input": {"query": event.query}})

    @told.register
    def _retriever_end(self, event: RetrieverEnd) -> Iterator[JsonObject]:
        documents = [
            {"id": each.id or None, "page_content": each.text, "metadata": each.metadata}
            for each in event.documents
        ]
        return self._of_retriever(event, "on_retriever_end", {"output": documents})

    def _of_retriever(
        self, event: RetrieverEvent, kind: str, data: JsonObject
    ) -> Iterator[JsonObject]:
        yield self._within(event, kind, event.retriever, event.call_id, data)

    # ── what was dispatched ──

    @told.register
    def _custom(self, event: Custom) -> Iterator[JsonObject]:
        # What nodes write to the stream is told in the mode `custom`.
        if event.name:
            yield self._within(event, "on_custom_event", event.name, event.task_id, event.data)


def _metadata(event: Event) -> JsonObject:
    return {"thread_id": event.thread_id, "run_id": event.run_id}


def _tool_output(event: ToolEnd) -> Json:
    """What the tool returned: a message, if a call of the model's was answered."""
    if not event.tool_call_id:
        return event.output
    content = event.output
    if not isinstance(content, str | list):
        content = encode_json(content).decode()
    return {
        "content": content,
        "type": "tool",
        "name": event.tool,
        "tool_call_id": event.tool_call_id,
        "status": "success",
    }
