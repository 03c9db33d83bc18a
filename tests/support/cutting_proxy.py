"""A network that breaks connections: a TCP proxy that lets so many bytes of an answer through, and
then cuts the connection, wherever in a frame that is.

    async with cutting(server.port, cuts_at_random(Random(7))) as proxy:
        client = Client(proxy.url)

One that `holds` has no server that is away: a connection waits until it is back.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

from tests.support.listening import listening
from tests.support.waiting import PATIENCE

RECEIVED = 16 << 10
"""The most that is passed on at once."""

FEWEST, MOST = 300, 200_000
"""Bytes between which `cuts_at_random` cuts: amid an answer's head, or after thousands of events."""


BETWEEN_TRIES = 0.02
"""Seconds between two looks for a server that is away."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The end of a connection: after so many bytes from the server, with a reset or in order."""

    after: int
    reset: bool = False


def cuts_at_random(draw: Random, fewest: int = FEWEST, most: int = MOST) -> Iterator[Cut]:
    """One cut after another, short connections as likely as long ones ten times their length."""
    while True:
        length = math.exp(draw.uniform(math.log(fewest), math.log(most)))
        yield Cut(int(length), reset=draw.random() < 0.5)


def never() -> Iterator[None]:
    """Connections that last."""
    while True:
        yield None


class CuttingProxy:
    """Passes connections on to a port of this machine. The cut of each connection is the next of
    `cuts`."""

    def __init__(self, port: int, cuts: Iterator[Cut | None], *, holds: bool = False) -> None:
        self.port = 0
        self.connections = 0
        self._target = port
        self._cuts = cuts
        self._holds = holds

    @property
    def url(self) -> str:
        """What a client is given."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, until it is cut or one end closes it."""
        self.connections += 1
        cut = next(self._cuts)
        try:
            upstream = await self._reached()
        except OSError:
            # The server is away: the client is told as by the system itself.
            reset(writer)
            return
        await self._pass_on((reader, writer), upstream, cut)

    async def _reached(self) -> Wire:
        """A connection to the server. Raises `OSError` if it is away, and is not waited for."""
        deadline = time.monotonic() + PATIENCE if self._holds else 0.0
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(BETWEEN_TRIES)

    async def _pass_on(self, client: Wire, server: Wire, cut: Cut | None) -> None:
        left = math.inf if cut is None else cut.after
        asked = asyncio.create_task(copy(client[0], server[1], math.inf))
        answered = asyncio.create_task(copy(server[0], client[1], left))
        try:
            await asyncio.wait({asked, answered}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for _, writer in (client, server):
                (reset if cut is not None and cut.reset else close)(writer)
            for task in (asked, answered):
                task.cancel()
            await asyncio.gather(asked, answered, return_exceptions=True)


Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def cutting(
    port: int, cuts: Iterator[Cut | None], *, holds: bool = False
) -> AsyncIterator[CuttingProxy]:
    """A proxy before this port. Its connections end with it."""
    proxy = CuttingProxy(port, cuts, holds=holds)
    async with listening(proxy.serve) as proxy.port:
        yield proxy


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: float) -> None:
    """Pass bytes on until there are no more, or it was so many, or the other end is gone."""
    with suppress(OSError):
        while most > 0 and (data := await reader.read(int(min(RECEIVED, most)))):
            most -= len(data)
            writer.write(data)
            await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a reset: what was not sent yet is thrown away."""
    taken: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def close(writer: asyncio.StreamWriter) -> None:
    """End the connection in order: what was sent arrives."""
    writer.close()
