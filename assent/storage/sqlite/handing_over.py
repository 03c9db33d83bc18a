"""Handing over to the event loop from the threads of connections: results, errors, their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
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
