"""WebSockets: the events of a thread in one direction, and commands in the other.

One task sends what is followed, and one beside it reads a command, carries it out and answers, and
only then reads the next. So nothing queues for a client that sends more than it reads: the server
stops reading from it. A command that changes something is carried out as the request that it stands
for, so whatever may refuse that refuses it here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from http.client import responses

import structlog
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Message as Sent
from starlette.types import Receive, Scope, Send

from assent.api.context import served
from assent.api.dialects.base import Dialect
from assent.api.problems import EXPECTED, Asked, document
from assent.api.streams.commands import (
    Ack,
    Cancel,
    Command,
    Decide,
    Filter,
    Message,
    Ping,
    command_of,
    id_of,
    read_frame,
)
from assent.api.streams.connections import Heartbeat, Transport
from assent.api.streams.encoder import ws_text
from assent.api.streams.handshake import HANDSHAKE, POLICY, SWITCHING, Reply, Requests
from assent.api.streams.sending import Outlet, Stalled, connection_of
from assent.api.streams.sse import LATER, Loop
from assent.core.errors import Gone, InvalidRequest, NotFound, Unavailable
from assent.core.json import Json, JsonObject, encode_json
from assent.runs.follow import Following
from assent.runs.service import Runs

log = structlog.get_logger(__name__)

UNSUPPORTED = 1003
FAILED = 1011
RESTART = 1012
TRY_LATER = 1013
"""Codes with which we close, beside `POLICY`: a binary frame, our failure, a server that stops, a
storage that is away. The server that we are served by has those for bad UTF-8, a frame that is too
large, and a peer that does not answer pings."""

WRONG = (413, 422)
MOST_WRONG = 20
"""After so many commands in a row that have one of these statuses, since they cannot be carried out
as they are, the client is told to go away: it is in a loop."""

TICK = Heartbeat(b'{"type":"tick"}', b'\x81\x0f{"type":"tick"}')


class SocketStream(Response):
    """The answer to a handshake. What it leaves to go on after the routing is the WebSocket."""

    def __init__(self, request: Request, following: Following, *, dialect: Dialect) -> None:
        super().__init__(status_code=SWITCHING)
        connection = connection_of(request, following, Transport.WEBSOCKET, dialect, ws_text, TICK)
        outlet, runs = Outlet(request, connection), served(request).runs
        self._socket = Socket(outlet, request.scope[HANDSHAKE], runs, path=request.url.path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loops: list[Loop] = scope[LATER]
        loops.append(self._socket.run)
        head = {"status": SWITCHING, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        await send({"type": "http.response.body", "body": b""})


class Left(Exception):
    """The client has gone."""


class Socket:
    """A WebSocket that was accepted."""

    __slots__ = (
        *("_connection", "_is_at_work", "_is_over", "_outlet", "_path", "_requests", "_runs"),
        *("_sending", "_wrong"),
    )

    def __init__(self, outlet: Outlet, requests: Requests, runs: Runs, *, path: str) -> None:
        self._outlet = outlet
        self._connection = outlet.connection
        self._requests = requests
        self._runs = runs
        self._path = path
        self._sending = asyncio.Lock()
        self._is_at_work = False
        self._is_over = False
        self._wrong = 0

    async def run(self, receive: Receive, send: Send) -> None:
        """Send and listen until one of the two ends."""
        following = self._connection.following
        with self._outlet.opened(send):
            heartbeat = f"{self._outlet.heartbeat:g}".encode()
            await send({"type": "websocket.accept", "headers": [(b"x-heartbeat", heartbeat)]})
            hearing = asyncio.create_task(self._hear(receive))
            hearing.add_done_callback(lambda _: following.stop())
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
                # A command that is cut off may still answer, and then nothing else is read.
                self._is_over = True
                hearing.cancel()
                await asyncio.wait({hearing})

    # ── to the client ──

    async def _tell(self) -> int | None:
        """Send what there is until the end, and return the code to close with; None if it was the
        client that left."""
        following = self._connection.following
        try:
            await self._say(self._ready())
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
        return RESTART if following.ended == "stopping" else None

    def _ready(self) -> bytes:
        connection = self._connection
        after = connection.following.after
        return encode_json(
            {
                "type": "ready",
                "thread_id": connection.log_id,
                "after": after,
                "connection_id": connection.connection_id,
            }
        )

    async def _send_batches(self) -> None:
        connection = self._connection
        async with aclosing(connection.following.batches()) as batches:
            async for entries in batches:
                while connection.aside:
                    await self._say(connection.aside.popleft())
                for text in connection.encoder.messages(connection.log_id, entries):
                    await self._say(text)

    async def _say(self, text: bytes) -> None:
        await self._send({"type": "websocket.send", "text": text.decode()}, _frame_size(len(text)))

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

    async def _refuse(
        self, error: Exception, id: str | None = None, *, is_change: bool = False, key: Json = None
    ) -> int:
        """Send the problem with the frame of this id, or with none in particular. Returns its
        status."""
        asked = Asked(
            method="POST" if is_change else "GET",
            path=self._path,
            logged_as=self._path,
            has_key=key is not None,
            runs=self._runs,
        )
        status, body, _ = await document(error, asked)
        await self._say(encode_json({**body, "type": "problem", "id": id}))
        return status

    # ── from the client ──

    async def _hear(self, receive: Receive) -> int | None:
        """Carry out what the client sends, until it leaves. Returns the code to close with, if it
        is we who end it."""
        while not self._is_over:
            message = await receive()
            if message["type"] != "websocket.receive":
                return None
            self._connection.heard_at = time.monotonic()
            text = message.get("text")
            if text is None:
                return UNSUPPORTED
            self._is_at_work = True
            try:
                code = await self._obey(text)
            except Left:
                return None
            finally:
                self._is_at_work = False
            if code is not None:
                return code
        return None

    async def _obey(self, text: str) -> int | None:
        """Carry out a command, and answer. Returns the code to close with, if this was too much."""
        try:
            frame = read_frame(text)
        except HTTPException as error:
            await self._refuse(error)
            return POLICY
        id, key = id_of(frame), frame.get("idempotency_key")
        try:
            answer = await self._answer_to(command_of(frame))
        except EXPECTED as error:
            status = await self._refuse(error, id, is_change=True, key=key)
        except Exception as error:
            await self._refuse(error, id, is_change=True, key=key)
            return FAILED
        else:
            status = answer.get("status", 200)
            if answer:
                await self._say(encode_json({**answer, "id": id}))
        self._wrong = self._wrong + 1 if status in WRONG else 0
        return POLICY if self._wrong == MOST_WRONG else None

    async def _answer_to(self, command: Command) -> JsonObject:
        """The frame that answers the command, which is carried out; empty if nothing does."""
        match command:
            case Message() | Decide() | Cancel():
                return _answer_of(await self._carry_out(command))
            case Ack():
                self._acknowledge(command.seq)
                return {}
            case Filter():
                return self._filter(command.types)
            case Ping():
                return {"type": "pong"}

    async def _carry_out(self, command: Message | Decide | Cancel) -> Reply:
        thread_id = self._connection.log_id
        # A thread that was erased meanwhile does not begin anew.
        await self._runs.thread(thread_id)
        if isinstance(command, Cancel) and command.run_id is not None:
            run = await self._runs.run(command.run_id)
            if run.thread_id != thread_id:
                raise NotFound(f"The thread '{thread_id}' has no run '{run.run_id}'.")
        return await self._requests.post(*command.post(thread_id))

    def _acknowledge(self, seq: int) -> None:
        connection = self._connection
        if seq > connection.following.after:
            raise InvalidRequest(
                f"No event numbered {seq} was sent yet. The last one was "
                f"{connection.following.after}."
            )
        connection.acked = max(connection.acked or 0, seq)

    def _filter(self, types: frozenset[str] | None) -> JsonObject:
        following = self._connection.following
        following.types = types
        named = None if types is None else sorted(types)
        body = {"types": named, "after": following.after}
        return {"type": "answer", "status": 200, "body": body}


def _answer_of(reply: Reply) -> JsonObject:
    """The frame with the response to a command's request. An app around the server may refuse it in
    words of its own."""
    status, body = reply
    if status < 400:
        return {"type": "answer", "status": status, "body": body}
    title = responses.get(status, "Error")
    plain = {"title": title, "detail": f"The request was refused: {status} {title}."}
    said = body if isinstance(body, dict) else {}
    return {**plain, **said, "type": "problem", "status": status}


def _frame_size(size: int) -> int:
    """The bytes of a frame with its head."""
    if size < 126:
        return size + 2
    return size + (4 if size < 1 << 16 else 10)
