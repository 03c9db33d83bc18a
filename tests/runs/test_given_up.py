"""What a run that failed leaves of its calls is told to the model: the next message must not run
them again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool

from assent import build_hitl_agent
from assent.core.audit import Actor
from assent.core.rows import Run, RunStatus
from assent.core.run_input import RunInput
from assent.graph.closing import CUT_OFF, close
from assent.runs.follow import wait_for_run
from assent.runs.opening import open_runs
from assent.runs.transitions import Submission
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.support.models import ScriptedModel, calls, say
from tests.support.waiting import PATIENCE


def reply(history: list[BaseMessage]) -> AIMessage:
    return calls(("note", {})) if len(history) == 1 else say("Done.")


def make_agent(ran: list[str], started: asyncio.Event) -> Any:
    @tool
    async def note() -> str:
        """Note something down, and never come back."""
        ran.append("note")
        started.set()
        await asyncio.Event().wait()
        return ""

    return build_hitl_agent(ScriptedModel(script=reply), [note], approve=[], name="agent")


async def test_a_call_of_a_run_that_was_given_up_is_not_made_again_by_the_next_message(
    tmp_path: Path,
) -> None:
    ran: list[str] = []
    started = asyncio.Event()
    agents = {"agent": make_agent(ran, started)}
    path = tmp_path / "a.db"
    async with SqliteStorage.open(path) as storage:
        async with open_runs(storage, agents, drain_seconds=0.1) as runs:
            poison = (
                await runs.submit(
                    Submission(given=RunInput("Note it."), by=Actor("ann"), thread_id="t")
                )
            ).run
            async with asyncio.timeout(PATIENCE):
                await started.wait()
        # As if its process had died at this place as often as it may.
        await _died_often(storage, agents["agent"], poison)
    async with (
        SqliteStorage.open(path) as storage,
        open_runs(storage, agents, drain_seconds=0.1) as runs,
        asyncio.timeout(PATIENCE),
    ):
        assert (await wait_for_run(storage, poison)).status is RunStatus.ERROR
        after = (
            await runs.submit(
                Submission(given=RunInput("And now?"), by=Actor("ann"), thread_id="t")
            )
        ).run
        assert (await wait_for_run(storage, after)).status is RunStatus.SUCCESS
        thread = await storage.thread("t")
        assert thread is not None
        messages = (await runs.state(thread)).values["messages"]
    assert [message.content for message in messages if isinstance(message, ToolMessage)] == [
        CUT_OFF
    ]
    assert ran == ["note"]


async def _died_often(storage: SqliteStorage, agent: Any, run: Run) -> None:
    stored = await storage.run(run.run_id)
    assert stored is not None
    assert stored.status is RunStatus.RUNNING
    snapshot = await agent.copy(update={"checkpointer": storage.checkpointer}).aget_state(
        {"configurable": {"thread_id": run.thread_id}}
    )
    place = snapshot.config["configurable"]["checkpoint_id"]
    await storage.commit(
        Change(rows=(replace(stored, at_checkpoint=place, stuck=3, version=stored.version + 1),))
    )


async def test_a_failed_run_that_dies_once_its_calls_are_closed_has_still_failed(
    tmp_path: Path,
) -> None:
    ran: list[str] = []
    started = asyncio.Event()
    agent = make_agent(ran, started)
    path = tmp_path / "a.db"
    async with SqliteStorage.open(path) as storage:
        async with open_runs(storage, {"agent": agent}, drain_seconds=0.1) as runs:
            run = (
                await runs.submit(
                    Submission(given=RunInput("Note it."), by=Actor("ann"), thread_id="t")
                )
            ).run
            async with asyncio.timeout(PATIENCE):
                await started.wait()
        # As its process left it: the failure noted, the calls closed, the end not stored.
        stored = await storage.run(run.run_id)
        assert stored is not None
        noted = {"code": "agent_error", "message": "It failed."}
        await storage.commit(
            Change(rows=(replace(stored, error=noted, version=stored.version + 1),))
        )
        config: Any = {"configurable": {"thread_id": "t"}, "metadata": {"run_id": run.run_id}}
        await close(agent.copy(update={"checkpointer": storage.checkpointer}), config, {})
    async with (
        SqliteStorage.open(path) as storage,
        open_runs(storage, {"agent": agent}),
        asyncio.timeout(PATIENCE),
    ):
        ended = await wait_for_run(storage, run)
        assert (ended.status, ended.error) == (RunStatus.ERROR, noted)
    assert ran == ["note"]
