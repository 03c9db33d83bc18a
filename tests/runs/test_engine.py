"""The engine's seam: what any engine promises, shown on each there is."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from structlog.testing import capture_logs

from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.errors import StaleLease, Unavailable
from assent.core.events import Custom, decode
from assent.core.rows import LEASE_KEY, Lease, Run, RunStatus, ThreadStatus, Timer
from assent.core.run_input import RunInput
from assent.runs import transitions
from assent.runs.engine import Ending, Engine, HeldRun, RecoveryState
from assent.runs.transitions import MAX_RECOVERIES, Submission
from assent.runs.worker import TAKEN_OVER_AT_ONCE, EmbeddedEngine
from assent.storage.base import Change, Outage, Storage
from tests.runs.harness import EngineHarness, Jobs, status, taken_over, until_run
from tests.support.waiting import PATIENCE, until

ENGINES = {"embedded": EmbeddedEngine}

LATE = timedelta(seconds=5)
"""The most that a timer may be late while its engine is up: half a second, and a busy machine."""


@pytest.fixture(params=ENGINES)
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> EngineHarness:
    return EngineHarness(tmp_path, ENGINES[request.param])


async def types(storage: Storage, run: Run) -> list[str]:
    return [entry.type for entry in await storage.read_log(run.thread_id, run_id=run.run_id)]


# ── one at a time ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_hundreds_of_runs_over_twenty_threads_run_one_at_a_time_in_order(
    harness: EngineHarness,
) -> None:
    async with harness.at_work(max_runs=12) as (storage, engine):
        runs = [
            await harness.submit(storage, engine, f"t{number % 20}", "nap") for number in range(300)
        ]
        await until(lambda: len(harness.jobs.ended) >= 300)
        for run in runs:
            assert (await status(storage, run)).status is RunStatus.SUCCESS
    assert harness.jobs.crowded == []
    assert sorted(harness.jobs.begun) == sorted(run.run_id for run in runs)
    assert 1 < harness.jobs.most <= 12
    for number in range(20):
        of_thread = [run.run_id for run in runs if run.thread_id == f"t{number}"]
        assert [run_id for run_id in harness.jobs.begun if run_id in set(of_thread)] == of_thread


@pytest.mark.slow
async def test_two_workers_share_the_work_and_no_thread(harness: EngineHarness) -> None:
    async with harness.storage() as storage:
        one, other = harness.engine(storage, max_runs=5), harness.engine(storage, max_runs=5)
        async with one.working(), other.working():
            runs = [
                await harness.submit(storage, random.choice((one, other)), f"t{number % 10}", "nap")
                for number in range(200)
            ]
            workers = {event.worker for run in runs if (event := await status(storage, run))}
            assert workers == {None}
    assert harness.jobs.crowded == []
    assert sorted(harness.jobs.begun) == sorted(run.run_id for run in runs)


async def test_a_run_that_is_claimed_begins_at_once_and_counts_against_the_cap(
    harness: EngineHarness,
) -> None:
    async with harness.at_work(max_runs=1) as (storage, engine):
        run = await harness.claim(storage, engine, "t", "hold")
        await until(lambda: harness.jobs.begun == [run.run_id])
        with engine.reserve() as worker:
            assert worker is None
        waits = await harness.submit(storage, engine, "u")
        await asyncio.sleep(0.4)
        assert harness.jobs.begun == [run.run_id]
        harness.jobs.go.set()
        assert (await status(storage, waits)).status is RunStatus.SUCCESS


async def test_those_of_a_higher_priority_go_first(harness: EngineHarness) -> None:
    async with harness.at_work(max_runs=1) as (storage, engine):
        first = await harness.claim(storage, engine, "first", "hold")
        runs = {
            number: await harness.submit(storage, engine, f"t{number}", priority=number)
            for number in (0, 5, -5, 9)
        }
        harness.jobs.go.set()
        for run in runs.values():
            await status(storage, run)
    assert harness.jobs.begun == [first.run_id, *(runs[number].run_id for number in (9, 5, 0, -5))]


async def test_newcomers_do_not_go_before_those_who_wait(harness: EngineHarness) -> None:
    """Between the end of a run and the beginning of the next one there is room, and it is not a
    newcomer's."""
    async with harness.at_work(max_runs=1) as (storage, engine):
        await harness.claim(storage, engine, "first", "hold")
        runs = [await harness.submit(storage, engine, f"t{number}") for number in range(5)]
        with engine.reserve() as worker:
            assert worker is None
        harness.jobs.go.set()
        while len(harness.jobs.begun) <= len(runs):
            with engine.reserve() as worker:
                assert worker is None
            await asyncio.sleep(0)
        await status(storage, runs[-1])
        # Then there is nobody any more.
        await until(lambda: _is_free(engine))


def _is_free(engine: Engine) -> bool:
    with engine.reserve() as worker:
        return worker == engine.worker


async def test_a_run_that_is_queued_while_the_queue_is_looked_at_is_not_forgotten(
    harness: EngineHarness,
) -> None:
    """What the engine reads is from before the run was committed, and it hears of the run before it
    has the answer. One that is forgotten waits for the engine's next look, on any machine."""
    for attempt in range(5):
        folder = harness.folder / str(attempt)
        folder.mkdir()
        if await _begins_before_the_next_look(replace(harness, folder=folder)):
            return
    raise AssertionError("It began no sooner than the engine looks.")


