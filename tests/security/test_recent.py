"""Rows that are read at most once in ten seconds: nobody gets one that has changed here."""

from __future__ import annotations

import asyncio

import pytest

from assent.api.access.recent import SECONDS, RecentRows
from assent.core.errors import AssentError, Conflict, Unavailable


class Rows:
    """Rows that can be changed, and reads and notes that wait if they are told to."""

    def __init__(self) -> None:
        self.row: str | None = "old"
        self.passed = 0.0
        self.asked = 0
        self.go = asyncio.Event()
        self.go.set()
        self.stored: list[str] = []
        self.refusal: AssentError | None = None
        self.recent: RecentRows[str] = RecentRows(self._read, lambda: self.passed)

    async def _read(self, id: str) -> str | None:
        self.asked += 1
        row = self.row
        await self.go.wait()
        return row

    async def store(self, row: str) -> str:
        self.stored.append(row)
        await self.go.wait()
        if self.refusal is not None:
            raise self.refusal
        return "stored"


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


async def test_of_many_notes_on_a_row_one_is_stored() -> None:
    rows = Rows()
    old = await rows.recent.get("r")
    assert old is not None

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(rows.recent.note("r", old, "noted", rows.store))
    assert rows.stored == ["old"]
    assert await rows.recent.get("r") == "stored"


async def test_a_note_does_not_bring_back_a_row_that_was_dropped() -> None:
    rows = Rows()
    old = await rows.recent.get("r")
    assert old is not None
    rows.go.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(rows.recent.note("r", old, "noted", rows.store))
        await asyncio.sleep(0)
        assert await rows.recent.get("r") == "noted"
        rows.recent.drop("r")
        rows.go.set()

    rows.row = "new"
    assert await rows.recent.get("r") == "new"


@pytest.mark.parametrize("refusal", [Conflict, Unavailable])
async def test_a_row_whose_note_was_not_stored_is_read_anew(refusal: type[AssentError]) -> None:
    rows = Rows()
    old = await rows.recent.get("r")
    assert old is not None
    rows.refusal = refusal("It was not stored.")

    await rows.recent.note("r", old, "noted", rows.store)
    rows.row = "new"
    assert await rows.recent.get("r") == "new"


async def test_what_is_not_there_is_asked_for_again() -> None:
    rows = Rows()
    rows.row = None

    assert await rows.recent.get("r") is None
    rows.row = "there"
    assert await rows.recent.get("r") == "there"
