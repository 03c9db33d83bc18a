"""The command line. Here the program is put together, and here its errors become sentences."""

from __future__ import annotations

import asyncio
import csv
import errno
import gc
import ipaddress
import math
import os
import re
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import httpx
import orjson
import structlog
import typer
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text
from sse_starlette.sse import AppStatus

from assent.api.app import create_app
from assent.api.auth import LOCAL
from assent.api.schemas import THREAD_ID
from assent.cli import approvals as approving
from assent.cli.chat import Chat, Client, Options, visible
from assent.cli.imports import Report
from assent.config.logging import configure_logging
from assent.config.settings import Settings
from assent.core.clock import Clock, time_text
from assent.core.errors import (
    AgentLoadError,
    AssentError,
    ConfigurationError,
    InvalidRequest,
    Unavailable,
)
from assent.core.rows import Thread
from assent.demo import open_clerk
from assent.graph.interrupts.resume import Agent
from assent.graph.loading import open_agents
from assent.graph.state_types import state_types
from assent.importing.foreign import OldFile, must_be_copied, remove_copies
from assent.importing.threads import Adopt, Importer, Outcome, just_idle
from assent.runs.adoption import Adopter
from assent.runs.sync_threads import SYNC_THREAD
from assent.storage.base import Change
from assent.storage.chain import Heads, head_of, heads_from_text, record_to_json, unchecked_sentence
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.audit_chain import AuditFile
from assent.storage.sqlite.checkup import Level, check_up
from assent.storage.sqlite.files import resolved

DEMO_MESSAGE = "Delete all records older than 2015"

app = typer.Typer(
    help="Runs LangGraph agents that must ask a person before they act.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The `assent` command."""
    try:
        app()
    except SystemExit as end:
        _leave_threads(end.code)
        raise


def _leave_threads(code: str | int | None) -> None:
    """End here and now if a thread still runs a tool: Python would wait for it, however long it
    takes."""
    left = [thread for thread in threading.enumerate() if thread.name.startswith(SYNC_THREAD)]
    for thread in left:
        # One that is idle has been told to end.
        thread.join(0.1)
    if any(thread.is_alive() for thread in left):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"assent {version('assent')}")
        raise typer.Exit


@app.callback()
def _assent(
    shown: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None: ...


AgentArgument = Annotated[
    str | None,
    typer.Argument(
        help="path/to/module.py:variable, package.module:variable, or a langgraph.json. Without it, the demo agent."
    ),
]


@app.command()
def serve(
    agent: AgentArgument = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on. Beyond loopback, keys must be set.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")
    ] = 8000,
) -> None:
    """Serve an agent over HTTP. What can be set is read from the environment: ASSENT_DATABASE,
    ASSENT_API_KEYS, ASSENT_MODEL, …"""
    settings = _settings()
    with _one_sentence():
        sock = _bind(host, port, settings)
        server = AgentServer(settings, agent, log_level=settings.log_level)
        server.on_start = lambda: _banner(server, settings, _url(host, sock), demo=agent is None)
        # uvicorn has shut down in order when it raises this.
        with suppress(KeyboardInterrupt):
            server.run([sock])


@app.command()
def chat(
    message: Annotated[
        str | None,
        typer.Argument(
            help="Say this, and leave when the agent has answered or waits for a person."
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="A running server, such as http://127.0.0.1:8000. Without it, one is started."
        ),
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="Which of the server's agents to talk to.")
    ] = None,
    thread: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on with this thread.")
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Write one event per line; read decisions as JSON, one per line."
        ),
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="ASSENT_API_KEY", help="The secret of a key of the server's."),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="AGENT", help="What to serve without --url, as in `assent serve AGENT`."
        ),
    ] = None,
) -> None:
    """Talk to an agent in the terminal, and decide what it asks for.

    Ctrl-C cancels a run that you have begun here, and a second one leaves. Leaves with 0 when the
    last run is done, 1 when it failed, 3 when it waits for a person, 130 after Ctrl-C.
    """
    if url and serve:
        _fail(
            "--serve names an agent for a server of its own, and --url a server that is running. Give one of them.",
            code=2,
        )
    with (
        _one_sentence(),
        nullcontext(_Place(url, api_key)) if url else _own_server(serve, api_key) as place,
    ):
        headers = {"Authorization": f"Bearer {place.secret}"} if place.secret else {}
        # A proxy from the environment has no business between this process and itself.
        with httpx.Client(
            base_url=place.url,
            headers=headers,
            timeout=httpx.Timeout(60, connect=10),
            trust_env=bool(url),
        ) as http:
            options = Options(
                agent=agent, thread_id=thread, json=json, again=_again(url, serve, agent)
            )
            code = Chat(Client(http), options, Clock()).run(message)
    raise typer.Exit(code)


