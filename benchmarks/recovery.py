"""The start after a crash that has left many runs in the middle of their words: the time until a
timer fires, for one that is due at the start and one that becomes due meanwhile, and until the last
run goes on.

Run alone with `python -m benchmarks recovery`.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from assent.core.events import Event, LlmStart, NodeStart, RunStart, Token
from assent.core.rows import Run, RunKind, RunStatus, Thread, ThreadStatus, Timer
from assent.graph.kinds import Agent
from assent.runs.opening import open_runs
from assent.runs.states import thread_config
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from benchmarks.sizes import sized

RUNS, TOKENS = sized(100, 4), sized(2_000, 20)
OF_RUNS = 500
"""The targets are for so many runs; here are fewer, since writing their tokens takes longest."""

TIMER_SECONDS, LAST_SECONDS = 2.0, 10.0
AMID_SECONDS = 0.2
TIMEOUT_SECONDS = 120


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    with TemporaryDirectory(prefix="assent-bench-") as folder:
        at_start, amid, last = asyncio.run(measured(Path(folder) / "assent.db"))
    scale = RUNS / OF_RUNS
    print(f"{RUNS} runs of {TOKENS:,} tokens, left by a crash")
    for what, seconds, target in (
        ("a timer that is due at the start", at_start, TIMER_SECONDS),
        (f"a timer that is due after {AMID_SECONDS:g} s, late by", amid, TIMER_SECONDS),
        ("the last run has ended", last, LAST_SECONDS * scale),
    ):
        verdict = "met" if seconds <= target else "MISSED"
        print(f"  {what:44} {seconds:6.2f} s   at most {target:g} s: {verdict}")


async def measured(path: Path) -> tuple[float, float, float]:
    """The seconds until each timer fired, and until the last run had ended."""
    agent = (
        StateGraph(MessagesState)
        .add_node("answer", lambda state: {"messages": [AIMessage("Here.")]})
        .add_edge(START, "answer")
        .compile()
    )
    async with SqliteStorage.open(path) as storage:
        for number in range(RUNS):
            await leave_run(storage, agent, number)
        await storage.commit(Change(rows=(timer("start", 0.0),)))
    started = time.perf_counter()
    async with SqliteStorage.open(path) as storage:
        seen = Seen(storage)
        await storage.commit(Change(rows=(timer("amid", AMID_SECONDS),)))
        async with (
            asyncio.timeout(TIMEOUT_SECONDS),
            open_runs(cast(Storage, seen), {"agent": agent}),
        ):
            await seen.all.wait()
        ended = await storage.runs(status=(RunStatus.SUCCESS,), limit=RUNS + 1)
        assert len(ended) == RUNS, f"{len(ended)} runs have ended well."
    at_start, amid = (seen.fired[name] - started for name in ("start", "amid"))
    return at_start, amid - AMID_SECONDS, seen.last - started


class Seen:
    """A storage that notes the time of what is committed: timers that have fired, and the last run
    that has ended."""

    def __init__(self, storage: Storage) -> None:
        self.fired: dict[str, float] = {}
        self.last = 0.0
        self.all = asyncio.Event()
        self._storage = storage
        self._ended = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def commit(self, change: Change) -> tuple[int, ...]:
        numbers = await self._storage.commit(change)
        now = time.perf_counter()
        for row in change.removed:
            if isinstance(row, Timer):
                self.fired[row.timer_id] = now
        for row in change.rows:
            if isinstance(row, Run) and row.ended_at is not None:
                self._ended, self.last = self._ended + 1, now
        if self._ended == RUNS and len(self.fired) == 2:
            self.all.set()
        return numbers


async def leave_run(storage: Storage, agent: Agent, number: int) -> None:
    """What a run has stored whose process died while its model spoke."""
    thread_id, run_id, now = f"thread-{number}", f"run-{number}", datetime.now(UTC)
    thread = Thread(
        thread_id=thread_id,
        owner="ann",
        status=ThreadStatus.BUSY,
        created_at=now,
        updated_at=now,
        agent="agent",
        run_id=run_id,
    )
    run = Run(
        run_id=run_id,
        thread_id=thread_id,
        owner="ann",
        agent="agent",
        kind=RunKind.INPUT,
        status=RunStatus.RUNNING,
        created_at=now,
        started_at=now,
        input={"message": "Hello."},
        attempt=1,
        worker="gone",
    )
    await storage.commit(Change(rows=(thread, run)))
    saved = agent.copy(update={"checkpointer": storage.checkpointer})
    config: Any = {**thread_config(thread_id), "metadata": {"run_id": run_id}}
    await saved.aupdate_state(config, {"messages": [HumanMessage("Hello.")]}, as_node=START)

    at: dict[str, Any] = {"thread_id": thread_id, "run_id": run_id, "ts": now}
    model: dict[str, Any] = {**at, "node": "answer", "task_id": "task", "message_id": "message"}
    events: list[Event] = [
        RunStart(agent="agent", message="Hello.", **at),
        NodeStart(node="answer", task_id="task", step=1, **at),
        LlmStart(model="some-model", **model),
    ]
    # Neighbours have different indices, so that each is stored as an event of its own.
    events += [Token(content="hello ", index=each % 2, **model) for each in range(TOKENS)]
    await storage.commit(Change(events=tuple(events)))


def timer(timer_id: str, seconds: float) -> Timer:
    """A timer of an approval that is not there any more: when it fires, it is removed."""
    due_at = datetime.now(UTC) + timedelta(seconds=seconds)
    return Timer(timer_id=timer_id, kind="approval", due_at=due_at)
