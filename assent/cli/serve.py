"""`assent serve`, and the server in a thread that `assent chat` starts without --url."""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import gc
import ipaddress
import math
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import Annotated, NoReturn

import structlog
import typer
import uvicorn
from rich.text import Text

from assent.api.embedding import Assent
from assent.api.limits import MAX_BODY_BYTES
from assent.api.streams import malloc
from assent.api.streams.uvicorn_wires import HttpProtocol, WebSocketProtocol
from assent.cli.distributions import installed, of_one_version
from assent.cli.reload import ASSENT, Reloader, project_folder
from assent.cli.terminal import console, errors_as_sentences, fail, note, program, read_settings
from assent.config.logging import configure_logging
from assent.config.settings import Settings
from assent.core.errors import AgentLoadError, ConfigurationError
from assent.core.text import visible
from assent.demo import open_clerk
from assent.graph.input_fields import input_fields
from assent.graph.kinds import Agent
from assent.graph.loading import open_agents

if sys.platform != "win32":
    import resource

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
DEMO_MESSAGE = "Delete all records older than 2015"


def serve(
    agent: Annotated[
        str | None,
        typer.Argument(
            help="path/to/module.py:variable, package.module:variable, or a langgraph.json. "
            "Default: the demo agent."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on. Beyond loopback, keys must be set.")
    ] = LOOPBACK,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")
    ] = 8000,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start anew when the agent's files change.")
    ] = False,
    fd: Annotated[
        int | None,
        typer.Option(min=3, hidden=True, help="A socket that is open already, by its number."),
    ] = None,
) -> None:
    """Serve an agent over HTTP.

    The environment has the settings: ASSENT_DATABASE, ASSENT_API_KEYS, ASSENT_MODEL, … Exits with 0
    when it was asked to stop, 1 if it cannot start, 2 if the options or settings make no sense.
    """
    settings = read_settings()
    with errors_as_sentences():
        of_one_version(installed())
        sock = bind(host, port, settings) if fd is None else _inherited(fd, host, settings)
        if reload:
            _serve_anew(sock, agent, host, settings)
            return
        _prepare_process()
        server = AgentServer(settings, agent, log_level=settings.log_level)
        server.on_start = lambda: _announce(server, settings, url_of(host, sock))
        if fd is not None:
            waiting = threading.Thread(target=_stop_with_parent, args=[server], daemon=True)
            waiting.start()
        # uvicorn has shut down in order when it raises this.
        with suppress(KeyboardInterrupt):
            server.run([sock])


def _serve_anew(sock: socket.socket, agent: str | None, host: str, settings: Settings) -> None:
    """Serve in a process of its own, which starts anew on each change."""
    if agent is None:
        fail(
            "--reload follows the files of an agent. Name one, as in serve agent.py:agent.", code=2
        )
    if os.name != "posix":
        fail("--reload needs a system where a process can hand on its socket.", code=2)
    watched = [project_folder(agent), *([settings.config] if settings.config else [])]
    patience = settings.drain_seconds + CLOSING_SECONDS + 0.5
    command = [*ASSENT, "serve", agent, "--host", host, "--fd"]
    note(f"Following changes in {' and '.join(map(str, watched))}.")
    asyncio.run(Reloader(command, sock, patience=patience, tell=note).run(*watched))


def _stop_with_parent(server: AgentServer) -> None:
    """End the server once its standard input is closed, since the process that has started it is
    gone then."""
    while os.read(0, 1024):
        pass
    server.stop()


KEEP_ALIVE_SECONDS = 75
"""The time for which an idle connection is kept: longer than clients and proxies keep theirs (60 s
in nginx), so that none of them sends a request just as the server closes."""


PING_SECONDS = 20.0
"""The time after which a WebSocket's client is asked whether it is there, and in which it has to
answer."""

CLOSING_SECONDS = 4.5
"""The time between the end of the drain and that of the process. With what the process itself takes
to end, 5 s."""


CLOSING_POLL_SECONDS = 0.05


class AgentServer(uvicorn.Server):
    """uvicorn with our app. Unlike with uvicorn's own lifespan, errors at the start are raised from
    `run`, and not only logged."""

    def __init__(self, settings: Settings, target: str | None, *, log_level: str) -> None:
        self.agents: tuple[str, ...] = ()
        self.talks: str | None = None
        """The first agent that takes a message."""
        self.on_start: Callable[[], None] = lambda: None
        self.is_demo = target is None
        self._assent = Assent(
            lambda: self._open(settings, target), settings=settings, whole_process=True
        )
        self._resources = AsyncExitStack()
        self._drain_seconds = settings.drain_seconds

        configure_logging(settings.log_format, log_level)
        super().__init__(
            uvicorn.Config(
                self._assent.app,
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
                # The client's address is not used, so no proxy need be trusted to tell it.
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + 1,
            )
        )

    @asynccontextmanager
    async def _open(
        self, settings: Settings, target: str | None
    ) -> AsyncIterator[Mapping[str, Agent]]:
        opening = open_demo(settings) if target is None else open_agents(target)
        async with opening as agents:
            self.agents = tuple(agents)
            talking = (name for name in agents if input_fields(agents[name]).takes_message)
            self.talks = next(talking, None)
            yield agents

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        with asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            _run_to_its_end(runner.get_loop(), self.serve(sockets))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._end_in_time()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        """Ask the server to end, as a signal does."""
        self._end_in_time()
        self.should_exit = True

    def _end_in_time(self) -> None:
        """See to it that the process ends in time, whatever an agent's code does: it may block the
        event loop, or never let go of the interpreter. Then tell where each thread was."""
        if not self.should_exit:
            seconds = self._drain_seconds + CLOSING_SECONDS
            stderr = sys.__stderr__ or os.open(os.devnull, os.O_WRONLY)
            faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._assent)
            # Two processes can bind one port, as long as neither listens on it.
            with _port_problems(*sockets[0].getsockname()[:2]):
                await super().startup(sockets)
            self._resources = stack.pop_all()

        # What a start has built stays until the end. Frozen, it is not walked through by the
        # garbage collector again and again: that was a third of the cost of a token.
        gc.collect()
        gc.freeze()
        # A run makes objects by the thousand and hardly a cycle: collecting after 700, the default,
        # took 7 % of the cost of a short run.
        gc.set_threshold(10_000, 20, 20)
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


