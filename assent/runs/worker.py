"""The engine in the server's own process: asyncio tasks, over the rows of one storage.

One loop takes what is due: runs of workers that are gone, timers, and pending runs while there is
room. It looks whenever it is woken, and a few times a second anyway, since a lost ring must cost no
more than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum

import structlog

from assent.core.clock import Clock
from assent.core.errors import AssentError, Conflict, StaleLease, Tampered, Unavailable
from assent.core.rows import ACTIVE, Run, RunStatus, Thread, Timer
from assent.runs import transitions
from assent.runs.engine import Ending, Engine, Executor, HeldRun, OnTimer, RecoveryState, RunDrained
from assent.storage.base import Change, Storage

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
"""How long a lost ring can delay a run, and how late a timer can be."""

LEASE_SECONDS = 15.0
"""How long a worker is thought to live after it was heard of. Long enough for a pause of the
machine, or a slow disk."""

EXTEND_SECONDS = 4.0
REAP_SECONDS = 1.0

RETRY_SECONDS = 2.0
"""Between two attempts at what the storage, or a timer's handler, could not do."""

BATCH = 100


class Why(Enum):
    """Why a run's work was cut off."""

    CANCELLED = "cancelled"
    DRAINED = "drained"
    ABANDONED = "abandoned"


@dataclass(slots=True)
class Active:
    """A run that is worked on: `work` is what it does, `task` what sees to its end."""

    held: HeldRun
    work: asyncio.Task[Ending] | None = None
    task: asyncio.Task[None] | None = None
    why: Why | None = None

    def cut_off(self, why: Why) -> None:
        """Stop the work. What happens then depends on why."""
        self.why = why
        if self.work is not None:
            self.work.cancel()