@app.command()
def doctor() -> None:
    """Look the database of the settings over, also while a server has it open, and say what is
    wrong with it. Nothing is changed.

    Leaves with 0 when all is well, 1 when something is wrong.
    """
    findings = check_up(_settings().database_path)
    console = Console(highlight=False, markup=False, emoji=False)
    for finding in findings:
        sign, style = SIGNS[finding.level]
        line = Text.assemble(
            (f"{sign:5}  ", style), (f"{finding.subject:9}  ", "dim"), visible(finding.sentence)
        )
        console.print(line, soft_wrap=True)
    wrong = sum(finding.level is Level.WRONG for finding in findings)
    if wrong:
        _fail(f"{wrong} finding(s) need your attention.")


@app.command()
def import_checkpoints(
    old: Annotated[
        Path,
        typer.Argument(
            help="The file of LangGraph's SqliteSaver or AsyncSqliteSaver. It is not changed."
        ),
    ],
    database: Annotated[
        Path | None,
        typer.Option(help="Where the threads go. Without it, the database of the settings."),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            help="Whose the threads are, as in `assent serve AGENT`; `langgraph.json:NAME` if that has several; `clerk` for the demo. "
            "With it, what a thread waits for can be decided."
        ),
    ] = None,
    owner: Annotated[str, typer.Option(help="Who owns the threads: the name of a key.")] = LOCAL,
) -> None:
    """Take over the threads of a LangGraph program: its checkpoints, their history, and what they
    wait for.

    Stopped at any moment, it goes on when it is run again. Leaves with 0 when every thread is in
    the database, 1 when it was stopped or left some out, 2 when it was asked for something that
    cannot be.
    """
    settings = _settings()
    configure_logging(settings.log_format, "warning")
    report = Report(Console(stderr=True, highlight=False, markup=False, emoji=False))
    new = resolved(database or settings.database_path)
    with _one_sentence():
        try:
            asyncio.run(_import(old, new, settings, agent, owner, report))
        except InvalidRequest as error:
            _fail(error.message, code=2)
        except AssentError as error:
            _fail(f"{error.message} {report.so_far()}" if report.counts else error.message)
        except KeyboardInterrupt:
            _fail(f"Stopped. {report.so_far()}")
    if report.counts[Outcome.LEFT_OUT]:
        raise typer.Exit(1)


# ── the audit chain ───────────────────────────────────────────────────────────────────────────────

app.add_typer(approving.commands, name="approvals")

audit = typer.Typer(
    help="Look at the audit chain of the database of the settings, also while a server has it open.",
    no_args_is_help=True,
)
app.add_typer(audit, name="audit")


class ExportFormat(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"


@audit.command()
def verify(
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NUMBER:MAC",
            help="A head that was sent away, or a file with one in each line: then a chain whose end was cut off since is found too. "
            "Without it, the file of ASSENT_AUDIT_HEAD_FILE, if there is one.",
        ),
    ] = None,
) -> None:
    """Whether the audit chain is whole: no row was edited, removed, moved or put in. Names the
    first that is not as it was written.

    Leaves with 0 when it is whole, 1 when it is not, 2 when that cannot be told: a key is missing,
    or is another one.
    """
    settings = _settings()
    with _one_sentence(code=2):
        # Read before the chain, which may grow meanwhile.
        heads = _heads(head or [], settings)
        with _audit_file(settings) as file:
            looked = file.verify(heads)
    if looked.broken is not None:
        _fail(
            f"The audit chain of {resolved(settings.database_path)} is broken. {looked.broken.sentence}"
        )
    if looked.unchecked:
        _fail(unchecked_sentence(looked.unchecked), code=2)
    if looked.last is None:
        typer.echo("The audit chain is whole: it has no rows yet.")
        return
    last = head_of(looked.last)
    typer.echo(
        f"The audit chain is whole: {last.number:,} row(s), the last of {time_text(last.at)}."
    )
    typer.echo(f"Its head: {last.number}:{last.mac}")
    if not heads:
        typer.echo(
            "Whether its end was cut off, only a head can show that was kept elsewhere: --head."
        )


