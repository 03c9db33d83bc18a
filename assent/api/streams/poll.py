"""Pages of a log as JSON. With a timeout, one that would be empty waits for an event: long
polling."""

from __future__ import annotations

from contextlib import aclosing

from fastapi import Request, Response

from assent.api.access.identity import signed_out
from assent.api.context import served
from assent.api.deps import admit
from assent.api.dialects.base import Dialect
from assent.api.streams.encoder import ws_text
from assent.api.streams.sending import connection_of
from assent.api.streams.transport import Transport
from assent.api.waiting import unless_gone
from assent.runs.follow import Following
from assent.storage.base import LogEntry


async def page_of(
    request: Request,
    following: Following,
    *,
    dialect: Dialect,
    limit: int,
    timeout: float | None = None,
) -> Response:
    """The next events: `{"events": [...], "next": <the number to go on after>, "more": <whether
    there are others already>}`. If there are none, wait for some until the timeout; then the page
    is empty."""
    encoder = served(request).encoders.of(dialect, ws_text)
    storage, log_id, types = following.storage, following.log_id, following.types
    entries = await storage.read_log(log_id, following.after, limit=limit, types=types)
    if not entries and timeout:
        entries = await _wait(request, following, dialect, timeout)
    entries = entries[:limit]
    # Where none is of the types, the cursor moves with the log all the same.
    after = entries[-1].seq if entries else following.after
    more = bool(entries) and bool(await storage.read_log(log_id, after, limit=1, types=types))
    events = b",".join(encoder.messages(log_id, entries))
    body = b'{"events":[%s],"next":%d,"more":%s}' % (events, after, b"true" if more else b"false")
    return Response(body, media_type="application/json")


async def _wait(
    request: Request, following: Following, dialect: Dialect, timeout: float
) -> tuple[LogEntry, ...]:
    """The next events; none if the timeout is over, the client has gone or the server stops."""
    admit(request)
    connections = served(request).connections
    connection = connection_of(request, following, Transport.POLL, dialect, ws_text)
    with connections.opened(connection):
        entries = await unless_gone(request, _first(following), timeout) or ()
    if connection.is_signed_out:
        raise signed_out()
    return entries


async def _first(following: Following) -> tuple[LogEntry, ...]:
    async with aclosing(following.batches()) as batches:
        async for entries in batches:
            if entries:
                return entries
    return ()
