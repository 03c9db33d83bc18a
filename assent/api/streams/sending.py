"""Sending to one reader, for as long as it takes what is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from starlette.types import Message, Scope, Send

from assent.api.access.identity import IDENTITY, Identity
from assent.api.context import served
from assent.api.dialects.base import Dialect
from assent.api.paths import inner_prefix
from assent.api.streams.connections import (
    PLACE,
    READER,
    Beating,
    Connection,
    Heartbeat,
    Wire,
)
from assent.api.streams.encoder import Framing
from assent.api.streams.requests import HANDSHAKE, Requests
from assent.api.streams.transport import Transport
from assent.runs.follow import Following

WIRE = "assent.wire"
"""The extension of a scope that has the `transport` of its connection. Only our own server gives
it."""


class Stalled(Exception):
    """The reader took nothing for too long."""


class Outlet:
    """The way to a reader. Whatever goes it is counted. After `heartbeat` seconds in which nothing
    went it, the keeper sends a sign of life."""

    __slots__ = ("_connections", "_send", "connection", "heartbeat")

    def __init__(self, request: Request, connection: Connection) -> None:
        server = served(request)
        self.connection = connection
        self.heartbeat = server.heartbeat
        self._connections = server.connections
        self._send: Send | None = None

    @contextmanager
    def opened(self, send: Send) -> Iterator[None]:
        """The connection is open, and this sends, for as long as the context is entered."""
        self._send = send
        if not _is_to(self.connection.wire, send):
            self.connection.wire = None
        with self._connections.opened(self.connection):
            yield

    async def put(self, message: Message, size: int) -> None:
        """Send a message, of so many bytes on the wire. Raises `Stalled` for a reader that takes
        nothing, where nobody else sees that."""
        assert self._send is not None
        connection = self.connection
        if connection.wire is not None:
            await self._send(message)
        else:
            try:
                async with asyncio.timeout(self._connections.stalled):
                    await self._send(message)
            except TimeoutError as error:
                raise Stalled from error
        # Only now, since what waits in `send` is not in the transport yet.
        connection.written += size
        connection.sent_at = time.monotonic()


def connection_of(
    request: Request,
    following: Following,
    transport: Transport,
    dialect: Dialect,
    framing: Framing,
    heartbeat: Heartbeat | Beating | None = None,
) -> Connection:
    """The connection by which whoever sent the request will read the log."""
    server = served(request)
    clock = server.connections.clock
    return Connection(
        connection_id=clock.new_id(),
        transport=transport,
        log_id=following.log_id,
        encoder=server.encoders.of(dialect, framing),
        reader=request.scope[READER],
        since=clock.now(),
        following=following,
        wire=wire_of(request.scope),
        heartbeat=heartbeat,
        place=request.scope.get(PLACE),
        identity=request.scope.get(IDENTITY),
        requests=_asking_again(request),
    )


def _asking_again(request: Request) -> Requests | None:
    """Makes requests as whoever sends this one, if only an app around the server knows them."""
    identity: Identity | None = request.scope.get(IDENTITY)
    if identity is None or not identity.is_of_request:
        return None
    requests: Requests | None = request.scope.get(HANDSHAKE)
    return requests or Requests(request.scope, inner_prefix(request.scope))


def _is_to(wire: Wire | None, send: Send) -> bool:
    """True if what is sent gets to the wire as it is. Whatever stands around the server's own
    `send` may change it, and nothing of ours may be written beside that."""
    return wire is not None and getattr(getattr(send, "__self__", None), "transport", None) is wire


def wire_of(scope: Scope) -> Wire | None:
    """The transport of the request's connection, if the server that we are served by tells."""
    wire: Wire | None = (scope.get("extensions") or {}).get(WIRE, {}).get("transport")
    return wire
