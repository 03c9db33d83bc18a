"""The connections that read. They are read-only, never wait for the writer and never make it
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
"""One slow query must not hold up every other; more would only compete for the interpreter."""


class Reader:
    """A few connections, lent to one query at a time."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()
        self._open = False

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Reader]:
        """Read the database at `path`, which must exist."""
        reader = cls(path.name)
        async with AsyncExitStack() as stack:
            for _ in range(CONNECTIONS):
                connection = aiosqlite.connect(
                    f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None
                )
                reader._idle.put_nowait(await stack.enter_async_context(connection))
            reader._open = True
            try:
                yield reader
            finally:
                reader._open = False

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Every row of the query. The whole query is one step, so that it holds no snapshot that
        the log must be kept for.

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
