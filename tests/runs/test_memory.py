"""The store that agents get from the server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore

from assent.core.audit import Actor
from assent.core.rows import Run, RunStatus, Thread, ThreadStatus
from assent.core.run_input import RunInput
from assent.runs.follow import Following, follow_run
from assent.runs.opening import open_runs
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteStorage
from tests.support.keys import KEY


class State(TypedDict):
    messages: list[Any]
    seen: int


async def count(state: State, *, store: BaseStore) -> dict[str, int]:
    """Count the runs of everybody in the store."""
    item = await store.aget(("runs",), "count")
    seen = item.value["seen"] + 1 if item else 1
    await store.aput(("runs",), "count", {"seen": seen})
    return {"seen": seen}


def counting(store: BaseStore | None = None) -> Any:
    return StateGraph(State).add_node("count", count).add_edge(START, "count").compile(store=store)


async def ended(runs: Runs, agent: str) -> tuple[Run, Thread, Any]:
    """A run of the agent on a new thread, when it has ended, and what it has seen."""
    storage = runs.storage
    started = await runs.submit(Submission(given=RunInput("count"), by=Actor("ada"), agent=agent))
    thread_id, run_id = started.run.thread_id, started.run.run_id
    async for _ in follow_run(Following(storage, thread_id, started.first_seq - 1), run_id):
        pass
    run, thread = await storage.run(run_id), await storage.thread(thread_id)
    assert run is not None and thread is not None
    return run, thread, (await runs.state(thread)).values.get("seen")


async def test_agents_without_a_store_share_the_servers(tmp_path: Path) -> None:
    own = InMemoryStore()
    agents = {"one": counting(), "other": counting(), "own": counting(own)}
    async with (
        SqliteStorage.open(tmp_path / "a.db") as storage,
        open_runs(storage, agents) as runs,
    ):
        seen = [(await ended(runs, agent))[2] for agent in ("one", "other", "one", "own", "own")]
        assert seen == [1, 2, 3, 1, 2]
        item = await storage.store().aget(("runs",), "count")
        assert item is not None and item.value == {"seen": 3}
    assert own.get(("runs",), "count") is not None


async def test_an_item_that_was_changed_fails_the_run_and_leaves_the_thread(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with (
        SqliteStorage.open(path, encryption_key=KEY) as storage,
        open_runs(storage, {"one": counting()}) as runs,
    ):
        await ended(runs, "one")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE store_items SET updated_at = '2020-01-01'")
        run, thread, _ = await ended(runs, "one")
        assert run.status is RunStatus.ERROR
        assert run.error is not None and run.error["code"] == "tampered"
        assert "the item 'count' is not what Assent stored" in run.error["message"]
        # Nothing of the thread was changed.
        assert (thread.status, thread.tampered) == (ThreadStatus.ERROR, None)
        await storage.store().adelete(("runs",), "count")
        assert (await ended(runs, "one"))[2] == 1
