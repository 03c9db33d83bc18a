"""`assent serve`, and the server in a thread that `assent chat` starts without --url."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from types import FrameType
from typing import Annotated, NoReturn

import structlog
import typer
from rich.text import Text

from assent.api.embedding import Assent
from assent.api.streams import malloc
from assent.api.web import web_page
from assent.cli.distributions import installed, of_one_version
from assent.cli.listening import LOOPBACK, AppServer, OpenToAll, bind, check_reach, url_of
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
from assent.storage.sqlite.database import has_keys, resolved

if sys.platform != "win32":
    import resource

log = structlog.get_logger(__name__)

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
        str,
        typer.Option(help="The address to listen on. Beyond loopback the server must know people."),
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
        sock = _listening(host, port, fd, settings, agent)
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


CLOSING_SECONDS = 4.5
"""The time between the end of the drain and that of the process. With what the process itself takes
to end, 5 s."""


class AgentServer(AppServer):
    """The server that a process is for: the log, the collector of garbage and the end of the
    process are its own."""

    def __init__(self, settings: Settings, target: str | None, *, log_level: str) -> None:
        self.agents: tuple[str, ...] = ()
        self.talks: str | None = None
        """The first agent that takes a message."""
        self.is_demo = target is None
        self._drain_seconds = settings.drain_seconds
        configure_logging(settings.log_format, log_level, secrets=settings.secrets)
        assent = Assent(lambda: self._open(settings, target), settings=settings, whole_process=True)
        super().__init__(assent, settings, log_level=log_level)

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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._end_in_time()
        super().handle_exit(sig, frame)

    def stop(self) -> None:
        self._end_in_time()
        super().stop()

    def _end_in_time(self) -> None:
        """See to it that the process ends in time, whatever an agent's code does: it may block the
        event loop, or never let go of the interpreter. Then tell where each thread was."""
        if not self.should_exit:
            seconds = self._drain_seconds + CLOSING_SECONDS
            stderr = sys.__stderr__ or os.open(os.devnull, os.O_WRONLY)
            faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What a start has built stays until the end. Frozen, it is not walked through by the
        # garbage collector again and again: that was a third of the cost of a token.
        gc.collect()
        gc.freeze()
        # A run makes objects by the thousand and hardly a cycle: collecting after 700, the default,
        # took 7 % of the cost of a short run. What was looked at once is looked at again only after
        # 50 such rounds: with 50 streams that stops all of them for some 80 ms.
        gc.set_threshold(10_000, 50, 8)


@asynccontextmanager
async def open_demo(settings: Settings) -> AsyncIterator[Mapping[str, Agent]]:
    """The demo's agent, by its name."""
    async with open_clerk(settings.records, settings.model) as clerk:
        yield {"clerk": clerk}


def _prepare_process() -> None:
    """See to it that many readers fit into the process, and that their memory is given back."""
    malloc.give_back_large()
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listening(
    host: str, port: int, fd: int | None, settings: Settings, target: str | None
) -> socket.socket:
    """The socket on this address; or the one that another process has bound."""
    try:
        if fd is None:
            return bind(host, port, settings, target)
        sock = socket.socket(fileno=fd)
        check_reach(str(sock.getsockname()[0]), host, settings, target)
        return sock
    except OpenToAll as error:
        fail(
            f"{error.message} Make one with assent keys create, or set "
            f"ASSENT_API_KEYS=name:secret, or bind to {LOOPBACK}.",
            code=2,
        )


def _announce(server: AgentServer, settings: Settings, url: str) -> None:
    """Say where the server is: in the log if it is JSON, otherwise to the person who started it."""
    database = str(settings.database_path)
    why_no_page = web_page().why_not if settings.ui else ""
    if why_no_page:
        log.warning("the web page is not there", reason=why_no_page)
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
    if settings.api_keys or has_keys(resolved(settings.database_path)):
        header = " -H 'authorization: Bearer <secret>'"
        option += " --api-key <secret>"
    curl = f"curl -N {url}/agent/stream{header} -H 'content-type: application/json' -d '{body}'"

    err = console(stderr=True)
    has_page = settings.ui and not why_no_page
    for label, value, style in (
        ("Assent is at ", url, "bold"),
        *([("  page      ", f"{url}/ui/", "bold")] if has_page else []),
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
        yield url_of(LOOPBACK, sock), next(iter(settings.secrets_of_people.values()), None)
    running.result()


def _raise_start_error(error: BaseException | None) -> NoReturn:
    if error is None:
        raise ConfigurationError("The server ended as it started.")

    is_ours = isinstance(error, ConfigurationError) and not isinstance(error, AgentLoadError)
    if is_ours and "another Assent process" in str(error):
        raise ConfigurationError(
            f"{error} Or, if that one is a server, talk to it: add --url and the address that it "
            f"printed, such as --url http://{LOOPBACK}:8000."
        ) from error
    raise error
