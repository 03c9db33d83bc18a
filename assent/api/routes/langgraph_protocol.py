"""LangGraph's thread protocol: a thread's events, as Server-Sent Events and over WebSockets, and
commands."""

from __future__ import annotations

from fastapi import Request, Response
from starlette.routing import WebSocketRoute

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, opens_socket, refuses, streams_frames
from assent.api.context import served
from assent.api.deps import Admitted, TheActor, TheRuns, TheRunsBy, ThreadPath
from assent.api.dialects.langgraph.protocol import ThreadProtocol
from assent.api.idempotency import TheKey
from assent.api.problems import Asked
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.shapes.protocol import CommandAnswer
from assent.api.streams.handshake import Handshake, check_handshake
from assent.api.streams.requests import HANDSHAKE
from assent.api.streams.sse import EventStream
from assent.api.streams.transport import Transport
from assent.api.streams.websocket import SocketStream
from assent.api.thread_commands import COMMANDS, CommandRequest, carry_out
from assent.api.thread_protocol import (
    ProtocolSession,
    ProtocolSpeech,
    StreamRequest,
    followed,
    subscription_to,
)
from assent.core.access import Right
from assent.runs.follow import Following

router = router_of("threads")

EVENTS = "/threads/{id}/stream/events"

LANGGRAPH = ("threads", "read")


@router.post(EVENTS)
@may(Right.READ, Thing.THREAD, langgraph=LANGGRAPH)
@streams_frames
@refuses(409)
async def stream_thread_events(
    id: ThreadPath,
    body: StreamRequest,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
) -> Response:
    """The thread's events in the channels of LangGraph's thread protocol, those that there are and
    then live, from run to run. With `since`, those past that number."""
    thread = await runs.thread(id)
    dialect = ThreadProtocol([await subscription_to(body, "", runs.storage, id)])
    following = Following(runs.storage, id, types=dialect.types)
    batches = followed(runs, thread, following, dialect)
    return EventStream(request, following, batches, dialect=dialect, named=True)


@router.get(EVENTS, status_code=101)
@may(Right.READ, Thing.THREAD, langgraph=LANGGRAPH, ticket=Transport.WEBSOCKET)
@opens_socket
@refuses(426)
async def open_thread_protocol(
    id: ThreadPath, request: Request, runs: TheRuns, by: TheActor, admitted: Admitted
) -> Response:
    """A WebSocket that takes commands of LangGraph's thread protocol, and tells of the events that
    are subscribed to. It opens before there is the thread too: a first `run.start` makes that."""
    check_handshake(request)
    session = ProtocolSession(served(request), runs, id)
    # What is sent on it may change something, unlike the handshake.
    speech = ProtocolSpeech(session, request.scope[HANDSHAKE], Asked.by(request))
    dialect = ThreadProtocol([])
    return SocketStream(request, session.idle, speech, dialect=dialect, batches=session.batches())


# As an object it is an ASGI app, and not a function that takes Starlette's `WebSocket`.
router.routes.append(WebSocketRoute(EVENTS, Handshake()))


@router.post(COMMANDS)
@may(Right.RUN, Thing.THREAD, langgraph=("threads", "create_run"), deciding=True)
@answers(CommandAnswer)
async def command_thread(
    id: ThreadPath,
    body: CommandRequest,
    request: Request,
    runs_by: TheRunsBy,
    by: TheActor,
    key: TheKey,
) -> Response:
    """Carry out a command of LangGraph's thread protocol: `run.start` starts a run, and makes the
    thread if there is none; `input.respond` decides what the thread waits for. One that cannot be
    carried out is answered with an error."""
    return json_response(await carry_out(request, runs_by, id, body, by, key))