async def _begins_before_the_next_look(harness: EngineHarness) -> bool:
    async with harness.storage() as storage:
        slow = SlowToAnswer(storage)
        engine = harness.engine(slow)  # type: ignore[arg-type]  (it is one, but for what is slow)
        async with engine.working():
            first = await harness.submit(storage, engine, "first")
            await slow.asked.wait()
            await status(storage, first)
            second = await harness.submit(storage, engine, "second")
            slow.answers.set()
            asked_at = time.monotonic()
            await status(storage, second)
            took = time.monotonic() - asked_at
            await engine.drain(1.0)
    return took < 0.6


class SlowToAnswer:
    """A storage that is slow to say what is pending, once there is something."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def runs(self, **query: Any) -> tuple[Run, ...]:
        found = await self._storage.runs(**query)
        if query.get("limit") == 1 and (await self._storage.runs()):
            self.asked.set()
            await self.answers.wait()
        return found


async def test_a_thread_that_was_taken_since_the_queue_was_read_is_left_to_its_run(
    harness: EngineHarness,
) -> None:
    async with harness.storage() as storage:
        queued = await harness.submit(storage, None, "t", "nap")
        newcomer = NewcomerOnThread(storage, harness)
        engine = harness.engine(newcomer)  # type: ignore[arg-type]  (it is one, but for that)
        async with engine.working():
            await status(storage, queued)
            await engine.drain(1.0)
    assert newcomer.run is not None
    assert harness.jobs.begun == [newcomer.run.run_id, queued.run_id]
    assert harness.jobs.crowded == []


class NewcomerOnThread:
    """A storage on whose thread another run begins as soon as the queue was read."""

    def __init__(self, storage: Storage, harness: EngineHarness) -> None:
        self._storage = storage
        self._harness = harness
        self.run: Run | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def due_runs(self, now: datetime, **query: Any) -> tuple[Run, ...]:
        due = await self._storage.due_runs(now, **query)
        if due and self.run is None:
            thread = await self._storage.thread("t")
            asked = Submission(given=RunInput("nap"), by=Actor("ann"), thread_id="t")
            self.run = transitions.new_run(asked, "t", "agent", "newcomer", now)
            change, _ = transitions.submitted(thread, self.run, "elsewhere", now, metadata={})
            await self._storage.commit(change)
        return due


async def test_a_worker_leaves_the_runs_of_agents_that_it_does_not_have(
    harness: EngineHarness,
) -> None:
    elsewhere = replace(harness, jobs=Jobs(agents=("other",)))
    async with harness.storage() as storage:
        one, other = harness.engine(storage), elsewhere.engine(storage)
        async with one.working():
            running = await harness.claim(storage, one, "running", "hold")
            await until(lambda: harness.jobs.begun)
            await one.abandon("running")
        await storage.retire(one.worker)
        queued = await harness.submit(storage, None, "queued")
        with capture_logs() as logs:
            async with other.working():
                # What it does with its own runs, it has not done with those before them.
                its_own = await harness.submit(storage, other, "its own", agent="other")
                assert (await status(storage, its_own)).worker is None
                for left in (running, queued):
                    assert await storage.run(left.run_id) == left
        (told,) = [entry for entry in logs if entry["event"] == "runs wait for their agent"]
        assert (told["log_level"], told["agent"], told["count"]) == ("warning", "agent", 2)
        harness.jobs.go.set()
        async with harness.engine(storage).working():
            for left in (running, queued):
                assert (await status(storage, left)).status is RunStatus.SUCCESS
    assert elsewhere.jobs.begun == [its_own.run_id]


async def test_a_run_that_fails_says_so_and_the_thread_goes_on(harness: EngineHarness) -> None:
    async with harness.at_work() as (storage, engine):
        failed = await harness.submit(storage, engine, "t", "fail")
        after = await harness.submit(storage, engine, "t")
        assert (await status(storage, failed)).status is RunStatus.ERROR
        assert (await status(storage, after)).status is RunStatus.SUCCESS


# ── cancelling ────────────────────────────────────────────────────────────────────────────────────


async def test_a_queued_run_that_is_cancelled_never_begins(harness: EngineHarness) -> None:
    async with harness.at_work() as (storage, engine):
        await harness.claim(storage, engine, "t", "hold")
        queued = await harness.submit(storage, engine, "t")
        assert (await harness.cancel(storage, engine, queued)).status is RunStatus.CANCELLED
        harness.jobs.go.set()
        after = await harness.submit(storage, engine, "t")
        await status(storage, after)
        assert queued.run_id not in harness.jobs.begun
        assert await types(storage, queued) == ["run_cancelled"]


async def test_a_running_run_is_cancelling_until_it_has_really_ended(
    harness: EngineHarness,
) -> None:
    async with harness.at_work() as (storage, engine):
        run = await harness.claim(storage, engine, "t", "deaf")
        behind = await harness.submit(storage, engine, "t")
        await until(lambda: harness.jobs.begun)
        assert (await harness.cancel(storage, engine, run)).status is RunStatus.CANCELLING
        await asyncio.sleep(0.6)
        assert (await status(storage, run, *RunStatus)).status is RunStatus.CANCELLING
        assert harness.jobs.begun == [run.run_id]
        harness.jobs.go.set()
        assert (await status(storage, run)).status is RunStatus.CANCELLED
        assert (await status(storage, behind)).status is RunStatus.SUCCESS
        assert (await types(storage, run))[-1] == "run_cancelled"


async def test_a_run_is_cancelled_before_its_first_step(harness: EngineHarness) -> None:
    """A task that is cancelled before it was ever run does nothing, not even its `except`."""
    async with harness.at_work() as (storage, engine):
        run = await harness.claim(storage, engine, "t", "hold")
        await harness.cancel(storage, engine, run)
        assert (await status(storage, run)).status is RunStatus.CANCELLED


async def test_a_paused_run_that_is_cancelled_does_not_wait_for_the_engines_next_look(
    harness: EngineHarness,
) -> None:
    """It has no worker, and each second the engine looks for such runs. On any machine, one of a
    few is brought to rest sooner; each is begun just after a look."""
    took = []
    async with harness.at_work() as (storage, engine):
        for number in range(5):
            run = await harness.store_claimed(storage, engine.worker, f"t{number}", "hold")
            thread = await storage.thread(run.thread_id)
            assert thread is not None
            version = thread.version + 1
            paused = replace(
                run, status=RunStatus.INTERRUPTED, worker=None, version=run.version + 1
            )
            waits = replace(thread, status=ThreadStatus.INTERRUPTED, version=version)
            await storage.commit(Change(rows=(paused, waits)))
            asked_at = time.monotonic()
            stopped = await harness.cancel(storage, engine, paused)
            assert stopped.status is RunStatus.CANCELLING
            assert (await status(storage, paused)).status is RunStatus.CANCELLED
            took.append(time.monotonic() - asked_at)
    assert min(took[1:]) < 0.6


async def test_a_run_that_another_worker_holds_is_cancelled(harness: EngineHarness) -> None:
    async with harness.storage() as storage:
        one, other = harness.engine(storage), harness.engine(storage)
        async with one.working(), other.working():
            run = await harness.claim(storage, one, "t", "hold")
            await harness.cancel(storage, other, run)
            assert (await status(storage, run)).status is RunStatus.CANCELLED


async def test_who_was_told_that_a_run_is_cancelled_was_told_the_truth(
    harness: EngineHarness,
) -> None:
    """However close to its end it was: every run that was `cancelling` becomes `cancelled`."""
    async with harness.at_work() as (storage, engine):
        told = []
        for number in range(60):
            run = await harness.claim(storage, engine, f"t{number}", "nap")
            await asyncio.sleep(random.uniform(0, 0.004))
            stored = await storage.run(run.run_id)
            assert stored is not None
            if (
                stored.status is RunStatus.RUNNING
                and (await harness.cancel(storage, engine, run)).status is RunStatus.CANCELLING
            ):
                told.append(run)
        assert told
        for run in told:
            assert (await status(storage, run)).status is RunStatus.CANCELLED


async def test_a_run_that_is_cancelled_while_it_is_said_what_it_failed_with_is_cancelled(
    harness: EngineHarness,
) -> None:
    harness.jobs = jobs = SlowToFail()
    async with harness.at_work() as (storage, engine):
        run = await harness.claim(storage, engine, "t", "fail")
        await jobs.failing.wait()
        assert (await harness.cancel(storage, engine, run)).status is RunStatus.CANCELLING
        jobs.go.set()
        assert (await status(storage, run)).status is RunStatus.CANCELLED


@dataclass
class SlowToFail(Jobs):
    """It takes until `go` is set to say what a run failed with."""

    failing: asyncio.Event = field(default_factory=asyncio.Event)

    async def fail(self, held: HeldRun, error: Exception) -> Ending:
        self.failing.set()
        await self.go.wait()
        return await super().fail(held, error)


# ── later ─────────────────────────────────────────────────────────────────────────────────────────


async def set_timer(storage: Storage, timer: Timer) -> None:
    await storage.commit(Change(rows=(timer,)))


async def test_a_timer_fires_once_never_early_and_soon(harness: EngineHarness) -> None:
    fired: list[tuple[str, datetime]] = []

    async def done(timer: Timer) -> None:
        fired.append((timer.timer_id, harness.clock.now()))
        await storage.commit(Change(removed=(timer,)))

    async with harness.storage() as storage:
        engine = harness.engine(storage, on_timer={"bell": done})
        async with engine.working():
            due = {
                f"t{number}": harness.clock.now() + timedelta(seconds=number * 0.13)
                for number in range(10)
            }
            for timer_id, time in due.items():
                await set_timer(storage, Timer(timer_id=timer_id, kind="bell", due_at=time))
            engine.wake()
            unwanted = await storage.timer("t9")
            assert unwanted is not None
            await storage.commit(Change(removed=(unwanted,)))
            await until(lambda: len(fired) >= 9)
            await asyncio.sleep(0.4)
    assert sorted(timer_id for timer_id, _ in fired) == sorted(set(due) - {"t9"})
    for timer_id, at in fired:
        assert due[timer_id] <= at <= due[timer_id] + LATE


async def test_a_timer_outlives_its_process(harness: EngineHarness) -> None:
    async with harness.storage() as storage:
        now = harness.clock.now()
        due = now + timedelta(seconds=0.6)
        late = Timer(timer_id="t", kind="bell", due_at=now + timedelta(hours=1))
        await set_timer(storage, late)
        await set_timer(storage, replace(late, due_at=due, payload={"tone": "high"}, version=2))
    fired: list[tuple[Timer, datetime]] = []

    async def done(timer: Timer) -> None:
        at = harness.clock.now()
        await storage.commit(Change(removed=(timer,)))
        fired.append((timer, at))

    async with harness.storage() as storage:
        async with harness.engine(storage, on_timer={"bell": done}).working():
            await until(lambda: fired)
        assert await storage.timer("t") is None
    ((timer, at),) = fired
    assert timer.payload == {"tone": "high"}
    assert due <= at <= due + LATE


async def test_many_timers_that_are_due_at_once_wait_for_no_other_look(
    harness: EngineHarness,
) -> None:
    fired: list[str] = []

    async def done(timer: Timer) -> None:
        fired.append(timer.timer_id)
        # One is moved to a time that has come as well, as a schedule is that has some catching up
        # to do.
        moved = timer.version < 5 and timer.timer_id == "t0"
        await storage.commit(
            Change(rows=(replace(timer, version=timer.version + 1),))
            if moved
            else Change(removed=(timer,))
        )

    async with harness.storage() as storage:
        now = harness.clock.now()
        timers = tuple(
            Timer(timer_id=f"t{number}", kind="bell", due_at=now - timedelta(seconds=number))
            for number in range(250)
        )
        await storage.commit(Change(rows=timers))
        async with harness.engine(storage, on_timer={"bell": done}).working():
            assert sorted(fired) == sorted([timer.timer_id for timer in timers] + ["t0"] * 4)


async def test_a_handler_that_moves_no_timer_is_not_called_again_in_the_same_look(
    harness: EngineHarness,
) -> None:
    fired: list[str] = []

    async def idle(timer: Timer) -> None:
        fired.append(timer.timer_id)

    async with harness.storage() as storage:
        await storage.commit(
            Change(rows=(Timer(timer_id="t", kind="bell", due_at=harness.clock.now()),))
        )
        async with (
            asyncio.timeout(PATIENCE),
            harness.engine(storage, on_timer={"bell": idle}).working(),
        ):
            assert fired == ["t"]


async def test_however_many_timers_fail_the_others_are_seen(harness: EngineHarness) -> None:
    fired: list[str] = []

    async def done(timer: Timer) -> None:
        if timer.timer_id != "good":
            raise ValueError("It fails.")
        fired.append(timer.timer_id)
        await storage.commit(Change(removed=(timer,)))

    async with harness.storage() as storage:
        now = harness.clock.now()
        bad = tuple(
            Timer(timer_id=f"t{number}", kind="bell", due_at=now - timedelta(hours=1))
            for number in range(150)
        )
        await storage.commit(Change(rows=(*bad, Timer(timer_id="good", kind="bell", due_at=now))))
        with capture_logs() as logs:
            async with harness.engine(storage, on_timer={"bell": done}).working():
                assert fired == ["good"]
        assert {entry["event"] for entry in logs} == {"engine started", "a timer failed"}


async def test_a_timer_that_failed_is_done_again_and_keeps_no_other_waiting(
    harness: EngineHarness,
) -> None:
    times: list[str] = []

    async def done(timer: Timer) -> None:
        times.append(timer.timer_id)
        if times.count("bad") == 1 and timer.timer_id == "bad":
            raise ValueError("Not yet.")
        await storage.commit(Change(removed=(timer,)))

    async with harness.storage() as storage:
        engine = harness.engine(storage, on_timer={"bell": done})
        async with engine.working():
            for timer_id in ("bad", "good"):
                timer = Timer(timer_id=timer_id, kind="bell", due_at=harness.clock.now())
                await set_timer(storage, timer)
            engine.wake()
            await until(lambda: times.count("bad") == 2)
    assert times == ["bad", "good", "bad"]


async def test_a_delayed_run_starts_when_it_is_due_and_not_before(harness: EngineHarness) -> None:
    async with harness.at_work() as (storage, engine):
        due = harness.clock.now() + timedelta(seconds=0.5)
        run = await harness.submit(storage, engine, "t", due_at=due)
        # One that is due at once does not wait behind one that is not.
        assert (
            await status(storage, await harness.submit(storage, engine, "t"))
        ).status is RunStatus.SUCCESS
        assert (await status(storage, run, *RunStatus)).status is RunStatus.PENDING
        ended = await status(storage, run)
        assert ended.started_at is not None
        assert due <= ended.started_at <= due + LATE


async def test_a_delayed_run_starts_in_the_next_process(harness: EngineHarness) -> None:
    due = harness.clock.now() + timedelta(seconds=0.4)
    async with harness.storage() as storage:
        run = await harness.submit(storage, None, "t", due_at=due)
    async with harness.at_work() as (storage, _):
        ended = await status(storage, run)
        assert ended.started_at is not None
        assert due <= ended.started_at


async def test_what_is_due_is_asked_of_the_clock(harness: EngineHarness) -> None:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    harness.clock = Clock(now=lambda: time)
    async with harness.at_work() as (storage, engine):
        run = await harness.submit(storage, engine, "t", due_at=time + timedelta(days=3))
        await asyncio.sleep(0.5)
        assert harness.jobs.begun == []
        time += timedelta(days=3)
        assert (await status(storage, run)).started_at == time


# ── stopping, and going on ────────────────────────────────────────────────────────────────────────


async def test_a_drained_run_reaches_the_end_of_its_step_and_goes_on_in_the_next_process(
    harness: EngineHarness,
) -> None:
    async with harness.at_work() as (storage, engine):
        run = await harness.claim(storage, engine, "t", "listen")
        await until(lambda: harness.jobs.begun)
        began = asyncio.get_running_loop().time()
        await engine.drain(10)
        assert asyncio.get_running_loop().time() - began < 2
        left = await status(storage, run, *RunStatus)
        assert (left.status, left.worker, left.attempt) == (RunStatus.RUNNING, None, 1)
        with engine.reserve() as worker:
            assert worker is None
    async with harness.at_work() as (storage, _):
        taken = await taken_over(storage, run)
        assert (taken.status, taken.attempt) == (RunStatus.RUNNING, 2)


async def test_a_run_that_is_being_stored_as_the_engine_stops_is_left_to_the_next_process(
    harness: EngineHarness,
) -> None:
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        async with engine.working():
            with engine.reserve() as worker:
                draining = asyncio.create_task(engine.drain(PATIENCE))
                run = await harness.store_claimed(storage, worker, "t", "listen")
                assert not draining.done()
                engine.submit(run)
            await draining
            left = await status(storage, run, *RunStatus)
            assert (left.status, left.worker) == (RunStatus.RUNNING, None)
        assert harness.jobs.begun == []


async def test_an_engine_that_is_woken_in_the_moment_in_which_it_stops_stops(
    harness: EngineHarness,
) -> None:
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        for _ in range(20):
            async with asyncio.timeout(PATIENCE), engine.working():
                await asyncio.sleep(random.uniform(0.02, 0.05))
                engine.wake()


async def test_a_run_that_does_not_listen_is_cut_off_in_time(harness: EngineHarness) -> None:
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        async with engine.working():
            held = await harness.claim(storage, engine, "held", "hold")
            deaf = await harness.claim(storage, engine, "deaf", "deaf")
            await until(lambda: len(harness.jobs.begun) == 2)
            began = asyncio.get_running_loop().time()
            await engine.drain(1.0)
            assert asyncio.get_running_loop().time() - began < PATIENCE / 2
            for run in (held, deaf):
                assert (await status(storage, run, *RunStatus)).worker is None
            orphans = await storage.orphaned_runs(agents=harness.jobs.agents)
            assert {run.run_id for run in orphans} == {held.run_id, deaf.run_id}
        harness.jobs.go.set()


async def test_a_worker_that_is_not_heard_of_loses_its_run_and_can_write_nothing_more(
    harness: EngineHarness,
) -> None:
    async with harness.storage() as storage:
        stalled, other = harness.engine(storage), harness.engine(storage)
        async with stalled.working():
            run = await harness.claim(storage, stalled, "t", "hold")
            await until(lambda: harness.jobs.begun)
            old = Lease(run.run_id, run.attempt)
            await put_checkpoint(storage, "t", old)
            # As if its machine had slept through its lease.
            await storage.retire(stalled.worker)
            async with other.working():
                taken = await taken_over(storage, run)
                assert (taken.worker, taken.attempt) == (other.worker, 2)
                for writing in (put_checkpoint(storage, "t", old), append(storage, "t", old)):
                    with pytest.raises(StaleLease):
                        await writing
                new = Lease(run.run_id, 2)
                await put_checkpoint(storage, "t", new)
                await append(storage, "t", new)
                harness.jobs.go.set()
                assert (await status(storage, run)).status is RunStatus.SUCCESS
                await asyncio.sleep(0.1)
                assert (await types(storage, run)).count("done") == 1
                # The run is over, and so is the lease.
                with pytest.raises(StaleLease):
                    await append(storage, "t", new)


async def put_checkpoint(storage: Storage, thread_id: str, lease: Lease) -> None:
    at = {"thread_id": thread_id, "checkpoint_ns": "", LEASE_KEY: lease}
    config = await storage.checkpointer.aput(
        {"configurable": at}, empty_checkpoint(), {"source": "loop", "step": 1}, {}
    )
    await storage.checkpointer.aput_writes(
        {"configurable": {**config["configurable"], LEASE_KEY: lease}}, [("messages", 1)], "task"
    )


async def append(storage: Storage, thread_id: str, lease: Lease) -> None:
    failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    storage.append((Custom(thread_id=thread_id, run_id=lease.run_id),), failed.set_result, lease)
    # A commit comes back behind everything that was queued before it.
    await storage.commit(Change(events=(Custom(thread_id="other"),)))
    await asyncio.sleep(0)
    if failed.done():
        raise failed.result()


@dataclass
class Looks:
    """A storage that counts how often somebody has looked for runs without a worker."""

    storage: Storage
    count: int = 0
    is_away: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def outage(self) -> Outage | None:
        return Outage("The disk is full.", 0.0) if self.is_away else None

    async def orphaned_runs(self, *args: Any, **query: Any) -> tuple[Run, ...]:
        found = await self.storage.orphaned_runs(*args, **query)
        self.count += 1
        return found

    async def more(self) -> None:
        """Wait until somebody has begun to look from now on, and done so."""
        seen = self.count
        await until(lambda: self.count > seen + 1)


STEPS = [timedelta(hours=1), timedelta(hours=-1)]


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_does_not_take_over_its_own_run_when_the_clock_is_set(
    harness: EngineHarness, step: timedelta
) -> None:
    """Not even one that is stored and has not begun yet."""
    clock = MovedClock()
    harness.clock = Clock(now=clock.now)
    async with harness.storage() as storage:
        looks = Looks(storage)
        engine = harness.engine(looks)  # type: ignore[arg-type]  (it is one, but for counting)
        async with engine.working():
            with engine.reserve() as worker:
                run = await harness.store_claimed(storage, worker, "t", "hold")
                clock.step += step
                await looks.more()
                engine.submit(run)
            await until(lambda: harness.jobs.begun)
            clock.step += step
            await looks.more()
            harness.jobs.go.set()
            assert (await status(storage, run)).attempt == 1
            await engine.drain(1.0)
    assert harness.jobs.begun == [run.run_id]


@dataclass
class MovedClock:
    """The machine's time, and a step."""

    step: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.step


