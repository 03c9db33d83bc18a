"""The connections that read. They are read-only, and never wait for the writer, nor make it
wait."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from assent.storage.sqlite.failures import closed, translated

CONNECTIONS = 2
"""Two, so that one slow query does not hold up every other. More would only compete for the
interpreter."""


class Reader:
    """A few connections, each lent to one query at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()
        self._open = False

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Reader]:
        """Open the connections to the database at `path`, which must exist."""
        reader = cls(path.name)
        uri = f"{path.as_uri()}?mode=ro"
        async with AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                connection = aiosqlite.connect(uri, uri=True, isolation_level=None)
                reader._idle.put_nowait(await stack.enter_async_context(connection))
            reader._open = True
            try:
                yield reader
            finally:
                reader._open = False

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return every row of the query. All of it is read in one step, so that no snapshot stays
        open, which would keep the write-ahead log from being emptied.

        Raises `Unavailable` if the file cannot serve.
        """
        if not self._open:
            raise closed(self._name)
        connection = await self._idle.get()
        try:
            return list(await connection.execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            raise translated(error, self._name) from error
        finally:
            self._idle.put_nowait(connection)
