"""The storm: people talk to the real server while it is killed again and again, and then it is
judged.

    report = await storm(folder, Plan(rounds=100, seed=7))
    assert not report.findings

Each round is a kill, which comes at a random moment of a process's life, or of its start, when it
is taking up what the one before left. From time to time the server is left alone and nobody asks for anything: then every
run must come to its end within seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.acceptance.crash_agent import AGENT
from tests.acceptance.crash_judge import Finding, Found, Life, is_given_up, judge, read_ledger
from tests.acceptance.crash_people import Book, Log, Person
from tests.support import agents
from tests.support.server import Api, Server, asking, expect, serving

REST_SECONDS = 10
"""How long after a start a run may take to come to its end, if nobody asks for anything. On a busy
machine longer, as long as something happens."""

LONGEST_REST_SECONDS = 6 * REST_SECONDS

AT_ITS_START = 0.15
"""How many of the kills come while a process starts."""

LONGEST_START = 0.4

LONG_ENOUGH = 0.5
"""Of three lives in a row one is at least that long: a run that gets nowhere in several lives is
given up, which has tests of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many rounds, with a rest after each so many; within how many seconds after each start the
    kills come; by which random numbers, and under what environment."""

    rounds: int
    seed: int
    people: int = 5
    rest_every: int = 10
    longest_life: float = 0.8
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """What came of it."""

    plan: Plan
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0
    start_seconds: list[float] = field(default_factory=list)
    rest_seconds: list[float] = field(default_factory=list)

    def kinds(self) -> Counter[str]:
        """How many findings there are of each kind."""
        return Counter(kind for kind, _ in self.findings)

    def __str__(self) -> str:
        kinds, counts = self.kinds(), self.counts
        others = len(self.findings) - kinds["duplicate"] - kinds["stuck"]
        lines = [
            f"kills {counts['kills']}   duplicates {kinds['duplicate']}   stuck {kinds['stuck']}   unknown {counts['unknown']}   "
            f"other findings {others}",
            "   ".join(
                f"{name} {number}"
                for name, number in counts.items()
                if name not in ("kills", "unknown")
            ),
            f"starts took {median(self.start_seconds):.2f} s, at most {max(self.start_seconds):.2f}; all was at rest after "
            f"{median(self.rest_seconds):.2f} s, at most {max(self.rest_seconds):.2f}",
            f"{self.seconds / 60:.1f} minutes, with the random numbers of {self.plan.seed}",
        ]
        return "\n".join(
            [*lines, *(f"{kind}: {sentence}" for kind, sentence in self.findings[:400])]
        )


GRAPHS = {
    AGENT: f"{Path(__file__).with_name('crash_agent.py')}:agent",
    "other": f"{agents.__file__}:agent",
}


def configured(folder: Path, *names: str) -> str:
    """Have the next process serve these graphs; the configuration's path."""
    file = folder / "langgraph.json"
    file.write_text(json.dumps({"graphs": {name: GRAPHS[name] for name in names}}))
    return str(file)


async def storm(folder: Path, plan: Plan) -> Report:
    """Do as planned, and judge."""
    target = configured(folder, AGENT)
    with serving(folder, target, **keys_of(plan), **plan.environment) as server:
        return await Storm(server, plan).report()


def keys_of(plan: Plan) -> dict[str, str]:
    """The settings with the people's keys and roles: each sees what the others do."""
    keys = [f"{name}:the-secret-of-{name}" for name in _names(plan)]
    return {
        "ASSENT_API_KEYS": ",".join(keys),
        "ASSENT_DEFAULT_ROLES": "operator,approver,auditor",
    }


def _names(plan: Plan) -> list[str]:
    return [f"c{number}" for number in range(plan.people)]