@pytest.mark.parametrize("step", STEPS)
async def test_workers_whose_clocks_differ_leave_each_other_their_runs(
    harness: EngineHarness, step: timedelta
) -> None:
    async with harness.storage() as storage:
        looks = Looks(storage)
        apart = replace(harness, clock=Clock(now=MovedClock(step).now))
        one, other = harness.engine(storage), apart.engine(looks)  # type: ignore[arg-type]
        async with one.working(), other.working():
            run = await harness.claim(storage, one, "t", "hold")
            await looks.more()
            harness.jobs.go.set()
            ended = await status(storage, run)
            assert (ended.status, ended.attempt) == (RunStatus.SUCCESS, 1)


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_is_dead_is_found_out_whatever_the_clock_is_set_to(
    harness: EngineHarness, step: timedelta
) -> None:
    clock = MovedClock()
    harness.clock = Clock(now=clock.now)
    async with harness.storage() as storage:
        dead, other = harness.engine(storage), harness.engine(storage, lease_seconds=0.5)
        async with dead.working():
            run = await harness.claim(storage, dead, "t", "hold")
            await until(lambda: harness.jobs.begun)
        # It was not asked to stop, so nothing is stored of its end.
        clock.step += step
        async with other.working():
            await until(lambda: len(harness.jobs.begun) == 2)
            harness.jobs.go.set()
            assert (await status(storage, run)).attempt == 2
            await dead.abandon("t")


