"""Servers with one of their safeguards taken out, to show that the harness sees it. Each function
changes the process that it is called in.

Plan(…, environment={"BEFORE_SERVING": "tests.acceptance.crash_mutants:without_intents"})
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from assent.core.clock import Clock
from assent.core.rows import ACTIVE, Run
from assent.runs.ledger import StoredEffects
from assent.runs.worker import EmbeddedEngine
from assent.storage.sqlite import SqliteStorage, changes, database
from assent.storage.sqlite.leases import Leases
from assent.storage.sqlite.tables import Table
from tests.support import moved_clock


def in_bad_weather() -> None:
    """Nothing is taken out: the clock is one that is moved, and a lock is waited for as long as is
    planned."""
    moved_clock.install()
    if seconds := os.environ.get("BUSY_SECONDS"):
        database.BUSY_SECONDS = float(seconds)


def without_intents() -> None:
    """No call is noted down before it starts."""

    async def begin(self: StoredEffects, intent: Any) -> None:
        return None

    StoredEffects.begin = begin  # type: ignore[method-assign, assignment]


def without_comparing() -> None:
    """Whoever writes a row last is right, whatever he had read."""
    make = Table.__init__

    def made(self: Table[Any], *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        self.insert = self.insert.replace("INSERT", "INSERT OR REPLACE", 1).partition(
            " ON CONFLICT"
        )[0]
        self.update = self.update.replace("version = ?", "? IS NOT NULL")

    Table.__init__ = made  # type: ignore[method-assign]
    changes._check_unchanged = lambda row, tables: lambda transaction: None


def with_two_workers(second_clock: Callable[[Clock], Clock] = lambda clock: clock) -> None:
    """Two workers share the runs. With all safeguards in place nobody can tell."""
    working = EmbeddedEngine.working

    @asynccontextmanager
    async def both_working(self: EmbeddedEngine) -> AsyncIterator[None]:
        second = EmbeddedEngine(
            self._storage,
            self._executor,
            clock=second_clock(self._clock),
            max_runs=self._max_runs,
            on_timer=self._on_timer,
        )
        async with working(self), working(second):
            yield

    EmbeddedEngine.working = both_working  # type: ignore[method-assign, assignment]


def with_two_workers_an_hour_apart() -> None:
    """And the clock of one is an hour ahead of that of the other one, which a test moves."""
    moved_clock.install()

    def an_hour_ahead(clock: Clock) -> Clock:
        return replace(clock, now=lambda: clock.now() + timedelta(hours=1))

    with_two_workers(an_hour_ahead)


def with_greedy_workers() -> None:
    """Each of two workers takes over what the other one works on."""
    with_two_workers()

    async def orphaned_runs(
        self: SqliteStorage, *, agents: Collection[str], limit: int = 1000
    ) -> tuple[Run, ...]:
        return await self.runs(status=ACTIVE, limit=limit)

    SqliteStorage.orphaned_runs = orphaned_runs  # type: ignore[method-assign]


def without_leases() -> None:
    """And what the one still writes for a run that the other has is not refused."""
    with_greedy_workers()
    Leases.check = lambda self, lease: None  # type: ignore[method-assign]
