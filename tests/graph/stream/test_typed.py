"""`astream_typed`: how a run begins, ends, pauses, goes on, fails and is given up. That it tells
what the sources tell is in test_sources.py."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import Any, TypedDict
from uuid import UUID

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import get_runtime
from langgraph.types import Command, interrupt

from assent import (
    Approve,
    Edit,
    Reject,
    apending_approvals,
    astream_typed,
    build_hitl_agent,
)
from assent.core.errors import ConfigurationError, InvalidDecision, NothingPending
from assent.core.events import (
    ApprovalRequired,
    Checkpoint,
    Done,
    Error,
    Event,
    Interrupt,
    NodeStart,
    RunPaused,
    RunResumed,
    RunStart,
    Token,
    ToolEnd,
    Usage,
    event_type,
)
from tests.graph.scenarios import (
    ASKED,
    SCENARIOS,
    SECRET,
    Breaking,
    answering,
    called,
    model,
    one_node,
    pay,
    said,
)
from tests.support.waiting import PATIENCE

THREAD: RunnableConfig = {"configurable": {"thread_id": "thread-1"}}
SOURCES = ("callbacks", "astream_events")
both_sources = pytest.mark.parametrize("source", SOURCES)


async def collected(agent: Any, graph_input: Any, *args: Any, **options: Any) -> list[Event]:
    return [event async for event in astream_typed(agent, graph_input, *args, **options)]


def types(events: list[Event]) -> list[str]:
    return [event_type(event) for event in events]


def payer(**options: Any) -> Any:
    script = called("m1", ("c1", "pay", {"amount": 3})), said("Done", "m2")
    return build_hitl_agent(
        model(*script), [pay], approve=["pay"], checkpointer=InMemorySaver(), **options
    )


# ── an end ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_ends_with_what_it_has_used() -> None:
    agent = SCENARIOS["plain_chat"]().graph
    events = await collected(agent, ASKED, THREAD)
    state = agent.get_state(THREAD)
    head, before = state.config["configurable"]["checkpoint_id"], state.parent_config
    start, *_, checkpoint, done = events
    assert isinstance(start, RunStart)
    assert start.agent == "LangGraph"
    assert isinstance(checkpoint, Checkpoint)
    assert (checkpoint.checkpoint_id, checkpoint.source, checkpoint.step) == (head, "loop", 1)
    assert checkpoint.parent_id == before["configurable"]["checkpoint_id"]
    assert isinstance(done, Done)
    assert done.usage == Usage(input_tokens=3, output_tokens=2, total_tokens=5)
    assert done.steps == 1


async def test_a_graph_without_a_checkpointer_needs_no_config() -> None:
    agent = StateGraph(MessagesState).add_node("only", lambda state: None).add_edge(START, "only")
    events = await collected(agent.compile(), ASKED)
    assert types(events) == ["run_start", "node_start", "node_end", "done"]
    assert {event.thread_id for event in events} == {""}
    assert events[-1].usage is None  # type: ignore[attr-defined]


async def test_the_ids_are_those_of_the_config_and_a_new_run_id_where_it_has_none() -> None:
    agent = one_node(lambda state: None)
    given: RunnableConfig = {**THREAD, "run_id": UUID(int=7)}
    noted: RunnableConfig = {**THREAD, "metadata": {"run_id": "run-8"}}
    runs = [await collected(agent, ASKED, config) for config in (given, noted, THREAD, THREAD)]
    ids = [{(event.thread_id, event.run_id) for event in run} for run in runs]
    assert ids[0] == {("thread-1", str(UUID(int=7)))}
    assert ids[1] == {("thread-1", "run-8")}
    assert len(ids[2]) == len(ids[3]) == 1
    assert ids[2] != ids[3]


async def test_a_graph_may_be_bound_to_its_thread() -> None:
    agent = SCENARIOS["static_pause"]().graph.with_config(THREAD)
    for graph_input, end in ((ASKED, RunPaused), (Approve(), Done)):
        events = await collected(agent, graph_input)
        assert isinstance(events[-1], end)
        assert {event.thread_id for event in events} == {"thread-1"}


async def test_a_run_that_began_in_the_past_ends_at_the_head() -> None:
    agent = SCENARIOS["static_pause"]().graph
    await collected(agent, ASKED, THREAD)
    paused = agent.get_state(THREAD).config
    await collected(agent, None, THREAD)
    *_, checkpoint, done = await collected(agent, None, paused)
    assert isinstance(checkpoint, Checkpoint)
    assert isinstance(done, Done)
    assert checkpoint.checkpoint_id != paused["configurable"]["checkpoint_id"]


# ── a pause ───────────────────────────────────────────────────────────────────────────────────────


@both_sources
async def test_a_call_that_needs_a_person_is_asked_for_and_decided(source: Any) -> None:
    agent = payer(name="payer")
    events = await collected(agent, ASKED, THREAD, source=source)
    required, _, paused = events[-3:]
    [pending] = await apending_approvals(agent, THREAD)
    assert types(events)[0] == "run_start"
    assert types(events)[-3:] == ["approval_required", "checkpoint", "run_paused"]
    assert isinstance(required, ApprovalRequired)
    assert (required.tool, required.tool_call_id, required.args) == ("pay", "c1", {"amount": 3})
    assert (required.approval_id, required.digest) == (pending.approval_id, pending.digest)
    assert isinstance(paused, RunPaused)
    assert paused.approvals == (pending.approval_id,)
    assert paused.next == ("approval",)

    events = await collected(agent, {required.approval_id: Approve()}, THREAD, source=source)
    resumed = events[0]
    assert isinstance(resumed, RunResumed)
    assert (resumed.agent, resumed.approvals) == ("payer", (pending.approval_id,))
    assert [event.output for event in events if isinstance(event, ToolEnd)] == ["paid 3"]
    assert isinstance(events[-1], Done)


async def test_a_rejected_call_does_not_run() -> None:
    agent = payer()
    await collected(agent, ASKED, THREAD)
    events = await collected(agent, Reject("Too much."), THREAD)
    assert "tool_start" not in types(events)
    assert isinstance(events[-1], Done)


async def test_a_rejected_step_that_ends_the_thread_runs_nothing() -> None:
    agent = SCENARIOS["static_pause"]().graph
    events = await collected(agent, ASKED, THREAD)
    assert events[-1].next == ("second",)  # type: ignore[attr-defined]
    events = await collected(agent, Reject(), THREAD)
    assert types(events) == ["run_resumed", "approval_decided", "checkpoint", "done"]


async def test_a_decision_that_does_not_fit_runs_nothing() -> None:
    agent = payer()
    with pytest.raises(NothingPending):
        await collected(agent, Approve(), THREAD)
    await collected(agent, ASKED, THREAD)
    events: list[Event] = []
    with pytest.raises(InvalidDecision, match="no argument"):
        async for event in astream_typed(agent, Edit({"amuont": 2}), THREAD):
            events.append(event)
    assert events == []
    assert len(await apending_approvals(agent, THREAD)) == 1


@both_sources
async def test_a_graph_that_asks_waits_for_its_answer(source: Any) -> None:
    agent = SCENARIOS["dynamic_interrupt"]().graph
    events = await collected(agent, ASKED, THREAD, source=source)
    required, interrupted, _, _ = events[-4:]
    assert types(events)[-4:] == ["approval_required", "interrupt", "checkpoint", "run_paused"]
    assert isinstance(required, ApprovalRequired)
    assert isinstance(interrupted, Interrupt)
    assert required.args == interrupted.value == "How much?"
    [task] = agent.get_state(THREAD).tasks
    assert (interrupted.node, interrupted.task_id, interrupted.ns) == (task.name, task.id, ())
    assert interrupted.interrupt_id == task.interrupts[0].id
    events = await collected(agent, Command(resume="three"), THREAD, source=source)
    assert isinstance(events[0], RunResumed)
    assert isinstance(events[-1], Done)


async def test_a_pause_that_cannot_be_kept_is_no_end() -> None:
    agent = (
        StateGraph(MessagesState)
        .add_node("ask", lambda state: interrupt("Sure?"))
        .add_edge(START, "ask")
        .compile()
    )
    events = await collected(agent, ASKED)
    assert types(events) == ["run_start", "node_start", "run_paused"]
    assert events[-1].next == ("ask",)  # type: ignore[attr-defined]


# ── failures ──────────────────────────────────────────────────────────────────────────────────────


@both_sources
async def test_what_the_graph_raises_reaches_the_caller_behind_an_error(source: Any) -> None:
    events: list[Event] = []
    with pytest.raises(ValueError, match="postgres"):
        async for event in astream_typed(
            SCENARIOS["failing_node"]().graph, ASKED, THREAD, source=source
        ):
            events.append(event)
    assert types(events) == ["run_start", "node_start", "node_error", "error"]
    error = events[-1]
    assert isinstance(error, Error)
    assert (error.code, error.node) == ("agent_error", "agent")
    assert SECRET not in error.message


@pytest.mark.parametrize(
    ("agent", "options", "says"),
    [
        (SCENARIOS["plain_chat"]().graph, {"source": "v2"}, "source= is 'v2'"),
        (StateGraph(MessagesState), {}, "StateGraph. Give it what compile"),
        (
            StateGraph(MessagesState)
            .add_node("only", lambda state: None)
            .add_edge(START, "only")
            .compile(interrupt_before=["only"]),
            {},
            "no checkpointer",
        ),
        (SCENARIOS["plain_chat"]().graph, {"config": {}}, "thread_id"),
    ],
)
async def test_what_cannot_be_streamed_is_refused(
    agent: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        await collected(agent, ASKED, **{"config": THREAD, **options})


# ── who reads ─────────────────────────────────────────────────────────────────────────────────────


@both_sources
async def test_closing_the_stream_stops_the_graph(source: Any) -> None:
    stopped = asyncio.Event()

    async def wait(state: MessagesState) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    before = asyncio.all_tasks()
    async with aclosing(astream_typed(one_node(wait), ASKED, THREAD, source=source)) as stream:
        async for event in stream:
            if isinstance(event, NodeStart):
                break
        assert not stopped.is_set()
    assert stopped.is_set()
    assert asyncio.all_tasks() == before


@both_sources
async def test_cancelling_the_reader_stops_the_graph(source: Any) -> None:
    entered, stopped = asyncio.Event(), asyncio.Event()

    async def wait(state: MessagesState) -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    before = asyncio.all_tasks()
    reader = asyncio.create_task(collected(one_node(wait), ASKED, THREAD, source=source))
    await entered.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert stopped.is_set()
    assert asyncio.all_tasks() == before


async def test_a_graph_that_fails_as_it_is_stopped_leaves_nothing_behind() -> None:
    """Its exception is nobody's; asyncio would say that it was never retrieved."""

    async def fail(state: MessagesState) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError(SECRET)

    async with aclosing(astream_typed(one_node(fail), ASKED, THREAD)) as stream:
        async for event in stream:
            if isinstance(event, NodeStart):
                break