async def test_nobody_is_taken_for_dead_while_nobody_can_write(harness: EngineHarness) -> None:
    async with harness.storage() as storage:
        looks = Looks(storage, is_away=True)
        silent = harness.engine(storage)
        other = harness.engine(looks, lease_seconds=0.0)  # type: ignore[arg-type]
        async with silent.working(), other.working():
            run = await harness.claim(storage, silent, "t", "hold")
            await looks.more()
            assert (await status(storage, run, *RunStatus)).attempt == 1
            looks.is_away = False
            assert (await taken_over(storage, run)).worker == other.worker
            harness.jobs.go.set()
            await status(storage, run)


async def test_nobody_hears_twice_of_a_run_that_was_taken_over(harness: EngineHarness) -> None:
    """Leases so short that they run out again and again: still each run ends once, and one worker
    at a time writes for it."""
    async with harness.storage() as storage:
        engines = [harness.engine(storage, lease_seconds=0.0) for _ in range(2)]
        async with engines[0].working(), engines[1].working():
            runs = [
                await harness.submit(storage, engines[number % 2], f"t{number}", "nap")
                for number in range(100)
            ]
            for run in runs:
                assert (await status(storage, run)).status is RunStatus.SUCCESS
                told = await types(storage, run)
                assert told.count("done") == 1
                assert told[-1] == "done"


