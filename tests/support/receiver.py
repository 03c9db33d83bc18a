"""A receiver of webhooks that listens on a real port and does what it is told, be it wrong."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.listening import listening
from tests.support.waiting import PATIENCE


@dataclass
class Received:
    """A request as it came, and the status that it is answered with."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """What it got, and how it answers: with this status and these headers and this many bytes,
    after so many seconds, at this pace."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    answer_bytes: int = 2
    after: float = 0.0
    pause: float = 0.0
    got: list[Received] = field(default_factory=list)
    sent: int = 0
    port: int = 0
    name: str | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, count: int, seconds: float = PATIENCE) -> list[Received]:
        """What it got, once that is so much."""
        async with asyncio.timeout(seconds):
            while len(self.got) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.got

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            got = Received(head[0].split()[1], headers, body, self.status)
            self.got.append(got)
            self.arrived.set()
            await asyncio.sleep(self.after)
            lines = [
                f"HTTP/1.1 {got.status} Whatever",
                f"Content-Length: {self.answer_bytes}",
                *(f"{k}: {v}" for k, v in self.headers.items()),
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            left = self.answer_bytes
            while left > 0:
                chunk = min(left, 1 if self.pause else 16384)
                writer.write(b"x" * chunk)
                await writer.drain()
                self.sent += chunk
                left -= chunk
                await asyncio.sleep(self.pause)
        with suppress(ConnectionError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def receiving(
    receiver: Receiver, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """It listens on loopback, until the context is left."""
    async with listening(receiver.serve, port=port, tls=tls) as receiver.port:
        yield receiver
