"""A worker that dies after its run was stopped at a budget, and before that was stored: the next
one comes to the same end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assent.core.approval import Approval
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.events import Error
from assent.core.rows import Lease, Run, RunStatus, Thread, ThreadStatus
from assent.core.run_input import RunInput
from assent.runs import transitions
from assent.runs.engine import HeldRun
from assent.runs.executor import GraphExecutor
from assent.runs.sync_threads import SyncThreads
from assent.runs.transitions import Submission
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.support import counted


class House:
    """An executor over a database, and workers that die."""

    def __init__(self, storage: SqliteStorage) -> None:
        agents = {
            name: getattr(counted, name).copy(update={"checkpointer": storage.checkpointer})
            for name in ("counted", "own")
        }
        self.storage = storage
        self.executor = GraphExecutor(storage, agents, clock=Clock(), threads=SyncThreads())

    async def begun(self, message: str, **budget: Any) -> HeldRun:
        submission = Submission(
            given=RunInput(message), by=Actor("ann"), agent="counted", budget=budget
        )
        run = transitions.new_run(submission, "t", "counted", "r", now())
        change, thread = transitions.submitted(None, run, "w1", now(), metadata={})
        await self.storage.commit(change)
        return HeldRun(next(row for row in change.rows if isinstance(row, Run)), thread)

    async def taken_over(self, held: HeldRun) -> HeldRun:
        run = held.run
        change, taken = transitions.taken_over(
            run, f"w{run.attempt + 1}", await self.executor.recovery_state(run), now()
        )
        await self.storage.commit(change)
        return HeldRun(taken)

    async def end(self, held: HeldRun) -> Change:
        """What the work comes to, as it would be stored."""
        ending = await self.executor.execute(held)
        thread = await self.storage.thread("t")
        assert thread is not None
        made = ending(thread, held.run, now())
        change = await made if isinstance(made, Awaitable) else made
        return replace(change, lease=Lease(held.run.run_id, held.run.attempt))

    async def told(self) -> list[str]:
        return [
            entry.type
            for entry in await self.storage.read_log("t")
            if entry.type.startswith(("budget_", "llm_end", "tool_start"))
        ]


def now() -> datetime:
    return datetime.now(UTC)


def row(change: Change, kind: type[Any]) -> Any:
    (found,) = [each for each in change.rows if isinstance(each, kind)]
    return found


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield House(storage)


async def test_a_run_that_was_being_ended_is_ended(house: House) -> None:
    """The thread was brought to rest already, which looks as if the run had come to its end by
    itself."""
    first = await house.begun("look 1 then look 2", model_calls=1)
    await house.end(first)
    second = await house.taken_over(first)
    third = await house.taken_over(second)
    change = await house.end(third)
    run = row(change, Run)
    assert (run.status, run.error["code"]) == (RunStatus.ERROR, "budget_exceeded")
    assert row(change, Thread).status is ThreadStatus.ERROR
    assert isinstance(change.events[-1], Error)
    assert await house.told() == ["llm_end", "budget_warning", "budget_exceeded"]


async def test_a_run_that_was_about_to_ask_asks(house: House) -> None:
    first = await house.begun("look 1 then look 2", model_calls=1, on_exceeded="pause")
    lost = await house.end(first)
    again = await house.end(await house.taken_over(first))
    assert row(again, Run).status is RunStatus.INTERRUPTED
    asked, before = row(again, Approval), row(lost, Approval)
    assert (asked.approval_id, asked.args, asked.preview) == (
        before.approval_id,
        before.args,
        before.preview,
    )
    assert await house.told() == ["llm_end", "budget_warning", "budget_exceeded"]
    assert row(again, Run).usage["model_calls"] == 1
    assert row(again, Run).usage["seconds"] > 0


async def test_a_run_that_is_cancelled_keeps_what_it_used(house: House) -> None:
    held = await house.begun("look 1 then look 2", model_calls=1, on_exceeded="pause")
    await house.end(held)
    thread = await house.storage.thread("t")
    assert thread is not None
    ending = await house.executor.cancel(held)
    assert row(ending(thread, held.run, now()), Run).usage["model_calls"] == 1
