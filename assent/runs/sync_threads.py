"""Threads for sync nodes and tools. A thread goes on when its task is cancelled, and a run has
ended only when its threads have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

MAX_THREADS = 64
"""The number of sync nodes and tools that run at once; more wait. With asyncio's default, four more
than there are cores, a few slow ones could block all others."""

SYNC_THREAD = "assent-sync"
"""The prefix of the threads' names."""


class SyncThreads(ThreadPoolExecutor):
    """The event loop's default executor. It knows which run a thread works for."""

    def __init__(self) -> None:
        super().__init__(max_workers=MAX_THREADS, thread_name_prefix=SYNC_THREAD)
        self._joined: ContextVar[set[Future[Any]] | None] = ContextVar("joined", default=None)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future = super().submit(fn, *args, **kwargs)
        joined = self._joined.get()
        if joined is not None:
            joined.add(future)
            future.add_done_callback(joined.discard)
        return future

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Wait, when the context is left, for the threads that were started in it."""
        futures: set[Future[Any]] = set()
        token = self._joined.set(futures)
        try:
            yield
        finally:
            self._joined.reset(token)
            while running := [future for future in futures if future.running()]:
                # Their results and errors are for whoever started them.
                await asyncio.gather(*map(asyncio.wrap_future, running), return_exceptions=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for no thread: a tool that never returns must not keep the process alive."""
        super().shutdown(wait=False, cancel_futures=True)
