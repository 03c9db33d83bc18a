"""Handing over to the event loop that opened the file: results and errors from the threads of
connections, and calls from other loops and threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Waiting(Generic[T]):
    """A caller that waits for a result."""

    future: asyncio.Future[T]

    def on_result(self, result: T) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def on_error(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


def call_on_loop(
    loop: asyncio.AbstractEventLoop, callback: Callable[[Any], None], value: object
) -> None:
    """Call back on the loop, from a connection's thread."""
    # If the loop was closed before the storage, nobody waits any more.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, value)


async def until_ended(ends: Sequence[asyncio.Future[None]]) -> None:
    """Wait for threads. Each says itself that it has come to its end, since an executor's threads,
    which could wait for it, may all be busy."""
    try:
        await asyncio.wait(ends)
    except asyncio.CancelledError:
        # A connection must not be closed under its thread, so even a cancelled caller waits for
        # what was begun.
        await asyncio.wait(ends)
        raise


async def on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Do the work on that loop, and wait for it on the loop that runs here."""
    if asyncio.get_running_loop() is loop:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def from_thread(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Do the work on that loop, and wait for it in this thread. Raises what `check_may_wait`
    does."""
    try:
        check_may_wait(loop)
    except asyncio.InvalidStateError:
        work.close()
        raise
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def check_may_wait(loop: asyncio.AbstractEventLoop) -> None:
    """Raise `asyncio.InvalidStateError` on the loop's own thread, where waiting for it would never
    end."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    if running is loop:
        raise asyncio.InvalidStateError(
            "A method that waits was called on the event loop that serves it. Call the async "
            "one there (aget_tuple, ainvoke, aget, ...), or this one in another thread."
        )
