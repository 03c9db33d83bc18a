"""A queue of any length is stopped whole, a bounded number of runs in each transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.rows import Run, RunStatus
from assent.core.run_input import RunInput
from assent.runs import transitions
from assent.runs.opening import open_runs
from assent.runs.service import CANCEL_STEP, Runs
from assent.runs.transitions import Submission
from assent.storage.base import Change, QueueLimits, Storage
from assent.storage.sqlite import SqliteStorage
from tests.support.waiting import PATIENCE, until

ANN = Actor("ann")
MANY = 1_100
ROOM = QueueLimits(per_thread=MANY)
CLOCK = Clock()


@dataclass
class Counting:
    """A storage that notes how many runs each commit writes. After the commit numbered `dies_at` it
    takes no more, like a process that was killed there."""

    inner: Storage
    dies_at: int | None = None
    sizes: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def commit(self, change: Change) -> tuple[int, ...]:
        if len(self.sizes) == self.dies_at:
            raise asyncio.CancelledError
        self.sizes.append(sum(isinstance(row, Run) for row in change.rows))
        return await self.inner.commit(change)


@dataclass
class House:
    """Runs of an agent that waits for `go`, over the file in `folder`."""

    folder: Path
    go: asyncio.Event = field(default_factory=asyncio.Event)
    began: list[str] = field(default_factory=list)

    def agent(self) -> Any:
        async def answer(state: MessagesState) -> dict[str, Any]:
            self.began.append(state["messages"][-1].text)
            await self.go.wait()
            return {"messages": [AIMessage("Done.")]}

        graph = StateGraph(MessagesState)
        graph.add_node("answer", answer)
        graph.add_edge(START, "answer")
        graph.add_edge("answer", END)
        return graph.compile()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Runs, Counting]]:
        async with SqliteStorage.open(self.folder / "a.db") as storage:
            counting = Counting(storage)
            async with open_runs(
                counting, {"agent": self.agent()}, clock=CLOCK, queue=ROOM
            ) as runs:
                yield runs, counting

    async def queue(self, runs: Runs, **changes: Any) -> list[Run]:
        """An active run on the thread "t", and many behind it, of which some start tomorrow."""
        await runs.submit(Submission(given=RunInput("active"), by=ANN, thread_id="t"))
        await until(lambda: self.began)
        now = CLOCK.now()
        queued: list[Run] = []
        for number in range(MANY):
            asked = Submission(given=RunInput(f"queued {number}"), by=ANN, thread_id="t")
            at = now + timedelta(microseconds=number)
            run = transitions.new_run(asked, "t", "agent", f"run-{number:05}", at)
            queued.append(run)
        later = now + timedelta(days=1)
        queued[7:MANY:11] = [replace(run, due_at=later) for run in queued[7:MANY:11]]
        await runs.storage.commit(Change(rows=tuple(queued)))
        return queued


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def statuses(runs: Runs) -> Counter[str]:
    """How many runs there are of each status, once none is active."""
    async with asyncio.timeout(PATIENCE):
        while await runs.storage.runs(status=(RunStatus.RUNNING, RunStatus.CANCELLING)):
            await asyncio.sleep(0.005)
    return Counter(run.status for run in await runs.storage.runs(limit=2 * MANY))


async def test_all_that_is_queued_stops(house: House) -> None:
    async with house.open() as (runs, storage):
        queued = await house.queue(runs)
        storage.sizes.clear()
        stopped = await runs.cancel_thread("t", ANN)
        assert max(storage.sizes) <= CANCEL_STEP + 1

        due = [run.run_id for run in queued if run.due_at is None]
        assert [run.run_id for run in stopped[1:]] == due
        assert await statuses(runs) == {
            RunStatus.CANCELLED: 1 + len(due),
            RunStatus.PENDING: MANY - len(due),
        }
        assert house.began == ["active"]
        assert await runs.cancel_thread("t", ANN) == ()


@pytest.mark.parametrize("on_busy", ["interrupt", "rollback"])
async def test_all_that_is_queued_makes_way(house: House, on_busy: Any) -> None:
    async with house.open() as (runs, storage):
        await house.queue(runs)
        storage.sizes.clear()
        new = Submission(given=RunInput("new"), by=ANN, thread_id="t", on_busy=on_busy)
        started = await runs.submit(new)
        assert max(storage.sizes) <= CANCEL_STEP + 2
        house.go.set()
        await statuses(runs)
        async with asyncio.timeout(PATIENCE):
            while (await runs.run(started.run.run_id)).status is not RunStatus.SUCCESS:
                await asyncio.sleep(0.005)
        assert house.began == ["active", "new"]


async def test_what_a_kill_left_is_stopped_by_the_next_request(house: House) -> None:
    async with house.open() as (runs, storage):
        await house.queue(runs)
        storage.dies_at = len(storage.sizes) + 2
        with pytest.raises(asyncio.CancelledError):
            await runs.cancel_thread("t", ANN)
        storage.dies_at = None
        # The newest have gone, and nothing took their place.
        assert house.began == ["active"]
        assert (await runs.run("run-00000")).status is RunStatus.PENDING
        assert (await runs.run(f"run-{MANY - 1:05}")).status is RunStatus.CANCELLED
        await runs.cancel_thread("t", ANN)
        assert set(await statuses(runs)) == {RunStatus.CANCELLED, RunStatus.PENDING}
        assert house.began == ["active"]
