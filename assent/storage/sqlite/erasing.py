"""Erasing threads. One transaction takes a thread out of everybody's sight, and removes a first
part of it, which is all of most threads. The rest goes from the file in steps, each so small that
nobody notices it, also after a kill in between.

The file says what is left: rows of the threads in `erased_rows`, events of those in
`erased_events`, and namespaces of checkpoints that have no thread.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from assent.core.background import background
from assent.core.errors import Unavailable
from assent.storage.sqlite.checkpoints import removals
from assent.storage.sqlite.database import column
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.steps import remove_some
from assent.storage.sqlite.tables import Tables
from assent.storage.sqlite.writer import Transaction, Writer

ROWS_PER_STEP = 100
"""Rows of all tables that are removed in one transaction. Each is in up to nine indexes."""

NAMESPACES_AT_ONCE = 8
"""Namespaces of which a part is removed in the transaction that erases their thread."""

PAUSE_SECONDS = 0.005
"""The pause between two steps, in which the others have the writer."""

RETRY_SECONDS = 2.0
"""The wait after a step that failed."""

LEFT = """
    SELECT (SELECT thread_id FROM erased_rows LIMIT 1),
        (SELECT k FROM checkpoint_threads WHERE thread_id IS NULL LIMIT 1),
        (SELECT thread_id FROM erased_events LIMIT 1)
"""
"""One of each kind that is left, or NULL."""

TAKE_PAST_USAGE = """
    INSERT INTO past_usage
    SELECT '', agent, created, name, amount FROM past_usage WHERE thread_id = ?
    ON CONFLICT DO UPDATE SET amount = amount + excluded.amount
"""
"""Thread."""

logger = logging.getLogger(__name__)

Step = Callable[[Transaction], bool]
"""Removes a little. Returns True if nothing is left of what it removes."""


class StillErased(Exception):
    """The change writes to a thread that was erased and whose rows are not all gone. Wait until
    they are."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(thread_id)
        self.thread_id = thread_id


class Erased:
    """The erased threads that may have rows in the file. Used by the writer's thread only.

    A thread stays here as its last rows are removed, since that may be rolled back. Whether it has
    any, the file says.
    """

    def __init__(self, connection: sqlite3.Connection, tables: Tables) -> None:
        self._tables = tables
        self.look(connection)

    def look(self, connection: sqlite3.Connection) -> None:
        """Read from the file which threads have rows, between two transactions."""
        self._threads = set(column(connection, "SELECT thread_id FROM erased_rows"))

    def check(self, connection: sqlite3.Connection, thread_ids: Iterable[str]) -> None:
        """Raise `StillErased` if one of the threads has rows that nobody sees."""
        for thread_id in thread_ids:
            if thread_id in self._threads and _has_rows(connection, thread_id):
                raise StillErased(thread_id)

    def erase(self, transaction: Transaction, thread_id: str, *, begins_anew: bool) -> None:
        """Take the thread out of sight, and remove a first part of it; all of its rows, if it
        `begins_anew` in this transaction."""
        connection = transaction.connection
        transaction.leases.forget_all()
        transaction.log.erase(thread_id)
        connection.execute("INSERT OR IGNORE INTO erased_events VALUES (?)", (thread_id,))
        remove_events(thread_id)(transaction)
        detached = removals.detach_thread(connection, thread_id)
        for k in detached[:NAMESPACES_AT_ONCE]:
            removals.remove_detached(k)(transaction)

        connection.execute("INSERT OR IGNORE INTO erased_rows VALUES (?)", (thread_id,))
        self._threads.add(thread_id)
        # Its runs' usage goes on counting for the agent.
        connection.execute(TAKE_PAST_USAGE, (thread_id,))
        connection.execute("DELETE FROM past_usage WHERE thread_id = ?", (thread_id,))
        # A schedule may be moved to another thread, by somebody who has read it before.
        schedules = self._tables.schedules.name
        connection.execute(f"DELETE FROM {schedules} WHERE thread_id = ?", (thread_id,))
        is_gone = self.remove_rows(thread_id)(transaction)
        while begins_anew and not is_gone:
            is_gone = self.remove_rows(thread_id)(transaction)

    def remove_rows(self, thread_id: str) -> Step:
        """The step that removes some rows of an erased thread."""

        def step(transaction: Transaction) -> bool:
            connection = transaction.connection
            if _has_rows(connection, thread_id):
                left = ROWS_PER_STEP
                for table in self._tables:
                    if left:
                        sql = (
                            f'DELETE FROM {table.name} WHERE "{table.key}" IN (SELECT "{table.key}"'
                            f" FROM {table.name} WHERE thread_id = ? LIMIT ?)"
                        )
                        left -= connection.execute(sql, (thread_id, left)).rowcount
                if not left:
                    return False
                connection.execute("DELETE FROM erased_rows WHERE thread_id = ?", (thread_id,))
            return True

        return step


def _has_rows(connection: sqlite3.Connection, thread_id: str) -> bool:
    """True if the thread was erased, and rows of it are left."""
    sql = "SELECT 1 FROM erased_rows WHERE thread_id = ?"
    return connection.execute(sql, (thread_id,)).fetchone() is not None


def remove_events(thread_id: str) -> Step:
    """The step that removes some events of an erased thread."""

    def step(transaction: Transaction) -> bool:
        connection = transaction.connection
        found = connection.execute(
            "SELECT removed FROM log_heads JOIN erased_events USING (thread_id) "
            "WHERE thread_id = ?",
            (thread_id,),
        ).fetchone()
        where = "thread_id = ? AND seq <= ?"
        if found and not remove_some(connection, "events", "seq", where, (thread_id, found[0])):
            return False
        connection.execute("DELETE FROM erased_events WHERE thread_id = ?", (thread_id,))
        return True

    return step


class Eraser:
    """Removes what is left of erased threads, one step after the other."""

    def __init__(self, writer: Writer, reader: Reader, erased: Erased) -> None:
        self._writer = writer
        self._reader = reader
        self._erased = erased
        self._woken = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, writer: Writer, reader: Reader, erased: Erased) -> AsyncIterator[Eraser]:
        """Work until the context is left. What is left then goes at the next start."""
        eraser = cls(writer, reader, erased)
        eraser.wake()
        async with background(eraser._work(), name="erasing"):
            yield eraser

    def wake(self) -> None:
        """Look for something to remove, because a thread was erased."""
        self._woken.set()

    async def finish_rows(self, thread_id: str) -> None:
        """Remove all rows of the erased thread, because somebody begins it anew and waits."""
        while not await self._step(self._erased.remove_rows(thread_id)):
            pass

    async def _work(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                while step := await self._next():
                    await self._step(step)
                    await asyncio.sleep(PAUSE_SECONDS)
                await self._writer.outside_transaction(self._erased.look)
            except Exception as error:
                # Nobody sees what is left, so it can wait until the storage is back.
                if not isinstance(error, Unavailable):
                    logger.exception("What is left of erased threads could not be removed.")
                await asyncio.sleep(RETRY_SECONDS)
                self.wake()

    async def _next(self) -> Step | None:
        """The step for something that is left, the rows first: a thread that begins anew waits for
        those."""
        ((rows_of, k, events_of),) = await self._reader.rows(LEFT)
        if rows_of is not None:
            return self._erased.remove_rows(rows_of)
        if k is not None:
            return removals.remove_detached(k)
        if events_of is not None:
            return remove_events(events_of)
        return None

    async def _step(self, step: Step) -> bool:
        return await self._writer.write(step, threads=())
