"""What fails around a run, and not in it, is that run's trouble for a while, and nobody else's."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from structlog.testing import capture_logs

from assent.core.errors import Unavailable
from assent.core.rows import Run, RunKind, RunStatus
from assent.runs.engine import Ending, HeldRun, RecoveryState
from assent.runs.worker import TAKEN_OVER_AT_ONCE
from assent.storage.base import Storage
from assent.storage.sqlite import SqliteStorage
from tests.runs.harness import EngineHarness, Jobs, a_busy_thread, rows, status
from tests.support.keys import KEY
from tests.support.waiting import until


@dataclass
class Troubled(Jobs):
    """Runs of which some cannot be read any more, and some cannot say at once what they failed
    with."""

    unreadable: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    """The runs whose pages of the file cannot be read."""
    speechless: int = 0
    """How often."""
    forsaken: int = 0
    """How often the storage fails a run at its work."""

    async def execute(self, held: HeldRun) -> Ending:
        if self.forsaken:
            self.forsaken -= 1
            raise Unavailable("The disk does not answer. Look after it.")
        return await super().execute(held)

    async def recovery_state(self, run: Run) -> RecoveryState:
        if run.run_id in self.unreadable:
            raise ValueError("This is no checkpoint.")
        if run.run_id in self.damaged:
            raise Unavailable("A page is damaged. Restore the file.")
        return await super().recovery_state(run)

    async def fail(self, held: HeldRun, error: Exception) -> Ending:
        if self.speechless:
            self.speechless -= 1
            raise Unavailable("The disk does not answer. Look after it.")
        return await super().fail(held, error)


def active(run_id: str, thread_id: str, now: datetime) -> Run:
    """A run whose worker is gone."""
    return Run(
        run_id=run_id,
        thread_id=thread_id,
        owner="ann",
        agent="agent",
        kind=RunKind.INPUT,
        status=RunStatus.RUNNING,
        created_at=now,
        input={},
        attempt=1,
        worker="gone",
    )


async def test_a_run_that_cannot_be_read_keeps_no_other_from_being_gone_on_with(
    tmp_path: Path,
) -> None:
    harness = EngineHarness(tmp_path, jobs=Troubled(unreadable={"r1"}))
    async with harness.storage() as storage:
        now = harness.clock.now()
        runs = [active(f"r{number}", f"t{number}", now) for number in (1, 2)]
        await storage.commit(
            rows(*runs, *(a_busy_thread(run.thread_id, run.run_id, now) for run in runs))
        )
    async with harness.at_work() as (storage, _):
        ended = await status(storage, runs[0])
        assert (ended.status, ended.attempt) == (RunStatus.ERROR, 1)
        assert (await status(storage, runs[1])).status is RunStatus.SUCCESS
        thread = await storage.thread("t1")
        assert thread is not None
        assert thread.status == "error"


async def test_a_run_whose_end_could_not_be_said_has_no_owner_who_does_nothing(
    tmp_path: Path,
) -> None:
    harness = EngineHarness(tmp_path, jobs=Troubled(speechless=1))
    async with harness.at_work() as (storage, engine):
        run = await harness.claim(storage, engine, "t", "fail")
        ended = await status(storage, run)
        # It was taken up again, failed again, and then it could say so.
        assert (ended.status, ended.attempt, ended.worker) == (RunStatus.ERROR, 2, None)


async def test_a_run_that_the_storage_failed_is_put_back_and_not_failed(tmp_path: Path) -> None:
    harness = EngineHarness(tmp_path, jobs=Troubled(forsaken=2))
    with capture_logs() as logs:
        async with harness.at_work() as (storage, engine):
            run = await harness.claim(storage, engine, "t")
            ended = await status(storage, run)
            assert (ended.status, ended.attempt) == (RunStatus.SUCCESS, 3)
            # It did not crash its process, so it is not on its way to be given up.
            assert ended.stuck == 1
    put_back = [line for line in logs if line["event"] == "run put back"]
    assert [line["run_id"] for line in put_back] == [run.run_id]
    assert not any("exc_info" in line for line in logs)


async def test_a_run_that_was_put_back_can_be_cancelled(tmp_path: Path) -> None:
    harness = EngineHarness(tmp_path, jobs=Troubled(forsaken=1))
    async with harness.at_work() as (storage, engine):
        run = await harness.claim(storage, engine, "t", "hold")
        await harness.cancel(storage, engine, run)
        assert (await status(storage, run)).status is RunStatus.CANCELLED


async def test_an_engine_that_starts_while_the_storage_is_away_works_when_it_is_back(
    tmp_path: Path,
) -> None:
    harness = EngineHarness(tmp_path)
    async with harness.storage() as storage:
        now = harness.clock.now()
        run = active("r1", "t1", now)
        await storage.commit(rows(run, a_busy_thread("t1", "r1", now)))
    async with harness.storage() as storage:
        assert isinstance(storage, SqliteStorage)
        connection = storage._writer._connection
        connection.execute("PRAGMA query_only = ON")
        engine = harness.engine(storage)
        with capture_logs() as logs:
            async with engine.working():
                await until(lambda: storage.outage() is not None)
                waits = await storage.run("r1")
                assert waits == run
                connection.execute("PRAGMA query_only = OFF")
                assert (await status(storage, run)).status is RunStatus.SUCCESS
                await engine.drain(1.0)
    told = [line["event"] for line in logs if line["event"].startswith("storage")]
    assert told == ["storage away", "storage back"]
    assert not any("exc_info" in line for line in logs)


async def test_runs_that_the_storage_cannot_read_keep_no_other_from_being_gone_on_with(
    tmp_path: Path,
) -> None:
    lost = {f"r{number}" for number in range(TAKEN_OVER_AT_ONCE)}
    jobs = Troubled(damaged=lost)
    harness = EngineHarness(tmp_path, jobs=jobs)
    async with harness.storage() as storage:
        now = harness.clock.now()
        runs = [active(name, f"t {name}", now) for name in (*sorted(lost), "whole")]
        busy = [a_busy_thread(run.thread_id, run.run_id, now) for run in runs]
        await storage.commit(rows(*runs, *busy))
    async with harness.at_work() as (storage, _):
        assert (await status(storage, runs[-1])).status is RunStatus.SUCCESS
        # They are tried again, and go on once they can be read.
        jobs.damaged.clear()
        for run in runs:
            assert (await status(storage, run)).status is RunStatus.SUCCESS


class Sealed(EngineHarness):
    """A harness whose storage notices what was changed from outside."""

    def storage(self) -> AbstractAsyncContextManager[Storage]:
        return SqliteStorage.open(self.folder / "assent.db", self.clock, encryption_key=KEY)


async def test_a_queued_run_of_a_thread_that_was_tampered_with_keeps_no_other_waiting(
    tmp_path: Path,
) -> None:
    harness = Sealed(tmp_path)
    async with harness.storage() as storage:
        runs = [await harness.submit(storage, None, thread_id) for thread_id in ("t1", "t2")]
    with closing(sqlite3.connect(tmp_path / "assent.db", isolation_level=None)) as connection:
        connection.execute("UPDATE threads SET metadata = x'00' WHERE thread_id = 't1'")
    async with harness.at_work() as (storage, _):
        assert (await status(storage, runs[1])).status is RunStatus.SUCCESS
        ended = await status(storage, runs[0])
        assert (ended.status, ended.attempt) == (RunStatus.ERROR, 0)
        assert ended.error is not None
        assert ended.error["code"] == "tampered"
