"""The arguments that routes share. All of it is async, since FastAPI runs what is not in a
thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from assent.api.auth import actor
from assent.api.context import served
from assent.core.audit import Actor
from assent.runs.service import Runs


async def _runs(request: Request) -> Runs:
    return served(request).runs


TheRuns = Annotated[Runs, Depends(_runs)]
TheActor = Annotated[Actor, Depends(actor)]


def wants_stream(request: Request) -> bool:
    """True if the client accepts Server-Sent Events by name."""
    return "text/event-stream" in request.headers.get("accept", "")


def wants_page(request: Request) -> bool:
    """True if the client accepts JSON by name, and no Server-Sent Events."""
    return "application/json" in request.headers.get("accept", "") and not wants_stream(request)
