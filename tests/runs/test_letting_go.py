"""What fails around a run, and not in it, is that run's trouble for a while, and nobody else's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from assent.core.errors import Unavailable
from assent.core.rows import Run, RunKind, RunStatus
from assent.runs.engine import Ending, HeldRun, RecoveryState
from tests.runs.harness import EngineHarness, Jobs, a_busy_thread, rows, status


@dataclass
class Troubled(Jobs):
    """Runs of which some cannot be read any more, and some cannot say at once what they failed
    with."""

    unreadable: set[str] = field(default_factory=set)
    speechless: int = 0
    """How often."""

    async def recovery_state(self, run: Run) -> RecoveryState:
        if run.run_id in self.unreadable:
            raise ValueError("This is no checkpoint.")
        return await super().recovery_state(run)

    async def fail(self, held: HeldRun, error: Exception) -> Ending:
        if self.speechless:
            self.speechless -= 1
            raise Unavailable("The disk does not answer. Look after it.")
        return await super().fail(held, error)


async def test_a_run_that_cannot_be_read_keeps_no_other_from_being_gone_on_with(
    tmp_path: Path,
) -> None:
    harness = EngineHarness(tmp_path, jobs=Troubled(unreadable={"r1"}))
    async with harness.storage() as storage:
        now = harness.clock.now()
        runs = [
            Run(
                run_id=f"r{number}",
                thread_id=f"t{number}",
                owner="ann",
                agent="agent",
                kind=RunKind.INPUT,
                status=RunStatus.RUNNING,
                created_at=now,
                input={},
                attempt=1,
                worker="gone",
            )
            for number in (1, 2)
        ]
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
