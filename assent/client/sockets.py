"""A thread's WebSocket: how it is opened, and what its end means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection as SyncConnection
from websockets.sync.client import connect

from assent.client.calls import Params
from assent.client.problems import ServerFailed, Unreachable, error_of, unreachable
from assent.client.wire import CONNECT_SECONDS, Wire
from assent.core.errors import AssentError, TooLarge

REASONS: Mapping[int, str] = {1012: "stopping", 1013: "unavailable"}
"""Close codes of a server that is soon to be there again, as a stream of events words them."""


@dataclass(frozen=True, slots=True)
class Socket:
    """An open WebSocket."""

    url: str
    connection: ClientConnection

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that the server answered with."""
        return _headers(self.connection)

    async def receive(self, seconds: float) -> str | bytes:
        """The next frame. Raises `Unreachable` if none comes in time, or the socket has closed."""
        with _closing(self.url):
            async with asyncio.timeout(seconds):
                return await self.connection.recv()

    async def send(self, frame: str) -> None:
        """Send a frame. Raises `Unreachable` if the socket has closed."""
        with _closing(self.url):
            await self.connection.send(frame)


@dataclass(frozen=True, slots=True)
class SyncSocket:
    """An open WebSocket, without asyncio."""

    url: str
    connection: SyncConnection

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that the server answered with."""
        return _headers(self.connection)

    def receive(self, seconds: float) -> str | bytes:
        """The next frame. Raises `Unreachable` if none comes in time, or the socket has closed."""
        with _closing(self.url):
            return self.connection.recv(seconds)

    def send(self, frame: str) -> None:
        """Send a frame. Raises `Unreachable` if the socket has closed."""
        with _closing(self.url):
            self.connection.send(frame)


@asynccontextmanager
async def connected(wire: Wire, path: str, params: Params) -> AsyncIterator[Socket]:
    """The WebSocket at the path. Raises what the server refuses it with."""
    with _opening(wire.url):
        connection = await connect_async(*_address(wire, path, params), **_options(wire))
    async with connection:
        yield Socket(wire.url, connection)


@contextmanager
def connected_sync(wire: Wire, path: str, params: Params) -> Iterator[SyncSocket]:
    """The same, without asyncio."""
    with _opening(wire.url):
        connection = connect(*_address(wire, path, params), **_options(wire))
    with connection:
        yield SyncSocket(wire.url, connection)


def _address(wire: Wire, path: str, params: Params) -> tuple[str]:
    url = httpx.URL(wire.url + path, params=params)
    return (str(url.copy_with(scheme="wss" if url.scheme == "https" else "ws")),)


def _options(wire: Wire) -> dict[str, Any]:
    return {
        "additional_headers": wire.headers,
        "compression": None,
        "open_timeout": min(CONNECT_SECONDS, wire.timeout),
        # The server's signs of life are enough.
        "ping_interval": None,
        "close_timeout": 1,
        # An event may be of any size.
        "max_size": None,
        "proxy": True if wire.trust_env else None,
    }


def _headers(connection: ClientConnection | SyncConnection) -> Mapping[str, str]:
    assert connection.response is not None
    return connection.response.headers


@contextmanager
def _opening(url: str) -> Iterator[None]:
    try:
        yield
    except InvalidStatus as refused:
        response = refused.response
        raise error_of(response.status_code, response.headers, bytes(response.body)) from refused
    except (WebSocketException, OSError) as error:
        raise unreachable(url, error) from error


@contextmanager
def _closing(url: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise unreachable(url, "it shows no sign of life") from error
    except ConnectionClosed as closed:
        raise _end(url, closed) from closed


def _end(url: str, closed: ConnectionClosed) -> AssentError:
    if closed.rcvd is None:
        return unreachable(url, "the connection broke")
    code, reason = closed.rcvd.code, closed.rcvd.reason
    if code == 1009:
        return TooLarge(f"The server at {url} has closed the WebSocket: a command was too large.")
    if code in (1003, 1007, 1008):
        return ServerFailed(f"The server has closed the WebSocket, with {code}: {reason}.")
    return Unreachable(
        f"The server at {url} has closed the WebSocket, with {code}: {reason}.",
        reason=REASONS.get(code, ""),
    )
