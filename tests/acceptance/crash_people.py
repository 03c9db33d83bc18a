"""People who talk to a server that keeps dying, as real clients do: they ask again when an answer
was lost, and follow what happens.

What they know for certain goes into the `Book`, and is all that is held against the server later:
what it has acknowledged, what it showed as decided, and the events that it sent.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from tests.acceptance.crash_agent import AGENT, FREE, GATED
from tests.support.server import Api, Event, events_of

MESSAGES_PER_THREAD = 6
"""Then its people leave a thread as it is, and begin another."""

OWN_THREADS = 2
SHARED_THREADS = 2
SHARED = "all"

Json = Any


@dataclass(slots=True)
class Sent:
    """A message. `status` is what the server said to it; None if that was lost."""

    thread_id: str
    text: str
    status: int | None = None
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A decision that the server has acknowledged, or shown as somebody's."""

    approval_id: str
    decision: Json
    by: str


@dataclass(slots=True)
class Log:
    """One thread, as its follower has seen it. `may_stop` says that people cancel there too;
    `stopped` that somebody asked for it. `refusals` are what messages may be answered besides."""

    thread_id: str
    may_stop: bool
    refusals: tuple[int, ...] = ()
    events: list[Event] = field(default_factory=list)
    last: int = 0
    sent: int = 0
    stopped: bool = False
    connections: int = 0
    follower: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run that the server has acknowledged to stop."""

    thread_id: str
    run_id: str


@dataclass(slots=True)
class Book:
    """What is known for certain. `complaints` are what no client should ever meet, as kind and
    sentence."""

    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    sent: list[Sent] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)
    stopped: list[Stopped] = field(default_factory=list)
    logs: dict[str, Log] = field(default_factory=dict)
    current: dict[str, Log] = field(default_factory=dict)
    complaints: list[tuple[str, str]] = field(default_factory=list)
    refusals: Counter[int] = field(default_factory=Counter)
    """How often a patient one was told: not now, by status."""


# ── following ─────────────────────────────────────────────────────────────────────────────────────


async def follow(
    api: Api, log: Log, book: Book, chance: random.Random, served: asyncio.Event
) -> None:
    """Read the thread's events for ever, with the number of the last one after each connection that
    broke, or that was left."""
    while True:
        await served.wait()
        with suppress(httpx.TransportError):
            log.connections += 1
            async with api.http.stream(
                "GET", f"/threads/{log.thread_id}/events", headers={"Last-Event-ID": str(log.last)}
            ) as response:
                if response.status_code == 200:
                    async for event in events_of(response):
                        if event["seq"] != log.last + 1:
                            book.complaints.append(
                                (
                                    "numbers",
                                    f"{log.thread_id}: {event['seq']} came after {log.last}.",
                                )
                            )
                        log.last = event["seq"]
                        if event["type"] not in ("token", "tool_call_delta"):
                            log.events.append(event)
                        if chance.random() < 0.01:
                            break
        await asyncio.sleep(0.05)


# ── one of them ───────────────────────────────────────────────────────────────────────────────────


NOT_NOW = (404, 503)
"""Answers of a server that does not have the agent now, or cannot store anything: nothing has
changed, and whoever asks again later is served."""


TAKEN = 404
"""The answer to a message on a thread that is another's: somebody else began it first."""


