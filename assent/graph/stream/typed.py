"""`astream_typed`: the typed events of any compiled LangGraph graph, without a server.

    async for event in astream_typed(agent, {"messages": [("user", "Hi")]}, config):
        match event:
            case Token():
                print(event.content, end="")
            case ApprovalRequired():
                print(event.tool, event.args)

The events are those of the server's stream; only `seq` is 0, since no log numbers them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.pregel import Pregel
from langgraph.types import Command, StateSnapshot
from msgspec import structs

from assent.core.approval import Approval, approval_event, decided_event
from assent.core.clock import utc_now, uuid7
from assent.core.decisions import Decision
from assent.core.errors import ConfigurationError
from assent.core.events import (
    ApprovalRequired,
    Checkpoint,
    Done,
    Error,
    Event,
    LlmEnd,
    NodeEnd,
    NodeError,
    NodeStart,
    RunPaused,
    RunResumed,
    RunStart,
    Usage,
)
from assent.graph.explain import explain
from assent.graph.interrupts.matching import matched
from assent.graph.interrupts.previews import with_previews
from assent.graph.interrupts.questions import find_pending, interrupts_in
from assent.graph.interrupts.resume import (
    Continuation,
    apply_updates,
    checked_decisions,
    continuation,
)
from assent.graph.stream.astream_events import run_graph_v2
from assent.graph.stream.callbacks import run_graph
from assent.graph.stream.mapping import Emit

__all__ = ["astream_typed"]

SOURCES = {"callbacks": run_graph, "astream_events": run_graph_v2}


async def astream_typed(
    agent: Any,
    input: Any,
    config: RunnableConfig | None = None,
    *,
    source: Literal["callbacks", "astream_events"] = "callbacks",
    context: Any = None,
) -> AsyncGenerator[Event, None]:
    """Run a compiled graph to its end or its next pause, and yield typed events as they happen.

    `input` is what `agent.astream` takes, or what `aresume` takes: a decision, or decisions by
    approval id. `context` is given to the graph's `context_schema`.

    The first event is `run_start`; with decisions, a `Command` or None as input, `run_resumed`, and
    then an `approval_decided` for each decision. The last one is `done`; or `run_paused`, after an
    `approval_required` for each question; or `error`,
    and then the graph's exception is raised. Events carry the config's thread_id and run_id; a run
    without an id is given one.

    Both sources give the same events. "callbacks" is faster; "astream_events" rests on LangChain's
    public `astream_events(version="v2")`.

    The graph does not wait for its reader. Closing the generator cancels the run. Python closes a
    generator some time after a loop is left early; `contextlib.aclosing` does it at once.

    Raises `ConfigurationError` for an unknown source, and for a graph or a config that cannot be
    run; and what `aresume` raises for decisions that do not fit. Then nothing has run.
    """
    if source not in SOURCES:
        raise ConfigurationError(
            f"source= is {source!r}. Give it 'callbacks', which is faster, or 'astream_events'."
        )
    if not isinstance(agent, Pregel):
        raise ConfigurationError(
            "astream_typed runs compiled LangGraph graphs, and was given a "
            f"{type(agent).__name__}. Give it what compile() returns."
        )
    config = merge_configs(agent.config, config)
    _check(agent, config)
    events: deque[Event] = deque()
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def emit(event: Event) -> None:
        # Sync nodes emit from threads.
        events.append(event)
        if not arrived.is_set():
            loop.call_soon_threadsafe(arrived.set)

    run = _Run(agent, config, emit)
    task = asyncio.create_task(run.to_its_end(source, input, context))
    task.add_done_callback(lambda _: arrived.set())
    try:
        while True:
            # Cleared before the queue is read: what arrives behind the last event sets it again.
            arrived.clear()
            while events:
                yield events.popleft()
            if task.done():
                break
            await arrived.wait()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _check(agent: Any, config: RunnableConfig) -> None:
    if not agent.checkpointer and (agent.interrupt_before_nodes or agent.interrupt_after_nodes):
        raise ConfigurationError(
            "The graph pauses at a node and has no checkpointer, so nobody could see it paused, "
            "and it could never go on. Compile it with one, such as InMemorySaver()."
        )
    if agent.checkpointer and "thread_id" not in config.get("configurable", {}):
        raise ConfigurationError(
            "The graph has a checkpointer, and the config names no thread. "
            'Give it {"configurable": {"thread_id": "…"}}.'
        )


class _Run:
    """One run of a graph, with the events that frame it."""

    def __init__(self, agent: Any, config: RunnableConfig, emit: Emit) -> None:
        thread_id = config.get("configurable", {}).get("thread_id", "")
        run_id = config.get("run_id") or config.get("metadata", {}).get("run_id") or uuid7()
        self._agent = agent
        self._config = config
        self._emit = emit
        self._thread_id = str(thread_id)
        self._run_id = str(run_id)
        self._usage: Usage | None = None
        self._steps: set[int] = set()
        self._open_nodes: dict[str, str] = {}
        self._failed_node = ""

    async def to_its_end(self, source: str, graph_input: Any, context: Any) -> None:
        """Run the graph, and emit everything from `run_start` to the terminal event."""
        plan, decided = await self._plan(graph_input)
        if decided or graph_input is None or isinstance(graph_input, Command):
            ids = tuple(approval.approval_id for approval, _ in decided)
            self._frame(RunResumed(agent=self._agent.name, approvals=ids))
            for approval, decision in decided:
                self._frame(decided_event(approval, decision, utc_now(), agent=self._agent.name))
        else:
            self._frame(RunStart(agent=self._agent.name))
        run = SOURCES[source]
        try:
            plan = await apply_updates(self._agent, self._config, plan)
            if not plan.ended:
                await run(
                    matched(self._agent),
                    plan.input,
                    self._config,
                    self._watch,
                    thread_id=self._thread_id,
                    run_id=self._run_id,
                    context=context,
                )
            await self._end()
        except Exception as error:
            code, message = explain(error)
            self._frame(Error(code=code, message=message, node=self._failed_node))
            raise

    async def _plan(
        self, graph_input: Any
    ) -> tuple[Continuation, Sequence[tuple[Approval, Decision]]]:
        """The way the graph goes on, and the approvals that the input decides, with its
        decisions."""
        if not _is_decisions(graph_input):
            return Continuation(input=graph_input), ()
        snapshot = await self._agent.aget_state(self._config, subgraphs=True)
        decided = checked_decisions(self._agent, snapshot, graph_input)
        return continuation(self._agent, snapshot, decided), decided

    async def _end(self) -> None:
        if not self._agent.checkpointer:
            self._pause_or_done((), tuple(self._open_nodes.values()))
            return
        snapshot = await self._agent.aget_state(_head(self._config), subgraphs=True)
        pending: list[Approval] = []
        if snapshot.next:
            found = find_pending(self._agent, snapshot)
            pending = await with_previews(self._agent, found, snapshot)
        for approval in pending:
            at, agent = approval.requested_at, self._agent.name
            self._frame(approval_event(ApprovalRequired, approval, at, agent=agent))
        if pending:
            for interrupt in interrupts_in(self._agent, snapshot):
                self._frame(interrupt)
        self._frame(_newest(snapshot))
        approvals = tuple(approval.approval_id for approval in pending)
        self._pause_or_done(approvals, snapshot.next)

    def _pause_or_done(self, approvals: tuple[str, ...], waiting: tuple[str, ...]) -> None:
        if waiting:
            self._frame(RunPaused(approvals=approvals, next=waiting))
        else:
            self._frame(Done(usage=self._usage, steps=len(self._steps)))

    def _frame(self, event: Event) -> None:
        self._emit(structs.replace(event, thread_id=self._thread_id, run_id=self._run_id))

    def _watch(self, event: Event) -> None:
        """Emit the event, and note what the terminal event says of it."""
        if isinstance(event, LlmEnd):
            self._count(event.usage)
        elif isinstance(event, NodeStart) and not event.ns:
            self._steps.add(event.step)
            self._open_nodes[event.task_id] = event.node
        elif isinstance(event, NodeEnd):
            self._open_nodes.pop(event.task_id, None)
        elif isinstance(event, NodeError):
            self._open_nodes.pop(event.task_id, None)
            self._failed_node = event.node
        self._emit(event)

    def _count(self, usage: Usage | None) -> None:
        if usage is None:
            return
        before = structs.asdict(self._usage or Usage())
        now = structs.asdict(usage)
        self._usage = Usage(**{name: before[name] + now[name] for name in now})


def _newest(snapshot: StateSnapshot) -> Checkpoint:
    """The checkpoint that was read."""
    metadata = snapshot.metadata or {}
    return Checkpoint(
        checkpoint_id=_checkpoint_id(snapshot.config),
        step=metadata.get("step", 0),
        parent_id=_checkpoint_id(snapshot.parent_config),
        source=metadata.get("source", ""),
    )


def _checkpoint_id(config: RunnableConfig | None) -> str:
    configurable = (config or {}).get("configurable", {})
    return str(configurable.get("checkpoint_id", ""))


def _is_decisions(graph_input: Any) -> bool:
    if isinstance(graph_input, Mapping):
        values = graph_input.values()
        return bool(values) and all(isinstance(value, Decision) for value in values)
    return isinstance(graph_input, Decision)


def _head(config: RunnableConfig) -> RunnableConfig:
    """The config without the checkpoint that the run began from: its end is read."""
    configurable = dict(config.get("configurable", {}))
    configurable.pop("checkpoint_id", None)
    return {**config, "configurable": configurable}