# ── many to take over ──


ORPHANS = 3 * TAKEN_OVER_AT_ONCE


@dataclass
class SlowToRecover(Jobs):
    """It takes until `may_recover` is set to find out in which state a dead worker left a run."""

    may_recover: asyncio.Event = field(default_factory=asyncio.Event)
    recovering: set[str] = field(default_factory=set)
    most_recovering: int = 0

    async def recovery_state(self, run: Run) -> RecoveryState:
        self.recovering.add(run.run_id)
        self.most_recovering = max(self.most_recovering, len(self.recovering))
        await self.may_recover.wait()
        await asyncio.sleep(0)
        self.recovering.discard(run.run_id)
        return await super().recovery_state(run)


async def leave_orphans(harness: EngineHarness) -> list[Run]:
    """Active runs that a process has left."""
    async with harness.storage() as storage:
        return [
            await harness.store_claimed(storage, "gone", f"left {number}", "")
            for number in range(ORPHANS)
        ]


@asynccontextmanager
async def taking_over(
    harness: EngineHarness,
) -> AsyncIterator[tuple[Storage, Engine, SlowToRecover, list[Run]]]:
    """An engine in the middle of taking over what a process has left."""
    harness.jobs = jobs = SlowToRecover()
    orphans = await leave_orphans(harness)
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        async with engine.working():
            await until(lambda: jobs.recovering)
            yield storage, engine, jobs, orphans


