"""Patience with the storage: what must not be lost is tried until the storage can serve."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from assent.core.errors import Unavailable
from assent.core.pauses import pauses

T = TypeVar("T")

FIRST_SECONDS, LONGEST_SECONDS = 0.1, 2.0
"""The pauses between attempts: the first, and the longest. The longest keeps all work within two
seconds of the storage's return."""


async def until_available(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the storage can serve, with growing pauses, and return the result."""
    retries = pauses(FIRST_SECONDS, LONGEST_SECONDS)
    while True:
        try:
            return await call()
        except Unavailable:
            await asyncio.sleep(next(retries))
