"""What `assent import-checkpoints` shows: how far it is, and what came of it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from assent.cli.chat import visible
from assent.importing.foreign import OldThread
from assent.importing.threads import Outcome, Result

MIB = 1 << 20

NAMED = 10
"""Of the threads that something is to be said of, so many are named."""

SECONDS_BETWEEN_LINES = 5.0
"""Where there is no terminal to draw a bar on."""


@dataclass
class Report:
    """What an import has come to so far."""

    console: Console
    counts: Counter[Outcome] = field(default_factory=Counter)
    checkpoints: int = 0
    remarks: dict[str, list[str]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def add(self, thread: OldThread, result: Result) -> None:
        """One thread more."""
        self.counts[result.outcome] += 1
        if result.outcome is Outcome.TAKEN:
            self.checkpoints += thread.checkpoints
        elif result.outcome is Outcome.LEFT_OUT:
            self.remark(f"Left out. {result.reason}", thread.thread_id)

    def remark(self, text: str, thread_id: str) -> None:
        """Say this of the thread at the end; what is said of several is said once."""
        self.remarks.setdefault(text, []).append(thread_id)

    def so_far(self) -> str:
        """What is there and stays, when the import was stopped."""
        there = self.counts[Outcome.TAKEN] + self.counts[Outcome.THERE]
        return f"{there:,} thread(s) are in the database and stay there; run the same command again to go on."

    def tell(self, old: Path, old_size: int, new: Path) -> None:
        """The summary."""
        for text, threads in self.remarks.items():
            more = f" and {len(threads) - NAMED:,} more" if len(threads) > NAMED else ""
            self._print(f"{text}\n  {len(threads):,} thread(s): {', '.join(threads[:NAMED])}{more}")
        seconds, taken, left_out = (
            time.monotonic() - self.began,
            self.counts[Outcome.TAKEN],
            self.counts[Outcome.LEFT_OUT],
        )
        there = (
            f", {self.counts[Outcome.THERE]:,} were there already"
            if self.counts[Outcome.THERE]
            else ""
        )
        missing = f", {left_out:,} were left out" if left_out else ""
        self._print(
            f"Imported {taken:,} thread(s) with {self.checkpoints:,} checkpoint(s) in {seconds:,.1f} s{there}{missing}."
        )
        self._print(
            f"{old.name} has {old_size / MIB:,.1f} MiB, {new.name} has {new.stat().st_size / MIB:,.1f} MiB."
        )

    def _print(self, text: str) -> None:
        self.console.print(visible(text), soft_wrap=True)

    # ── how far it is ──

    @contextmanager
    def progress(self, threads: int, size: int) -> Iterator[Steps]:
        """A bar while the context is entered, or now and then a line where there is no terminal."""
        if not self.console.is_terminal:
            yield Lines(self.console, threads, size)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield Bar(progress, threads, size)


class Steps(ABC):
    """Counts bytes and threads that were done with."""

    def __init__(self, threads: int, size: int) -> None:
        self.threads = threads
        self.size = size
        self.threads_done = 0
        self.size_done = 0

    def thread(self) -> None:
        """A thread was done with."""
        self.threads_done += 1
        self.show()

    def bytes(self, size: int) -> None:
        """So many bytes more."""
        self.size_done += size
        self.show()

    @abstractmethod
    def show(self) -> None:
        """Let it be seen."""

    def text(self) -> str:
        return f"{self.threads_done:,} of {self.threads:,} threads"


class Bar(Steps):
    """On a terminal."""

    def __init__(self, progress: Progress, threads: int, size: int) -> None:
        super().__init__(threads, size)
        self._progress = progress
        self._task = progress.add_task(self.text(), total=size)

    def show(self) -> None:
        self._progress.update(
            self._task, completed=min(self.size_done, self.size), description=self.text()
        )


class Lines(Steps):
    """Elsewhere."""

    def __init__(self, console: Console, threads: int, size: int) -> None:
        super().__init__(threads, size)
        self._console = console
        self._next = time.monotonic() + SECONDS_BETWEEN_LINES

    def show(self) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + SECONDS_BETWEEN_LINES
            self._console.print(
                f"{self.text()}, {min(self.size_done / max(self.size, 1), 1):.0%}", soft_wrap=True
            )
