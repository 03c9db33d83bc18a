"""uvicorn's protocols, which tell us the transport of each connection: ASGI has no word for how
much waits there, nor for cutting it off. The names that are used of them are held by a test."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from assent.api.streams.handshake import DENIAL, HANDSHAKE
from assent.api.streams.sending import WIRE

LOGGER = "uvicorn.websockets"
"""Its level is that of warnings, whatever the level of the log (`config.logging.TALKATIVE`)."""

MOST_HEAD_BYTES = 64 << 10
"""The largest head of a request, and the most bytes between two pieces of its body or behind the
last, where trailers are. A head within one read of the system may be a little larger."""

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n"

MOST_FRAGMENTS = 1000
"""Fragments of a message that are held by themselves. Then they are joined, since each takes some
40 bytes however small it is."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP, with the transport in each request's scope. A connection is closed if a request's head
    takes longer than `head_seconds`, or is larger than `MOST_HEAD_BYTES`; uvicorn would wait for
    ever, and hold the connection with all that it is sent."""

    head_seconds = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_is_due = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._received = 0
        self._unused = 0
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        self._received = len(data)
        super().data_received(data)
        if self._head_is_due and self._head_timer is None:
            self._watch_head()
        self._unused += len(data)
        if self._unused > MOST_HEAD_BYTES:
            self._refuse_head()

    def handle_websocket_upgrade(self) -> None:
        # httptools' way to tell, with the number of bytes up to the end of the head.
        upgrade = sys.exception()
        super().handle_websocket_upgrade()
        # uvicorn drops the rest. Whoever has sent it would wait for an answer for ever.
        if upgrade is not None and upgrade.args[0] < self._received:
            self.transport.close()
        # The two refer to each other. Nobody tells this one when the connection is lost.
        self.parser = None  # type: ignore[assignment]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_is_due = True
        self._count_anew()
        self.scope["extensions"] = {WIRE: {"transport": self.transport}}

    def on_header(self, name: bytes, value: bytes) -> None:
        # uvicorn adds trailers to the headers, that are read by then.
        if self._head_is_due:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unwatch_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._count_anew()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._count_anew()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch_head()
        super().connection_lost(exc)
        # uvicorn tells only the request that came last, which may wait behind this one.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _count_anew(self) -> None:
        # The rest of what came together with this is not counted.
        self._unused = -self._received

    def _refuse_head(self) -> None:
        # The answer to the request before comes first, and may take long.
        if self._running is None or self._running.response_complete:
            self.transport.write(TOO_LARGE)
        self.transport.close()

    def _watch_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _unwatch_head(self) -> None:
        self._head_is_due = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets, with the transport in each one's scope."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # At other levels than warnings they log paths with their queries, and whole frames.
        self.logger = logging.getLogger(LOGGER)
        self.conn.logger = self.logger
        self.conn.debug = False

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        # Its task begins after this. A handshake that is none was answered, and has no scope.
        if not self.handshake_complete:
            self.scope["extensions"][WIRE] = {"transport": self.transport}

    def data_received(self, data: bytes) -> None:
        # A client has to wait for the answer to its handshake. uvicorn reads a frame that comes
        # before, and then fails.
        if self.handshake_initiated and not self.handshake_complete:
            self.transport.close()
        else:
            super().data_received(data)

    def send_receive_event_to_app(self) -> None:
        # uvicorn would log a client's mistake as an error of its own, with a traceback.
        is_taken = self.curr_msg_data_type == "text" and not self.close_sent
        if is_taken and not _is_utf_8(b"".join(self.frames)):
            self.frames = []
            self.conn.send_close(CloseCode.INVALID_DATA)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        # A client may send pings and take no pongs. Of several pings one pong is enough.
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        if len(self.frames) > MOST_FRAGMENTS:
            self.frames = [b"".join(self.frames)]

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.accept" and self.transport.is_closing():
            # uvicorn would accept nothing, and log that nobody has answered.
            raise ClientDisconnected
        await super().send(message)
        # Otherwise a handshake that was denied is logged as one that was never answered.
        if message["type"] == f"{DENIAL}.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def shutdown(self) -> None:
        # Ours show what the runs that are at work do to its end, and close by themselves then.
        if not (self.handshake_complete and self.scope.get(HANDSHAKE)):
            super().shutdown()


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
