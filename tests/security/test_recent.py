"""Rows that are read at most once in ten seconds: nobody gets one that has changed here."""

from __future__ import annotations

import asyncio

from assent.api.access.recent import SECONDS, RecentRows


class Rows:
    """Rows that can be changed, and a read that waits if it is told to."""

    def __init__(self) -> None:
        self.row: str | None = "old"
        self.passed = 0.0
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()
        self.recent: RecentRows[str] = RecentRows(self._read, lambda: self.passed)

    async def _read(self, id: str) -> str | None:
        self.asked += 1
        row = self.row
        await self.go.wait()
        return row


async def test_a_row_is_read_once_in_ten_seconds() -> None:
    rows = Rows()

    assert [await rows.recent.get("r") for _ in range(3)] == ["old"] * 3
    rows.row, rows.passed = "new", SECONDS - 1
    assert await rows.recent.get("r") == "old"
    rows.passed = SECONDS
    assert await rows.recent.get("r") == "new"
    assert rows.asked == 2


async def test_a_row_that_was_dropped_is_read_anew() -> None:
    rows = Rows()
    await rows.recent.get("r")
    rows.row = "new"

    rows.recent.drop("r")
    assert await rows.recent.get("r") == "new"
    rows.row = "newest"
    rows.recent.drop_all()
    assert await rows.recent.get("r") == "newest"


async def test_a_row_that_was_read_before_it_changed_is_not_kept() -> None:
    rows = Rows()
    rows.go.clear()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(rows.recent.get("r"))
        await asyncio.sleep(0)
        rows.row = "new"
        rows.recent.drop("r")
        rows.go.set()

    assert reading.result() == "old"
    assert await rows.recent.get("r") == "new"


async def test_a_row_is_swapped_only_for_the_one_that_is_given() -> None:
    rows = Rows()
    old = await rows.recent.get("r")
    assert old is not None

    assert rows.recent.swap("r", old, "noted")
    assert not rows.recent.swap("r", old, "noted again")
    assert await rows.recent.get("r") == "noted"
    rows.recent.drop("r")
    assert not rows.recent.swap("r", "noted", "brought back")
    assert await rows.recent.get("r") == "old"


async def test_what_is_not_there_is_asked_for_again() -> None:
    rows = Rows()
    rows.row = None

    assert await rows.recent.get("r") is None
    rows.row = "there"
    assert await rows.recent.get("r") == "there"
