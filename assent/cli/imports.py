"""`assent import-checkpoints`: take over the threads of a LangGraph program."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from assent.api.schemas import THREAD_ID
from assent.cli.serve import open_demo
from assent.cli.terminal import console, errors_as_sentences, fail, mebibytes, read_settings
from assent.config.logging import configure_logging
from assent.config.settings import Settings
from assent.core.audit import LOCAL
from assent.core.clock import Clock
from assent.core.errors import AssentError, InvalidRequest, Unavailable
from assent.core.rows import Thread
from assent.core.text import visible
from assent.graph.kinds import Agent
from assent.graph.loading import open_agents
from assent.graph.state_types import state_types
from assent.importing.foreign import OldFile, OldThread, must_be_copied, remove_copies
from assent.importing.importer import Adopt, Importer, ImportOutcome, Result, just_idle
from assent.runs.adoption import Adopter
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.database import resolved

STOPPED_EARLY = (
    "Imported as idle, but it had stopped before its end: it waited for a person, or was cut off. "
    "To get approvals for what it waits for, delete it, and import again with --agent."
)
NOT_A_URL = (
    "Imported, but no URL can name it: "
    "the server takes ids of 1 to 64 letters, digits, '_' and '-'."
)

NAMED = 10
"""Threads that are named for one remark, at most."""

SECONDS_BETWEEN_LINES = 5.0
"""Time between lines of progress, where there is no terminal to draw a bar on."""


Show = Callable[[str, float], None]
"""Shows progress: a text, and the share that is done."""


def import_checkpoints(
    old: Annotated[
        Path,
        typer.Argument(
            help="The file of LangGraph's SqliteSaver or AsyncSqliteSaver. It is not changed."
        ),
    ],
    database: Annotated[
        Path | None,
        typer.Option(help="The database to import into. Default: that of the settings."),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(
            help="The agent that the threads belong to, as in `assent serve AGENT`; "
            "`langgraph.json:NAME` if there are several; `clerk` for the demo. "
            "With it, pending interrupts become approvals."
        ),
    ] = None,
    owner: Annotated[
        str, typer.Option(help="The owner of the threads: the name of a key.")
    ] = LOCAL,
) -> None:
    """Import the threads of a LangGraph program: checkpoints, history and pending interrupts.

    It can be stopped at any moment; run again, it goes on. Exits with 0 if every thread is in the
    database, 1 if it was stopped or left some out, 2 if it was asked for something impossible.
    """
    settings = read_settings()
    configure_logging(settings.log_format, "warning")
    report = Report(console(stderr=True))
    new = resolved(database or settings.database_path)
    with errors_as_sentences():
        try:
            asyncio.run(_import(old, new, settings, agent, owner, report))
        except InvalidRequest as error:
            fail(error.message, code=2)
        except AssentError as error:
            fail(f"{error.message} {report.so_far()}" if report.counts else error.message)
        except KeyboardInterrupt:
            fail(f"Stopped. {report.so_far()}")
    if report.counts[ImportOutcome.LEFT_OUT]:
        raise typer.Exit(1)


async def _import(
    old_path: Path, new: Path, settings: Settings, target: str | None, owner: str, report: Report
) -> None:
    prefix = f".{new.name}.import-"
    if new == resolved(old_path):
        raise InvalidRequest(
            f"The file {new} cannot be imported into itself. Name another with --database."
        )
    if must_be_copied(old_path):
        report.print(
            "A log stands beside the old file, so a copy of both is read. "
            "It is made beside the database."
        )

    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(
            OldFile.open(old_path, near=new.parent, prefix=prefix)
        )
        agent = await stack.enter_async_context(_one_agent(target, settings)) if target else None
        # A commit need not wait for the disk here: what a power cut takes is imported again, and
        # the end of it all is waited for.
        storage = await stack.enter_async_context(
            SqliteStorage.open(
                new,
                synchronous="normal",
                encryption_key=settings.encryption_secret,
                audit_key=settings.audit_secret,
            )
        )
        remove_copies(new.parent, prefix, but=old.copy)

        adopt = _adopting(*agent, storage, settings, report) if agent else just_idle
        threads = await old.threads()
        with report.progress(len(threads), sum(thread.size for thread in threads)) as steps:
            importer = Importer(
                old, storage, owner=owner, clock=Clock(), adopt=adopt, advance=steps.add_bytes
            )
            for thread in threads:
                result = await importer.import_thread(thread)
                report.add(thread, result)
                steps.add_thread()
                if result.unfinished and agent is None:
                    report.remark(STOPPED_EARLY, thread.thread_id)
                is_named = re.fullmatch(THREAD_ID, thread.thread_id)
                if result.outcome is ImportOutcome.IMPORTED and not is_named:
                    report.remark(NOT_A_URL, thread.thread_id)
        old_size = old.size
    report.summarise(old_path, old_size, new)


def _adopting(
    name: str, agent: Agent, storage: SqliteStorage, settings: Settings, report: Report
) -> Adopt:
    """Give threads to the agent if it can read their states, as it could under a server with these
    settings."""
    allowed = {*settings.state_types, *state_types(agent)}
    saver = storage.checkpointer.with_allowlist(allowed)
    adopter = Adopter(name, agent.copy(update={"checkpointer": saver}), Clock())

    async def adopt(thread: Thread) -> Change:
        try:
            return await adopter(thread)
        except Unavailable:
            raise
        except AssentError as error:
            problem = error.message
        except Exception as error:
            # LangGraph may raise anything for the state of another agent, or of an older version.
            problem = f"{type(error).__name__}: {error}"
        report.remark(
            "Imported as idle, and as nobody's: "
            f"the agent '{name}' cannot read its state. {problem}",
            thread.thread_id,
        )
        return await just_idle(thread)

    return adopt


@asynccontextmanager
async def _one_agent(target: str, settings: Settings) -> AsyncIterator[tuple[str, Agent]]:
    """The agent of --agent, with its name."""
    if target == "clerk":
        async with open_demo(settings) as agents:
            yield "clerk", agents["clerk"]
        return

    file, separator, wanted = target.rpartition(":")
    if not (separator and file.endswith(".json")):
        file, wanted = target, ""
    async with open_agents(file) as agents:
        names = ", ".join(agents)
        if not wanted and len(agents) > 1:
            raise InvalidRequest(
                f"{file} has several agents: {names}. Name one with --agent {file}:NAME."
            )
        name = wanted or next(iter(agents))
        if name not in agents:
            raise InvalidRequest(f"{file} has no agent '{name}'. It has: {names}.")
        yield name, agents[name]


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────


@dataclass
class Report:
    """The outcome of an import so far."""

    console: Console
    counts: Counter[ImportOutcome] = field(default_factory=Counter)
    checkpoints: int = 0
    remarks: dict[str, list[str]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def add(self, thread: OldThread, result: Result) -> None:
        """Count a thread."""
        self.counts[result.outcome] += 1
        if result.outcome is ImportOutcome.IMPORTED:
            self.checkpoints += thread.checkpoints
        elif result.outcome is ImportOutcome.LEFT_OUT:
            self.remark(f"Left out. {result.reason}", thread.thread_id)

    def remark(self, text: str, thread_id: str) -> None:
        """Say this of the thread at the end; a remark on several threads is said once."""
        self.remarks.setdefault(text, []).append(thread_id)

    def so_far(self) -> str:
        """A sentence about the threads that stay if the import ends here."""
        there = self.counts[ImportOutcome.IMPORTED] + self.counts[ImportOutcome.ALREADY_THERE]
        return (
            f"{there:,} thread(s) are in the database and stay there; "
            "run the same command again to go on."
        )

    def summarise(self, old: Path, old_size: int, new: Path) -> None:
        """Print the remarks and the counts."""
        for text, threads in self.remarks.items():
            named = ", ".join(threads[:NAMED])
            if len(threads) > NAMED:
                named += f" and {len(threads) - NAMED:,} more"
            self.print(f"{text}\n  {len(threads):,} thread(s): {named}")

        seconds = time.monotonic() - self.began
        summary = (
            f"Imported {self.counts[ImportOutcome.IMPORTED]:,} thread(s) "
            f"with {self.checkpoints:,} checkpoint(s) in {seconds:,.1f} s"
        )
        if there := self.counts[ImportOutcome.ALREADY_THERE]:
            summary += f", {there:,} were there already"
        if left_out := self.counts[ImportOutcome.LEFT_OUT]:
            summary += f", {left_out:,} were left out"
        self.print(f"{summary}.")
        self.print(
            f"{old.name} has {mebibytes(old_size)}, {new.name} has {mebibytes(new.stat().st_size)}."
        )

    def print(self, text: str) -> None:
        """Print a line of the report."""
        self.console.print(visible(text), soft_wrap=True)

    @contextmanager
    def progress(self, threads: int, size: int) -> Iterator[Steps]:
        """A bar while the context is entered; without a terminal, a line now and then."""
        if not self.console.is_terminal:
            yield Steps(threads, size, self._line_now_and_then())
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(f"0 of {threads:,} threads", total=1)

            def show(text: str, done: float) -> None:
                bar.update(task, completed=done, description=text)

            yield Steps(threads, size, show)

    def _line_now_and_then(self) -> Show:
        shown = time.monotonic()

        def show(text: str, done: float) -> None:
            nonlocal shown
            if time.monotonic() - shown >= SECONDS_BETWEEN_LINES:
                shown = time.monotonic()
                self.print(f"{text}, {done:.0%}")

        return show


class Steps:
    """Counts the bytes and threads that were done with."""

    def __init__(self, threads: int, size: int, show: Show) -> None:
        self._threads = threads
        self._size = size
        self._show = show
        self._threads_done = 0
        self._size_done = 0

    def add_thread(self) -> None:
        """Count a thread."""
        self._threads_done += 1
        self._update()

    def add_bytes(self, size: int) -> None:
        """Count so many bytes."""
        self._size_done += size
        self._update()

    def _update(self) -> None:
        text = f"{self._threads_done:,} of {self._threads:,} threads"
        self._show(text, min(self._size_done / max(self._size, 1), 1))
