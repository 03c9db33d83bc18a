"""What is committed between two reads of one request: it is answered by what is true then, and not
by half of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage

from assent import Approve, build_hitl_agent
from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL
from assent.core.approval import Approval, ApprovalStatus
from assent.core.audit import Actor
from assent.core.errors import NotFound, ThreadBusy
from assent.core.rows import Run, RunStatus
from assent.core.run_input import RunInput
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.models import ScriptedModel, calls, say

ANN, BOB = Actor("ann", approves=APPROVES_ALL), Actor("bob", approves=APPROVES_ALL)


class Till:
    """Tools that wait until they may go on; one of them is gated."""

    def __init__(self) -> None:
        self.counts, self.pays = asyncio.Event(), asyncio.Event()
        self.may_count, self.may_pay = asyncio.Event(), asyncio.Event()

    async def count(self) -> str:
        """Count the money."""
        self.counts.set()
        await self.may_count.wait()
        return "5"

    async def pay(self, amount: int) -> str:
        """Pay."""
        self.pays.set()
        await self.may_pay.wait()
        return f"paid {amount}"


def reply(history: list[Any]) -> AIMessage:
    last = history[-1]
    if isinstance(last, ToolMessage) and last.name == "pay":
        return say("Done.")
    return calls(("count", {})) if last.text == "Count first." else calls(("pay", {"amount": 5}))


@pytest.fixture
def till() -> Till:
    return Till()


@pytest.fixture
async def runs(tmp_path: Path, till: Till) -> AsyncIterator[Runs]:
    model = ScriptedModel(script=reply)
    agent = build_hitl_agent(model, [till.count, till.pay], approve=["pay"])
    async with (
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, {"agent": agent}) as runs,
    ):
        yield runs
        till.may_pay.set()


def message(text: str = "Pay.", **options: Any) -> Submission:
    return Submission(given=RunInput(text), by=ANN, thread_id="t", **options)


async def paused(runs: Runs) -> tuple[Run, Approval]:
    """A run of the thread that waits for a person, and what it asks."""
    run = await wait_for_run(runs.storage, (await runs.submit(message())).run)
    (approval,) = (await runs.storage.approvals(status=ApprovalStatus.PENDING)).rows
    return run, approval


@asynccontextmanager
async def just_after(
    runs: Runs, method: str, happens: Callable[[], Awaitable[object]], *, reads: int = 1
) -> AsyncIterator[None]:
    """Let something happen once, just after the storage was read in this way so many times."""
    read = getattr(runs.storage, method)
    left = reads

    async def reading(*asked: Any, **options: Any) -> Any:
        nonlocal left
        found = await read(*asked, **options)
        left -= 1
        if left == 0:
            await happens()
        return found

    setattr(runs.storage, method, reading)
    yield
    assert left <= 0, "It was not read."


async def test_a_thread_whose_pause_is_just_decided_is_cancelled_with_the_run_that_goes_on(
    runs: Runs, till: Till
) -> None:
    asking, _ = await paused(runs)

    async def decide() -> None:
        await runs.approvals.decide("t", Verdict(decisions=Approve(), by=BOB))
        await till.pays.wait()

    async with just_after(runs, "run", decide):
        (stopped,) = await runs.cancel_thread("t", ANN)
    assert stopped.input["paused_run"] == asking.run_id
    assert (await wait_for_run(runs.storage, stopped)).status is RunStatus.CANCELLED


async def test_a_message_in_place_of_a_pause_that_is_just_decided_finds_the_thread_busy(
    runs: Runs,
) -> None:
    await paused(runs)

    async def decide() -> None:
        await runs.approvals.decide("t", Verdict(decisions=Approve(), by=BOB))

    async with just_after(runs, "run", decide):
        with pytest.raises(ThreadBusy):
            await runs.submit(message(if_paused="cancel"))


async def test_a_thread_is_cancelled_also_if_its_run_pauses_just_then(
    runs: Runs, till: Till
) -> None:
    started = await runs.submit(message("Count first."))
    await till.counts.wait()

    async def pause() -> None:
        till.may_count.set()
        await wait_for_run(runs.storage, started.run)

    async with just_after(runs, "thread", pause, reads=2):
        (stopped,) = await runs.cancel_thread("t", ANN)
    assert stopped.run_id == started.run.run_id
    assert (await wait_for_run(runs.storage, stopped)).status is RunStatus.CANCELLED
    (approval,) = (await runs.storage.approvals(thread_id="t")).rows
    assert approval.status is ApprovalStatus.CANCELLED


async def test_a_run_that_is_erased_just_then_is_not_called_cancelled(runs: Runs) -> None:
    asking, _ = await paused(runs)

    async def erase() -> None:
        await runs.delete("t", ANN)

    async with just_after(runs, "run", erase):
        with pytest.raises(NotFound):
            await runs.cancel_run(asking.run_id, ANN)


async def test_a_thread_is_deleted_also_if_its_metadata_is_changed_just_then(runs: Runs) -> None:
    await paused(runs)

    async def change() -> None:
        await runs.change_thread("t", {"title": "Paying"})

    async with just_after(runs, "thread", change):
        await runs.delete("t", ANN)
    with pytest.raises(NotFound):
        await runs.thread("t")