async def test_timers_and_new_runs_do_not_wait_for_those_that_are_taken_over(
    harness: EngineHarness,
) -> None:
    harness.jobs = jobs = SlowToRecover()
    orphans = await leave_orphans(harness)
    fired: list[str] = []

    async def done(timer: Timer) -> None:
        fired.append(timer.timer_id)
        await storage.commit(Change(removed=(timer,)))

    async with harness.storage() as storage:
        now = harness.clock.now()
        await set_timer(storage, Timer(timer_id="before", kind="bell", due_at=now))
        engine = harness.engine(storage, on_timer={"bell": done})
        async with asyncio.timeout(PATIENCE), engine.working():
            assert fired == ["before"]
            await until(lambda: len(jobs.recovering) == TAKEN_OVER_AT_ONCE)
            await set_timer(storage, Timer(timer_id="amid", kind="bell", due_at=now))
            new = await harness.submit(storage, engine, "new")
            assert (await status(storage, new)).status is RunStatus.SUCCESS
            await until(lambda: fired == ["before", "amid"])
            assert jobs.begun == [new.run_id]

            jobs.may_recover.set()
            for run in orphans:
                ended = await status(storage, run)
                assert (ended.status, ended.attempt) == (RunStatus.SUCCESS, 2)
            await engine.drain(1.0)
    assert jobs.most_recovering == TAKEN_OVER_AT_ONCE
    assert sorted(jobs.begun) == sorted(run.run_id for run in [new, *orphans])


