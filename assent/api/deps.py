"""The arguments that routes share. All of it is async, since FastAPI runs what is not in a
thread."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from assent.api.auth import actor
from assent.core.audit import Actor
from assent.runs.service import Runs


async def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


TheRuns = Annotated[Runs, Depends(_runs)]
TheActor = Annotated[Actor, Depends(actor)]


def wants(request: Request, media_type: str) -> bool:
    """True if the client names this media type in its `Accept` header."""
    return media_type in request.headers.get("accept", "")
