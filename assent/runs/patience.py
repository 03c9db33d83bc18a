"""Patience with the storage: what must not be lost is tried until the storage can serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from assent.core.errors import Unavailable
from assent.core.pauses import pauses_while_away

T = TypeVar("T")


async def until_available(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the storage can serve, with growing pauses, and return the result."""
    retries = pauses_while_away()
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(next(retries))
