"""The progress of a run in code, by the patterns of "CrewAI Real-Time Streaming Testing": a callback
that is a function, an object or a queue, and generators."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph

from assent import (
    Approve,
    ProgressUpdate,
    astream_progress,
    build_hitl_agent,
    run_with_steps,
    stream_progress,
)
from assent.core.errors import ConfigurationError
from assent.core.events import Done, RunPaused
from assent.core.progress import Totals
from tests.support.models import ScriptedModel, call, say

ASKED: dict[str, Any] = {"messages": [("user", "What does the handbook say?")]}
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
STEPS = ["agent", "tools", "search", "settle", "agent"]


async def search(query: str) -> str:
    """Search the handbook."""
    return f"Nothing about {query}."


def researcher(approve: Sequence[str] = (), tool: Any = search) -> Any:
    script = [call("search", query="leave"), say("It says nothing.")]
    return build_hitl_agent(
        ScriptedModel(script=script),
        [tool],
        approve=approve,
        checkpointer=InMemorySaver(),
        name="researcher",
    )


def crew(*, fails: bool = False) -> Any:
    """A graph of somebody else's, with a subgraph, and a node that says how far it is."""

    async def draft(state: MessagesState) -> dict[str, Any]:
        write = get_stream_writer()
        write({"progress": 0.5, "message": "Writing chapter 2"})
        if fails:
            raise ValueError("No paper.")
        return {"messages": [AIMessage("A draft.")]}

    writing = StateGraph(MessagesState).add_node("draft", draft).add_edge(START, "draft").compile()
    graph = StateGraph(MessagesState).add_node("writer", writing).add_edge(START, "writer")
    return graph.compile(name="crew")


def tasks(updates: list[ProgressUpdate]) -> list[str]:
    return [update.task for update in updates]


# ── callbacks ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_function_is_told_of_each_step_as_it_begins() -> None:
    stderr = StringIO()

    def _step_callback(update: ProgressUpdate) -> None:
        # As the document's does: a JSON line for whoever reads the process's standard error.
        print(update.json().decode(), file=stderr, flush=True)

    last = await run_with_steps(researcher(), ASKED, THREAD, step_callback=_step_callback)
    assert isinstance(last, Done)
    lines = [json.loads(line) for line in stderr.getvalue().splitlines()]
    assert [line["task"] for line in lines] == STEPS
    assert {tuple(line) for line in lines} == {("type", "agent", "task", "timestamp")}
    assert {(line["type"], line["agent"]) for line in lines} == {("progress", "researcher")}
    assert sorted(line["timestamp"] for line in lines) == [line["timestamp"] for line in lines]


async def test_an_async_function_is_awaited() -> None:
    seen: list[ProgressUpdate] = []

    async def on_update(update: ProgressUpdate) -> None:
        await asyncio.sleep(0)
        seen.append(update)

    await run_with_steps(researcher(), ASKED, THREAD, step_callback=on_update)
    assert tasks(seen) == STEPS


async def test_an_object_adds_up_by_agent_and_task() -> None:
    class ProgressTracker:
        def __init__(self) -> None:
            self.totals = Totals()

        def on_step(self, update: ProgressUpdate) -> None:
            self.totals.add(update)

    tracker = ProgressTracker()
    await run_with_steps(researcher(), ASKED, THREAD, step_callback=tracker)
    await run_with_steps(crew(), ASKED, THREAD, step_callback=tracker)
    counts = {
        agent: {task: each["updates"] for task, each in by_task.items()}
        for agent, by_task in tracker.totals.by_agent.items()
    }
    assert counts == {
        "researcher": {"agent": 2, "tools": 1, "search": 1, "settle": 1},
        "crew": {"writer": 1, "writer/draft": 1, "Writing chapter 2": 1},
    }


@pytest.mark.parametrize("make", [queue.Queue, asyncio.Queue])
async def test_a_queue_is_filled_for_whoever_reads_it(make: Callable[[], Any]) -> None:
    updates = make()
    await run_with_steps(researcher(), ASKED, THREAD, step_callback=updates)
    assert tasks([updates.get_nowait() for _ in range(updates.qsize())]) == STEPS


async def test_a_pause_is_returned_and_its_decision_goes_on() -> None:
    agent = researcher(approve=["search"])
    seen: list[ProgressUpdate] = []
    paused = await run_with_steps(agent, ASKED, THREAD, step_callback=seen.append)
    assert isinstance(paused, RunPaused)
    assert len(paused.approvals) == 1
    assert "search" not in tasks(seen)
    done = await run_with_steps(agent, Approve(), THREAD, step_callback=seen.append)
    assert isinstance(done, Done)
    assert tasks(seen).count("search") == 1


async def test_a_callback_that_raises_or_is_full_cancels_the_run() -> None:
    searched: list[str] = []

    async def search(query: str) -> str:
        """Search."""
        searched.append(query)
        return ""

    def refuse(update: ProgressUpdate) -> None:
        raise LookupError(update.task)

    with pytest.raises(LookupError, match="agent"):
        await run_with_steps(researcher(tool=search), ASKED, THREAD, step_callback=refuse)
    full: queue.Queue[ProgressUpdate] = queue.Queue(1)
    full.put_nowait(ProgressUpdate("", "", None))  # type: ignore[arg-type]
    with pytest.raises(queue.Full):
        await run_with_steps(researcher(tool=search), ASKED, THREAD, step_callback=full)
    assert searched == []


async def test_what_is_no_callback_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError, match="step_callback= is a list"):
        await run_with_steps(researcher(), ASKED, THREAD, step_callback=[])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="compiled LangGraph graphs"):
        await run_with_steps(print, ASKED, THREAD, step_callback=print)


# ── generators ────────────────────────────────────────────────────────────────────────────────────


async def test_a_generator_yields_the_same_steps() -> None:
    assert tasks([each async for each in astream_progress(researcher(), ASKED, THREAD)]) == STEPS
    steps = [each async for each in astream_progress(crew(), ASKED)]
    assert tasks(steps) == ["writer", "writer/draft", "Writing chapter 2"]


def test_sync_code_has_a_generator_too() -> None:
    assert tasks([*stream_progress(researcher(), ASKED, THREAD)]) == STEPS


def test_closing_the_sync_generator_cancels_the_run() -> None:
    steps = stream_progress(researcher(), ASKED, THREAD)
    assert next(steps).task == "agent"
    steps.close()
    assert list(steps) == []


def test_a_run_that_fails_raises_behind_its_last_step() -> None:
    seen: list[ProgressUpdate] = []
    with pytest.raises(ValueError, match="No paper"):
        for update in stream_progress(crew(fails=True), ASKED):
            seen.append(update)
    assert tasks(seen) == ["writer", "writer/draft", "Writing chapter 2"]


async def test_the_sync_generator_says_what_to_use_in_a_loop() -> None:
    with pytest.raises(ConfigurationError, match="Use astream_progress here"):
        stream_progress(researcher(), ASKED, THREAD)
