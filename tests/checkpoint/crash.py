"""A program to be killed: several threads of writes that say what was acknowledged."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from assent.checkpoint.contracts import Change, Storage
from assent.checkpoint.sqlite import SqliteStorage
from assent.events import Done
from tests.checkpoint.samples import thread, token

THREADS = ("t0", "t1", "t2", "t3")
TOKENS = 3
"""Appended before each commit."""


def write_until_killed(path: Path, acknowledged: Connection) -> None:
    """Send `(thread_id, version, seq)` for each commit that returned: the thread's version, and the number of the event stored with it."""
    asyncio.run(_write(path, acknowledged))


async def _write(path: Path, acknowledged: Connection) -> None:
    async with SqliteStorage.open(path) as storage, asyncio.TaskGroup() as group:
        for thread_id in THREADS:
            group.create_task(_turns(storage, thread_id, acknowledged))


async def _turns(storage: Storage, thread_id: str, acknowledged: Connection) -> None:
    row = await storage.thread(thread_id)
    while True:
        row = replace(row, version=row.version + 1) if row else thread(thread_id)
        for _ in range(TOKENS):
            storage.append([token(thread_id)], _fail)
        (seq,) = await storage.commit(Change(rows=(row,), events=(Done(thread_id=thread_id, run_id=f"version {row.version}"),)))
        acknowledged.send((thread_id, row.version, seq))


def _fail(error: Exception) -> None:
    raise error
