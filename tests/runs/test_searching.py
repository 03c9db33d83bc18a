"""Searching threads takes the memory of a page, however many are found."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from assent.core.access import Owner
from assent.runs.opening import open_runs
from assent.runs.searching import Order, ThreadSearch, found_threads
from assent.storage.sqlite import SqliteStorage
from tests.support import agents

MIB = 1 << 20
COUNT = 48


@pytest.mark.parametrize("by", ["created_at", "thread_id"])
async def test_what_is_found_is_read_as_it_is_asked_for(tmp_path: Path, by: Order) -> None:
    async with (
        SqliteStorage.open(tmp_path / "assent.db") as storage,
        open_runs(storage, {"agent": agents.agent}) as runs,
    ):
        for number in range(COUNT):
            metadata = {"text": "x" * MIB}
            await runs.create_thread(f"t-{number:02}", owner=Owner("ann"), metadata=metadata)
        search = ThreadSearch(by=by, newest_first=False)
        tracemalloc.start()
        found = [thread.thread_id async for thread in found_threads(runs, search, offset=2)]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found == [f"t-{number:02}" for number in range(2, COUNT)]
    assert peak < 32 * MIB
