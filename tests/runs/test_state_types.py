"""A type that an agent keeps in its state without declaring it is stored only if the server was
told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from assent.core.audit import Actor
from assent.core.rows import Run, RunStatus
from assent.core.run_input import RunInput
from assent.runs.follow import Following, follow_run
from assent.runs.opening import open_runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage


class Finding(BaseModel):
    text: str


class State(TypedDict):
    messages: list[Any]
    anything: Any


def find(state: State) -> dict[str, Any]:
    return {"anything": Finding(text="here")}


async def run_of(folder: Path, **options: Any) -> tuple[Run, Any]:
    """A finished run of a graph with a finding in its state, and what its thread keeps."""
    agent = StateGraph(State).add_node("find", find).add_edge(START, "find").compile()
    async with (
        SqliteStorage.open(folder / "a.db") as storage,
        open_runs(storage, {"agent": agent}, **options) as runs,
    ):
        started = await runs.submit(Submission(given=RunInput("look"), by=Actor("ada")))
        following = Following(storage, started.run.thread_id, started.first_seq - 1)
        async for _ in follow_run(following, started.run.run_id):
            pass
        run = await storage.run(started.run.run_id)
        thread = await storage.thread(started.run.thread_id)
        assert run is not None
        assert thread is not None
        return run, (await runs.state(thread)).values.get("anything")


async def test_one_that_was_named_is_made_again(tmp_path: Path) -> None:
    run, kept = await run_of(tmp_path, state_types=[(__name__, "Finding")])
    assert run.status is RunStatus.SUCCESS
    assert kept == Finding(text="here")


@pytest.mark.slow
async def test_one_that_was_not_ends_the_run_and_is_named(tmp_path: Path) -> None:
    run, kept = await run_of(tmp_path)
    assert run.status is RunStatus.ERROR
    assert run.error is not None
    assert "Finding" in run.error["message"]
    assert "ASSENT_STATE_TYPES" in run.error["message"]
    assert kept is None
