"""A thread's WebSocket."""

from __future__ import annotations

from fastapi import Request, Response
from starlette.routing import WebSocketRoute

from assent.api.access.rules import Thing, may
from assent.api.answers import opens_socket, refuses
from assent.api.deps import Admitted, TheActor, TheRuns, ThreadPath
from assent.api.dialects.native import NATIVE
from assent.api.event_query import After, Types
from assent.api.routing import router_of
from assent.api.streams.handshake import Handshake, check_handshake
from assent.api.streams.reading import check_readable
from assent.api.streams.requests import HANDSHAKE
from assent.api.streams.speech import NativeSpeech
from assent.api.streams.transport import Transport
from assent.api.streams.websocket import SocketStream
from assent.core.access import Right
from assent.runs.follow import Following

router = router_of("threads")

PATH = "/threads/{id}/ws"


@router.get(PATH, status_code=101)
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"), ticket=Transport.WEBSOCKET)
@opens_socket
@refuses(404, 410, 426)
async def open_socket(
    id: ThreadPath,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
    after: After,
    types: Types,
) -> Response:
    """A WebSocket with the thread's events past `after`, replayed and then live. In the other
    direction it takes messages, decisions, cancelling, acknowledgements and another filter."""
    check_handshake(request)
    await runs.thread(id)
    await check_readable(runs.storage, id, after)
    following = Following(runs.storage, id, after, types=types)
    speech = NativeSpeech(request.scope[HANDSHAKE], runs, request.url.path)
    return SocketStream(request, following, speech, dialect=NATIVE)


# As an object it is an ASGI app, and not a function that takes Starlette's `WebSocket`.
router.routes.append(WebSocketRoute(PATH, Handshake()))
