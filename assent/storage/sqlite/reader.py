"""The connections that read. They are read-only, and never wait for the writer, nor make it
wait."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from assent.storage.sqlite.failures import closed, translated
from assent.storage.sqlite.handing_over import Waiting, call_on_loop, until_ended

CONNECTIONS = 2
"""Two, so that one slow query does not hold up every other. More would only compete for the
interpreter."""

Parameters = Sequence[Any] | Mapping[str, Any]


@dataclass(slots=True)
class Query(Waiting[list[Any]]):
    """A query, and whoever waits for its rows."""

    sql: str
    parameters: Parameters
    most_bytes: int | None
    is_page: bool


class Reader:
    """A few connections, each with a thread of its own, which takes the next query that waits."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Query | None] = SimpleQueue()
        self._open = False

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Reader]:
        """Open the connections to the database at `path`, which must exist."""
        reader = cls(path.name)
        uri = f"{path.as_uri()}?mode=ro"
        with ExitStack() as stack:
            connections = []
            for _ in range(CONNECTIONS):
                connection = sqlite3.connect(
                    uri, uri=True, isolation_level=None, check_same_thread=False
                )
                connections.append(stack.enter_context(closing(connection)))
            ends = [reader._start(connection) for connection in connections]
            reader._open = True
            try:
                yield reader
            finally:
                reader._open = False
                for _ in ends:
                    reader._queue.put(None)
                await until_ended(ends)

    async def rows(
        self,
        sql: str,
        parameters: Parameters = (),
        *,
        most_bytes: int | None = None,
        is_page: bool = False,
    ) -> list[Any]:
        """Return every row of the query. All of it is read in one step, so that no snapshot stays
        open, which would keep the write-ahead log from being emptied.

        With `most_bytes` only the first rows are read, whose last columns together have no more
        bytes than that; but at least one row. Of a page all columns count, and the row that is too
        much is read as well: it shows that there is another page.

        Raises `Unavailable` if the file cannot serve.
        """
        if not self._open:
            raise closed(self._name)
        query = Query(self._loop.create_future(), sql, parameters, most_bytes, is_page)
        self._queue.put(query)
        return await query.future

    def _start(self, connection: sqlite3.Connection) -> asyncio.Future[None]:
        """Start the thread of a connection; return the future of its end."""
        end: asyncio.Future[None] = self._loop.create_future()
        name = f"assent-reader-{self._name}"
        threading.Thread(target=self._work, args=(connection, end), name=name).start()
        return end

    # ── on a connection's thread ──

    def _work(self, connection: sqlite3.Connection, end: asyncio.Future[None]) -> None:
        while (query := self._queue.get()) is not None:
            try:
                rows = _read(connection, query)
            except Exception as error:
                call_on_loop(self._loop, query.on_error, translated(error, self._name))
            else:
                call_on_loop(self._loop, query.on_result, rows)
        call_on_loop(self._loop, end.set_result, None)


def _read(connection: sqlite3.Connection, query: Query) -> list[Any]:
    cursor = connection.execute(query.sql, query.parameters)
    if query.most_bytes is None:
        return cursor.fetchall()

    rows: list[Any] = []
    size = 0
    with closing(cursor):
        for row in cursor:
            size += bytes_of(row) if query.is_page else len(row[-1] or b"")
            is_over = bool(rows) and size > query.most_bytes
            if query.is_page or not is_over:
                rows.append(row)
            if is_over:
                break
    return rows


def bytes_of(columns: Sequence[Any]) -> int:
    """The size of what has one, of the columns of a row."""
    return sum(len(each) for each in columns if isinstance(each, bytes | str))