class Person:
    """Talks on threads of their own, and on some that others decide on too: these belong to whoever
    began them. `others` are who they argue with. A `patient` one may be told: not now.

    They ask while `served` is set: to ask where nobody listens takes the processor from the server
    that starts.
    """

    def __init__(
        self,
        name: str,
        api: Api,
        book: Book,
        chance: random.Random,
        going: asyncio.Event,
        served: asyncio.Event,
        *,
        patient: bool = False,
    ) -> None:
        self.name = name
        self.others: Sequence[Person] = ()
        self._refusals = NOT_NOW if patient else ()
        self._api = api
        self._book = book
        self._chance = chance
        self._going = going
        self._served = served

    async def live(self) -> None:
        """Go on for ever, one deed after another, with rests while `going` is not set."""
        slots = [f"{self.name}-{index}" for index in range(OWN_THREADS)] + [
            f"{SHARED}-{index}" for index in range(SHARED_THREADS)
        ]
        while True:
            await self._going.wait()
            await self._served.wait()
            await self._act(self._log_of(self._chance.choice(slots)))
            await asyncio.sleep(self._chance.random() * 0.02)

    def _log_of(self, slot: str) -> Log:
        log = self._book.current.get(slot)
        if log is None or log.sent >= MESSAGES_PER_THREAD:
            number = sum(1 for id in self._book.logs if id.rpartition("-")[0] == slot)
            refusals = (TAKEN,) if slot.startswith(SHARED) else ()
            log = Log(f"{slot}-{number}", may_stop=number % 3 == 2, refusals=refusals)
            log.follower = asyncio.create_task(
                follow(self._api, log, self._book, self._chance, self._served)
            )
            self._book.current[slot] = self._book.logs[log.thread_id] = log
        return log

    async def _act(self, log: Log) -> None:
        response = await self._ask("GET", f"/threads/{log.thread_id}")
        thread = self._expect(response, 200, 404).json()
        status = thread["status"] if response.status_code == 200 else "new"
        is_own = status == "new" or thread["owner"] == self.name
        luck = self._chance.random()
        if status == "interrupted":
            await self._decide(log, is_own)
        elif not is_own:
            await asyncio.sleep(0.03)
        elif status != "busy":
            await self._say(log)
        elif log.may_stop and luck < 0.15:
            await self._stop_what_runs(log)
        elif luck < 0.3:
            await self._say_meanwhile(log)
        else:
            await asyncio.sleep(0.03)

    # ── saying ────────────────────────────────────────────────────────────────────────────────────

    async def _say(self, log: Log, **body: Json) -> None:
        log.sent += 1
        sent = Sent(log.thread_id, self._script())
        self._book.sent.append(sent)
        request = {"message": sent.text, "thread_id": log.thread_id, "agent": AGENT, **body}
        # One that waits for its turn is not waited for: its thread may pause, and who else would
        # decide?
        way = (
            self._background
            if body
            else self._chance.choice((self._invoke, self._stream, self._background))
        )
        with suppress(httpx.TransportError):
            await way(sent, request)
            if sent.status in self._refusals:
                self._book.refusals[sent.status] += 1
            elif sent.status not in (None, 200, 202, 409, *log.refusals):
                self._book.complaints.append(("status", f"{sent} was answered {sent.status}."))

    async def _say_meanwhile(self, log: Log) -> None:
        """Say something while something else is going on."""
        on_busy = self._chance.choice(
            ("reject", "enqueue", "enqueue", "interrupt", "rollback")
            if log.may_stop
            else ("reject", "enqueue")
        )
        log.stopped = log.stopped or on_busy in ("interrupt", "rollback")
        await self._say(log, on_busy=on_busy, if_paused="refuse" if on_busy == "reject" else "wait")

    async def _invoke(self, sent: Sent, body: Json) -> None:
        """Wait for what it comes to."""
        response = await self._api.http.post("/agent/invoke", json=body)
        sent.status, sent.run_id = _status(response), response.headers.get("x-run-id", "")
        if response.status_code == 503:
            # If the storage was away for long, it was taken all the same.
            sent.run_id = response.json().get("run_id", "")

    async def _stream(self, sent: Sent, body: Json) -> None:
        """Listen for a while, and hang up."""
        async with self._api.http.stream("POST", "/agent/stream", json=body) as response:
            sent.status, sent.run_id = _status(response), response.headers.get("x-run-id", "")
            patience = self._chance.randrange(60)
            async for _ in response.aiter_bytes():
                patience -= 1
                if patience < 0:
                    return

    async def _background(self, sent: Sent, body: Json) -> None:
        """Do not wait for anything."""
        request = dict(body)
        # A patient one's clock may be set back by hours.
        sooner = not self._refusals
        if sooner and body.get("on_busy") == "enqueue" and self._chance.random() < 0.3:
            request["after_seconds"] = round(self._chance.random(), 3)
        response = await self._api.http.post("/agent/runs", json=request)
        sent.status, sent.run_id = _status(response), response.headers.get("x-run-id", "")

    def _script(self) -> str:
        chance = self._chance
        turns = [
            [
                chance.choice(FREE if chance.random() < 0.5 else GATED)
                for _ in range(chance.choice((1, 1, 2, 3)))
            ]
            for _ in range(2)
        ]
        wanted = turns[: chance.choice((1, 1, 2))]
        return " > ".join(
            ", ".join(f"{tool} {next(self._book.numbers)}" for tool in turn) for turn in wanted
        )

    # ── deciding ──────────────────────────────────────────────────────────────────────────────────

    async def _decide(self, log: Log, is_own: bool) -> None:
        pending = await self._pending(log)
        if not pending:
            return
        luck = self._chance.random()
        if not is_own:
            # Words, and a stop, are for the owner alone.
            luck = 0.14 + 0.86 * luck
        if log.may_stop and luck < 0.05:
            await self._stop(log, pending[0]["run_id"])
        elif log.may_stop and luck < 0.08:
            log.stopped = True
            await self._say(log, if_paused="cancel")
        elif luck < 0.14:
            await self._say(log, if_paused="reject")
        elif luck < 0.3:
            await self._argue(self._chance.choice(pending))
        elif luck < 0.4:
            await self._resume(log, {"type": "approve", "all": True})
        elif luck < 0.65:
            several = self._chance.sample(pending, self._chance.randint(1, len(pending)))
            await self._resume(
                log,
                {
                    "decisions": {
                        approval["approval_id"]: self._decision(approval) for approval in several
                    }
                },
            )
        else:
            await self._decide_one(self._chance.choice(pending))

    async def _pending(self, log: Log) -> list[Json]:
        response = await self._ask(
            "GET", "/approvals", params={"thread_id": log.thread_id, "status": "pending"}
        )
        return list(self._expect(response, 200).json().get("approvals", ()))

    def _decision(self, approval: Json) -> Json:
        """One that this approval takes; approving more often than not."""
        kind = self._chance.choice(["approve", "approve", *approval["allowed"]])
        if kind == "edit":
            return {
                "type": kind,
                "args": {"number": approval["args"]["number"], "text": f"edited by {self.name}"},
            }
        return (
            {"type": kind}
            if kind == "approve"
            else {"type": kind, "message": f"{self.name} says so"}
        )

    async def _decide_one(self, approval: Json) -> None:
        """Ask until the answer is known. That he has decided it already, in a try whose answer was
        lost, is an answer too."""
        decision = self._decision(approval)
        response = await self._ask(
            "POST", f"/approvals/{approval['approval_id']}/decide", json=decision
        )
        self._expect(response, 202, 409)
        self._learn(approval["approval_id"], decision, response)

    async def _argue(self, approval: Json) -> None:
        """Several people decide it at once, each in his own way."""

        async def decide(person: Person) -> None:
            decision = person._decision(approval)
            with suppress(httpx.TransportError):
                response = await person._api.http.post(
                    f"/approvals/{approval['approval_id']}/decide", json=decision
                )
                person._expect(response, 202, 409)
                person._learn(approval["approval_id"], decision, response)

        await asyncio.gather(*(decide(person) for person in self._chance.sample(self.others, 4)))

    async def _resume(self, log: Log, body: Json) -> None:
        response = await self._ask("POST", f"/threads/{log.thread_id}/resume", json=body)
        self._expect(response, 202, 409)
        if response.status_code == 202:
            for approval_id, approval in response.json()["decisions"].items():
                self._book.known.append(Known(approval_id, approval["decision"], self.name))
        for approval_id in body.get("decisions", {}):
            stored = (await self._ask("GET", f"/approvals/{approval_id}")).json()
            if stored.get("decided_by"):
                self._book.known.append(
                    Known(approval_id, stored["decision"], stored["decided_by"])
                )

    def _learn(self, approval_id: str, decision: Json, response: httpx.Response) -> None:
        answer = response.json()
        if response.status_code == 202:
            self._book.known.append(Known(approval_id, decision, self.name))
        elif response.status_code == 409 and answer.get("decided_by"):
            self._book.known.append(Known(approval_id, answer["decision"], answer["decided_by"]))

    async def _stop_what_runs(self, log: Log) -> None:
        """Cancel the run that the thread is busy with, be it active or the first that waits."""
        response = await self._ask("GET", "/runs", params={"thread_id": log.thread_id})
        newest = self._expect(response, 200).json().get("runs", ())
        left = [run for run in newest if run["status"] in ("pending", "running", "cancelling")]
        if left:
            run = next((run for run in left if run["status"] != "pending"), left[-1])
            await self._stop(log, run["run_id"])

    async def _stop(self, log: Log, run_id: str) -> None:
        """Cancel the run, or all that goes on there. It may have ended meanwhile."""
        log.stopped = True
        path = self._chance.choice((f"/threads/{log.thread_id}/cancel", f"/runs/{run_id}/cancel"))
        body = {
            "mode": self._chance.choice(("interrupt", "rollback")),
            "wait": self._chance.random() < 0.3,
        }
        response = await self._ask("POST", path, json=body)
        self._expect(response, 200, 202, 409)
        if response.status_code in (200, 202):
            self._book.stopped += [
                Stopped(log.thread_id, run["run_id"]) for run in response.json()["runs"]
            ]

    # ── asking ────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, method: str, path: str, **request: Json) -> httpx.Response:
        """Ask until there is an answer that is not: the storage is away."""
        while True:
            await self._served.wait()
            with suppress(httpx.TransportError):
                response = await self._api.http.request(method, path, **request)
                if response.status_code != 503 or not self._refusals:
                    return response
                self._book.refusals[503] += 1
            await asyncio.sleep(0.05)

    def _expect(self, response: httpx.Response, *statuses: int) -> httpx.Response:
        if response.status_code not in (*statuses, *self._refusals):
            request = response.request
            what = f"{request.method} {request.url.path} {request.content.decode()[:300]}"
            self._book.complaints.append(
                ("status", f"{what} gave {response.status_code}: {response.text[:300]}")
            )
        return response


def _status(response: httpx.Response) -> int | None:
    """What became of a request: None if a server that was ending cut it off, and does not ask to
    have it again."""
    is_cut_off = response.status_code == 503 and "retry-after" not in response.headers
    return None if is_cut_off else response.status_code
