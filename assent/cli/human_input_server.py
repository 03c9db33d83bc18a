"""`HumanInputServer`: a server that a program starts itself, to show what people are asked.

    server = HumanInputServer(port=8000)
    threading.Thread(target=server.start, daemon=True).start()
    for event in server.stream(graph, {"messages": [("user", "Hi")]}, config):
        ...

It leaves the log, the collector of garbage and the signals of the program alone.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import socket
import tempfile
import threading
import weakref
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import structlog
from langchain_core.runnables import RunnableConfig

from assent.api.embedding import Agents, Assent
from assent.cli.listening import LOOPBACK, AppServer, OpenToAll, bind, url_of
from assent.config.settings import Settings
from assent.core.errors import AssentError, ConfigurationError, Unavailable
from assent.core.events import Event
from assent.graph.kinds import Agent
from assent.graph.stream.in_sync import check_no_loop, in_sync
from assent.graph.stream.typed import astream_typed
from assent.runs.observed import Observation

log = structlog.get_logger(__name__)

READY_SECONDS = 10.0
"""The time that a start may take, or whatever else the server is waited for."""

EXIT_SECONDS = 5.0
"""The time that a program which ends gives the server in its daemon thread."""

ALLOWED = "ASSENT_ALLOW_QUERY_TOKEN"
"""The one variable of the environment that is read."""

ENDED = "The server has ended."

T = TypeVar("T")

KEY = "key"
"""The name of whoever has the `api_key`."""


class HumanInputServer:
    """Serves what people are asked, and all else of a server, from a program of yours.

    Beyond loopback it needs an `api_key`. With `agents` it runs these, as `assent serve` does, and
    decisions come over HTTP. A program that runs its graphs itself shows them by `stream` and
    `astream`, and decides itself.

    Without a `database` it has a temporary one. `allow_query_token` says whether clients may send
    the key in a URL, for reading; by default the environment's ASSENT_ALLOW_QUERY_TOKEN does.
    `settings` are those of the reference, by their names in small letters; the environment has no
    others.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 8000,
        api_key: str | None = None,
        *,
        agents: Agents | None = None,
        database: str | None = None,
        allow_query_token: bool | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._agents: Agents = _no_agents if agents is None else agents
        self._database = database
        self._is_temporary = database is None and "database" not in (settings or {})
        self._settings = _settings(settings or {}, api_key, allow_query_token)
        self._url = f"http://{host}:{port}"
        self._serving: _Serving | None = None
        # Held from a start to its end.
        self._life = threading.Lock()
        self._has_begun = threading.Event()
        self._error: Exception | None = None

    # ── starting and stopping ──

    def start(self) -> None:
        """Serve until `stop`. In the main thread, Ctrl-C ends it too.

        Raises `ConfigurationError` if it cannot start, or has already.
        """
        check_no_loop("start()", "await start_async()")
        is_main = threading.current_thread() is threading.main_thread()
        # uvicorn has shut down in order when it raises this.
        interrupted = suppress(KeyboardInterrupt)
        with (
            self._begun(takes_signals=is_main) as serving,
            serving.ended_with_program(),
            interrupted,
        ):
            serving.run([serving.sock])

    async def start_async(self) -> None:
        """Serve in this event loop, until `stop` or until the task is cancelled. Raises as `start`
        does."""
        with self._begun(takes_signals=False) as serving:
            await serving.serve([serving.sock])
            if serving.was_cancelled:
                raise asyncio.CancelledError

    def stop(self) -> None:
        """Ask the server to end, from any thread."""
        if self._serving is not None:
            self._serving.stop()

    def ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait until the server answers. Raises what its start has raised, or `ConfigurationError`
        if it takes longer. In an event loop: `await asyncio.to_thread(server.ready)`."""
        if not self._has_begun.wait(timeout):
            raise ConfigurationError(
                f"The server has not started within {timeout:g} s. Call its start() in a thread, "
                "or start_async() in a task."
            )
        if self._error is not None:
            raise self._error

    @property
    def url(self) -> str:
        """The URL of the server. A free port is known once it is `ready`."""
        return self._url

    async def _answering(self) -> _Serving:
        """The server once it answers. Raises as `ready` does."""
        if not self._has_begun.is_set():
            await asyncio.to_thread(self.ready)
        if self._serving is None:
            raise self._error or ConfigurationError(ENDED)
        if not self._serving.is_here:
            raise ConfigurationError("The server is in the process that this one was forked from.")
        return self._serving

    @contextmanager
    def _begun(self, *, takes_signals: bool) -> Iterator[_Serving]:
        """A server on its socket, for as long as it serves."""
        if not self._life.acquire(blocking=False):
            raise ConfigurationError("This server has been started already.")
        self._has_begun.clear()
        self._error = None
        try:
            with self._made(takes_signals) as serving:
                self._serving = serving
                self._url = url_of(self._host, serving.sock)
                serving.on_start = self._has_begun.set
                yield serving
        except Exception as error:
            self._error = error
            raise
        finally:
            self._serving = None
            self._error = self._error or ConfigurationError(ENDED)
            self._has_begun.set()
            self._life.release()

    @contextmanager
    def _made(self, takes_signals: bool) -> Iterator[_Serving]:
        """A server on its socket, whose temporary files are removed behind it."""
        database = self._database
        clean_up: Callable[[], object] = _nothing
        with closing(_bound(self._host, self._port, self._settings)) as sock:
            if self._is_temporary:
                folder = tempfile.mkdtemp(prefix="assent-")
                # Also if the program ends before the server does.
                clean_up = weakref.finalize(self, _remove, folder, os.getpid())
                database = str(Path(folder, "assent.db"))
            assent = Assent(self._agents, database=database, settings=self._settings)
            serving = _Serving(assent, self._settings, sock, clean_up, takes_signals=takes_signals)
            try:
                yield serving
            finally:
                clean_up()

    # ── the program's own runs ──

    async def astream(
        self,
        agent: Agent,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        source: Literal["callbacks", "astream_events"] = "callbacks",
        context: Any = None,
    ) -> AsyncGenerator[Event, None]:
        """`astream_typed`, whose events the server shows too: under the thread of the config, and
        under the run. Where it cannot, the log says so, and the run goes on."""
        shown = _Shown(self)
        events = astream_typed(agent, input, config, source=source, context=context)
        async with aclosing(events):
            try:
                async for event in events:
                    await shown.show(event)
                    yield event
            finally:
                await shown.close()

    def stream(
        self,
        agent: Agent,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        source: Literal["callbacks", "astream_events"] = "callbacks",
        context: Any = None,
    ) -> Generator[Event, None, None]:
        """The same without an event loop. The graph goes on while the next event is waited for."""
        events = self.astream(agent, input, config, source=source, context=context)
        return in_sync(events, "stream()", "astream()")


class _Serving(AppServer):
    """One life of a server, from its socket on."""

    def __init__(
        self,
        assent: Assent,
        settings: Settings,
        sock: socket.socket,
        clean_up: Callable[[], object],
        *,
        takes_signals: bool,
    ) -> None:
        super().__init__(assent, settings)
        self.assent = assent
        self.sock = sock
        self.clean_up = clean_up
        self.loop: asyncio.AbstractEventLoop | None = None
        self.was_cancelled = False
        self._takes_signals = takes_signals
        self._process = os.getpid()
        self._has_ended = threading.Event()

    @property
    def is_here(self) -> bool:
        """True but in a process that was forked: of the server's threads that one has none."""
        return self._process == os.getpid()

    def call(self, act: Callable[[T], None], value: T) -> None:
        """Have it done in the server's event loop, unless the server has ended."""
        # Then its loop is closed.
        with suppress(RuntimeError):
            self._its_loop.call_soon_threadsafe(act, value)

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives that is done in the server's event loop. Raises what it raises, and
        `Unavailable` if the server has ended, or does not answer."""
        try:
            doing = asyncio.run_coroutine_threadsafe(work, self._its_loop)
        except RuntimeError as error:
            work.close()
            raise Unavailable(ENDED) from error
        try:
            return await asyncio.wait_for(asyncio.wrap_future(doing), READY_SECONDS)
        except TimeoutError as error:
            raise Unavailable(f"The server has not answered for {READY_SECONDS:g} s.") from error

    @property
    def _its_loop(self) -> asyncio.AbstractEventLoop:
        assert self.loop is not None
        return self.loop

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if not self._takes_signals:
            yield
            return
        with super().capture_signals():
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        try:
            await super().main_loop()
        except asyncio.CancelledError:
            # What is open is closed in order all the same.
            self.was_cancelled = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().shutdown(sockets)
        finally:
            # Before a signal that was caught ends the process.
            self.clean_up()
            self._has_ended.set()

    @contextmanager
    def ended_with_program(self) -> Iterator[None]:
        """See to it that a daemon thread, which the end of the program would freeze, ends in order
        before."""
        if not threading.current_thread().daemon:
            yield
            return
        atexit.register(self._end)
        try:
            yield
        finally:
            self._has_ended.set()
            atexit.unregister(self._end)

    def _end(self) -> None:
        if self.is_here:
            self.stop()
            self._has_ended.wait(EXIT_SECONDS)


class _Shown:
    """A run of the program as the server shows it. What fails there is logged once, and nothing of
    it reaches the run. The server has an event loop of its own, if it is not in the run's."""

    def __init__(self, server: HumanInputServer) -> None:
        self._server = server
        self._has_begun = False
        self._serving: _Serving | None = None
        self._observation: Observation | None = None

    async def show(self, event: Event) -> None:
        """Show the next event of the run."""
        if not self._has_begun:
            self._has_begun = True
            with _logged("a run of the program is not shown", event.run_id):
                self._serving = await self._server._answering()
                beginning = self._serving.assent.runs.observed.begin(event)
                self._observation = await self._serving.do(beginning)
        if self._observation is not None:
            assert self._serving is not None
            self._serving.call(self._observation.store, event)

    async def close(self) -> None:
        """Return once all is stored. Nothing more is shown."""
        if self._observation is not None:
            assert self._serving is not None
            with _logged("a run of the program is shown no further", self._observation.run_id):
                await self._serving.do(self._observation.close())


