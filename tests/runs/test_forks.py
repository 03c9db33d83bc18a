"""A fork that a crash cut off half-way is made by the next process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from assent import build_hitl_agent
from assent.core.rows import RunKind, RunStatus, ThreadStatus
from assent.graph.forking import fork
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import run, thread
from tests.support.models import ScriptedModel, call


@tool
async def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


def config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


async def test_it_is_made_anew(tmp_path: Path) -> None:
    agent = build_hitl_agent(ScriptedModel(script=[call("pay", amount=3)]), [pay], approve=["pay"])
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        mine = agent.copy(update={"checkpointer": storage.checkpointer})
        await mine.ainvoke({"messages": [HumanMessage("Pay 3.")]}, config("source"))
        head = (await mine.aget_state(config("source"))).config["configurable"]["checkpoint_id"]
        # The checkpoints are there, and the process dies before the question is.
        await fork(mine, config("source"), head, target=config("t"))
        rows = (
            thread(
                "source",
                status=ThreadStatus.IDLE,
                agent="agent",
                run_id=None,
                pending=(),
                tampered=None,
            ),
            thread(
                "t", status=ThreadStatus.BUSY, agent="agent", run_id="r", pending=(), tampered=None
            ),
            run(
                "r",
                thread_id="t",
                kind=RunKind.INPUT,
                status=RunStatus.RUNNING,
                agent="agent",
                attempt=1,
                error=None,
                worker=None,
                input={"fork_of": "source", "checkpoint_id": head},
            ),
        )
        await storage.commit(Change(rows=rows))
        async with open_runs(storage, {"agent": agent}):
            over = await wait_for_run(storage, rows[2])
            assert (over.status, over.attempt, over.error) == (RunStatus.INTERRUPTED, 2, None)
            (asked,) = (await storage.approvals(thread_id="t")).rows
            assert (asked.args, asked.run_id) == ({"amount": 3}, "r")
            found = await storage.thread("t")
            assert found is not None
            assert (found.status, found.pending) == (ThreadStatus.INTERRUPTED, (asked.approval_id,))
