"""WebSockets: events in one direction, and in the other what a client says.

One task sends what is followed, and one beside it hears what the client says, does it and answers,
and only then hears the next. So nothing queues for a client that sends more than it reads: the
server stops reading from it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

from fastapi import Request, Response
from starlette.types import Message as Sent
from starlette.types import Receive, Scope, Send

from assent.api.access.given import PROTOCOL, offers
from assent.api.context import served
from assent.api.dialects.base import Dialect
from assent.api.problems import EXPECTED
from assent.api.streams.connections import Heartbeat
from assent.api.streams.encoder import ws_text
from assent.api.streams.handshake import POLICY, SWITCHING
from assent.api.streams.later import LATER, Loop
from assent.api.streams.sending import Outlet, Stalled, connection_of
from assent.api.streams.speech import NotUnderstood, Speech, frame_size
from assent.api.streams.transport import Transport
from assent.core.errors import Gone, Unavailable
from assent.runs.follow import Batches, Following

OVER = 1000
UNSUPPORTED = 1003
FAILED = 1011
RESTART = 1012
TRY_LATER = 1013
"""Codes with which we close, beside `POLICY`: all was sent, a binary frame, our failure, a server
that stops, a storage that is away. The server that we are served by has those for bad UTF-8, a
frame that is too large, and a peer that does not answer pings."""

MOST_FRAMES = 200
"""The most frames that are heard in a second. Then nothing is read for the rest of it."""

WRONG = (413, 422)
MOST_WRONG = 20
"""After so many frames in a row that have one of these statuses, since they cannot be carried out
as they are, or are not understood, the client is told to go away: it is in a loop."""


class SocketStream(Response):
    """The answer to a handshake. What it leaves to go on after the routing is the WebSocket.
    `batches` are those of the `following`, unless they are given."""

    def __init__(
        self,
        request: Request,
        following: Following,
        speech: Speech,
        *,
        dialect: Dialect,
        batches: Batches | None = None,
    ) -> None:
        super().__init__(status_code=SWITCHING)
        now = served(request).connections.clock.now

        def beat() -> Heartbeat | None:
            return speech.heartbeat(now())

        connection = connection_of(request, following, Transport.WEBSOCKET, dialect, ws_text, beat)
        protocol = PROTOCOL if PROTOCOL in offers(request) else None
        self._socket = Socket(Outlet(request, connection), speech, batches, protocol)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loops: list[Loop] = scope[LATER]
        loops.append(self._socket.run)
        head = {"status": SWITCHING, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        await send({"type": "http.response.body", "body": b""})


class Left(Exception):
    """The client has gone."""


class Pace:
    """Lets so many pass in a second, and has others wait for the next. `now` is a monotonic
    clock."""

    __slots__ = ("_began", "_left", "_most", "_now")

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self._most = self._left = most
        self._now = now
        self._began = now()

    async def wait(self) -> None:
        """Return when one more may pass."""
        elapsed = self._now() - self._began
        if elapsed < 1.0 and not self._left:
            await asyncio.sleep(1.0 - elapsed)
        if elapsed >= 1.0 or not self._left:
            self._began, self._left = self._now(), self._most
        self._left -= 1


class Socket:
    """A WebSocket that was accepted."""

    __slots__ = (
        *("_batches", "_connection", "_is_at_work", "_is_over", "_outlet", "_pace", "_sending"),
        *("_protocol", "_speech", "_wrong"),
    )

    def __init__(
        self,
        outlet: Outlet,
        speech: Speech,
        batches: Batches | None = None,
        protocol: str | None = None,
    ) -> None:
        self._outlet = outlet
        self._protocol = protocol
        self._connection = outlet.connection
        self._batches = outlet.connection.following.batches() if batches is None else batches
        self._speech = speech
        self._pace = Pace(MOST_FRAMES)
        self._sending = asyncio.Lock()
        self._is_at_work = False
        self._is_over = False
        self._wrong = 0

    async def run(self, receive: Receive, send: Send) -> None:
        """Send and listen until one of the two ends."""
        with self._outlet.opened(send):
            heartbeat = f"{self._outlet.heartbeat:g}".encode()
            chosen = {} if self._protocol is None else {"subprotocol": self._protocol}
            headers = [(b"x-heartbeat", heartbeat)]
            await send({"type": "websocket.accept", "headers": headers, **chosen})
            hearing = asyncio.create_task(self._hear(receive))
            # What is followed may be another log by then.
            hearing.add_done_callback(lambda _: self._connection.following.stop())
            try:
                code = await self._tell()
                self._is_over = True
                if self._is_at_work:
                    # What a client asked for is done to its end, and answered.
                    await asyncio.wait({hearing})
                if hearing.done():
                    code = hearing.result() or code
                if code is not None:
                    await self._send({"type": "websocket.close", "code": code})
            except Left:
                pass
            finally:
                # What is cut off may still answer, and then nothing else is heard.
                self._is_over = True
                hearing.cancel()
                await asyncio.wait({hearing})

    # ── to the client ──

    async def _tell(self) -> int | None:
        """Send what there is until the end, and return the code to close with; None if it was the
        client that left."""
        try:
            if (greeting := self._speech.greeting(self._connection)) is not None:
                await self._say(greeting)
            await self._send_batches()
        except Gone as error:
            await self._refuse(error)
            return POLICY
        except Unavailable as error:
            await self._refuse(error)
            return TRY_LATER
        except (Left, asyncio.CancelledError):
            raise
        except Exception as error:
            await self._refuse(error)
            return FAILED
        if self._connection.is_signed_out:
            return POLICY
        return {"": OVER, "stopped": None, "stopping": RESTART}[self._connection.following.ended]

    async def _send_batches(self) -> None:
        connection = self._connection
        async with aclosing(self._batches) as batches:
            async for entries in batches:
                while connection.aside:
                    await self._say(connection.aside.popleft())
                for text in connection.encoder.messages(connection.log_id, entries):
                    if connection.is_signed_out:
                        return
                    await self._say(text)

    async def _say(self, text: bytes) -> None:
        await self._send({"type": "websocket.send", "text": text.decode()}, frame_size(len(text)))

    async def _send(self, message: Sent, size: int = 0) -> None:
        async with self._sending:
            try:
                await self._outlet.put(message, size)
            except (OSError, RuntimeError) as error:
                # By the one or the other, servers refuse what comes after a close.
                raise Left from error
            except Stalled:
                self._connection.following.stop()
                raise Left from None

    async def _refuse(self, error: Exception, heard: str | bytes | None = None) -> int:
        """Tell of the problem with what was heard, or with nothing in particular. Returns its
        status."""
        text, status = await self._speech.problem(error, heard)
        await self._say(text)
        return status

    # ── from the client ──

    async def _hear(self, receive: Receive) -> int | None:
        """Do what the client says, until it leaves. Returns the code to close with, if it is we who
        end it."""
        while not self._is_over:
            message = await receive()
            if message["type"] != "websocket.receive":
                return None
            self._connection.heard_at = time.monotonic()
            await self._pace.wait()
            text = message.get("text")
            if text is None and not self._speech.keeps_open:
                return UNSUPPORTED
            self._is_at_work = True
            try:
                code = await self._obey(message["bytes"] if text is None else text)
            except Left:
                return None
            finally:
                self._is_at_work = False
            if code is not None:
                return code
        return None

    async def _obey(self, heard: str | bytes) -> int | None:
        """Do what was said, and answer. Returns the code to close with, if this was too much."""
        try:
            said, status = await self._speech.hear(self._connection, heard)
        except NotUnderstood as error:
            await self._refuse(error.error)
            if not self._speech.keeps_open:
                return POLICY
            status = 422
        except EXPECTED as error:
            status = await self._refuse(error, heard)
        except Exception as error:
            await self._refuse(error, heard)
            return FAILED
        else:
            if said is not None:
                await self._say(said)
        self._wrong = self._wrong + 1 if status in WRONG else 0
        return POLICY if self._wrong == MOST_WRONG else None
