"""What is changed behind an approval's back, in the thread's state or in the database: it decides
nothing, and is asked anew."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage

from assent import ApprovalPolicy, Approve, build_hitl_agent
from assent.approvals.decide import Verdict
from assent.core.access import APPROVES_ALL
from assent.core.approval import Approval, ApprovalStatus
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.errors import Superseded
from assent.core.rows import Run, RunStatus, ThreadStatus
from assent.core.run_input import RunInput
from assent.runs.follow import execution_so_far, wait_for_run
from assent.runs.opening import open_runs
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.keys import KEY
from tests.support.models import ScriptedModel, calls, say
from tests.support.waiting import PATIENCE, until


class Till:
    """A tool that keeps what it has paid."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    async def pay(self, amount: int) -> str:
        """Pay."""
        self.paid.append(amount)
        return f"paid {amount}"


@asynccontextmanager
async def desk(
    folder: Path, till: Till, *amounts: int
) -> AsyncIterator[tuple[SqliteStorage, Runs]]:
    """A server's runs. Its agent asks to pay these amounts, all in one turn, and then is done."""

    def reply(history: list[Any]) -> AIMessage:
        if isinstance(history[-1], ToolMessage):
            return say("Done.")
        return calls(*(("pay", {"amount": amount}) for amount in amounts))

    agent = build_hitl_agent(ScriptedModel(script=reply), [till.pay], approve=["pay"])
    async with (
        SqliteStorage.open(folder / "a.db") as storage,
        open_runs(storage, {"agent": agent}) as runs,
    ):
        yield storage, runs


async def paused(storage: SqliteStorage, runs: Runs) -> tuple[Run, list[Approval]]:
    started = await runs.submit(
        Submission(given=RunInput("Pay."), by=Actor("ann", approves=APPROVES_ALL), thread_id="t")
    )
    return await stopped(storage, started.run)


async def stopped(storage: SqliteStorage, run: Run) -> tuple[Run, list[Approval]]:
    run = await wait_for_run(storage, run)
    pending = await storage.approvals(thread_id="t", status=ApprovalStatus.PENDING)
    return run, list(pending.rows)


async def going_on(storage: SqliteStorage) -> tuple[Run, list[Approval]]:
    """The newest run, when it has stopped."""
    newest = (await storage.latest_runs(thread_id="t", limit=1)).rows[0]
    return await stopped(storage, newest)


async def change(runs: Runs, amount: int, *, place: int = 0) -> None:
    """Change an amount that the model asked for, as a program with access to the state can."""
    agent = runs.agents["agent"]
    config: Any = {"configurable": {"thread_id": "t"}}
    turn = (await agent.aget_state(config)).values["messages"][-1]
    changed = [
        {**call, "args": {"amount": amount}} if at == place else call
        for at, call in enumerate(turn.tool_calls)
    ]
    await agent.aupdate_state(
        config, {"messages": [turn.model_copy(update={"tool_calls": changed})]}, as_node="agent"
    )


def approve(approval: Approval) -> Verdict:
    return Verdict(
        decisions={approval.approval_id: Approve()}, by=Actor("bob", approves=APPROVES_ALL)
    )


async def told(storage: SqliteStorage) -> list[str]:
    return [
        entry.type for entry in await storage.read_log("t") if entry.type.startswith("approval_")
    ]


async def test_arguments_changed_in_the_state_are_asked_anew(tmp_path: Path) -> None:
    till = Till()
    async with desk(tmp_path, till, 5) as (storage, runs):
        root, (approval,) = await paused(storage, runs)
        await change(runs, 500)
        with pytest.raises(Superseded):
            await runs.approvals.decide("t", approve(approval))
        stored = await storage.approval(approval.approval_id)
        assert stored is not None
        assert (stored.status, stored.decision) == (ApprovalStatus.SUPERSEDED, None)
        run, (anew,) = await going_on(storage)
        assert (run.status, till.paid) == (RunStatus.INTERRUPTED, [])
        assert (anew.args, anew.status) == ({"amount": 500}, ApprovalStatus.PENDING)
        await runs.approvals.decide("t", approve(anew))
        run, _ = await going_on(storage)
        assert (run.status, till.paid) == (RunStatus.SUCCESS, [500])
        assert await told(storage) == [
            "approval_required",
            "approval_superseded",
            "approval_required",
            "approval_decided",
        ]
        assert [entry.type for entry in await storage.read_log("~approvals")] == await told(storage)
        # To whoever follows the run it is one execution.
        execution = await execution_so_far(storage, "t", root.run_id)
        assert execution.ends_with is not None
        assert (execution.ends_with.run_id, execution.ends_with.type) == (run.run_id, "done")


