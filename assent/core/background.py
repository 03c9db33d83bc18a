"""Work beside other work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def background(*works: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Do each work in a task of this name until the context is left. Then all are cancelled and
    waited for."""
    tasks = [asyncio.create_task(work, name=name) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