@asynccontextmanager
async def open_demo(settings: Settings) -> AsyncIterator[Mapping[str, Agent]]:
    """The demo's agent, by its name."""
    async with open_clerk(settings.records, settings.model) as clerk:
        yield {"clerk": clerk}


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


def bind(host: str, port: int, settings: Settings) -> socket.socket:
    """A socket bound to the address.

    Bound before anything is opened: then the address is known to be free, and port 0 has its
    number. Without keys, only loopback is bound to.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise ConfigurationError(f"The host '{host}' is unknown: {error.strerror}.") from error

    ipv4_first = sorted(found, key=lambda entry: entry[0] is not socket.AF_INET)
    family, kind, protocol, _, address = ipv4_first[0]
    _check_reach(str(address[0]), host, settings)
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


def _prepare_process() -> None:
    """See to it that many readers fit into the process, and that their memory is given back."""
    malloc.give_back_large()
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _inherited(fd: int, host: str, settings: Settings) -> socket.socket:
    """The socket that another process has bound. Without keys, it too must be bound to loopback."""
    sock = socket.socket(fileno=fd)
    _check_reach(str(sock.getsockname()[0]), host, settings)
    return sock


def _check_reach(address: str, host: str, settings: Settings) -> None:
    if not settings.api_keys and not _ip(address).is_loopback:
        fail(
            f"Without keys, anybody who can reach {host or 'this machine'} could use the server. "
            "Set ASSENT_API_KEYS=name:secret, or bind to 127.0.0.1.",
            code=2,
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
                "or take a free port with --port 0."
            )
        else:
            sentence = (
                f"The server cannot listen on {host}, port {port}: {error.strerror}. "
                "Choose another --host or --port."
            )
        raise ConfigurationError(sentence) from error


def _announce(server: AgentServer, settings: Settings, url: str) -> None:
    """Say where the server is: in the log if it is JSON, otherwise to the person who started it."""
    database = str(settings.database_path)
    if settings.log_format == "json":
        log.info("server started", url=url, agents=server.agents, database=database)
        return

    message = DEMO_MESSAGE if server.is_demo else "Hello"
    body = '{"input": {…}}' if server.talks is None else f'{{"message": "{message}"}}'
    header = option = ""
    if server.talks is None:
        option = " --input '{…}'"
    elif server.talks != server.agents[0]:
        body = f'{{"agent": "{server.talks}", {body[1:]}'
        option = f" --agent {server.talks}"
    if settings.api_keys:
        header = " -H 'authorization: Bearer <secret>'"
        option += " --api-key <secret>"
    curl = f"curl -N {url}/agent/stream{header} -H 'content-type: application/json' -d '{body}'"

    err = console(stderr=True)
    for label, value, style in (
        ("Assent is at ", url, "bold"),
        ("  agents    ", ", ".join(server.agents), ""),
        ("  database  ", database, ""),
        ("  try       ", curl, ""),
        ("  or        ", f"{program()} chat --url {url}{option}", ""),
    ):
        err.print(Text.assemble((label, "dim"), (visible(value), style)), soft_wrap=True)


# ── a server in a thread ──────────────────────────────────────────────────────────────────────────


@contextmanager
def server_in_thread(target: str | None) -> Iterator[tuple[str, str | None]]:
    """A server on a free loopback port, until the context is left: its URL and a secret for it."""
    settings = read_settings()
    # Log lines about the start and the stop would stand in the middle of the conversation.
    log_level = settings.log_level if "log_level" in settings.model_fields_set else "warning"
    sock = bind(LOOPBACK, 0, settings)
    server = AgentServer(settings, target, log_level=log_level)
    ready = threading.Event()
    server.on_start = ready.set

    with ExitStack() as stack:
        # The process goes on once the server has ended.
        stack.callback(faulthandler.cancel_dump_traceback_later)
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="server"))
        stack.callback(server.stop)
        running = pool.submit(server.run, [sock])
        running.add_done_callback(lambda _: ready.set())
        ready.wait()
        if running.done():
            _raise_start_error(running.exception())
        yield url_of(LOOPBACK, sock), next(iter(settings.api_keys.values()), None)
    running.result()


def _raise_start_error(error: BaseException | None) -> NoReturn:
    if error is None:
        raise ConfigurationError("The server ended as it started.")

    is_ours = isinstance(error, ConfigurationError) and not isinstance(error, AgentLoadError)
    if is_ours and "another Assent process" in str(error):
        raise ConfigurationError(
            f"{error} To talk to that one: {program()} chat --url http://{LOOPBACK}:8000"
        ) from error
    raise error
