"""uvicorn's protocols, which tell us the transport of each connection: ASGI has no word for how
much waits there, nor for cutting it off. The names that are used of them are held by a test."""

from __future__ import annotations

import asyncio
import logging
import sys
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from assent.api.answers import PROBLEM
from assent.api.problems import problem_body
from assent.api.streams.handshake import DENIAL
from assent.api.streams.portions import Portions
from assent.api.streams.requests import HANDSHAKE
from assent.api.streams.sending import WIRE
from assent.core.json import encode_json

LOGGER = "uvicorn.websockets"
"""Its level is that of warnings, whatever the level of the log (`config.logging.TALKATIVE`)."""

MOST_HEAD_BYTES = 32 << 10
"""The largest head of a request, and the most bytes between two pieces of its body or behind the
last, where trailers are. A head that begins within the last bytes of the request before may be up
to twice as large."""

MOST_FIELDS = 100
"""The most fields of a head and its trailers."""

PIECE_BYTES = 4096
FRAMES_BYTES = 1024
"""What is read of HTTP, and of a WebSocket, before parts are counted (`Portions`)."""

MOST_FRAGMENTS = 1000
"""Fragments of a message that are held by themselves. Then they are joined, since each takes some
40 bytes however small it is."""


def _refusal(status: HTTPStatus, detail: str) -> bytes:
    """A response that ends its connection, since nobody knows where the next request begins."""
    body = encode_json(problem_body(status, status.phrase, detail))
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"content-type: {PROBLEM}",
        f"content-length: {len(body)}",
        "connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + body


LATE = _refusal(
    HTTPStatus.REQUEST_TIMEOUT, "The head of the request did not end in time. Send it at once."
)

TOO_LARGE = _refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    f"The head of a request may have {MOST_HEAD_BYTES} bytes and {MOST_FIELDS} fields.",
)

MALFORMED = _refusal(HTTPStatus.BAD_REQUEST, "This is no request of HTTP/1.1.")

NO_HANDSHAKE = _refusal(
    HTTPStatus.BAD_REQUEST,
    "This opens no WebSocket: a handshake has no body, and no line of 8 KiB and more.",
)


class _Flow(FlowControl):
    """uvicorn's, which has the protocol read what it holds before more comes. It knows the protocol
    by its transport: two that refer to each other would need the garbage collector."""

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            protocol = self._transport.get_protocol()
            assert isinstance(protocol, HttpProtocol)
            protocol.go_on()


class HttpProtocol(HttpToolsProtocol):
    """HTTP, with the transport in each request's scope.

    A head that takes longer than `head_seconds` from its first byte is answered with 408, and one
    beyond `MOST_HEAD_BYTES` or `MOST_FIELDS` with 431 while it arrives; uvicorn would wait for
    ever, and hold the connection with all that it is sent. The parser joins what it has of a field
    with each piece that comes, at a cost that grows with the square, so it is given no more of a
    head than that may have. The rest of a body that was answered already has that time, too.

    Whatever comes is read in portions, and nothing of it while the app has not taken what was read
    before, or while another request waits behind the one that is being answered.
    """

    head_seconds = 15.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_is_due = True
        self._has_begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
        self._unused = 0
        self._fields = 0
        self._refusal = MALFORMED
        self._running: RequestResponseCycle | None = None
        self._portions = Portions()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._portions.add(data)
        self._read()

    def go_on(self) -> None:
        """Read on, if something has waited for that."""
        if self._portions.held:
            self._portions.rest(self.loop, self._read)
        elif not self.transport.is_closing():
            self.transport.resume_reading()

    def _read(self) -> None:
        portions = self._portions
        while portions.is_their_turn and self._may_read:
            piece = bytes(portions.held[: min(PIECE_BYTES, MOST_HEAD_BYTES - self._unused)])
            self._received = len(piece)
            super().data_received(piece)
            del portions.held[: self._received]
            self._unused += self._received
            if self._unused >= MOST_HEAD_BYTES:
                self._refuse(TOO_LARGE)
        if self.parser is None:
            portions.let_in(self.transport)
            self._leave(is_all=not portions.held)
        elif portions.held:
            self._hold()
        else:
            if not self.flow.read_paused:
                portions.let_in(self.transport)
            if self._timer is None and self._head_is_due:
                self._wait_for_head()

    @property
    def _may_read(self) -> bool:
        # One that has become a WebSocket has no parser.
        is_open = self.parser is not None and not self.transport.is_closing()
        return is_open and not self.flow.read_paused and not self.pipeline

    def _hold(self) -> None:
        """Take nothing more until what has come is read."""
        if self._head_is_due:
            # It is not the client that takes its time.
            self._unwatch()
        self._portions.hold_back(self.transport)
        if self._may_read:
            self._portions.rest(self.loop, self._read)

    def handle_websocket_upgrade(self) -> None:
        upgrade = _offset_of_upgrade()
        super().handle_websocket_upgrade()
        self._leave(is_all=upgrade == self._received)
        # The two refer to each other. Nobody tells this one when the connection is lost.
        self.parser = None  # type: ignore[assignment]

    def _unsupported_upgrade_warning(self) -> None:
        # To answer as if it had not been asked for is to say no. uvicorn would drop the rest.
        self._received = _offset_of_upgrade()
        self._count_anew()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._portions.parts += 1
        # From its first byte on, however long the connection has waited for it.
        self._unwatch()
        self._has_begun = True
        self._fields = 0
        self.scope["extensions"] = {WIRE: {"transport": self.transport}}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._fields > MOST_FIELDS:
            self._refusal = TOO_LARGE
            # The parser stops, and lets uvicorn refuse it.
            raise ValueError(f"The head has more than {MOST_FIELDS} fields.")
        # uvicorn adds trailers to the headers, that are read by then.
        if self._head_is_due:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unwatch()
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            # The parser takes others, in whose words a head has other rules.
            raise ValueError("The request is of another version of HTTP.")
        self._head_is_due = self._has_begun = False
        self._count_anew()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._portions.parts += 1
        self._count_anew()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unwatch()
        self._head_is_due = True
        self._count_anew()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._portions.held:
            self.go_on()
        # The rest of the body is read, and dropped. It may never end.
        if self._timer is None and not self._head_is_due and self._is_answered:
            self._watch()

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._portions.drop()
        super().connection_lost(exc)
        # uvicorn tells only the request that came last, which may wait behind this one.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _is_answered(self) -> bool:
        """True unless an answer is under way."""
        return self._running is None or self._running.response_complete

    def _leave(self, *, is_all: bool) -> None:
        """Leave the connection to the WebSocket's protocol."""
        # uvicorn drops the rest. Whoever has sent it would wait for an answer for ever.
        if not is_all:
            self._hang_up()

    def _wait_for_head(self) -> None:
        # An empty line behind a request may be the begin of the next one, or of none.
        if self._has_begun or (self._unused and self._is_answered):
            self._watch()
        elif self._is_answered:
            # uvicorn waits for ever, once more was read of a request that it has answered.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _count_anew(self) -> None:
        # The rest of what came together with this is not counted.
        self._unused = -self._received

    def _refuse(self, response: bytes) -> None:
        # Within an answer that is under way there is no place for another.
        if self._is_answered and not self.transport.is_closing():
            self.transport.write(response)
        self._hang_up()

    def _hang_up(self) -> None:
        self._unwatch()
        self.transport.close()

    def _watch(self) -> None:
        self._timer = self.loop.call_later(self.head_seconds, self._end_of_patience)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_of_patience(self) -> None:
        if self._has_begun:
            self._refuse(LATE)
        else:
            # Nobody has asked anything, such as a browser that connects beforehand.
            self._hang_up()


