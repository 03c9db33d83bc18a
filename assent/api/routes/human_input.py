"""Human input: whoever follows a thread, or the execution of a run, is told what people are asked
there, and what became of it. Nothing can be decided here."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request, Response
from starlette.routing import WebSocketRoute

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, opens_socket, refuses, streams_frames
from assent.api.deps import AdmittedReader, NotedReader, TheRuns
from assent.api.dialects.human_input import HumanInput, error_frame
from assent.api.dialects.positions import read_position
from assent.api.event_query import MOST_ON_A_PAGE, LastEventId, Timeout
from assent.api.executions import find
from assent.api.routing import router_of
from assent.api.schemas import THREAD_ID
from assent.api.shapes.server import ForeignEvents
from assent.api.streams.handshake import Handshake
from assent.api.streams.reading import (
    Followed,
    execution_page,
    execution_response,
    execution_socket,
)
from assent.api.streams.transport import Transport
from assent.core.access import Right

LANGGRAPH = ("threads", "read")

router = router_of("human-input")

SOCKET = "/ws/human-input/{execution_id}"


async def _followed(
    execution_id: Annotated[
        str, Path(pattern=THREAD_ID, description="The id of a thread, or of a run")
    ],
    runs: TheRuns,
    last_event_id: LastEventId,
) -> Followed:
    found = await find(runs, execution_id)
    dialect = HumanInput(execution_id, found.log_id, found.agent)
    return Followed(found, dialect, read_position(last_event_id, found.log_id))


TheFollowed = Annotated[Followed, Depends(_followed)]


@router.get(SOCKET, status_code=101)
@may(Right.READ, Thing.EXECUTION, langgraph=LANGGRAPH, token=True, ticket=Transport.WEBSOCKET)
@opens_socket
@refuses(404, 410, 426)
async def open_human_input(
    request: Request, runs: TheRuns, admitted: AdmittedReader, followed: TheFollowed
) -> Response:
    """A WebSocket that says what people are asked, and what became of it. It takes nothing. A
    thread's has no end; a run's ends with what goes on where it pauses."""
    return await execution_socket(request, runs.storage, followed, error_frame)


router.routes.append(WebSocketRoute(SOCKET, Handshake()))


@router.get("/events/human-input/{execution_id}")
@may(Right.READ, Thing.EXECUTION, langgraph=LANGGRAPH, token=True, ticket=Transport.SSE)
@streams_frames
@answers(None, 204, description="You have the last event")
@refuses(410)
async def stream_human_input(
    request: Request, runs: TheRuns, admitted: AdmittedReader, followed: TheFollowed
) -> Response:
    """The same as Server-Sent Events, past `Last-Event-ID` or `last_event_id`."""
    return await execution_response(request, runs.storage, followed)


@router.get("/poll/human-input/{execution_id}")
@may(Right.READ, Thing.EXECUTION, langgraph=LANGGRAPH, token=True)
@answers(ForeignEvents)
@refuses(410)
async def poll_human_input(
    request: Request,
    runs: TheRuns,
    noted: NotedReader,
    followed: TheFollowed,
    timeout: Timeout = None,
) -> Response:
    """The same as JSON, past `last_event_id`: at most 1,000 events. With a `timeout`, a page that
    would be empty waits so many seconds for one."""
    return await execution_page(
        request, runs.storage, followed, limit=MOST_ON_A_PAGE, timeout=timeout
    )
