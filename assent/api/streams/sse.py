"""Server-Sent Events: the transport, which does not look into the events.

A stream's loop begins after the routing has returned, if whoever called that takes it (`LATER`):
then nothing of the routing is kept for as long as the stream is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from datetime import datetime

import structlog
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from assent.api.context import served
from assent.api.dialects.base import Dialect
from assent.api.streams.connections import Beating, Heartbeat
from assent.api.streams.encoder import Framing, Piece, named_sse, sse
from assent.api.streams.later import LATER, Loop
from assent.api.streams.sending import Outlet, Stalled, connection_of
from assent.api.streams.transport import Transport
from assent.core.errors import Gone, Tampered, Unavailable
from assent.runs.follow import Batches, Following

log = structlog.get_logger(__name__)

RETRY_MS = 1000
"""The time after which a browser asks again."""

BEGIN = b": assent\nretry: %d\n\n" % RETRY_MS
BARE_BEGIN = b": assent\n\n"
"""For clients that take any field for an event, as LangGraph's do."""

PING = Heartbeat(b": ping\n\n", b"8\r\n: ping\n\n\r\n")
SIGNED_OUT = "signed-out"
"""The reason of the end of a stream whose reader may not read it any more."""

END = b": end\n"
"""The line before a stream's last frame. Frames that are no event begin with a comment, and have no
id, so a client's last one stays."""


WhenGone = Callable[[], Awaitable[None]]
"""Done once a client has gone before its response was over."""


class EventStream(Response):
    """A log as Server-Sent Events: `id: <seq>` and `data: {json}`, in lines that end in LF. `named`
    adds `event: <type>`. `batches` are those of the `following`, unless they are given. Signs of
    life and the end are the dialect's, if it has its own. `begin` comes before all events. A client
    that leaves before the end, and not because the server stops, has `when_gone` done."""

    media_type = "text/event-stream"

    def __init__(
        self,
        request: Request,
        following: Following,
        batches: Batches | None = None,
        *,
        dialect: Dialect,
        named: bool = False,
        begin: bytes = BEGIN,
        headers: Mapping[str, str] = {},
        when_gone: WhenGone | None = None,
    ) -> None:
        framing = named_sse if named else sse
        now = served(request).connections.clock.now
        heartbeat = PING if dialect.heartbeat(now()) is None else _beating(dialect, framing, now)
        connection = connection_of(request, following, Transport.SSE, dialect, framing, heartbeat)
        self._outlet = Outlet(request, connection)
        self._begin = begin
        self._batches = following.batches() if batches is None else batches
        self._when_gone = when_gone
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
                "X-Heartbeat": f"{self._outlet.heartbeat:g}",
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
        connection = self._outlet.connection
        following = connection.following
        with self._outlet.opened(send):
            gone = asyncio.create_task(until_gone(receive, following))
            try:
                reason = await self._send_all()
                if connection.is_signed_out:
                    reason = SIGNED_OUT
                if connection.is_signed_out or not following.is_stopped:
                    await self._put(self._end(reason), more=False)
            except Stalled:
                # Without its last chunk the server closes the connection, and the client returns.
                following.stop()
            finally:
                has_gone = gone.done()
                gone.cancel()
            if has_gone and self._when_gone is not None and following.ended != "stopping":
                await self._when_gone()

    async def _send_all(self) -> str:
        """Send what there is until the end, and return the reason of that."""
        connection = self._outlet.connection
        try:
            async with aclosing(self._batches) as batches:
                await self._send_batches(batches)
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
                log.error(
                    "a stream failed", thread_id=self._outlet.connection.log_id, exc_info=error
                )
            return "failed"
        return connection.following.ended or "done"

    async def _send_batches(self, batches: Batches) -> None:
        connection = self._outlet.connection
        encoder = connection.encoder
        await self._put(self._begin)
        async for entries in batches:
            while connection.aside:
                await self._put(connection.aside.popleft())
            for piece in encoder.pieces(connection.log_id, entries):
                if connection.is_signed_out:
                    return
                await self._put(piece)

    def _end(self, reason: str) -> bytes:
        frame = self._outlet.connection.encoder.dialect.end(reason)
        return b": end %s\n\n" % reason.encode() if frame is None else END + named_sse(frame)

    async def _put(self, piece: Piece, *, more: bool = True) -> None:
        message = {"type": "http.response.body", "body": piece, "more_body": more}
        await self._outlet.put(message, _chunk_size(len(piece)))


async def until_gone(receive: Receive, following: Following) -> None:
    """Wait until the client has gone, and then stop following for it."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        following.stop()


def _beating(dialect: Dialect, framing: Framing, now: Callable[[], datetime]) -> Beating:
    """Makes the dialect's sign of life."""

    def beat() -> Heartbeat | None:
        frame = dialect.heartbeat(now())
        if frame is None:
            return None
        framed = framing(frame)
        return Heartbeat(framed, b"%x\r\n%b\r\n" % (len(framed), framed))

    return beat


def _chunk_size(size: int) -> int:
    """The bytes of a chunk with its head: the size in hexadecimal, and two line ends."""
    return size + (size.bit_length() + 3) // 4 + 4