class Storm:
    """People who talk to a server, which is killed in each round."""

    patient = False
    """Whether the people may be told: not now."""

    def __init__(self, server: Server, plan: Plan) -> None:
        self._server = server
        self._plan = plan
        self._report = Report(plan)
        self._chance = random.Random(plan.seed)
        self._book = Book()
        now = datetime.now(UTC)
        # The first process has recovered nothing, so when it started does not matter.
        self._lives = [Life(datetime.min.replace(tzinfo=UTC), now)]
        self._going = asyncio.Event()
        self._served = asyncio.Event()
        self._served.set()

    async def report(self) -> Report:
        """Do as planned, and judge."""
        begun = time.monotonic()
        async with AsyncExitStack() as stack:
            apis = {
                name: await stack.enter_async_context(
                    asking(self._server, authorization=f"Bearer the-secret-of-{name}")
                )
                for name in _names(self._plan)
            }
            await self._rage(apis)
        self._report.seconds = time.monotonic() - begun
        return self._report

    async def _rage(self, apis: dict[str, Api]) -> None:
        people = []
        for name, api in apis.items():
            chance = random.Random(f"{self._plan.seed} {name}")
            person = Person(
                name, api, self._book, chance, self._going, self._served, patient=self.patient
            )
            people.append(person)
        for person in people:
            person.others = people
        any_api = next(iter(apis.values()))
        self._going.set()
        async with all_cancelled_in_the_end(
            # Each does two things at a time: only its owner puts words into a thread.
            [asyncio.create_task(person.live()) for person in people for _ in range(2)]
        ) as lives:
            for number in range(1, self._plan.rounds + 1):
                await self._round()
                if number % self._plan.rest_every == 0:
                    await self._rest(any_api)
                for life in lives:
                    if life.done():
                        life.result()
        self._going.clear()
        found = await self._find(any_api)
        self._report.findings += judge(self._book, found)
        self._count(found)

    async def _round(self) -> None:
        """Let the process live for a while, kill it, and start another; which may be killed before
        it has started."""
        await asyncio.sleep(self._life_time())
        await asyncio.to_thread(self._server.kill)
        self._served.clear()
        self._report.counts["kills"] += 1
        begun = time.monotonic()
        self._lives.append(Life(datetime.now(UTC)))
        await asyncio.to_thread(self._server.launch)
        if (
            self._chance.random() < AT_ITS_START
            and self._report.counts["kills"] < self._plan.rounds
        ):
            # By these, what is asked of a server that only just listens is asked too.
            self._served.set()
            await asyncio.sleep(self._chance.random() * LONGEST_START)
            return
        await asyncio.to_thread(self._server.wait_until_healthy)
        self._served.set()
        self._lives[-1].healthy_at = datetime.now(UTC)
        self._report.start_seconds.append(time.monotonic() - begun)

    def _life_time(self) -> float:
        if self._lives[-1].healthy_at is None:
            # It is killed in its start.
            return 0.0
        recent = self._report.counts["kills"] % 3 == 2
        return self._chance.uniform(
            min(LONG_ENOUGH, self._plan.longest_life) if recent else 0, self._plan.longest_life
        )

    async def _rest(self, api: Api) -> None:
        """Ask for nothing for a while, and see whether all comes to its end."""
        self._going.clear()
        await self._all_at_rest(api)
        left = self._book.logs.keys() - {log.thread_id for log in self._book.current.values()}
        await self._let_followers_go(api, left)
        self._going.set()

    async def _all_at_rest(self, api: Api) -> None:
        if self._lives[-1].healthy_at is None:
            await asyncio.to_thread(self._server.wait_until_healthy)
            self._lives[-1].healthy_at = datetime.now(UTC)
        begun = last_change = time.monotonic()
        known: object = None
        while busy := await self._busy(api):
            now = time.monotonic()
            found = (busy, {id: log.last for id, log in self._book.logs.items()})
            if found != known:
                known, last_change = found, now
            if now > last_change + REST_SECONDS or now > begun + LONGEST_REST_SECONDS:
                self._report.findings += [
                    ("stuck", f"{id} was busy {now - begun:.0f} s after a start.") for id in busy
                ]
                break
            await asyncio.sleep(0.05)
        self._report.rest_seconds.append(time.monotonic() - begun)

    async def _busy(self, api: Api) -> list[str]:
        """What has not come to its end, be it a thread or a run that waits its turn on one that is
        free."""
        followed = [
            log.thread_id
            for log in self._book.logs.values()
            if log.follower is not None and log.events
        ]
        # First: a run that is begun between two reads has waited in this one, or is seen by the next.
        waiting = [run for id in followed for run in await api.runs(id, status="pending")]
        if busy := [
            thread["thread_id"] for thread in (await api.get("/threads", status="busy"))["threads"]
        ]:
            return busy
        return [
            run["run_id"]
            for run in waiting
            if (await api.get(f"/threads/{run['thread_id']}"))["status"] != "interrupted"
        ]

    async def _let_followers_go(self, api: Api, thread_ids: Collection[str]) -> None:
        """Nothing happens on these threads any more: their followers must have seen all that there
        is to see."""
        for log in (self._book.logs[id] for id in thread_ids):
            if log.follower is None:
                continue
            if log.events:
                await self._caught_up(api, log)
            log.follower.cancel()
            log.follower = None

    async def _caught_up(self, api: Api, log: Log) -> None:
        deadline = time.monotonic() + LONGEST_REST_SECONDS
        while await api.events(log.thread_id, after=log.last):
            if time.monotonic() > deadline:
                self._report.findings.append(
                    ("numbers", f"The follower of {log.thread_id} never got {log.last + 1}.")
                )
                return
            await asyncio.sleep(0.05)

    async def _find(self, api: Api) -> Found:
        await self._all_at_rest(api)
        await self._let_followers_go(api, self._book.logs)
        approvals = {
            approval["approval_id"]: approval
            for approval in await _all_pages(api, "/approvals", "approvals")
        }
        threads = {
            id: await api.get(f"/threads/{id}") for id, log in self._book.logs.items() if log.events
        }
        runs = {
            run["run_id"]: run
            for id in threads
            for run in await _all_pages(api, "/runs", "runs", thread_id=id)
        }
        return Found(
            threads=threads,
            runs=runs,
            approvals=approvals,
            feed=await _feed(api),
            lines=read_ledger(self._server.ledger),
            lives=self._lives,
        )

    def _count(self, found: Found) -> None:
        counts = self._report.counts
        events = [event for log in self._book.logs.values() for event in log.events]
        types = Counter(event["type"] for event in events)
        counts["unknown"] = types["tool_unknown"]
        counts["messages"] = len(self._book.sent)
        counts["decisions"] = len(self._book.known)
        counts["lines"] = len(found.lines)
        counts["threads"] = len(self._book.logs)
        counts["events"] = sum(log.last for log in self._book.logs.values())
        counts["reconnections"] = sum(log.connections for log in self._book.logs.values())
        counts["recovered"] = types["run_recovered"]
        counts["cancelled"] = types["run_cancelled"]
        counts["given up"] = sum(
            is_given_up([event]) for event in events if event["type"] == "error"
        )


@asynccontextmanager
async def all_cancelled_in_the_end(
    tasks: list[asyncio.Task[Any]],
) -> AsyncIterator[list[asyncio.Task[Any]]]:
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _feed(api: Api) -> list[Any]:
    """The whole feed of the agent."""
    events: list[Any] = []
    headers = {"accept": "application/json"}
    while True:
        after = {"after": events[-1]["seq"] if events else 0}
        path = f"/agents/{AGENT}/events"
        page = await expect(await api.http.get(path, params=after, headers=headers), 200)
        if not page.json()["events"]:
            return events
        events += page.json()["events"]


async def _all_pages(api: Api, path: str, what: str, **parameters: str) -> list[Any]:
    rows: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = await api.get(path, limit=1000, **parameters, **cursor)
        rows += page[what]
        if page["next"] is None:
            return rows
        cursor = {"cursor": page["next"]}