@audit.command()
def export(
    format: Annotated[
        ExportFormat, typer.Option(help="One JSON object per line, or CSV with a header.")
    ] = ExportFormat.JSONL,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only what happened then or later: 2026-01-31, or RFC 3339."
        ),
    ] = None,
) -> None:
    """Write the audit chain to standard output, oldest first. It is not verified: say `assent audit
    verify` too."""
    settings = _settings()
    with _one_sentence(code=2), _audit_file(settings) as file:
        records = (record_to_json(record) for record in file.records(_time(since)))
        if format is ExportFormat.JSONL:
            for record in records:
                sys.stdout.write(orjson.dumps(record).decode() + "\n")
        else:
            _write_csv(records)


def _heads(given: list[str], settings: Settings) -> Heads | None:
    places = given or (
        [str(settings.audit_head_file)]
        if settings.audit_head_file and settings.audit_head_file.is_file()
        else []
    )
    return heads_from_text("\n".join(_head_text(each) for each in places)) if places else None


def _head_text(given: str) -> str:
    if re.fullmatch("[0-9]+:[0-9a-fA-F]+", given):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The head {given!r} is neither a number with a mac, like 12:ab34…, nor a file to read: {error}."
        ) from error


@contextmanager
def _audit_file(settings: Settings) -> Iterator[AuditFile]:
    with AuditFile.open(
        settings.database_path,
        audit_key=settings.audit_secret,
        encryption_key=settings.encryption_secret,
    ) as file:
        yield file


def _write_csv(records: Iterable[Mapping[str, object]]) -> None:
    writer: csv.DictWriter[str] | None = None
    for record in records:
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(record))
            writer.writeheader()
        writer.writerow({**record, "detail": orjson.dumps(record["detail"]).decode()})


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"'{text}' is no time. Write it like 2026-01-31, or 2026-01-31T09:30:00Z."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


SIGNS = {
    Level.OK: ("ok", "green"),
    Level.NOTE: ("note", "yellow"),
    Level.WRONG: ("WRONG", "bold red"),
}


# ── a server ──────────────────────────────────────────────────────────────────────────────────────


class AgentServer(uvicorn.Server):
    """uvicorn, with the app's lifespan entered and left by itself: what cannot be opened is raised
    from `run`, and not only logged."""

    def __init__(self, settings: Settings, target: str | None, *, log_level: str) -> None:
        self.agents: tuple[str, ...] = ()
        self.on_start: Callable[[], None] = lambda: None
        # Streams end when the runs have: not, as this library would have it, at the signal.
        AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
        self._app = create_app(settings, lambda: self._open(settings, target))
        self._resources = AsyncExitStack()
        configure_logging(settings.log_format, log_level)
        super().__init__(
            uvicorn.Config(
                self._app,
                lifespan="off",
                log_config=None,
                log_level=log_level,
                # The path of a link holds a secret.
                access_log=False,
                # Nothing here asks who a proxy says that the client is, or should tell what serves.
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + 1,
            )
        )

    @asynccontextmanager
    async def _open(
        self, settings: Settings, target: str | None
    ) -> AsyncIterator[Mapping[str, Agent]]:
        async with _open_demo(settings) if target is None else open_agents(target) as agents:
            self.agents = tuple(agents)
            yield agents

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_lifespan(self._app))
            # Two processes can bind one port, as long as neither listens on it.
            with _port_problems(*sockets[0].getsockname()[:2]):
                await super().startup(sockets)
            self._resources = stack.pop_all()
        # What a start has built stays until the end. Taken out of the collector's sight it is not
        # walked through again and again: that was a third of what a token costs.
        gc.collect()
        gc.freeze()
        # A run makes objects by the thousand and hardly a cycle: collecting after 700, the default,
        # took 7 % of what a short run costs.
        gc.set_threshold(10_000, 20, 20)
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        async with self._resources, asyncio.TaskGroup() as closing:
            # Both at once: a run that comes to its end while the server drains is told of to its
            # end, and streams end behind it.
            closing.create_task(self._app.state.runs.drain())
            closing.create_task(super().shutdown(sockets))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with app.router.lifespan_context(app):
        yield


@asynccontextmanager
async def _open_demo(settings: Settings) -> AsyncIterator[Mapping[str, Agent]]:
    async with open_clerk(settings.records, settings.model) as clerk:
        yield {"clerk": clerk}


