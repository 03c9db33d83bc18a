"""The threads of nodes and tools are not those of the server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from structlog.testing import capture_logs

from assent.runs.sync_threads import SyncThreads
from assent.storage.sqlite import SqliteStorage
from tests.support.waiting import PATIENCE, until


@asynccontextmanager
async def all_busy(threads: int) -> AsyncIterator[SyncThreads]:
    """While the context is entered, all threads of runs are busy."""
    executor, go = SyncThreads(threads), threading.Event()
    asyncio.get_running_loop().set_default_executor(executor)
    entered: list[int] = []

    def block() -> None:
        entered.append(threading.get_ident())
        go.wait(PATIENCE)

    async with executor.joined():
        busy = [asyncio.create_task(asyncio.to_thread(block)) for _ in range(threads)]
        await until(lambda: len(entered) == threads)
        try:
            yield executor
        finally:
            go.set()
            await asyncio.gather(*busy)


async def test_a_name_is_looked_up_in_a_run_although_all_its_threads_are_busy() -> None:
    loop = asyncio.get_running_loop()
    async with all_busy(2), asyncio.timeout(PATIENCE / 2):
        assert await loop.getaddrinfo("localhost", 80)
        assert await loop.getnameinfo(("127.0.0.1", 80))


async def test_the_server_s_own_threads_are_free_while_those_of_runs_are_not() -> None:
    executor = SyncThreads(1)
    asyncio.get_running_loop().set_default_executor(executor)
    go, entered = threading.Event(), threading.Event()

    async def run() -> None:
        async with executor.joined():
            await asyncio.to_thread(lambda: (entered.set(), go.wait(PATIENCE)))

    running = asyncio.create_task(run())
    await until(entered.is_set)
    async with asyncio.timeout(PATIENCE / 2):
        assert await asyncio.to_thread(int) == 0
    go.set()
    await running


async def test_the_storage_closes_although_no_thread_is_free(tmp_path: Path) -> None:
    opened = SqliteStorage.open(tmp_path / "a.db")
    async with all_busy(1), asyncio.timeout(PATIENCE / 2), opened:
        pass


async def test_the_operator_is_told_that_all_threads_are_busy_but_not_each_time() -> None:
    with capture_logs() as told:
        async with all_busy(2):
            assert told == []
            waiting = [asyncio.create_task(asyncio.to_thread(int)) for _ in range(3)]
            await asyncio.sleep(0)
            (line,) = told
        await asyncio.gather(*waiting)
    assert (line["event"], line["threads"]) == ("all threads of sync nodes and tools are busy", 2)
