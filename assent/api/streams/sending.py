"""Sending to one reader, for as long as it takes what is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request
from starlette.types import Message, Scope, Send

from assent.api.context import served
from assent.api.dialects.base import Dialect
from assent.api.streams.connections import READER, Connection, Transport, Wire
from assent.api.streams.encoder import Framing
from assent.runs.follow import POLL_SECONDS, Following

WIRE = "assent.wire"
"""The extension of a scope that has the `transport` of its connection."""

NEARLY = 0.95
"""The share of a heartbeat after which it is due: timers are not exact."""

JITTER = 0.2
"""The share of a heartbeat by which those of readers differ that came at once."""


class Stalled(Exception):
    """The reader took nothing for too long."""


class Outlet:
    """The way to a reader. Whatever goes it is counted, and a `heartbeat` is due when nothing went
    it for so many seconds."""

    __slots__ = ("_connections", "_send", "_sent_at", "connection", "heartbeat")

    def __init__(self, request: Request, connection: Connection) -> None:
        server = served(request)
        self.connection = connection
        self.heartbeat = server.heartbeat
        self._connections = server.connections
        self._send: Send | None = None
        self._sent_at = 0.0

    @contextmanager
    def opened(self, send: Send) -> Iterator[None]:
        """The connection is open, and this sends, for as long as the context is entered."""
        self._send = send
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
        connection.active_at = self._sent_at = time.monotonic()

    def spread(self) -> None:
        """Let the first heartbeat be due some time earlier, by another time for each reader."""
        self._sent_at -= self.heartbeat * JITTER * _share(self.connection.connection_id)
        self.look_again()

    def is_silent(self) -> bool:
        """True if a heartbeat is due."""
        return time.monotonic() - self._sent_at >= self.heartbeat * NEARLY

    def look_again(self) -> None:
        """Let the following look again when a heartbeat will be due, or the log must be read."""
        idle = time.monotonic() - self._sent_at
        self.connection.following.poll = min(POLL_SECONDS, max(self.heartbeat - idle, 0.0))


def connection_of(
    request: Request,
    following: Following,
    transport: Transport,
    dialect: Dialect,
    framing: Framing,
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
    )


def wire_of(scope: Scope) -> Wire | None:
    """The transport of the request's connection, if the server that we are served by tells."""
    wire: Wire | None = (scope.get("extensions") or {}).get(WIRE, {}).get("transport")
    return wire


def _share(connection_id: str) -> float:
    """A number from 0 to 1 that differs from one connection to the next."""
    return int(connection_id[-4:], 16) / 0xFFFF
