"""What the tests of the engine's seam work with: an executor whose runs do what their message says,
and how runs get into the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from assent.core.access import Owner
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.errors import Conflict
from assent.core.rows import File, Run, RunStatus, Thread, ThreadStatus
from assent.core.run_input import RunInput
from assent.runs import outcome, transitions
from assent.runs.engine import Ending, Engine, Executor, HeldRun, OnTimer, RecoveryState, RunDrained
from assent.runs.transitions import Submission
from assent.runs.uploads import Uploads
from assent.runs.worker import EmbeddedEngine
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from tests.support.waiting import until

FINAL = frozenset({RunStatus.SUCCESS, RunStatus.ERROR, RunStatus.CANCELLED, RunStatus.INTERRUPTED})


@dataclass
class Jobs(Executor):
    """Runs that do what their message says: "" (nothing), "nap" (a moment), "hold" (until `go` is
    set), "deaf" (it does not stop before `go` is set, either), "listen" (until it is asked to
    drain), "fail"."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)
    """The ids of runs, as they were begun."""
    ended: list[str] = field(default_factory=list)
    at_work: dict[str, set[str]] = field(default_factory=dict)
    """By thread, who works on it now."""
    crowded: list[str] = field(default_factory=list)
    """Threads on which two worked at once."""
    most: int = 0
    agents: Collection[str] = ("agent",)
    place: str = "c1"
    """The checkpoint that a run is found at when its worker is gone."""

    async def execute(self, held: HeldRun) -> Ending:
        run = held.run
        self.begun.append(run.run_id)
        mine = self.at_work.setdefault(run.thread_id, set())
        if mine:
            self.crowded.append(run.thread_id)
        mine.add(run.run_id)
        self.most = max(self.most, sum(map(len, self.at_work.values())))
        try:
            await self._do(str(run.input.get("message", "")), held)
        finally:
            mine.discard(run.run_id)
        self.ended.append(run.run_id)
        return lambda thread, run, now: outcome.succeeded(thread, run, outcome.Head("c"), now)

    async def _do(self, message: str, held: HeldRun) -> None:
        match message:
            case "nap":
                await asyncio.sleep(0.002)
            case "hold":
                await self.go.wait()
            case "deaf":
                try:
                    await self.go.wait()
                finally:
                    await self.go.wait()
            case "listen":
                while not held.control.drain_requested:
                    await asyncio.sleep(0.01)
                raise RunDrained
            case "fail":
                raise ValueError("It fails.")

    async def cancel(self, held: HeldRun) -> Ending:
        return lambda thread, run, now: outcome.cancelled(
            thread, run, outcome.Head("c"), now, rolled_back=False
        )

    async def fail(self, held: HeldRun, error: BaseException) -> Ending:
        return lambda thread, run, now: outcome.failed(
            thread, run, *outcome.explain(error, run), "", now
        )

    async def recovery_state(self, run: Run) -> RecoveryState:
        return RecoveryState(message_ids=("m",), checkpoint_id=self.place, next=("agent",))


OpenEngine = Callable[..., Engine]
"""Makes an engine over a storage and an executor, with `clock`, `max_runs`, `on_timer` and
`lease_seconds` as `EmbeddedEngine` has them."""


