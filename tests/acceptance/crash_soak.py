"""The soak: threads are made, run, approved and erased at full rate, some by people and the others
by retention, and what the server takes is measured all the while.

    report = await soak(folder, Soaking(rounds=0, seed=7, minutes=30))
    assert not report.findings

After a while memory and file must be as large as they will ever be. What stays of an erased thread
by design, its log's last number and its audit entries, is measured apart.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median

from tests.acceptance.crash_agent import AGENT
from tests.acceptance.crash_judge import Finding
from tests.acceptance.crash_storm import Plan, all_cancelled_in_the_end, configured, keys_of
from tests.support.server import Api, Server, asking, expect, serving
from tests.support.waiting import until

SAMPLES = 60
"""How often the server is measured."""

SETTLING = 1 / 3
"""The part of the time in which both may still grow."""

SLACK = {"memory": (1.05, 8 << 20), "file": (1.10, 4 << 20)}
"""How much larger than in the middle third a median of the last third may be: a factor, and bytes.
A thread that left a kilobyte behind would be seen within minutes."""

STAYING = "name LIKE 'audit%' OR name LIKE 'log_heads%'"
"""The tables that outlive threads, and their indexes."""

LAST_SECONDS = 120.0
"""How long retention may take, beyond the time that threads are kept, for the last of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaking(Plan):
    """How many minutes it lasts, and for how many seconds idle threads are kept."""

    minutes: float

    @property
    def kept_seconds(self) -> float:
        """Short, so that the server often erases."""
        return min(20.0, self.minutes * 60 / 12)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server takes, in bytes, at a time. `staying` is the part of the file that outlives
    threads, and `file` the rest."""

    seconds: float
    memory: int
    file: int
    staying: int
    threads: int


@dataclass(slots=True)
class Soaked:
    """What came of it."""

    plan: Soaking
    samples: list[Sample] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        shown = self.samples[:: max(1, len(self.samples) // 20)]
        lines = [
            f"{sample.seconds:6.0f} s   memory {_mib(sample.memory)}   file {_mib(sample.file)}"
            f"   and to stay {_mib(sample.staying)}   threads made {sample.threads}"
            for sample in shown
        ]
        counts = "   ".join(f"{name} {number}" for name, number in self.counts.items())
        rate = self.counts["made"] / (self.plan.minutes * 60)
        lines.append(f"{counts}   {rate:.1f} threads a second")
        return "\n".join([*lines, *(f"{kind}: {sentence}" for kind, sentence in self.findings)])


async def soak(folder: Path, plan: Soaking) -> Soaked:
    """Do as planned, and judge."""
    environment = {
        **keys_of(plan),
        "ASSENT_THREADS_TTL": f"{plan.kept_seconds:g}s",
        "ASSENT_LOG_LEVEL": "warning",
        "CRASH_TOOL_SECONDS": "0",
        **plan.environment,
    }
    with serving(folder, configured(folder, AGENT), **environment) as server:
        return await Soak(server, plan).report()


class Soak:
    """People who make threads, and somebody who measures."""

    def __init__(self, server: Server, plan: Soaking) -> None:
        self._server = server
        self._plan = plan
        self._report = Soaked(plan)
        self._numbers = count(1)
        self._is_over = False

    async def report(self) -> Soaked:
        """Do as planned, and judge."""
        async with AsyncExitStack() as stack:
            apis = [
                await stack.enter_async_context(
                    asking(self._server, authorization=f"Bearer the-secret-of-c{number}")
                )
                for number in range(self._plan.people)
            ]
            # Somebody is asked, and answers at the very end.
            waiting = (await apis[0].paused(f"pay {next(self._numbers)}"))[0]["thread_id"]
            lives = [asyncio.create_task(self._live(api)) for api in apis]
            async with all_cancelled_in_the_end(lives):
                await self._measure(lives)
                # Each brings their last thread to its end.
                self._is_over = True
                await asyncio.gather(*lives)
            await self._all_erased_but(apis[0], waiting)
            await apis[0].decided(waiting, type="approve")
            assert (await apis[0].at_rest(waiting))["status"] == "idle"
        self._report.findings += growing(self._report.samples)
        return self._report

    async def _live(self, api: Api) -> None:
        """Make one thread after the other. Every second one is erased by whoever made it."""
        counts = self._report.counts
        for mine in count(1):
            if self._is_over:
                return
            first, second, third = (next(self._numbers) for _ in range(3))
            asked = await api.paused(f"look {first} > pay {second} > note {third}")
            counts["made"] += 1
            thread_id = asked[0]["thread_id"]
            run = await api.decided(thread_id, type="approve")
            await api.ended(run["run_id"])
            if mine % 2:
                await expect(await api.http.delete(f"/threads/{thread_id}"), 204)
                counts["erased by people"] += 1

    async def _measure(self, lives: Sequence[asyncio.Task[None]]) -> None:
        begun, seconds = time.monotonic(), self._plan.minutes * 60
        for number in range(1, SAMPLES + 1):
            await asyncio.sleep(begun + seconds * number / SAMPLES - time.monotonic())
            for life in lives:
                if life.done():
                    life.result()
            sample = await asyncio.to_thread(self._sample, time.monotonic() - begun)
            self._report.samples.append(sample)

    def _sample(self, seconds: float) -> Sample:
        database = self._server.folder / "assent.db"
        files = sum(
            path.stat().st_size
            for path in (database, database.with_name("assent.db-wal"))
            if path.exists()
        )
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            found = connection.execute(
                f"SELECT sum(pgsize) FROM dbstat WHERE ({STAYING}) AND aggregate = TRUE"
            )
            (staying,) = found.fetchone()
        memory, made = _memory_of(self._server.pid), self._report.counts["made"]
        return Sample(seconds, memory, files - staying, staying, made)

    async def _all_erased_but(self, api: Api, waiting: str) -> None:
        """Wait until retention has erased all threads but the one that waits for a person."""

        async def is_done() -> bool:
            page = await api.get("/threads")
            return [thread["thread_id"] for thread in page["threads"]] == [waiting]

        await until(is_done, self._plan.kept_seconds + LAST_SECONDS, every=0.5)
        counts = self._report.counts
        counts["erased by retention"] = counts["made"] - counts["erased by people"]


def growing(samples: Sequence[Sample]) -> list[Finding]:
    """What has not levelled off."""
    settled = samples[int(len(samples) * SETTLING) :]
    middle, last = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    findings = []
    for name, (factor, slack) in SLACK.items():
        before = median(getattr(sample, name) for sample in middle)
        after = median(getattr(sample, name) for sample in last)
        if after > before * factor + slack:
            findings.append(("growth", f"The {name} grew from {_mib(before)} to {_mib(after)}."))
    return findings


def _memory_of(pid: int) -> int:
    """The bytes of memory that the process has now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"The process {pid} has no memory: it has ended.")


def _mib(size: float) -> str:
    return f"{size / (1 << 20):.1f} MiB"
