"""Server-Sent Events: the transport, which does not look into the events.

A stream's loop begins after the routing has returned, if whoever called that takes it (`LATER`):
then nothing of the routing is kept for as long as the stream is open.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

import structlog
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from assent.api.context import served
from assent.api.dialects.base import Dialect
from assent.api.streams.connections import READER, Connection, Transport, Wire
from assent.api.streams.encoder import Piece, named_sse, sse
from assent.core.errors import Gone, Tampered, Unavailable
from assent.runs.follow import POLL_SECONDS, Batches, Following

log = structlog.get_logger(__name__)

LATER = "assent_later"
"""Where the scope of a request has the list that takes what goes on after the routing."""

WIRE = "assent.wire"
"""The extension of a scope that has the `transport` of its connection."""

HANDSHAKE = "assent_handshake"
"""True in the scope of a WebSocket of ours, and of the GET that its handshake is."""

Loop = Callable[[Receive, Send], Awaitable[None]]
"""What goes on after the routing."""

RETRY_MS = 1000
"""The time after which a browser asks again."""

BEGIN = b": assent\nretry: %d\n\n" % RETRY_MS
PING = b": ping\n\n"
END = b": end\nevent: end\ndata: %s\n\n"
"""Frames that are no event begin with a comment. They have no id, so a client's last one stays."""

NEARLY = 0.95
"""The share of a heartbeat after which it is due: timers are not exact."""

JITTER = 0.2
"""The share of a heartbeat by which those of readers differ that came at once."""


class EventStream(Response):
    """A log as Server-Sent Events: `id: <seq>` and `data: {json}`, in lines that end in LF. `named`
    adds `event: <type>`. `batches` are those of the `following`, unless they are given."""

    media_type = "text/event-stream"

    def __init__(
        self,
        request: Request,
        following: Following,
        batches: Batches | None = None,
        *,
        dialect: Dialect,
        named: bool = False,
        headers: Mapping[str, str] = {},
    ) -> None:
        server = served(request)
        self._heartbeat = server.heartbeat
        self._connections = server.connections
        self._batches = following.batches() if batches is None else batches
        clock = self._connections.clock
        self._connection = Connection(
            connection_id=clock.new_id(),
            transport=Transport.SSE,
            log_id=following.log_id,
            encoder=server.encoders.of(dialect, named_sse if named else sse),
            reader=request.scope[READER],
            since=clock.now(),
            following=following,
            wire=wire_of(request.scope),
        )
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                "X-Heartbeat": f"{server.heartbeat:g}",
                **headers,
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        later: list[Loop] | None = scope.get(LATER)
        if later is None:
            await self._run(receive, send)
        else:
            later.append(self._run)

    async def _run(self, receive: Receive, send: Send) -> None:
        following = self._connection.following
        with self._connections.opened(self._connection):
            gone = asyncio.create_task(until_gone(receive, following))
            try:
                reason = await self._send_all(send)
                if not following.is_stopped:
                    await self._put(send, END % json.dumps({"reason": reason}).encode(), more=False)
            except Stalled:
                # Without its last chunk the server closes the connection, and the client returns.
                following.stop()
            finally:
                gone.cancel()

    async def _send_all(self, send: Send) -> str:
        """Send what there is until the end, and return the reason of that."""
        try:
            async with aclosing(self._batches) as batches:
                await self._send_batches(batches, send)
        except Stalled:
            raise
        except Gone:
            return "gone"
        except Unavailable:
            return "unavailable"
        except Exception as error:
            # The response has begun, so its status cannot change. The reader gets it when it asks
            # again: the 500 of what was tampered with, which is logged then.
            if not isinstance(error, Tampered):
                log.error("a stream failed", thread_id=self._connection.log_id, exc_info=error)
            return "failed"
        return self._connection.following.ended or "done"

    async def _send_batches(self, batches: Batches, send: Send) -> None:
        connection, heartbeat = self._connection, self._heartbeat
        following, encoder = connection.following, connection.encoder
        await self._put(send, BEGIN)
        connection.active_at -= heartbeat * JITTER * _share(connection.connection_id)
        following.poll = self._next_look()
        async for entries in batches:
            while connection.aside:
                await self._put(send, connection.aside.popleft())
            for piece in encoder.pieces(connection.log_id, entries):
                await self._put(send, piece)
            if not entries:
                if time.monotonic() - connection.active_at >= heartbeat * NEARLY:
                    await self._put(send, PING)
                following.poll = self._next_look()

    def _next_look(self) -> float:
        """The seconds until the stream must show that it is alive, or look at the log."""
        idle = time.monotonic() - self._connection.active_at
        return min(POLL_SECONDS, max(self._heartbeat - idle, 0.0))

    async def _put(self, send: Send, piece: Piece, *, more: bool = True) -> None:
        connection = self._connection
        message = {"type": "http.response.body", "body": piece, "more_body": more}
        if connection.wire is not None:
            await send(message)
        else:
            # Nobody else sees that the reader takes nothing.
            try:
                async with asyncio.timeout(self._connections.stalled):
                    await send(message)
            except TimeoutError as error:
                raise Stalled from error
        # Only now, since what waits in `send` is not in the transport yet.
        connection.written += _chunk_size(len(piece))
        connection.active_at = time.monotonic()


class Stalled(Exception):
    """The reader took nothing for too long."""


async def until_gone(receive: Receive, following: Following) -> None:
    """Wait until the client has gone, and then stop following for it."""
    try:
        while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
            pass
    finally:
        following.stop()


def wire_of(scope: Scope) -> Wire | None:
    """The transport of the request's connection, if the server that we are served by tells."""
    wire: Wire | None = (scope.get("extensions") or {}).get(WIRE, {}).get("transport")
    return wire


def _chunk_size(size: int) -> int:
    """The bytes of a chunk with its head: the size in hexadecimal, and two line ends."""
    return size + (size.bit_length() + 3) // 4 + 4


def _share(connection_id: str) -> float:
    """A number from 0 to 1 that differs from one connection to the next."""
    return int(connection_id[-4:], 16) / 0xFFFF
