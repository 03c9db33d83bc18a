"""The arguments that routes share. All of it is async, since FastAPI runs what is not in a
thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from assent.api.auth import actor
from assent.api.context import served
from assent.api.schemas import THREAD_ID
from assent.core.audit import Actor
from assent.runs.service import Runs


async def _runs(request: Request) -> Runs:
    return served(request).runs


TheRuns = Annotated[Runs, Depends(_runs)]
TheActor = Annotated[Actor, Depends(actor)]

ThreadPath = Annotated[str, Path(alias="id", pattern=THREAD_ID)]
OfThread = Annotated[str | None, Query(pattern=THREAD_ID)]
PageLimit = Annotated[int, Query(ge=1, le=1000)]


def wants_stream(request: Request) -> bool:
    """True if the client accepts Server-Sent Events by name."""
    return "text/event-stream" in request.headers.get("accept", "")


def wants_page(request: Request) -> bool:
    """True if the client accepts JSON by name, and no Server-Sent Events."""
    return "application/json" in request.headers.get("accept", "") and not wants_stream(request)