async def test_runs_that_are_about_to_be_taken_over_keep_their_places(
    harness: EngineHarness,
) -> None:
    harness.jobs = jobs = SlowToRecover()
    await leave_orphans(harness)
    async with harness.storage() as storage:
        waiting = await harness.submit(storage, None, "new")
        engine = harness.engine(storage, max_runs=ORPHANS)
        async with engine.working():
            with engine.reserve() as worker:
                assert worker is None
            await until(lambda: jobs.recovering)
            assert jobs.begun == []
            jobs.may_recover.set()
            assert (await status(storage, waiting)).status is RunStatus.SUCCESS
            await until(lambda: _is_free(engine))
    assert jobs.most <= ORPHANS


async def test_a_worker_that_stops_amid_taking_over_leaves_the_rest_to_the_next(
    harness: EngineHarness,
) -> None:
    async with taking_over(harness) as (_, engine, jobs, orphans):
        await engine.drain(0.2)
        jobs.may_recover.set()
    async with harness.at_work() as (storage, _):
        for run in orphans:
            ended = await status(storage, run)
            assert (ended.status, ended.attempt <= 3) == (RunStatus.SUCCESS, True)


async def test_no_run_that_is_being_taken_over_begins_after_the_worker_has_stopped(
    harness: EngineHarness,
) -> None:
    async with taking_over(harness) as (storage, engine, jobs, orphans):
        draining = asyncio.create_task(engine.drain(PATIENCE))
        await asyncio.sleep(0)
        jobs.may_recover.set()
        await draining
        rows = [await status(storage, run, *RunStatus) for run in orphans]
    assert {row.worker for row in rows} == {None, "gone"}
    assert jobs.begun == []


async def test_one_that_cannot_be_taken_over_keeps_no_other_from_it(harness: EngineHarness) -> None:
    harness.jobs = FailsToRecover()
    orphans = await leave_orphans(harness)
    async with harness.at_work() as (storage, _):
        statuses = [(await status(storage, run)).status for run in orphans]
    assert statuses == [RunStatus.ERROR, *[RunStatus.SUCCESS] * (ORPHANS - 1)]


@dataclass
class FailsToRecover(Jobs):
    """It cannot read the first thread, and finds the storage away at the second one once."""

    failed: bool = False

    async def recovery_state(self, run: Run) -> RecoveryState:
        if run.thread_id == "left 0":
            raise ValueError("It cannot be read.")
        if run.thread_id == "left 1" and not self.failed:
            self.failed = True
            raise Unavailable("The disk is away.")
        return await super().recovery_state(run)


# ── poison ────────────────────────────────────────────────────────────────────────────────────────


async def die(harness: EngineHarness, run: Run) -> Run:
    """A process that takes the run up, and is gone with it."""
    async with harness.storage() as storage:
        engine, begun = harness.engine(storage), len(harness.jobs.begun)
        (left,) = await storage.runs(thread_id=run.thread_id)
        async with engine.working():
            if (taken := await taken_over(storage, left)).status is RunStatus.RUNNING:
                await until(lambda: len(harness.jobs.begun) > begun)
                await engine.abandon(run.thread_id)
    return taken


