"""Progress: whoever follows a thread, or the execution of a run, is told which agent is at which
task."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import Depends, Path, Request, Response
from starlette.routing import WebSocketRoute

from assent.api.context import served
from assent.api.deps import Admitted, TheActor, TheRuns
from assent.api.dialects.positions import Position, read_position
from assent.api.dialects.progress import Progress, error_frame
from assent.api.event_query import LastEventId
from assent.api.executions import Found, find
from assent.api.openapi import FOREIGN_SSE
from assent.api.problems import Asked
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.schemas import THREAD_ID
from assent.api.streams.handshake import HANDSHAKE_RESPONSES, Handshake, check_handshake
from assent.api.streams.reading import entries_so_far, execution_response, replay_of
from assent.api.streams.speech import Listening
from assent.api.streams.websocket import SocketStream
from assent.core.events import decode
from assent.core.progress import Steps, Totals

router = router_of("progress")

SOCKET = "/progress/{id}/ws"

ExecutionId = Annotated[
    str, Path(alias="id", pattern=THREAD_ID, description="The id of a thread, or of a run")
]


async def _found(id: ExecutionId, runs: TheRuns, by: TheActor) -> Found:
    return await find(runs, id)


TheFound = Annotated[Found, Depends(_found)]


class Followed(NamedTuple):
    """What a client follows, from which position on, and in which dialect."""

    found: Found
    position: Position
    dialect: Progress


async def _followed(found: TheFound, last_event_id: LastEventId) -> Followed:
    position = read_position(last_event_id, found.log_id)
    return Followed(found, position, Progress(found.agent, has_end=bool(found.root)))


TheFollowed = Annotated[Followed, Depends(_followed)]


@router.get("/progress/{id}", responses=FOREIGN_SSE)
async def stream_progress(
    request: Request, runs: TheRuns, admitted: Admitted, followed: TheFollowed
) -> Response:
    """Server-Sent Events, one for each step, past `Last-Event-ID` or `last_event_id`. A thread's
    have no end. A run's go on where it pauses, and end with its result or error, and `[DONE]`."""
    found, position, dialect = followed
    return await execution_response(request, runs.storage, found, dialect, position)


@router.get(SOCKET, status_code=101, responses=HANDSHAKE_RESPONSES)
async def open_progress(
    request: Request, runs: TheRuns, admitted: Admitted, followed: TheFollowed
) -> Response:
    """A WebSocket with the same as its messages. It takes none. Where the events of a run end, it
    is closed with 1000."""
    check_handshake(request)
    found, position, dialect = followed
    replay = await replay_of(runs.storage, found, dialect, position)
    now = served(request).connections.clock.now
    speech = Listening(dialect, error_frame, now, Asked.by(request))
    return SocketStream(
        request, replay.following, speech, dialect=replay.dialect, batches=replay.batches
    )


router.routes.append(WebSocketRoute(SOCKET, Handshake()))


@router.get("/progress/{id}/summary")
async def summarize_progress(runs: TheRuns, found: TheFound) -> Response:
    """The steps so far, added up by agent and task."""
    steps = Steps(found.agent)
    totals = Totals()
    dialect = Progress(found.agent, has_end=False)
    async for entry in entries_so_far(runs.storage, found, dialect, Position(0)):
        update = steps.update(decode(entry.body))
        if update is not None:
            totals.add(update)
    return json_response({"updates": totals.updates, "agents": totals.by_agent})