def _bind(host: str, port: int, settings: Settings) -> socket.socket:
    """A socket bound to the address. Bound here, it is known to be free before anything is opened,
    and port 0 has its number."""
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise ConfigurationError(
            f"The host '{host}' is not known here: {error.strerror}."
        ) from error
    family, kind, protocol, _, address = min(
        found, key=lambda entry: entry[0] is not socket.AF_INET
    )
    if (
        not settings.api_keys
        and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback
    ):
        _fail(
            f"Nobody would have to say who they are, so the server does not listen on {host or 'all addresses'}. "
            "Set ASSENT_API_KEYS=name:secret, or bind to 127.0.0.1.",
            code=2,
        )
    sock = socket.socket(family, kind, protocol)
    with ExitStack() as stack, _port_problems(host, port):
        stack.callback(sock.close)
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        stack.pop_all()
    return sock


@contextmanager
def _port_problems(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"Port {port} on {host} is in use. Stop the program that has it, or let one be chosen: --port 0."
        else:
            sentence = f"The server cannot listen on {host}, port {port}: {error.strerror}. Choose another --host or --port."
        raise ConfigurationError(sentence) from error


def _url(host: str, sock: socket.socket) -> str:
    address, port = sock.getsockname()[:2]
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _banner(server: AgentServer, settings: Settings, url: str, *, demo: bool) -> None:
    if settings.log_format == "json":
        structlog.get_logger(__name__).info(
            "The server listens.",
            url=url,
            agents=server.agents,
            database=str(settings.database_path),
        )
        return
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    say = DEMO_MESSAGE if demo else "Hello"
    key = " -H 'authorization: Bearer <secret>'" if settings.api_keys else ""
    lines = [
        ("Assent is at ", url),
        ("  agents    ", ", ".join(server.agents)),
        ("  database  ", str(settings.database_path)),
        (
            "  try       ",
            f"""curl -N {url}/agent/stream{key} -H 'content-type: application/json' -d '{{"message": "{say}"}}'""",
        ),
        (
            "  or        ",
            f"assent chat --url {url}{' --api-key <secret>' if settings.api_keys else ''}",
        ),
    ]
    for label, value in lines:
        console.print(
            Text.assemble((label, "dim"), (visible(value), "bold" if value == url else "")),
            soft_wrap=True,
        )


# ── a server of the chat's own ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a server is, and the secret that it takes."""

    url: str
    secret: str | None


@contextmanager
def _own_server(target: str | None, api_key: str | None) -> Iterator[_Place]:
    """A server in a thread of this process, on a free loopback port, until the context is left."""
    settings = _settings()
    # What a server says as it comes and goes would stand in the middle of the conversation.
    log_level = settings.log_level if "log_level" in settings.model_fields_set else "warning"
    sock = _bind("127.0.0.1", 0, settings)
    server = AgentServer(settings, target, log_level=log_level)
    ready = threading.Event()
    server.on_start = ready.set
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="server") as pool:
        running = pool.submit(server.run, [sock])
        running.add_done_callback(lambda _: ready.set())
        try:
            ready.wait()
            if running.done():
                _raise_for_chat(running.exception())
            yield _Place(
                _url("127.0.0.1", sock), api_key or next(iter(settings.api_keys.values()), None)
            )
        finally:
            server.should_exit = True
    running.result()


def _raise_for_chat(error: BaseException | None) -> NoReturn:
    if (
        isinstance(error, ConfigurationError)
        and not isinstance(error, AgentLoadError)
        and "another Assent process" in error.message
    ):
        raise ConfigurationError(
            f"{error.message} To talk to that one: assent chat --url http://127.0.0.1:8000"
        ) from error
    raise error or ConfigurationError("The server ended as it started.")


def _again(url: str | None, serve: str | None, agent: str | None) -> str:
    options = {"--url": url, "--serve": serve, "--agent": agent}
    return " ".join(
        ["assent chat", *(f"{name} {value}" for name, value in options.items() if value)]
    )


# ── threads from elsewhere ────────────────────────────────────────────────────────────────────────


