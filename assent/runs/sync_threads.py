"""Threads for sync nodes and tools. A cancelled task leaves its thread running, and only when that
has ended has the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

MAX_THREADS = 64
"""Sync nodes and tools that run at once; more wait. asyncio's own default, the number of cores and
four, would let a few slow ones stop all."""


SYNC_THREAD = "assent-sync"
"""What the names of these threads begin with."""


class SyncThreads(ThreadPoolExecutor):
    """The event loop's default executor, which knows for whom a thread works."""

    def __init__(self) -> None:
        super().__init__(max_workers=MAX_THREADS, thread_name_prefix=SYNC_THREAD)
        self._mine: ContextVar[set[Future[Any]] | None] = ContextVar("threads", default=None)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future = super().submit(fn, *args, **kwargs)
        if (mine := self._mine.get()) is not None:
            mine.add(future)
            future.add_done_callback(mine.discard)
        return future

    @asynccontextmanager
    async def waited_for(self) -> AsyncIterator[None]:
        """When this context is left, however it is, no thread works any more for what was done in
        it."""
        mine: set[Future[Any]] = set()
        token = self._mine.set(mine)
        try:
            yield
        finally:
            self._mine.reset(token)
            while left := [future for future in mine if future.running()]:
                await _ended(left)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for nobody: a tool that does not return must not keep the process alive."""
        super().shutdown(wait=False, cancel_futures=True)


async def _ended(futures: list[Future[Any]]) -> None:
    """Wait for the threads, and leave what they came to, or failed with, to whom it is for."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    left = set(futures)

    def ended(future: Future[Any]) -> None:
        left.discard(future)
        if not left:
            loop.call_soon_threadsafe(over.set)

    for future in futures:
        future.add_done_callback(ended)
    await over.wait()
