"""Bad weather: a storm in which, besides kills, clocks are moved, the disk stalls, and servers are
started without their agent.

    report = await weather(folder, Forecast(rounds=200, seed=7))
    assert not report.findings

Each round is one trouble, and then it ends. What people are refused meanwhile they ask again. The
server is watched over as a supervisor would: a process that ends by itself is started again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.acceptance.crash_agent import AGENT
from tests.acceptance.crash_judge import Found
from tests.acceptance.crash_storm import Plan, Report, Storm, configured, keys_of
from tests.support import moved_clock
from tests.support.disk import Disk, locked, own_disk
from tests.support.server import Api, Server, serving
from tests.support.waiting import PATIENCE

FURTHEST = 2 * 3600.0
"""Seconds by which the clock is ahead or behind, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Plan):
    """A plan in which each trouble lasts at most so many seconds, and the server waits so long for
    a lock before it takes its storage for away (None: as long as it always does)."""

    rest_every: int = 5
    longest_trouble: float = 20.0
    busy_seconds: float | None = None
    environment: Mapping[str, str] = field(
        default_factory=lambda: {
            "BEFORE_SERVING": "tests.acceptance.crash_mutants:in_bad_weather",
            "ASSENT_DRAIN_SECONDS": "1",
            # Long enough for each trouble to come in the midst of some.
            "CRASH_TOOL_SECONDS": "0.4",
        }
    )

    @property
    def disk_size(self) -> str:
        """The room for what all rounds leave, in `mount`'s words. A round leaves some 1.5 MiB."""
        return f"{max(64, 4 * self.rounds)}m"


async def weather(folder: Path, plan: Forecast) -> Report:
    """Do as planned, and judge."""
    environment = {**keys_of(plan), **plan.environment, "CLOCK": str(folder / "clock")}
    if plan.busy_seconds is not None:
        environment["BUSY_SECONDS"] = str(plan.busy_seconds)
    with own_disk(folder / "disk", plan.disk_size) as disk:
        environment["ASSENT_DATABASE"] = f"sqlite:///{folder / 'disk' / 'assent.db'}"
        with serving(folder, configured(folder, AGENT, "other"), **environment) as server:
            return await Weather(server, plan, disk).report()


class Weather(Storm):
    """People who talk to a server in bad weather. Without a `disk` of its own, none fills up."""

    patient = True

    def __init__(self, server: Server, plan: Forecast, disk: Disk | None) -> None:
        super().__init__(server, plan)
        self._longest = plan.longest_trouble
        self._disk = disk
        self._database = server.folder / "disk" / "assent.db"
        self._troubles: dict[str, Callable[[], Awaitable[None]]] = {
            "moved": self._is_moved,
            "restarted": self._is_restarted,
            "locked": self._is_locked,
            "lacking": self._lacks_its_agent,
        }
        if disk is not None:
            self._troubles["full"] = self._is_full
        self._ahead: list[str] = []

    async def _round(self) -> None:
        # Meanwhile runs begin.
        await self._a_while()
        if not self._ahead:
            # Each once, in any order.
            self._ahead = self._chance.sample(list(self._troubles), len(self._troubles))
        trouble = self._ahead.pop()
        self._report.counts[trouble] += 1
        await self._troubles[trouble]()
        await self._stands()

    # ── troubles ──────────────────────────────────────────────────────────────────────────────────

    async def _is_moved(self) -> None:
        """The clock is set while the server works."""
        self._move_clock()
        await self._a_while()

    async def _is_restarted(self) -> None:
        """The next process has another clock."""
        await self._end()
        self._move_clock()
        await asyncio.to_thread(self._server.launch)

    async def _is_locked(self) -> None:
        """Another program has the file."""
        await self._in_trouble(locked(self._database))

    async def _is_full(self) -> None:
        """The disk is full."""
        assert self._disk is not None
        await self._in_trouble(self._disk.full())

    async def _lacks_its_agent(self) -> None:
        """One process is started without the agent."""
        await self._end()
        configured(self._server.folder, "other")
        await asyncio.to_thread(self._server.launch)
        await self._stands()
        await self._a_while()
        await self._end()
        configured(self._server.folder, AGENT, "other")
        await asyncio.to_thread(self._server.launch)

    async def _in_trouble(self, trouble: AbstractContextManager[None]) -> None:
        with trouble:
            await self._a_while()
            luck = self._chance.random()
            if luck < 0.3:
                await self._end()
                await asyncio.to_thread(self._server.launch)
            elif luck < 0.5:
                self._move_clock()
            await self._a_while()

    # ── what they are made of ─────────────────────────────────────────────────────────────────────

    def _move_clock(self) -> None:
        # Near and far: a lease is 15 s long, and threads are known by times an hour apart.
        far = self._chance.choice((1.0, 60.0, FURTHEST))
        moved_clock.move(self._server.folder / "clock", self._chance.uniform(-far, far))

    async def _a_while(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, self._longest / 2))

    async def _end(self) -> None:
        """End the process, in whichever way."""
        kill = self._chance.random() < 0.5
        self._report.counts["kills" if kill else "stops"] += 1
        end = self._server.kill if kill else self._server.terminate
        await asyncio.to_thread(end)

    async def _stands(self) -> None:
        """Wait until the server answers. A process that has ended by itself, because it could not
        have its file, is followed by another."""
        begun = time.monotonic()
        while not await asyncio.to_thread(self._server.answers):
            if not self._server.is_running:
                self._report.counts["gave up"] += 1
                self._server.kill()
                await asyncio.to_thread(self._server.launch)
            assert time.monotonic() < begun + PATIENCE, self._server.output
            await asyncio.sleep(0.02)
        self._report.start_seconds.append(time.monotonic() - begun)

    async def _find(self, api: Api) -> Found:
        for status, count in self._book.refusals.items():
            self._report.counts[f"answers {status}"] = count
        # By the clock that was moved nobody can tell which process wrote what.
        return replace(await super()._find(api), lives=())
