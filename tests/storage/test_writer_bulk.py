"""Operations that are done together, and what becomes of them when one of them cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assent.core.clock import Clock
from assent.storage.sqlite import database
from assent.storage.sqlite.writer import BulkOperation, Transaction, Writer
from tests.storage.samples import token
from tests.support.database import sql


class Put(BulkOperation):
    """Stores a number, and an event that tells it, unless it is negative; the numbers of those done
    together are stored with how many they were."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, transaction: Transaction) -> None:
        self.apply_all(transaction, (self,))

    @staticmethod
    def apply_all(transaction: Transaction, operations: Sequence[Put]) -> None:
        for each in operations:
            transaction.log.add([token(content=f"{each.number}")])
            transaction.connection.execute(
                "INSERT INTO numbers VALUES (?, ?)", (each.number, len(operations))
            )
            if each.number < 0:
                raise ValueError(f"{each.number} is negative")


async def stored(path: Path, *operations: Any) -> tuple[list[Any], list[tuple[int, int]]]:
    """What each caller got when all asked at once, and the rows there are then."""
    with database.connected(path, Clock()) as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER, together INTEGER)")
        writer = Writer(connection, path.name, lambda stored: None)
        try:
            results = await asyncio.gather(
                *(writer.write(operation) for operation in operations), return_exceptions=True
            )
        finally:
            await writer.close()
        return results, connection.execute("SELECT * FROM numbers ORDER BY rowid").fetchall()


async def test_those_who_ask_in_one_turn_of_the_loop_are_done_together(tmp_path: Path) -> None:
    results, rows = await stored(tmp_path / "assent.db", *map(Put, range(5)))
    assert results == [None] * 5
    assert rows == [(number, 5) for number in range(5)]


async def test_if_one_cannot_be_done_the_others_are_done_one_by_one(tmp_path: Path) -> None:
    results, rows = await stored(tmp_path / "assent.db", Put(1), Put(-2), Put(3))
    assert [str(result) for result in results] == ["None", "-2 is negative", "None"]
    assert rows == [(1, 1), (3, 1)]


async def test_what_cannot_be_done_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    await stored(path, Put(1), Put(-2), Put(3))
    told = sql(path, "SELECT seq, body ->> 'content' FROM events ORDER BY seq")
    assert told == [(1, "1"), (2, "3")]


async def test_what_was_asked_for_before_closing_is_done(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    with database.connected(path, Clock()) as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER, together INTEGER)")
        writer = Writer(connection, path.name, lambda stored: None)
        waiting = asyncio.ensure_future(writer.write(Put(1)))
        await asyncio.sleep(0)
        await writer.close()
        assert await waiting is None
        assert connection.execute("SELECT * FROM numbers").fetchall() == [(1, 1)]
