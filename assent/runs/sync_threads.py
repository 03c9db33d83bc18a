"""Threads for sync code. Nodes and tools have threads of their own, so that however many of them
block, the server's own work goes on. A thread goes on when its task is cancelled, and a run has
ended only when its threads have."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger(__name__)

MAX_THREADS = 64
"""The number of sync nodes and tools that run at once; more wait. With asyncio's default, four more
than there are cores, a few slow ones could block all others."""

SYNC_THREAD = "assent-sync"
"""The prefix of the threads' names."""

NAME_LOOKUPS = (socket.getaddrinfo, socket.getnameinfo)
"""What asyncio looks names up with. A model's client does so in a run, and needs no thread of the
run's tools for it."""

TOLD_EVERY_SECONDS = 60.0


class SyncThreads(ThreadPoolExecutor):
    """The event loop's default executor, while it is `taking_over`. What is called within `joined`
    is a run's: it gets one of `max_threads` threads. Everything else goes to the executor that the
    loop had before, or else to one of the server's own threads."""

    def __init__(self, max_threads: int = MAX_THREADS) -> None:
        super().__init__(thread_name_prefix=f"{SYNC_THREAD}-own")
        self._for_runs = ThreadPoolExecutor(max_threads, thread_name_prefix=SYNC_THREAD)
        self._max_threads = max_threads
        self._before: Executor | None = None
        self._unfinished: set[Future[Any]] = set()
        self._told_at = float("-inf")
        self._joined: ContextVar[set[Future[Any]] | None] = ContextVar("joined", default=None)

    @property
    def waiting(self) -> int:
        """The calls of runs that wait for a thread."""
        return sum(not future.running() for future in tuple(self._unfinished))

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        joined = self._joined.get()
        if joined is None or fn in NAME_LOOKUPS:
            if self._before is not None:
                return self._before.submit(fn, *args, **kwargs)
            return super().submit(fn, *args, **kwargs)

        self._warn_if_busy()
        future = self._for_runs.submit(fn, *args, **kwargs)
        for futures in (joined, self._unfinished):
            futures.add(future)
            future.add_done_callback(futures.discard)
        return future

    @contextmanager
    def taking_over(self) -> Iterator[None]:
        """Be the running loop's default executor until the context is left, and then give the loop
        back the one that it had. Where it does not say which that is, as uvloop does not, ours
        stays: outside of runs it does what asyncio's own does."""
        loop = asyncio.get_running_loop()
        before: ThreadPoolExecutor | None = getattr(loop, "_default_executor", None)
        self._before = before
        loop.set_default_executor(self)
        try:
            yield
        finally:
            self._for_runs.shutdown(wait=False, cancel_futures=True)
            if before is not None and getattr(loop, "_default_executor", None) is self:
                loop.set_default_executor(before)

    def _warn_if_busy(self) -> None:
        now = time.monotonic()
        if len(self._unfinished) >= self._max_threads and now - self._told_at > TOLD_EVERY_SECONDS:
            self._told_at = now
            log.warning("all threads of sync nodes and tools are busy", threads=self._max_threads)

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Give a run's threads to what is called in the context. Wait for them when it is left."""
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
        self._for_runs.shutdown(wait=False, cancel_futures=True)
        super().shutdown(wait=False, cancel_futures=True)