async def test_a_reader_sees_a_token_while_the_graph_still_runs() -> None:
    read = asyncio.Event()

    async def agent(state: MessagesState) -> dict[str, Any]:
        answer = await model(said("Hello there", "m1")).ainvoke(state["messages"])
        async with asyncio.timeout(PATIENCE):
            await read.wait()
        return {"messages": [answer]}

    async for event in astream_typed(one_node(agent), ASKED, THREAD):
        if isinstance(event, Token):
            read.set()
    assert read.is_set()


async def test_a_reader_is_woken_by_a_sync_node() -> None:
    """Its events come from a thread, in which nothing wakes the loop by itself."""
    read = threading.Event()

    def agent(state: MessagesState) -> dict[str, Any]:
        answer = model(said("Hello there", "m1")).invoke(state["messages"])
        assert read.wait(PATIENCE)
        return {"messages": [answer]}

    async for event in astream_typed(one_node(agent), ASKED, THREAD):
        if isinstance(event, Token):
            read.set()
    assert read.is_set()


@both_sources
async def test_the_context_reaches_the_nodes(source: Any) -> None:
    class Context(TypedDict):
        user: str

    seen: list[Any] = []
    agent = (
        StateGraph(MessagesState, context_schema=Context)
        .add_node("only", lambda state: seen.append(get_runtime().context))
        .add_edge(START, "only")
        .compile()
    )
    await collected(agent, ASKED, source=source, context={"user": "ann"})
    assert seen == [{"user": "ann"}]


async def test_two_threads_stream_at_once() -> None:
    agent = one_node(answering(Breaking(breaks=0)))
    configs: list[RunnableConfig] = [{"configurable": {"thread_id": name}} for name in "ab"]
    runs = await asyncio.gather(*(collected(agent, ASKED, config) for config in configs))
    assert [{event.thread_id for event in run} for run in runs] == [{"a"}, {"b"}]
    assert types(runs[0]) == types(runs[1])
