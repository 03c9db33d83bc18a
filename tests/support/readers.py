"""Readers of streams that share no code with the server or its client: HTTP by hand, on sockets.

A bug that client and server have in common is not seen by the client.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

from tests.support.server import FRAME, is_aside
from tests.support.waiting import PATIENCE

HOSTILE = "".join(
    f"{end}id: 99{end}event: approval_decided{end}data: {{}}{end}{end}: end{end}event: end{end}{end}"
    for end in ("\n", "\r", "\r\n", "\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c")
)
"""Words that would be frames of a stream, if they got there as they are."""


class Numbered(NamedTuple):
    """An event as it came."""

    seq: int
    body: bytes


class Refused(Exception):
    """The answer's status is not 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The server answered {status}.")
        self.status = status


class Cut(Exception):
    """The connection ended before the answer had."""


def request(path: str, *, last: int = 0, **headers: str) -> bytes:
    """A GET of a stream, after the event with this number."""
    given = {"Host": "127.0.0.1", "Accept": "text/event-stream", **headers}
    if last:
        given["Last-Event-ID"] = str(last)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()


def handshake(path: str) -> bytes:
    """A GET that opens a WebSocket."""
    upgrade = {"Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    key = {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    return request(path, Upgrade="websocket", **upgrade, **key)


async def events(port: int, path: str, last: int = 0) -> AsyncGenerator[Numbered]:
    """The events of one connection, until the server ends the answer. Raises `Refused`, `Cut` and
    `OSError`."""
    async with answer(port, request(path, last=last)) as reader, aclosing(frames(reader)) as read:
        async for frame in read:
            if not is_aside(frame):
                match = FRAME.fullmatch(frame)
                assert match and match[1], f"This is no numbered event: {frame!r}"
                yield Numbered(int(match[1]), match[3])


@asynccontextmanager
async def answer(port: int, sent: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A connection on which this was sent and the head of an answer with status 200 was read."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            head = await _until(reader, b"\r\n\r\n")
        status = int(head.split(maxsplit=2)[1])
        if status != 200:
            raise Refused(status)
        assert b"\r\ntransfer-encoding: chunked\r\n" in head.lower(), head
        yield reader
    finally:
        # In the midst of an answer nothing is left to be sent: do not wait for the other end.
        writer.transport.abort()


async def frames(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """What stands between empty lines in a chunked answer, until it ends."""
    rest = b""
    async with aclosing(pieces(reader)) as read:
        async for piece in read:
            *whole, rest = (rest + piece).split(b"\n\n")
            for frame in whole:
                yield frame
    assert not rest, f"The stream ended amid a frame: {rest!r}"


async def pieces(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """What is in the chunks of an answer, as it comes, until it ends. Raises `Cut` if the connection
    ends first."""
    try:
        while size := int(await _until(reader, b"\r\n"), 16):
            while size:
                piece = await reader.read(size)
                if not piece:
                    raise Cut
                size -= len(piece)
                yield piece
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
    except asyncio.IncompleteReadError as error:
        raise Cut from error


async def _until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    try:
        return await reader.readuntil(end)
    except asyncio.IncompleteReadError as error:
        raise Cut from error


def slow_socket(port: int, sent: bytes, *, buffer: int = 4096) -> socket.socket:
    """A connection with a receive buffer of this size, on which this was sent and nothing is read.
    To read from it does not wait."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", port))
    sock.sendall(sent)
    sock.setblocking(False)
    return sock
