"""Open streams, and messages to whoever follows one."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.identity import Identity
from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.context import served
from assent.api.deps import OfThread, PageLimit, TheActor, TheIdentity, TheRuns
from assent.api.idempotency import TheKey
from assent.api.responses import json_response, page_response
from assent.api.routing import router_of
from assent.api.schemas import BroadcastRequest
from assent.api.shapes.server import BroadcastSent, ConnectionsPage
from assent.api.streams.connections import Connection, Connections
from assent.api.streams.transport import Transport
from assent.core.access import Right
from assent.core.json import JsonObject
from assent.core.logs import FEEDS
from assent.runs.broadcasts import Telling, broadcast
from assent.storage.base import Page

router = router_of("connections")


@router.get("/connections")
@may(Right.READ, Thing.LIST)
@answers(ConnectionsPage)
async def list_connections(
    request: Request,
    by: TheIdentity,
    transport: Transport | None = None,
    thread_id: OfThread = None,
    limit: PageLimit = 100,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The streams that are open in this process, oldest first: your own, or with the right to watch
    the server those of all. `next` is the cursor of the next page, or null.

    `cursor` of a stream is the number of the last event that was read for it, `acked` the one that
    its client says it has; `lag_seconds` is the time for which its oldest unsent byte has waited.
    """
    connections = served(request).connections
    found = [
        connection
        for connection in sorted(connections, key=lambda each: each.connection_id)
        if is_shown(connection, by)
        and (transport is None or connection.transport is transport)
        and (thread_id is None or connection.log_id == thread_id)
        and (cursor is None or connection.connection_id > cursor)
    ]
    page, rest = found[:limit], found[limit:]
    following = page[-1].connection_id if rest else None
    return page_response(
        "connections", Page(tuple(page), following), lambda each: _view(each, connections)
    )


def is_shown(connection: Connection, by: Identity) -> bool:
    """True if it is theirs, or they may watch those of their tenant."""
    sight = by.sight(Right.WATCH if Right.WATCH in by.rights else Right.READ)
    owner = connection.reader.owner
    if sight.reach == "tenant":
        return owner.tenant == sight.owner.tenant
    return sight.reach == "everything" or owner == sight.owner


def _view(connection: Connection, connections: Connections) -> JsonObject:
    is_feed = connection.log_id.startswith(FEEDS)
    wire = connection.wire
    return {
        "connection_id": connection.connection_id,
        "transport": connection.transport,
        "thread_id": None if is_feed else connection.log_id,
        "feed": connection.log_id[1:] if is_feed else None,
        "dialect": connection.encoder.dialect.name,
        "user": connection.reader.owner.name,
        "client": connection.reader.address,
        "since": connection.since,
        "last_activity": connections.last_activity(connection),
        "cursor": connection.following.after,
        "acked": connection.acked,
        "lag_seconds": round(connection.lag, 1),
        "unsent_bytes": wire.get_write_buffer_size() if wire is not None else None,
    }


@router.post("/broadcast", status_code=202)
@may(Right.ADMIN, Thing.BODY)
@answers(BroadcastSent, 202)
@refuses(404, 409)
async def send_broadcast(
    body: BroadcastRequest, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """Tell something to everybody who follows anything in this process; or, with a `thread_id`, to
    those who follow that thread, as a numbered event of its log.

    `reached` are the readers that there were, and `seq` is the number of the event on the thread.
    What everybody is told has no number, and whoever is away misses it.
    """
    connections = served(request).connections
    thread_id = body.thread_id
    reached = connections.reachable(by.tenant) if thread_id is None else connections.on(thread_id)
    telling = Telling(
        message=body.message,
        data=body.data,
        by=by.owner,
        thread_id=body.thread_id,
        reached=reached,
    )
    sent = await broadcast(runs.storage, runs.clock, telling, key)
    seq = sent.first_seq if body.thread_id is not None else None
    view = {"reached": sent.reached, "thread_id": body.thread_id, "seq": seq or None}
    return json_response(view, status=202)
