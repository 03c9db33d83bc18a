"""The two sides of a WebSocket's conversation besides the events: what the server says of itself,
and what it makes of what a client says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http.client import responses
from typing import NamedTuple, Protocol

from starlette.exceptions import HTTPException

from assent.api.dialects.base import Dialect
from assent.api.problems import Asked, document
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
from assent.api.streams.connections import Connection, Heartbeat
from assent.api.streams.encoder import ws_text
from assent.api.streams.requests import Reply, Requests
from assent.core.errors import InvalidRequest, NotFound
from assent.core.json import JsonObject, encode_json
from assent.runs.service import Runs


class NotUnderstood(Exception):
    """What a client said is of no form that is spoken here. Its cause is the error that says so."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Said(NamedTuple):
    """The frame that answers a client, None for none, and the status of what they asked."""

    text: bytes | None
    status: int = 200


class Conversation:
    """What goes on over one WebSocket from its opening to its end, and keeps more than one answer
    needs."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    @property
    def _open(self) -> Connection:
        assert self._connection is not None, "The socket is not open yet."
        return self._connection

    @property
    def _goes_on(self) -> bool:
        following = self._open.following
        return not following.is_stopped and not following.ended


class Speech(Protocol):
    """What is said on a WebSocket besides events, and what is made of what its client says.

    If it `keeps_open`, whatever is not understood is answered, and only after many in a row is the
    connection closed; otherwise at the first.
    """

    @property
    def keeps_open(self) -> bool: ...

    def greeting(self, connection: Connection) -> bytes | None:
        """The first frame, as soon as the connection is open."""

    def heartbeat(self, now: datetime) -> Heartbeat | None:
        """The sign of life; None for none."""

    async def hear(self, connection: Connection, data: str | bytes) -> Said:
        """Do what the client says, and answer. Raises `NotUnderstood`, or what routes do."""

    async def problem(self, error: Exception, heard: str | bytes | None) -> tuple[bytes, int]:
        """The frame that tells of the error, and its status. It is of what was `heard`; or, with
        None, of the events, or of what was not understood."""


# ── commands ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class NativeSpeech:
    """Commands. Those that change something are carried out as the `requests` that they stand for,
    so whatever may refuse those refuses them here. `path` is that of the connection."""

    requests: Requests
    runs: Runs
    path: str
    keeps_open = False

    def greeting(self, connection: Connection) -> bytes | None:
        return encode_json(
            {
                "type": "ready",
                "thread_id": connection.log_id,
                "after": connection.following.after,
                "connection_id": connection.connection_id,
            }
        )

    def heartbeat(self, now: datetime) -> Heartbeat | None:
        return TICK

    async def hear(self, connection: Connection, data: str | bytes) -> Said:
        frame = _frame_in(data)
        answer = await self._answer_to(connection, command_of(frame))
        text = encode_json({**answer, "id": id_of(frame)}) if answer else None
        return Said(text, answer.get("status", 200))

    async def problem(self, error: Exception, heard: str | bytes | None) -> tuple[bytes, int]:
        frame = {} if heard is None else _frame_in(heard)
        asked = Asked(
            method="GET" if heard is None else "POST",
            path=self.path,
            logged_as=self.path,
            has_key=frame.get("idempotency_key") is not None,
            runs=self.runs,
        )
        status, body, _ = await document(error, asked)
        return encode_json({**body, "type": "problem", "id": id_of(frame)}), status

    async def _answer_to(self, connection: Connection, command: Command) -> JsonObject:
        """The frame that answers the command, which is carried out; empty if nothing does."""
        match command:
            case Message() | Decide() | Cancel():
                return _answer_of(await self._carry_out(connection.log_id, command))
            case Ack():
                _acknowledge(connection, command.seq)
                return {}
            case Filter():
                return _filter(connection, command.types)
            case Ping():
                return {"type": "pong"}

    async def _carry_out(self, thread_id: str, command: Message | Decide | Cancel) -> Reply:
        # A thread that was erased meanwhile does not begin anew.
        await self.runs.thread(thread_id)
        if isinstance(command, Cancel) and command.run_id is not None:
            run = await self.runs.run(command.run_id)
            if run.thread_id != thread_id:
                raise NotFound(f"The thread '{thread_id}' has no run '{run.run_id}'.")
        return await self.requests.post(*command.post(thread_id))


def _frame_in(data: str | bytes) -> JsonObject:
    try:
        return read_frame(data if isinstance(data, str) else data.decode())
    except (HTTPException, UnicodeDecodeError) as error:
        raise NotUnderstood(error) from error


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


def _acknowledge(connection: Connection, seq: int) -> None:
    if seq > connection.following.after:
        raise InvalidRequest(
            f"No event numbered {seq} was sent yet. The last one was {connection.following.after}."
        )
    connection.acked = max(connection.acked or 0, seq)


def _filter(connection: Connection, types: frozenset[str] | None) -> JsonObject:
    following = connection.following
    following.types = types
    named = None if types is None else sorted(types)
    body = {"types": named, "after": following.after}
    return {"type": "answer", "status": 200, "body": body}


# ── nothing but events ────────────────────────────────────────────────────────────────────────────


ErrorFrame = Callable[[str, datetime], bytes]
"""Makes the message with a sentence that says what is wrong, at this time."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A client that only listens: whatever it says is refused with an `error_frame` of the
    dialect's, and the connection stays."""

    dialect: Dialect
    error_frame: ErrorFrame
    now: Callable[[], datetime]
    asked: Asked
    keeps_open = True

    def greeting(self, connection: Connection) -> bytes | None:
        return None

    def heartbeat(self, now: datetime) -> Heartbeat | None:
        frame = self.dialect.heartbeat(now)
        return None if frame is None else heartbeat_of(ws_text(frame))

    async def hear(self, connection: Connection, data: str | bytes) -> Said:
        raise NotUnderstood(InvalidRequest("This connection shows events, and takes nothing."))

    async def problem(self, error: Exception, heard: str | bytes | None) -> tuple[bytes, int]:
        status, body, _ = await document(error, self.asked)
        return self.error_frame(str(body["detail"]), self.now()), status


# ── frames ────────────────────────────────────────────────────────────────────────────────────────


def heartbeat_of(text: bytes) -> Heartbeat:
    """The text as a sign of life: on the wire it is a frame of a text that is not masked."""
    return Heartbeat(text, b"\x81%b%b" % (_length(len(text)), text))


def frame_size(size: int) -> int:
    """The bytes of a frame with its head."""
    return size + 1 + len(_length(size))


def _length(size: int) -> bytes:
    if size < 126:
        return size.to_bytes(1)
    if size < 1 << 16:
        return b"\x7e" + size.to_bytes(2)
    return b"\x7f" + size.to_bytes(8)


TICK = heartbeat_of(b'{"type":"tick"}')
