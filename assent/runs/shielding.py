"""Finishing what was begun, even if the caller goes away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def shielded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine to its end, also if the caller is cancelled: what was committed must reach
    the engine."""
    return await asyncio.shield(asyncio.create_task(coroutine))