def _offset_of_upgrade() -> int:
    """The number of bytes up to the end of the head, by httptools' way to tell of an upgrade."""
    upgrade = sys.exception()
    assert upgrade is not None
    offset: int = upgrade.args[0]
    return offset


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets, with the transport in each one's scope. Their frames are read in portions, and
    none while the app has not taken those before."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._portions = Portions()
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
            self._portions.add(data)
            self._read()

    def _read(self) -> None:
        portions = self._portions
        while portions.is_their_turn and self._may_read:
            piece = bytes(portions.held[:FRAMES_BYTES])
            del portions.held[:FRAMES_BYTES]
            super().data_received(piece)
        if not self.handshake_initiated and not self.transport.is_closing():
            # All of the head has come. The parser takes less than that of HTTP, and would say
            # nothing, and wait for ever.
            self.transport.write(NO_HANDSHAKE)
            self.transport.close()
        if portions.held:
            portions.hold_back(self.transport)
            if self._may_read:
                portions.rest(self.loop, self._read)
        elif not self.read_paused:
            portions.let_in(self.transport)

    @property
    def _may_read(self) -> bool:
        return not self.read_paused and not self.transport.is_closing()

    def _go_on(self) -> None:
        """Read what has waited for the app, before more comes."""
        if self._portions.held and self._may_read:
            self._portions.hold_back(self.transport)
            self._portions.rest(self.loop, self._read)

    async def receive(self) -> Any:
        message = await super().receive()
        self._go_on()
        return message

    def connection_lost(self, exc: Exception | None) -> None:
        self._portions.drop()
        super().connection_lost(exc)

    def send_receive_event_to_app(self) -> None:
        self._portions.parts += 1
        # uvicorn would log a client's mistake as an error of its own, with a traceback.
        is_taken = self.curr_msg_data_type == "text" and not self.close_sent
        if is_taken and not _is_utf_8(b"".join(self.frames)):
            self.frames = []
            self.conn.send_close(CloseCode.INVALID_DATA)
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def handle_pong(self, event: Frame) -> None:
        self._portions.parts += 1
        super().handle_pong(event)

    def handle_ping(self) -> None:
        self._portions.parts += 1
        # A client may send pings and take no pongs. Of several pings one pong is enough.
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_cont(self, event: Frame) -> None:
        self._portions.parts += 1
        super().handle_cont(event)
        if len(self.frames) > MOST_FRAGMENTS:
            self.frames = [b"".join(self.frames)]

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.accept" and self.transport.is_closing():
            # uvicorn would accept nothing, and log that nobody has answered.
            raise ClientDisconnected
        await super().send(message)
        self._go_on()
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
