"""A server on an address: uvicorn with our app, and the socket that it listens on. It leaves the
process alone."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager

import structlog
import uvicorn

from assent.api.embedding import Assent
from assent.api.limits import MAX_BODY_BYTES
from assent.api.streams.uvicorn_wires import LOGGER, HttpProtocol, WebSocketProtocol
from assent.config.file import read_configuration
from assent.config.settings import Settings
from assent.core.errors import ConfigurationError
from assent.graph.loading import has_auth
from assent.storage.sqlite.database import has_keys, resolved

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"

KEEP_ALIVE_SECONDS = 75
"""The time for which an idle connection is kept: longer than clients and proxies keep theirs (60 s
in nginx), so that none of them sends a request just as the server closes."""

PING_SECONDS = 20.0
"""The time after which a WebSocket's client is asked whether it is there, and in which it has to
answer."""

CLOSING_POLL_SECONDS = 0.05


class _Config(uvicorn.Config):
    """uvicorn's configuration. Without a level, the log is that of whose process it is."""

    def configure_logging(self) -> None:
        if self.log_level is not None:
            super().configure_logging()
        else:
            # Its lines have paths with their queries, where a key may be.
            logging.getLogger(LOGGER).setLevel(logging.WARNING)


class AppServer(uvicorn.Server):
    """uvicorn with our app. Unlike with uvicorn's own lifespan, errors at the start are raised from
    `run`, and not only logged."""

    def __init__(self, assent: Assent, settings: Settings, *, log_level: str | None = None) -> None:
        self.on_start: Callable[[], None] = lambda: None
        self._assent = assent
        self._resources = AsyncExitStack()
        super().__init__(
            _Config(
                assent.app,
                http=HttpProtocol,
                ws=WebSocketProtocol,
                ws_max_size=MAX_BODY_BYTES,
                # It takes 10 to 40 kB a connection, for frames of a few hundred bytes.
                ws_per_message_deflate=False,
                ws_ping_interval=PING_SECONDS,
                ws_ping_timeout=PING_SECONDS,
                lifespan="off",
                log_config=None,
                log_level=log_level,
                # The path of a link holds a secret.
                access_log=False,
                # `api.proxies` has the word of those that are trusted.
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + 1,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            _run_to_its_end(runner.get_loop(), self.serve(sockets))

    def stop(self) -> None:
        """Ask the server to end, from any thread, as a signal does."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._assent)
            # Two processes can bind one port, as long as neither listens on it.
            with _port_problems(*sockets[0].getsockname()[:2]):
                await super().startup(sockets)
            self._resources = stack.pop_all()
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        async with self._resources, asyncio.TaskGroup() as closing:
            # At the same time, so that open streams show a run that ends meanwhile to its end.
            closing.create_task(self._assent.drain())
            closing.create_task(self._close_connections(super().shutdown(sockets)))

    async def _close_connections(self, shutdown: Coroutine[None, None, None]) -> None:
        """Shut down, and also close connections that are accepted as the shutdown begins. uvicorn
        closes only those that it knows by then, and would serve the others until its time-out."""
        closing = asyncio.create_task(shutdown)
        told: set[object] = set()
        while not closing.done():
            for connection in self.server_state.connections - told:
                connection.shutdown()
            told |= self.server_state.connections
            await asyncio.wait({closing}, timeout=CLOSING_POLL_SECONDS)
        await closing


def _run_to_its_end(loop: asyncio.AbstractEventLoop, serve: Coroutine[None, None, None]) -> None:
    """Run the loop until the server has ended.

    asyncio lets `SystemExit` and `KeyboardInterrupt` out of the loop, whichever task they are
    raised in, and that task has then failed. uvicorn takes the signals of the process, so an
    agent's code has raised it: the run fails, and the loop goes on.
    """
    serving = loop.create_task(serve)
    told: BaseException | None = None
    while not serving.done():
        try:
            loop.run_until_complete(serving)
        except (SystemExit, KeyboardInterrupt) as error:
            # Each task that waits for the one before raises it again.
            if error is not told and not serving.done():
                log.warning("an agent's code tried to end the server", exc_info=error)
            told = error
    serving.result()


# ── the address ───────────────────────────────────────────────────────────────────────────────────


def bind(host: str, port: int, settings: Settings, target: str | None = None) -> socket.socket:
    """A socket bound to the address, for a server of what the `target` names.

    Bound before anything is opened: then the address is known to be free, and port 0 has its
    number. Raises `OpenToAll`, and `ConfigurationError` for an address that cannot be bound.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise ConfigurationError(f"The host '{host}' is unknown: {error.strerror}.") from error

    ipv4_first = sorted(found, key=lambda entry: entry[0] is not socket.AF_INET)
    family, kind, protocol, _, address = ipv4_first[0]
    check_reach(str(address[0]), host, settings, target)
    sock = socket.socket(family, kind, protocol)
    with ExitStack() as stack, _port_problems(host, port):
        stack.callback(sock.close)
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bound(sock, settings.stalled.total_seconds())
        sock.bind(address)
        stack.pop_all()
    return sock


SEND_BUFFER = 256 << 10
SYSTEM_SECONDS = 5.0


def _bound(sock: socket.socket, stalled: float) -> None:
    """Bound what the system holds for a reader that takes nothing. Connections have the options of
    the socket that they were accepted from."""
    # By default up to 4 MiB, and whatever is in there counts as sent.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        # Longer than the server itself waits: the system drops a connection without a word to its
        # client, and the server resets it. It sees only what the system does not hold.
        milliseconds = math.ceil((stalled + SYSTEM_SECONDS) * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


class OpenToAll(ConfigurationError):
    """A server that knows nobody may listen on loopback only."""


def check_reach(address: str, host: str, settings: Settings, target: str | None = None) -> None:
    """Raise `OpenToAll` for an address beyond loopback, if the server has no keys and no issuers,
    and the `target` is no project with an `Auth` of its own. One that has it starts with it, or not
    at all."""
    if _ip(address).is_loopback or settings.api_keys or _has_issuers(settings):
        return
    if not has_keys(resolved(settings.database_path)) and not has_auth(target):
        raise OpenToAll(
            f"Without keys, anybody who can reach {host or 'this machine'} could use the server."
        )


def _has_issuers(settings: Settings) -> bool:
    return settings.config is not None and bool(
        read_configuration(settings.config, os.environ).issuers
    )


def url_of(host: str, sock: socket.socket) -> str:
    """The URL of a server that listens on the socket."""
    address, port = sock.getsockname()[:2]
    if _ip(address).is_unspecified:
        host = LOOPBACK
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{port}"


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address.partition("%")[0])


@contextmanager
def _port_problems(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = (
                f"Port {port} on {host} is in use. Stop the program that uses it, "
                "or take another port: 0 is a free one."
            )
        else:
            sentence = (
                f"The server cannot listen on {host}, port {port}: {error.strerror}. "
                "Choose another host or port."
            )
        raise ConfigurationError(sentence) from error
