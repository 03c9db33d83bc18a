"""The start after a crash goes on with every run that was active, however many there were."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from assent.core.rows import RunKind, RunStatus, ThreadStatus
from assent.runs.opening import open_runs
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import run, thread

COUNT = 1_050
"""More than a page of any list holds."""


def answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("Here.")]}


@pytest.mark.slow
async def test_every_run_is_gone_on_with(tmp_path: Path) -> None:
    agent = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
    rows = []
    for number in range(COUNT):
        thread_id, run_id = f"t{number}", f"r{number}"
        rows.append(
            thread(
                thread_id,
                status=ThreadStatus.BUSY,
                agent="agent",
                run_id=run_id,
                pending=(),
                tampered=None,
            )
        )
        started = {
            "kind": RunKind.INPUT,
            "status": RunStatus.RUNNING,
            "agent": "agent",
            "input": {"message": "Hello?"},
            "error": None,
        }
        rows.append(run(run_id, thread_id=thread_id, **started))
    async with SqliteStorage.open(tmp_path / "a.db") as storage:
        await storage.commit(Change(rows=tuple(rows)))
        async with open_runs(storage, {"agent": agent}), asyncio.timeout(60):
            while (await storage.threads(status=ThreadStatus.BUSY, limit=1)).rows:
                await asyncio.sleep(0.1)
        assert len(await storage.runs(status=(RunStatus.SUCCESS,), limit=COUNT + 1)) == COUNT