@contextmanager
def _logged(failure: str, run_id: str) -> Iterator[None]:
    try:
        yield
    except AssentError as error:
        log.error(failure, run_id=run_id, reason=error.message)
    except Exception as error:
        log.error(failure, run_id=run_id, exc_info=error)


def _remove(folder: str, process: int) -> None:
    """Remove the folder, in the process that made it. One that was forked from it ends too, and
    the folder is still in use then."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _nothing() -> None:
    """Leave no temporary file, since there is none."""


@asynccontextmanager
async def _no_agents() -> AsyncIterator[Mapping[str, Agent]]:
    yield {}


def _settings(
    given: Mapping[str, Any], api_key: str | None, allow_query_token: bool | None
) -> Settings:
    """The settings of the server. Raises `ConfigurationError`."""
    settings = dict(given)
    if api_key is not None:
        if not api_key.strip() or "api_keys" in settings:
            raise ConfigurationError(
                "Give a server an api_key that is not empty, or settings with api_keys, and not "
                "both."
            )
        settings["api_keys"] = {KEY: api_key}
    allowed = os.environ.get(ALLOWED) if allow_query_token is None else allow_query_token
    if allowed is not None:
        settings.setdefault("allow_query_token", allowed)
    return Settings.given(settings)


def _bound(host: str, port: int, settings: Settings) -> socket.socket:
    try:
        return bind(host, port, settings)
    except OpenToAll as error:
        raise ConfigurationError(
            f"{error.message} Give it an api_key, or the host '{LOOPBACK}'."
        ) from error