@dataclass
class EngineHarness:
    """A storage, an executor and an engine over them. Everything durable is in `folder`."""

    folder: Path
    make: OpenEngine = EmbeddedEngine
    clock: Clock = field(default_factory=Clock)
    jobs: Jobs = field(default_factory=Jobs)

    def storage(self) -> AbstractAsyncContextManager[Storage]:
        """The storage, opened as by a new process."""
        return SqliteStorage.open(self.folder / "assent.db", self.clock)

    def engine(
        self,
        storage: Storage,
        *,
        max_runs: int = 100,
        on_timer: Mapping[str, OnTimer] | None = None,
        **options: Any,
    ) -> Engine:
        """An engine, not at work yet."""
        return self.make(
            storage, self.jobs, clock=self.clock, max_runs=max_runs, on_timer=on_timer, **options
        )

    @asynccontextmanager
    async def at_work(self, **options: Any) -> AsyncIterator[tuple[Storage, Engine]]:
        """A storage, and an engine that works on it and is drained at the end."""
        async with self.storage() as storage:
            engine = self.engine(storage, **options)
            async with engine.working():
                yield storage, engine
                await engine.drain(1.0)

    async def submit(
        self,
        storage: Storage,
        engine: Engine | None,
        thread_id: str,
        message: str = "",
        **options: Any,
    ) -> Run:
        """A run in the queue of its thread, which is made if it is new."""
        while True:
            now = self.clock.now()
            thread = await storage.thread(thread_id)
            asked = Submission(
                given=RunInput(message), by=Actor("ann"), thread_id=thread_id, **options
            )
            agent = asked.agent or "agent"
            run = transitions.new_run(asked, thread_id, agent, self.clock.new_id(), now)
            change, _ = transitions.queued(thread, run, now, metadata={})
            try:
                await storage.commit(change)
            except Conflict:
                continue
            if engine is not None:
                engine.submit(run)
            return run

    async def claim(
        self, storage: Storage, engine: Engine, thread_id: str, message: str = ""
    ) -> Run:
        """A run on a new thread that the engine is given at once."""
        with engine.reserve() as worker:
            assert worker == engine.worker
            run = await self.store_claimed(storage, worker, thread_id, message)
            engine.submit(run)
        return run

    async def store_claimed(
        self, storage: Storage, worker: str | None, thread_id: str, message: str
    ) -> Run:
        """The row of a run on a new thread that is this worker's, and that it has not heard of."""
        now = self.clock.now()
        asked = Submission(given=RunInput(message), by=Actor("ann"), thread_id=thread_id)
        run = transitions.new_run(asked, thread_id, "agent", self.clock.new_id(), now)
        change, _ = transitions.submitted(None, run, worker, now, metadata={})
        await storage.commit(change)
        (run,) = (row for row in change.rows if isinstance(row, Run))
        return run

    async def cancel(self, storage: Storage, engine: Engine, run: Run) -> Run:
        """Cancel the run."""
        while True:
            stored, thread = await storage.run(run.run_id), await storage.thread(run.thread_id)
            assert stored is not None
            assert thread is not None
            change, (stopped,) = transitions.cancelled(
                thread,
                [stored],
                (),
                mode=transitions.CancelMode.INTERRUPT,
                by=Actor("ann"),
                now=self.clock.now(),
            )
            try:
                await storage.commit(change)
            except Conflict:
                continue
            await engine.cancel(stopped)
            return stopped


async def status(storage: Storage, run: Run, *wanted: RunStatus) -> Run:
    """Wait until the run has one of these; by default, until it is final."""
    return await until_run(storage, run, lambda stored: stored.status in (wanted or FINAL))


async def taken_over(storage: Storage, run: Run) -> Run:
    """Wait until the run is at a later attempt than here, or is final."""
    return await until_run(
        storage, run, lambda stored: stored.attempt > run.attempt or stored.status in FINAL
    )


async def until_run(storage: Storage, run: Run, is_there: Callable[[Run], bool]) -> Run:
    """Wait until the run is as it should be."""

    async def look() -> Run | None:
        stored = await storage.run(run.run_id)
        assert stored is not None
        return stored if is_there(stored) else None

    found = await until(look)
    assert found is not None
    return found


def a_busy_thread(thread_id: str, run_id: str, now: datetime) -> Thread:
    """A thread that is taken by a run."""
    return Thread(
        thread_id=thread_id,
        owner="ann",
        status=ThreadStatus.BUSY,
        created_at=now,
        updated_at=now,
        agent="agent",
        run_id=run_id,
    )


def rows(*rows: Any) -> Change:
    """A change that writes these."""
    return Change(rows=rows)


async def sent(uploads: Uploads, data: bytes = b"x") -> File:
    """Send a file; its row."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return await uploads.add(chunks(), name="a.txt", declared=None, owner=Owner("ada"))
