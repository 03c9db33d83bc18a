"""Human input: whoever follows a thread, or the execution of a run, is told what people are asked
there, and what became of it. Nothing can be decided here."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import Depends, Path, Request, Response
from starlette.routing import WebSocketRoute

from assent.api.context import served
from assent.api.deps import AdmittedReader, NotedReader, TheReader, TheRuns
from assent.api.dialects.human_input import HumanInput, error_frame
from assent.api.dialects.positions import Position, read_position
from assent.api.event_query import MOST_ON_A_PAGE, LastEventId, Timeout
from assent.api.executions import Found, find
from assent.api.openapi import FOREIGN_SSE
from assent.api.problems import Asked
from assent.api.routing import router_of
from assent.api.schemas import THREAD_ID
from assent.api.streams.handshake import HANDSHAKE_RESPONSES, Handshake, check_handshake
from assent.api.streams.reading import execution_page, execution_response, replay_of
from assent.api.streams.speech import Listening
from assent.api.streams.websocket import SocketStream

router = router_of("human-input")

SOCKET = "/ws/human-input/{execution_id}"


class Followed(NamedTuple):
    """What a client follows, from which position on, and in which dialect."""

    found: Found
    position: Position
    dialect: HumanInput


async def _followed(
    execution_id: Annotated[
        str, Path(pattern=THREAD_ID, description="The id of a thread, or of a run")
    ],
    runs: TheRuns,
    by: TheReader,
    last_event_id: LastEventId,
) -> Followed:
    found = await find(runs, execution_id)
    position = read_position(last_event_id, found.log_id)
    return Followed(found, position, HumanInput(execution_id, found.log_id, found.agent))


TheFollowed = Annotated[Followed, Depends(_followed)]


@router.get(SOCKET, status_code=101, responses=HANDSHAKE_RESPONSES)
async def open_human_input(
    request: Request, runs: TheRuns, admitted: AdmittedReader, followed: TheFollowed
) -> Response:
    """A WebSocket that says what people are asked, and what became of it. It takes nothing. A
    thread's has no end; a run's ends with what goes on where it pauses."""
    check_handshake(request)
    found, position, dialect = followed
    replay = await replay_of(runs.storage, found, dialect, position)
    now = served(request).connections.clock.now
    speech = Listening(dialect, error_frame, now, Asked.by(request))
    return SocketStream(
        request, replay.following, speech, dialect=replay.dialect, batches=replay.batches
    )


router.routes.append(WebSocketRoute(SOCKET, Handshake()))


@router.get("/events/human-input/{execution_id}", responses=FOREIGN_SSE)
async def stream_human_input(
    request: Request, runs: TheRuns, admitted: AdmittedReader, followed: TheFollowed
) -> Response:
    """The same as Server-Sent Events, past `Last-Event-ID` or `last_event_id`."""
    found, position, dialect = followed
    return await execution_response(request, runs.storage, found, dialect, position)


@router.get("/poll/human-input/{execution_id}")
async def poll_human_input(
    request: Request,
    runs: TheRuns,
    noted: NotedReader,
    followed: TheFollowed,
    timeout: Timeout = None,
) -> Response:
    """The same as JSON, past `last_event_id`: at most 1,000 events. With a `timeout`, a page that
    would be empty waits so many seconds for one."""
    found, position, dialect = followed
    return await execution_page(
        request,
        runs.storage,
        found,
        dialect,
        position,
        limit=MOST_ON_A_PAGE,
        timeout=timeout,
    )
