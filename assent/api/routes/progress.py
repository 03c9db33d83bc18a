"""Progress: whoever follows a thread, or the execution of a run, is told which agent is at which
task."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request, Response
from starlette.routing import WebSocketRoute

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, opens_socket, refuses, streams_frames
from assent.api.deps import Admitted, TheActor, TheRuns
from assent.api.dialects.positions import read_position
from assent.api.dialects.progress import Progress, error_frame
from assent.api.event_query import LastEventId
from assent.api.executions import Found, find
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.schemas import THREAD_ID
from assent.api.shapes.server import ProgressSummary
from assent.api.streams.handshake import Handshake
from assent.api.streams.reading import (
    Followed,
    entries_so_far,
    execution_response,
    execution_socket,
)
from assent.api.streams.transport import Transport
from assent.core.access import Right
from assent.core.events import decode
from assent.core.progress import STEP_TYPES, Steps, Totals

LANGGRAPH = ("threads", "read")

router = router_of("progress")

SOCKET = "/progress/{id}/ws"

ExecutionId = Annotated[
    str, Path(alias="id", pattern=THREAD_ID, description="The id of a thread, or of a run")
]


async def _found(id: ExecutionId, runs: TheRuns, by: TheActor) -> Found:
    return await find(runs, id)


TheFound = Annotated[Found, Depends(_found)]


async def _followed(found: TheFound, last_event_id: LastEventId) -> Followed:
    dialect = Progress(found.agent, has_end=bool(found.root))
    return Followed(found, dialect, read_position(last_event_id, found.log_id))


TheFollowed = Annotated[Followed, Depends(_followed)]


@router.get("/progress/{id}")
@may(Right.READ, Thing.EXECUTION, langgraph=LANGGRAPH, ticket=Transport.SSE)
@streams_frames
@answers(None, 204, description="You have the last event")
@refuses(410)
async def stream_progress(
    request: Request, runs: TheRuns, admitted: Admitted, followed: TheFollowed
) -> Response:
    """Server-Sent Events, one for each step, past `Last-Event-ID` or `last_event_id`. A thread's
    have no end. A run's go on where it pauses, and end with its result or error, and `[DONE]`."""
    return await execution_response(request, runs.storage, followed)


@router.get(SOCKET, status_code=101)
@may(Right.READ, Thing.EXECUTION, langgraph=LANGGRAPH, ticket=Transport.WEBSOCKET)
@opens_socket
@refuses(404, 410, 426)
async def open_progress(
    request: Request, runs: TheRuns, admitted: Admitted, followed: TheFollowed
) -> Response:
    """A WebSocket with the same as its messages. It takes none. Where the events of a run end, it
    is closed with 1000."""
    return await execution_socket(request, runs.storage, followed, error_frame)


router.routes.append(WebSocketRoute(SOCKET, Handshake()))


@router.get("/progress/{id}/summary")
@may(Right.READ, Thing.EXECUTION, langgraph=LANGGRAPH)
@answers(ProgressSummary)
@refuses(410)
async def summarize_progress(runs: TheRuns, found: TheFound) -> Response:
    """The steps so far, added up by agent and task."""
    steps = Steps(found.agent)
    totals = Totals()
    async for entry in entries_so_far(runs.storage, found, STEP_TYPES):
        update = steps.update(decode(entry.body))
        if update is not None:
            totals.add(update)
    return json_response({"updates": totals.updates, "agents": totals.by_agent})
