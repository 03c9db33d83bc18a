"""Waiting for a client that may go away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")


async def unless_gone(
    request: Request, coroutine: Coroutine[Any, Any, T], timeout: float | None = None
) -> T | None:
    """The result; None if the timeout is over or the client has gone first, so that nobody is
    waited for in vain."""
    result = asyncio.create_task(coroutine)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({result, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return result.result() if result.done() else None
    finally:
        result.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
