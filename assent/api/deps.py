"""What the routes are handed. All of it is async, since FastAPI runs what is not in a thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from assent.api.auth import authentication, principal
from assent.core.errors import NotFound
from assent.core.rows import Authentication, Thread
from assent.runs.service import Runs
from assent.storage.base import Storage


async def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


TheRuns = Annotated[Runs, Depends(_runs)]
Who = Annotated[str, Depends(principal)]
How = Annotated[Authentication, Depends(authentication)]


async def the_thread(storage: Storage, thread_id: str) -> Thread:
    """The thread. Raises `NotFound`."""
    thread = await storage.thread(thread_id)
    if thread is None:
        raise NotFound(f"There is no thread '{thread_id}'.")
    return thread


def wants(request: Request, media_type: str) -> bool:
    """Whether the client names this media type in its `Accept` header."""
    return media_type in request.headers.get("accept", "")
