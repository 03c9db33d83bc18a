"""A socket on which a client asks queries, and what there is to know of all such sockets."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import AfterValidator, Field
from starlette.routing import WebSocketRoute

from assent.api.access.project_auth import metadata_of
from assent.api.access.rules import Thing, may
from assent.api.answers import answers, opens_socket, refuses
from assent.api.context import served
from assent.api.deps import Admitted, TheActor, TheIdentity, TheRuns
from assent.api.dialects import query
from assent.api.idempotency import TheKey
from assent.api.problems import Asked
from assent.api.queries import PATH, agent_for_queries
from assent.api.query_socket import QuerySession, QuerySpeech
from assent.api.responses import json_response
from assent.api.routes.connections import is_shown
from assent.api.routing import router_of
from assent.api.schemas import MAX_BROADCAST_CHARACTERS, Body
from assent.api.shapes.server import QueryBroadcastSent, QuerySockets
from assent.api.streams.handshake import Handshake, check_handshake
from assent.api.streams.transport import Transport
from assent.api.streams.websocket import SocketStream
from assent.core.access import Right
from assent.core.json import JsonObject
from assent.core.logs import QUERIES
from assent.runs.broadcasts import Telling, broadcast

router = router_of("query")


@router.get(PATH, status_code=101)
@may(Right.RUN, Thing.SERVER, langgraph=("threads", "create_run"), ticket=Transport.WEBSOCKET)
@opens_socket
@refuses(404, 410, 426)
async def open_query_socket(
    request: Request,
    runs: TheRuns,
    by: TheIdentity,
    admitted: Admitted,
    agent: Annotated[str | None, Query(max_length=200, description="The agent to ask")] = None,
) -> Response:
    """A WebSocket that takes queries, `{"query", "case_id", "stream_thinking"}`, and tells what the
    agent does for each, up to `agent_execution_complete` or `agent_execution_error`."""
    check_handshake(request)
    name = agent_for_queries(runs, agent)
    # What is asked then changes something, unlike the handshake.
    asked = replace(Asked.by(request), method="POST")
    session = QuerySession(served(request), runs, by, name, asked, metadata_of(request))
    return SocketStream(
        request,
        session.idle,
        QuerySpeech(session),
        dialect=query.Query(),
        batches=session.batches(),
    )


# As an object it is an ASGI app, and not a function that takes Starlette's `WebSocket`.
router.routes.append(WebSocketRoute(PATH, Handshake()))


@router.get("/ws/status")
@may(Right.WATCH, Thing.LIST)
@answers(QuerySockets)
async def show_status(request: Request, by: TheIdentity) -> Response:
    """The query sockets that are open in this process, oldest first."""
    connections = served(request).connections
    views: list[JsonObject] = []
    for connection in connections:
        if connection.log_id == QUERIES and is_shown(connection, by):
            times = {
                "connected_at": connection.since,
                "last_activity": connections.last_activity(connection),
            }
            views.append({"connection_id": connection.connection_id, "metadata": times})
    return json_response({"active_connections": len(views), "connections": views})


def _is_none_of_ours(kind: str) -> str:
    if kind in query.VOCABULARY:
        raise ValueError(f"'{kind}' is what an agent's own events are called: choose another type")
    return kind


class QueryBroadcast(Body):
    """A message to everybody who follows anything, under a type of your choosing."""

    message: str = Field(min_length=1, max_length=MAX_BROADCAST_CHARACTERS)
    type: Annotated[
        str,
        AfterValidator(_is_none_of_ours),
        Field(min_length=1, max_length=query.MOST_TYPE_CHARACTERS),
    ] = query.BROADCAST


@router.post("/ws/broadcast")
@may(Right.ADMIN, Thing.BODY)
@answers(QueryBroadcastSent)
@refuses(409)
async def send_query_broadcast(
    body: QueryBroadcast, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """Tell something to everybody, as `POST /broadcast` does. Query sockets get it under its
    `type`."""
    telling = Telling(
        message=body.message,
        data={"type": body.type},
        by=by.owner,
        thread_id=None,
        reached=served(request).connections.reachable(by.tenant),
    )
    sent = await broadcast(runs.storage, runs.clock, telling, key)
    return json_response({"status": "sent", "recipients": sent.reached})
