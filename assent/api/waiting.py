"""Waiting for a client that may go away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request

from assent.api.access.authorizing import check_still

T = TypeVar("T")

MAX_WAIT_SECONDS = 3600

Wait = Annotated[
    float | None,
    Query(
        ge=0,
        le=MAX_WAIT_SECONDS,
        allow_inf_nan=False,
        description="The seconds after which the run is not waited for any more",
    ),
]
"""The `timeout` of a request that waits for a run."""


async def unless_gone(
    request: Request, coroutine: Coroutine[Any, Any, T], timeout: float | None = None
) -> T | None:
    """The result; None if the timeout is over or the client has gone first, so that nobody is
    waited for in vain. Raises 401 or 403 if the client may not have it any more."""
    result = asyncio.create_task(coroutine)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({result, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        await check_still(request)
        return result.result() if result.done() else None
    finally:
        result.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