class EmbeddedEngine(Engine):
    """Works on runs and timers in this process. `on_timer` are the handlers of timers, by kind; at
    most `max_runs` run at once."""

    def __init__(
        self,
        storage: Storage,
        executor: Executor,
        *,
        clock: Clock,
        max_runs: int,
        on_timer: Mapping[str, OnTimer] | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.worker = clock.new_id()
        self._storage = storage
        self._executor = executor
        self._clock = clock
        self._max_runs = max_runs
        self._on_timer = dict(on_timer or {})
        self._lease = timedelta(seconds=lease_seconds)
        self._active: dict[str, Active] = {}
        self._claimed = 0
        self._waiting = True
        self._rung = 0
        self._full = False
        self._draining = False
        self._woken = asyncio.Event()
        self._not_before: dict[str, float] = {}
        self._extended_at = self._reaped_at = float("-inf")

    # ── the seam ──────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def reserve(self) -> Iterator[str | None]:
        self._full = self._full or self._room() <= 0
        if self._draining or self._full:
            yield None
            return
        self._claimed += 1
        try:
            yield self.worker
        finally:
            self._claimed -= 1

    def submit(self, run: Run, thread: Thread | None = None) -> None:
        if run.status in ACTIVE and run.worker == self.worker:
            self._begin(HeldRun(run, thread))
        else:
            self._queue_changed()

    async def cancel(self, run: Run) -> None:
        active = self._active.get(run.run_id)
        if active is None:
            self._queue_changed()
        elif active.why is None and active.held.run.status is not RunStatus.CANCELLING:
            active.held.run = run
            active.cut_off(Why.CANCELLED)

    async def abandon(self, thread_id: str) -> None:
        going = [
            active for active in self._active.values() if active.held.run.thread_id == thread_id
        ]
        for active in going:
            active.cut_off(Why.ABANDONED)
        await _all_over(going)

    def wake(self) -> None:
        self._woken.set()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        await self._tick()
        loop = asyncio.create_task(self._tick_forever(), name=f"engine {self.worker}")
        try:
            yield
        finally:
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop

    async def drain(self, seconds: float) -> None:
        if self._draining:
            return
        self._draining = True
        going = list(self._active.values())
        for active in going:
            active.held.control.request_drain("The server stops.")
        # The last second, if there are that many, is for what was cut off, and for closing all that
        # is open.
        last_word = min(0.5, seconds / 5)
        await _all_over(going, timeout=seconds - 2 * last_word)
        for active in self._active.values():
            active.cut_off(Why.DRAINED)
        # What was cut off has a last word to say; but a tool that cannot be cut off is not waited
        # for.
        await _all_over(list(self._active.values()), timeout=last_word)
        with suppress(Unavailable):
            await self._storage.retire(self.worker)

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────

    async def _tick_forever(self) -> None:
        while True:
            pause = await self._pause()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)
            self._woken.clear()
            try:
                await self._tick()
            except Exception:
                # The disk is full, say. Nothing is lost by it: what is due stays due.
                log.exception("the engine could not look for work")
                await asyncio.sleep(RETRY_SECONDS)

    async def _pause(self) -> float:
        """Until the next timer, but not longer than a lost ring may cost."""
        try:
            now = self._clock.now()
            due = await self._storage.next_due(now)
        except Exception:
            return POLL_SECONDS
        return (
            POLL_SECONDS
            if due is None
            else min(max((due - now).total_seconds(), 0.0), POLL_SECONDS)
        )

    async def _tick(self) -> None:
        if self._draining:
            return
        now = asyncio.get_running_loop().time()
        if now - self._extended_at >= EXTEND_SECONDS:
            await self._storage.heartbeat(self.worker, self._clock.now() + self._lease)
            self._extended_at = now
        if now - self._reaped_at >= REAP_SECONDS or self._waiting:
            # Whatever is in the queue, rung for or not.
            self._waiting = True
            await self._reap()
            await self._stop_cancelled()
            self._reaped_at = now
        await self._fire_timers()
        if self._waiting or self._full:
            await self._acquire_due()

    async def _reap(self) -> None:
        """Take over the runs of workers that are gone."""
        while True:
            orphans = await self._storage.orphaned_runs(self._clock.now())
            # A worker that has not been heard of may be this very one, waking up late.
            taken = [
                run
                for run in orphans
                if run.run_id not in self._active and await self._take_over(run)
            ]
            if not taken:
                return

    async def _stop_cancelled(self) -> None:
        """Stop what was cancelled where this worker could not be rung."""
        if self._active:
            for run in await self._storage.runs(status=(RunStatus.CANCELLING,)):
                if run.run_id in self._active:
                    await self.cancel(run)

    async def _take_over(self, run: Run) -> bool:
        try:
            state = await self._executor.recovery_state(run)
            if transitions.is_poison(run, state):
                await self._fail_poisoned(run, state)
                return True
            change, taken = transitions.taken_over(run, self.worker, state, self._clock.now())
            await self._storage.commit(change)
        except Tampered as error:
            log.error(
                "a run is not gone on with",
                run_id=run.run_id,
                thread_id=run.thread_id,
                reason=error.message,
            )
            await self._storage.distrust(run.thread_id, error.message, stopped=True)
            return True
        except Conflict:
            # Another worker was faster.
            return False
        except Unavailable:
            raise
        except Exception as error:
            # What its thread is at cannot be told. That is this run's trouble, and must not keep
            # the others waiting.
            log.exception(
                "a run cannot be gone on with", run_id=run.run_id, thread_id=run.thread_id
            )
            await self._store(
                Active(HeldRun(run)), await self._executor.fail(HeldRun(run), error), fenced=False
            )
            return True
        self._begin(HeldRun(taken))
        return True

    async def _fail_poisoned(self, run: Run, state: RecoveryState) -> None:
        held = HeldRun(run)
        at = f"at {' and '.join(state.next)}" if state.next else "before its first step"
        error = AssentError(
            f"The server died {run.stuck + 1} times while this run was {at}, so it is not tried again. Look into the server's log for the "
            "cause, then send the message again."
        )
        await self._store(Active(held), await self._executor.fail(held, error), fenced=False)

    async def _fire_timers(self) -> None:
        """Do what is due, all that there is: so a timer that was moved to a time that has come as
        well needs not wait for the next look."""
        done: set[tuple[str, int]] = set()
        while not self._draining:
            now = asyncio.get_running_loop().time()
            self._not_before = {
                timer_id: time for timer_id, time in self._not_before.items() if time > now
            }
            # What has failed is due the longest, and must not keep others from being seen.
            limit = BATCH + len(self._not_before) + len(done)
            due = await self._storage.due_timers(self._clock.now(), limit=limit)
            due = tuple(
                timer
                for timer in due
                if timer.timer_id not in self._not_before
                and (timer.timer_id, timer.version) not in done
            )
            if not due:
                return
            done |= {(timer.timer_id, timer.version) for timer in due}
            # At once, so that what they store shares its commits.
            await asyncio.gather(*map(self._fire, due))

    async def _fire(self, timer: Timer) -> None:
        try:
            await self._on_timer[timer.kind](timer)
        except Conflict:
            # Somebody else was faster; if there is anything left to do, it is still due.
            return
        except Exception:
            log.exception("a timer failed", timer_id=timer.timer_id, kind=timer.kind)
            self._not_before[timer.timer_id] = asyncio.get_running_loop().time() + RETRY_SECONDS

    async def _acquire_due(self) -> None:
        """Start pending runs while there is room."""
        while (room := min(self._room(), BATCH)) > 0:
            due = await self._storage.due_runs(self._clock.now(), limit=room)
            started = [run for run in due if await self._acquire(run)]
            if not started:
                # Nobody waits for room any more, so newcomers may have it.
                self._full = False
                break
        else:
            self._full = True
        # A run that was committed after this was read must not be forgotten.
        rung = self._rung
        pending = await self._storage.runs(status=(RunStatus.PENDING,), limit=1)
        self._waiting = bool(pending) or rung != self._rung

    async def _acquire(self, run: Run) -> bool:
        thread = await self._storage.thread(run.thread_id)
        if thread is None or run.run_id in self._active:
            return False
        change, thread, running = transitions.started(thread, run, self.worker, self._clock.now())
        try:
            await self._storage.commit(change)
        except Conflict:
            return False
        self._begin(HeldRun(running, thread))
        return True

    def _queue_changed(self) -> None:
        self._waiting = True
        self._rung += 1
        self.wake()

    def _room(self) -> int:
        return self._max_runs - len(self._active) - self._claimed

    # ── one run ───────────────────────────────────────────────────────────────────────────────────

    def _begin(self, held: HeldRun) -> None:
        active = self._active[held.run.run_id] = Active(held)
        # Two tasks: the work may be cut off at any moment, the other must live to say how it ended.
        cancelling = held.run.status is RunStatus.CANCELLING
        work = self._executor.cancel(held) if cancelling else self._executor.execute(held)
        active.work = asyncio.create_task(work, name=f"run {held.run.run_id}")
        active.task = asyncio.create_task(
            self._supervise(active), name=f"run {held.run.run_id} to its end"
        )

    async def _supervise(self, active: Active) -> None:
        held = active.held
        try:
            assert active.work is not None
            await asyncio.wait({active.work})
            ending = await self._ending(active, active.work)
            if ending is not None:
                await self._store(active, ending)
        except Exception:
            log.exception(
                "the end of a run could not be stored",
                run_id=held.run.run_id,
                thread_id=held.run.thread_id,
            )
            await self._release(held.run)
        finally:
            del self._active[held.run.run_id]
            if self._waiting or self._full:
                self.wake()

    async def _release(self, run: Run) -> None:
        """Nobody works on the run any more, so it must not look as if somebody did: it is an
        orphan, and is taken up as such."""
        while not self._draining:
            try:
                stored = await self._storage.run(run.run_id)
                if stored is not None and stored.attempt == run.attempt and stored.status in ACTIVE:
                    await self._storage.commit(
                        Change(rows=(replace(stored, worker=None, version=stored.version + 1),))
                    )
                return
            except Conflict:
                continue
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)

    async def _ending(self, active: Active, work: asyncio.Task[Ending]) -> Ending | None:
        """What to store of a run whose work has ended; None if it is not this worker's to say."""
        held = active.held
        error = None if work.cancelled() else work.exception()
        if active.why is Why.ABANDONED or isinstance(error, StaleLease):
            log.info("a run was let go of", run_id=held.run.run_id, thread_id=held.run.thread_id)
            return None
        if active.why is Why.CANCELLED:
            return await self._cancelled(held)
        if work.cancelled() or isinstance(error, RunDrained):
            return lambda thread, run, now: transitions.released(run)
        if error is None:
            return work.result()
        assert isinstance(error, Exception)
        log.error(
            "run failed",
            run_id=held.run.run_id,
            thread_id=held.run.thread_id,
            agent=held.run.agent,
            exc_info=error,
        )
        ending = await self._executor.fail(held, error)
        return (
            ending if held.run.status is not RunStatus.CANCELLING else await self._cancelled(held)
        )

    async def _cancelled(self, held: HeldRun) -> Ending:
        try:
            return await self._executor.cancel(held)
        except Exception as error:
            log.exception(
                "a cancelled run could not be closed",
                run_id=held.run.run_id,
                thread_id=held.run.thread_id,
            )
            return await self._executor.fail(held, error)

    async def _store(self, active: Active, ending: Ending, *, fenced: bool = True) -> None:
        """Store how the run ended, as long as it is this worker's."""
        held = active.held
        thread, run = held.thread, held.run
        while True:
            thread = thread or await self._storage.thread(run.thread_id)
            if thread is None:
                log.warning(
                    "a thread was removed while a run was active on it",
                    run_id=run.run_id,
                    thread_id=run.thread_id,
                )
                return
            try:
                made = ending(thread, run, self._clock.now())
                change = await made if isinstance(made, Awaitable) else made
                await self._storage.commit(replace(change, lease=held.lease) if fenced else change)
                # What was asked may have been answered at once, and another run goes on.
                self._waiting = self._waiting or any(
                    isinstance(row, Run) and row.status is RunStatus.PENDING for row in change.rows
                )
                return
            except StaleLease:
                return
            except Tampered as found:
                await self._storage.distrust(run.thread_id, found.message, stopped=True)
                return
            except Unavailable:
                # The disk is full, say. The run is over all the same, and says so once there is
                # room.
                if self._draining:
                    raise
                log.exception(
                    "the end of a run cannot be stored yet",
                    run_id=run.run_id,
                    thread_id=run.thread_id,
                )
                await asyncio.sleep(RETRY_SECONDS)
            except Conflict:
                stored = await self._storage.run(run.run_id)
                if stored is None or stored.attempt != run.attempt or stored.status not in ACTIVE:
                    return
                if stored.status is RunStatus.CANCELLING and run.status is not RunStatus.CANCELLING:
                    # It was cancelled at its very end; who was told so is told the truth.
                    held.run = stored
                    ending = await self._cancelled(held)
                held.run = run = stored
                thread = None


async def _all_over(runs: list[Active], timeout: float | None = None) -> None:
    if tasks := {active.task for active in runs if active.task is not None}:
        await asyncio.wait(tasks, timeout=timeout)
