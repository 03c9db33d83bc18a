"""Waiting for what must come, on however busy a machine."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

PATIENCE = 60.0
"""Seconds after which what has not come is taken not to come. What does come takes a fraction of
one, so only a test that fails ever waits for so long."""

T = TypeVar("T")


async def until(
    condition: Callable[[], Awaitable[T] | T], seconds: float = PATIENCE, *, every: float = 0.01
) -> T:
    """Ask again and again until the condition holds; return what it gave.

    For what another process or a server does. Within one event loop, wait for an event instead.
    """
    async with asyncio.timeout(seconds):
        while True:
            answer = condition()
            given = await answer if inspect.isawaitable(answer) else answer
            if given:
                return given
            await asyncio.sleep(every)