async def test_a_run_that_always_kills_its_worker_at_the_same_place_is_given_up(
    harness: EngineHarness,
) -> None:
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        async with engine.working():
            run = await harness.claim(storage, engine, "t", "hold")
            await until(lambda: harness.jobs.begun)
            await engine.abandon("t")
    for number in range(1, MAX_RECOVERIES + 1):
        taken = await die(harness, run)
        assert (taken.attempt, taken.stuck) == (number + 1, number)
    ended = await die(harness, run)
    assert (ended.status, ended.attempt) == (RunStatus.ERROR, MAX_RECOVERIES + 1)
    assert ended.error is not None
    assert "died 4 times while this run was at agent" in ended.error["message"]
    async with harness.at_work() as (storage, engine):
        told = [decode(entry.body) for entry in await storage.read_log("t")]
        assert [type(event).__name__ for event in told] == [
            "RunStart",
            *["RunRecovered"] * 3,
            "Error",
        ]
        # The thread is free again.
        harness.jobs.go.set()
        assert (
            await status(storage, await harness.submit(storage, engine, "t"))
        ).status is RunStatus.SUCCESS


async def test_runs_beside_one_that_kills_its_worker_are_not_given_up_with_it(
    harness: EngineHarness,
) -> None:
    begun = harness.jobs.begun
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        async with engine.working():
            runs = [await harness.claim(storage, engine, name, "hold") for name in "tuv"]
            await until(lambda: len(begun) == 3)
            await die_with(engine, runs)
    for life in range(2, MAX_RECOVERIES + 1):
        async with harness.storage() as storage:
            engine = harness.engine(storage)
            async with engine.working():
                await until(lambda: len(begun) == 3 * life)  # noqa: B023
                await die_with(engine, runs)

    # The next death would be one too many for all three, so each is tried by itself.
    killer, *beside = runs
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        async with engine.working():
            await until(lambda: len(begun) == 3 * MAX_RECOVERIES + 1)
            newcomer = await harness.submit(storage, engine, "new")
            await status(storage, newcomer)
            assert set(begun[3 * MAX_RECOVERIES :]) == {killer.run_id, newcomer.run_id}
            await die_with(engine, runs)
    async with harness.at_work() as (storage, _):
        assert (await status(storage, killer)).status is RunStatus.ERROR
        harness.jobs.go.set()
        for run in beside:
            ended = await status(storage, run)
            assert (ended.status, ended.stuck) == (RunStatus.SUCCESS, MAX_RECOVERIES)


async def die_with(engine: Engine, runs: Sequence[Run]) -> None:
    """End the work on these runs, as the death of the process does."""
    for run in runs:
        await engine.abandon(run.thread_id)


async def test_a_suspect_that_comes_further_lets_the_next_one_go(harness: EngineHarness) -> None:
    begun = harness.jobs.begun
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        async with engine.working():
            runs = [await harness.claim(storage, engine, name, "hold") for name in "tu"]
            await die_with(engine, runs)
    for life in range(1, MAX_RECOVERIES):
        async with harness.storage() as storage:
            engine = harness.engine(storage)
            async with engine.working():
                for run in runs:
                    await until_stuck(storage, run, life)
                await die_with(engine, runs)
    async with harness.at_work() as (storage, _):
        await until_stuck(storage, runs[0], MAX_RECOVERIES)
        before = len(begun)
        # Both hold on, and the first has reached another checkpoint.
        harness.jobs.place = "c2"
        await until(lambda: len(begun) > before)
        assert (await status(storage, runs[0], *RunStatus)).status is RunStatus.RUNNING
        harness.jobs.go.set()


async def until_stuck(storage: Storage, run: Run, times: int) -> None:
    """Wait until the run was taken up so many times in a row."""
    await until_run(storage, run, lambda stored: stored.stuck == times)


async def test_a_run_that_comes_further_each_time_is_not_given_up(harness: EngineHarness) -> None:
    async with harness.storage() as storage:
        run = await harness.submit(storage, None, "t", "hold")
    for number in range(MAX_RECOVERIES * 2):
        harness.jobs.place = f"c{number}"
        assert (await die(harness, run)).status is RunStatus.RUNNING


@pytest.mark.parametrize("message", ["hold", "deaf"])
async def test_a_worker_that_was_asked_to_stop_says_nothing_against_its_runs(
    harness: EngineHarness, message: str
) -> None:
    async with harness.storage() as storage:
        run = await harness.submit(storage, None, "t", message)
    for _ in range(MAX_RECOVERIES * 2):
        async with harness.storage() as storage:
            engine = harness.engine(storage)
            async with engine.working():
                taken = await status(storage, run, RunStatus.RUNNING)
                await engine.drain(0.2)
                assert taken.stuck <= 1
    harness.jobs.go.set()


async def test_what_was_being_cancelled_when_the_process_died_is_cancelled_by_the_next(
    harness: EngineHarness,
) -> None:
    async with harness.storage() as storage:
        engine = harness.engine(storage)
        async with engine.working():
            run = await harness.claim(storage, engine, "t", "hold")
            await engine.abandon("t")
            stored = await storage.run(run.run_id)
            assert stored is not None
            await storage.commit(
                Change(
                    rows=(replace(stored, status=RunStatus.CANCELLING, version=stored.version + 1),)
                )
            )
    async with harness.at_work() as (storage, _):
        assert (await status(storage, run)).status is RunStatus.CANCELLED
        assert "run_recovered" not in await types(storage, run)