async def test_of_two_only_the_changed_one_is_asked_anew(tmp_path: Path) -> None:
    till = Till()
    async with desk(tmp_path, till, 5, 6) as (storage, runs):
        _, (_first, second) = await paused(storage, runs)
        await change(runs, 500)
        with pytest.raises(Superseded):
            await runs.approvals.decide(
                "t",
                Verdict(decisions=Approve(), by=Actor("bob", approves=APPROVES_ALL), for_all=True),
            )
        thread = await storage.thread("t")
        assert thread is not None
        assert (thread.status, thread.pending) == (ThreadStatus.INTERRUPTED, (second.approval_id,))
        await runs.approvals.decide("t", approve(second))
        _, (anew,) = await going_on(storage)
        assert (anew.args, till.paid) == ({"amount": 500}, [6])
        await runs.approvals.decide("t", approve(anew))
        await going_on(storage)
        assert till.paid == [6, 500]


async def test_a_call_that_was_answered_in_the_state_is_not_asked_any_more(tmp_path: Path) -> None:
    till = Till()
    async with desk(tmp_path, till, 5) as (storage, runs):
        _, (approval,) = await paused(storage, runs)
        config: Any = {"configurable": {"thread_id": "t"}}
        answer = ToolMessage("Somebody paid it.", tool_call_id=approval.tool_call_id, name="pay")
        await runs.agents["agent"].aupdate_state(config, {"messages": [answer]}, as_node="approval")
        with pytest.raises(Superseded, match="does not ask this any more"):
            await runs.approvals.decide("t", approve(approval))
        run, pending = await going_on(storage)
        assert (run.status, pending, till.paid) == (RunStatus.SUCCESS, [], [])


@pytest.mark.parametrize(
    ("column", "value"),
    [("args", '{"amount": 500}'), ("digest", "0" * 64), ("tool", "spend"), ("args", "null")],
)
async def test_a_row_that_was_edited_in_the_database_decides_nothing(
    tmp_path: Path, column: str, value: str
) -> None:
    till = Till()
    async with desk(tmp_path, till, 5) as (storage, runs):
        _, (approval,) = await paused(storage, runs)
    with closing(sqlite3.connect(tmp_path / "a.db")) as database, database:
        database.execute(f"UPDATE approvals SET {column} = ?", (value,))
    async with desk(tmp_path, till, 5) as (storage, runs):
        with pytest.raises(Superseded, match="is not what its thread asks"):
            await runs.approvals.decide("t", approve(approval))
        _, (anew,) = await going_on(storage)
        # What is asked is what the agent wants, and not what somebody wrote into the file.
        assert (anew.tool, anew.args, till.paid) == ("pay", {"amount": 5}, [])
        await runs.approvals.decide("t", approve(anew))
        await going_on(storage)
        assert till.paid == [5]


async def test_the_deadline_of_a_row_that_does_not_open_any_more_marks_its_thread(
    tmp_path: Path,
) -> None:
    time = datetime(2026, 3, 4, 12, tzinfo=UTC)
    clock, file = Clock(now=lambda: time), tmp_path / "a.db"
    policy = ApprovalPolicy(timeout=timedelta(hours=1))
    model = ScriptedModel(script=lambda history: calls(("pay", {"amount": 5})))
    agents = {"agent": build_hitl_agent(model, [Till().pay], approve=policy)}
    async with (
        SqliteStorage.open(file, clock, encryption_key=KEY) as storage,
        open_runs(storage, agents, clock=clock) as runs,
    ):
        await paused(storage, runs)
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE approvals SET args = x'00'")
    time += timedelta(hours=2)
    async with (
        SqliteStorage.open(file, clock, encryption_key=KEY) as storage,
        open_runs(storage, agents, clock=clock),
    ):

        async def is_marked() -> bool:
            thread = await storage.thread("t")
            return thread is not None and thread.tampered is not None

        await until(is_marked)
        # Nobody looks again and again.
        assert await storage.due_timers(time) == ()


async def test_a_change_after_the_decision_is_refused_by_the_gate_and_asked_anew(
    tmp_path: Path,
) -> None:
    """The decision is stored, its run has not begun: what it decides is bound to what was shown."""
    till = Till()
    async with desk(tmp_path, till, 5) as (storage, runs):
        _, (approval,) = await paused(storage, runs)
        # No room for a run, so the one that goes on waits.
        runs.engine._max_runs = 0  # type: ignore[attr-defined]
        decided = await runs.approvals.decide("t", approve(approval))
        assert decided.run_id is not None
        assert decided.status == RunStatus.PENDING
        waiting = await runs.run(decided.run_id)
        await change(runs, 500)
        runs.engine._max_runs = 10  # type: ignore[attr-defined]
        runs.engine.wake()
        async with asyncio.timeout(PATIENCE):
            run, pending = await stopped(storage, waiting)
        assert till.paid == []
        assert [each.args for each in pending] == [{"amount": 500}]
        assert run.status is RunStatus.INTERRUPTED