async def _import(
    old_path: Path, new: Path, settings: Settings, target: str | None, owner: str, report: Report
) -> None:
    prefix = f".{new.name}.import-"
    if new == resolved(old_path):
        raise InvalidRequest(
            f"The file {new} cannot be imported into itself. Name another with --database."
        )
    if must_be_copied(old_path):
        report.console.print(
            "A log stands beside the old file, so a copy of both is read. It is made beside the database.",
            soft_wrap=True,
        )
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(
            OldFile.open(old_path, near=new.parent, prefix=prefix)
        )
        agent = await stack.enter_async_context(_one_agent(target, settings)) if target else None
        # A commit need not wait for the disk here: what a power cut takes is imported again, and
        # the end of it all is waited for.
        opening = SqliteStorage.open(
            new,
            synchronous="normal",
            encryption_key=settings.encryption_secret,
            audit_key=settings.audit_secret,
        )
        storage = await stack.enter_async_context(opening)
        remove_copies(new.parent, prefix, but=old.copy)
        adopt = _adopting(*agent, storage, report) if agent else just_idle
        threads = await old.threads()
        with report.progress(len(threads), sum(thread.size for thread in threads)) as steps:
            importer = Importer(
                old, storage, owner=owner, clock=Clock(), adopt=adopt, advance=steps.bytes
            )
            for thread in threads:
                result = await importer.take(thread)
                report.add(thread, result)
                steps.thread()
                if result.unfinished and not agent:
                    report.remark(UNFINISHED, thread.thread_id)
                if result.outcome is Outcome.TAKEN and not re.fullmatch(
                    THREAD_ID, thread.thread_id
                ):
                    report.remark(NAMELESS, thread.thread_id)
        old_size = old.size
    report.tell(old_path, old_size, new)


UNFINISHED = (
    "Imported as idle, but it had stopped before its end, to wait for a person, or cut off. To have approvals made of what it waits for, "
    "delete it, and import again with --agent."
)

NAMELESS = "Imported, but no URL can name it: the server takes ids of 1 to 64 letters, digits, '_' and '-'."


def _adopting(name: str, agent: Agent, storage: SqliteStorage, report: Report) -> Adopt:
    """Threads become the agent's, if it can read their states."""
    reading = agent.copy(
        update={"checkpointer": storage.checkpointer.with_allowlist(state_types(agent))}
    )
    adopter = Adopter(name, reading, Clock())

    async def adopt(thread: Thread) -> Change:
        try:
            return await adopter(thread)
        except Unavailable:
            raise
        except Exception as error:
            # Whatever a state of another agent, or of an older one of that name, makes LangGraph
            # raise.
            text = (
                error.message
                if isinstance(error, AssentError)
                else f"{type(error).__name__}: {error}"
            )
            report.remark(
                f"Imported as idle, and as nobody's: the agent '{name}' cannot read its state. {text}",
                thread.thread_id,
            )
            return await just_idle(thread)

    return adopt


@asynccontextmanager
async def _one_agent(target: str, settings: Settings) -> AsyncIterator[tuple[str, Agent]]:
    """The agent that is meant, by name."""
    if target == "clerk":
        async with _open_demo(settings) as agents:
            yield "clerk", agents["clerk"]
        return
    file, separator, wanted = target.rpartition(":")
    if not (separator and file.endswith(".json")):
        file, wanted = target, ""
    async with open_agents(file) as agents:
        if not wanted and len(agents) > 1:
            raise InvalidRequest(
                f"{file} has several agents: {', '.join(agents)}. Say whose the threads are: --agent {file}:NAME."
            )
        name = wanted or next(iter(agents))
        if name not in agents:
            raise InvalidRequest(f"{file} has no agent '{name}'. It has: {', '.join(agents)}.")
        yield name, agents[name]


# ── settings, logs and errors ─────────────────────────────────────────────────────────────────────


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        # The value is not repeated: it may hold secrets.
        _fail(
            " ".join(
                f"The setting ASSENT_{str(item['loc'][0]).upper()} is wrong: {_problem(item)}."
                for item in error.errors()
            ),
            code=2,
        )


def _problem(item: Mapping[str, object]) -> str:
    return str(item["msg"]).removeprefix("Value error, ").rstrip(".")


@contextmanager
def _one_sentence(code: int = 1) -> Iterator[None]:
    """What was foreseen to go wrong ends the program with one sentence and this code; a fault of
    ours keeps its traceback."""
    try:
        yield
    except AssentError as error:
        _fail(error.message, code=code)
    except httpx.InvalidURL as error:
        _fail(f"The --url is none: {error}. Write it like http://127.0.0.1:8000.", code=2)


def _fail(sentence: str, *, code: int = 1) -> NoReturn:
    Console(stderr=True, highlight=False, markup=False, emoji=False).print(
        Text(visible(sentence), style="red"), soft_wrap=True
    )
    raise typer.Exit(code)
