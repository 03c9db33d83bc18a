"""The engine of a single process: asyncio tasks over the rows of one storage.

One loop ticks: it fires timers, and acquires pending runs while there is room. It ticks when it is
woken, and a few times a second anyway, so a lost wake-up costs no more than that. Beside it, a
second loop extends the worker's leases, and a third one takes over the runs of dead workers: they
may be many, and neither timers nor new runs wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

import structlog

from assent.core.background import background
from assent.core.clock import Clock
from assent.core.errors import AssentError, Conflict, StaleLease, Tampered, Unavailable
from assent.core.pauses import pauses, pauses_while_away
from assent.core.rows import ACTIVE, Run, RunStatus, Thread, Timer
from assent.runs import transitions
from assent.runs.engine import (
    Ending,
    Engine,
    Executor,
    HeldRun,
    OnTimer,
    RecoveryState,
    RunDrained,
    log_of,
)
from assent.runs.liveness import Watch
from assent.runs.log_lines import OutageLines
from assent.storage.base import Change, Storage

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.25
"""The longest delay of a run whose wake-up was lost, and of a timer."""

LOOK_SECONDS = 1.0
"""The longest delay of a change to the queue that another process made."""

LEASE_SECONDS = 15.0
"""A worker that has not extended its lease for this long counts as dead. It leaves time for a pause
of its process, or a slow disk."""

EXTEND_SECONDS = 4.0
REAP_SECONDS = 1.0

IDLE_POLL_SECONDS = 0.01

TAKEN_OVER_AT_ONCE = 8
"""Runs of dead workers that are taken over at the same time. Each waits for reads and for one
commit, which they share; with more, timers and new runs would wait longer for their own."""

RETRY_SECONDS = 2.0
"""The wait before the storage, or the handler of a timer, is tried again after a failure."""

PUT_BACK_FIRST, PUT_BACK_LONGEST = 0.5, 30.0
"""The pauses before a run is tried again that failed because the storage did. Each attempt begins
at the last checkpoint, and may call a model that costs money."""

BATCH = 100


class StopReason(Enum):
    """The reason why a run's work was cut off."""

    CANCELLED = auto()
    DRAINED = auto()
    ABANDONED = auto()


@dataclass(slots=True)
class ActiveRun:
    """A run in progress.

    It has two tasks: `work` can be cut off at any moment, and `supervisor` lives on to store how
    the run ended.
    """

    held: HeldRun
    work: asyncio.Task[Ending]
    supervisor: asyncio.Task[None] = field(init=False)
    stop_reason: StopReason | None = None
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def cut_off(self, reason: StopReason) -> None:
        """Stop the work now."""
        self.stop_reason = reason
        self.stopped.set()
        self.work.cancel()

    async def pause(self, seconds: float) -> None:
        """Wait for so long, or until the run is cut off."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopped.wait()


class EmbeddedEngine(Engine):
    """Works on runs and timers in this process, on at most `max_runs` runs at once. `on_timer` are
    the handlers of timers, by kind."""

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
        self._watch = Watch(lease_seconds)
        self._active: dict[str, ActiveRun] = {}
        self._reserved = 0
        # Runs whose start is being committed.
        self._starting = 0
        self._draining = self._retired = False
        self._woken = asyncio.Event()
        # Set where a run may have no worker.
        self._reap_now = asyncio.Event()
        self._queue_may_have_runs = True
        self._queue_changes = 0
        # While runs wait for room, they go before newcomers.
        self._full = False
        self._failed_timers: set[str] = set()
        # The next pauses of runs that were put back because the storage failed.
        self._pauses: dict[str, Iterator[float]] = {}
        self._outages = OutageLines()
        self._looked_at = float("-inf")
        # Runs of dead workers that are about to be taken over. They keep their places.
        self._orphans = 0

    # ── the interface ─────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def reserve(self) -> Iterator[str | None]:
        self._full = self._full or self._room() <= 0
        if self._draining or self._full:
            yield None
            return

        self._reserved += 1
        try:
            yield self.worker
        finally:
            self._reserved -= 1

    def submit(self, run: Run, thread: Thread | None = None) -> None:
        if run.status in ACTIVE and run.worker == self.worker:
            self._begin(HeldRun(run, thread))
        else:
            self._queue_changed()

    async def cancel(self, run: Run) -> None:
        active = self._active.get(run.run_id)
        if active is None:
            self._queue_changed()
            # What waited for a person has no worker, and one is to bring its thread to rest.
            self._reap_now.set()
        elif active.stop_reason is None and active.held.run.status is not RunStatus.CANCELLING:
            active.held.run = run
            active.cut_off(StopReason.CANCELLED)

    async def abandon(self, thread_id: str) -> None:
        runs = [run for run in self._active.values() if run.held.run.thread_id == thread_id]
        for active in runs:
            active.cut_off(StopReason.ABANDONED)
        await _wait_for(runs)

    def wake(self) -> None:
        self._woken.set()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        log.info("engine started", worker=self.worker, max_runs=self._max_runs)
        await self._warn_of_left_runs()
        await self._try(self._extend)
        self._orphans = len(await self._find_orphans())
        await self._try(self._tick)
        loops = (self._tick_forever(), self._extend_forever(), self._reap_forever())
        async with background(*loops, name=f"engine {self.worker}"):
            yield

    async def drain(self, seconds: float) -> None:
        if self._draining:
            return
        self._draining = True
        for active in self._active.values():
            active.held.control.request_drain("The server stops.")

        # Keep some of the time for storing how the runs that are cut off ended, and as much again
        # for closing everything that is open.
        reserve = min(0.5, seconds / 5)
        await self._until_idle(seconds - 2 * reserve)
        for active in self._active.values():
            active.cut_off(StopReason.DRAINED)
        await self._until_idle(reserve)
        # A tool that cannot be cut off is not waited for.
        for active in list(self._active.values()):
            await self._let_go(active.held.run)

        self._retired = True
        with suppress(Unavailable):
            await self._storage.retire(self.worker)
        log.info("engine stopped", worker=self.worker)

    async def _until_idle(self, seconds: float) -> None:
        """Wait until no run is active or about to begin, but not longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._active or self._reserved or self._starting:
                    await _wait_for(self._active.values())
                    await asyncio.sleep(IDLE_POLL_SECONDS)

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────

    async def _tick_forever(self) -> None:
        while True:
            seconds = await self._seconds_to_next_tick()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            self._woken.clear()
            if not await self._try(self._tick):
                await asyncio.sleep(RETRY_SECONDS)

    async def _try(self, step: Callable[[], Awaitable[None]]) -> bool:
        """Take the step, and return whether that was possible. If not, nothing is lost: what is due
        stays due, and it is tried again."""
        try:
            await step()
        except Unavailable as error:
            self._outages.away(error.message)
            return False
        except Exception:
            log.exception("a step of the engine failed", step=step.__name__.strip("_"))
            return False
        outage = self._storage.outage()
        if outage is None:
            self._outages.back()
        else:
            self._outages.away(outage.reason)
        return True

    async def _seconds_to_next_tick(self) -> float:
        now = self._clock.now()
        try:
            due = await self._storage.next_due(now)
        except Exception:
            return POLL_SECONDS
        if due is None:
            return POLL_SECONDS
        return min(max((due - now).total_seconds(), 0.0), POLL_SECONDS)

    async def _tick(self) -> None:
        if self._draining:
            return
        await self._fire_timers()
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= LOOK_SECONDS or self._queue_may_have_runs:
            # Check the whole queue now and then, even if nobody said that it changed.
            self._queue_may_have_runs = True
            await self._stop_cancelled()
            self._looked_at = now
        if self._queue_may_have_runs or self._full:
            await self._acquire_due()

    def _queue_changed(self) -> None:
        self._queue_may_have_runs = True
        self._queue_changes += 1
        self.wake()

    def _room(self) -> int:
        return self._max_runs - len(self._active) - self._reserved - self._orphans

    # ── acquiring ─────────────────────────────────────────────────────────────────────────────────

    async def _acquire_due(self) -> None:
        """Acquire pending runs while there is room."""
        while (room := min(self._room(), BATCH)) > 0:
            due = await self._storage.due_runs(
                self._clock.now(), agents=self._executor.agents, limit=room
            )
            acquired = [run for run in due if await self._acquire(run)]
            if not acquired:
                self._full = False
                break
        else:
            self._full = True

        # A run that was committed after this read must not be forgotten.
        changes = self._queue_changes
        pending = await self._storage.runs(status=(RunStatus.PENDING,), limit=1)
        self._queue_may_have_runs = bool(pending) or changes != self._queue_changes

    async def _acquire(self, run: Run) -> bool:
        try:
            thread = await self._storage.thread(run.thread_id)
        except Tampered as error:
            # It ends with its thread, and keeps no other run waiting.
            log_of(run).error("a run is not begun", reason=error.message)
            await self._storage.distrust(run.thread_id, error.message)
            return False
        if thread is None or run.run_id in self._active or self._draining:
            return False
        if not transitions.may_start(run, thread):
            # Another run has taken it since the queue was read.
            return False
        change, thread, running = transitions.started(thread, run, self.worker, self._clock.now())
        with self._start():
            try:
                await self._storage.commit(change)
            except Conflict:
                return False
            self._begin(HeldRun(running, thread))
        return True

    @contextmanager
    def _start(self) -> Iterator[None]:
        """Hold up the end of the engine until a run has begun whose start is being committed."""
        self._starting += 1
        try:
            yield
        finally:
            self._starting -= 1

    # ── leases ────────────────────────────────────────────────────────────────────────────────────

    async def _extend_forever(self) -> None:
        while True:
            await asyncio.sleep(EXTEND_SECONDS)
            await self._try(self._extend)

    async def _extend(self) -> None:
        if not self._retired:
            await self._storage.heartbeat(self.worker, agents=self._executor.agents)

    async def _reap_forever(self) -> None:
        while True:
            await self._try(self._reap)
            with suppress(TimeoutError):
                async with asyncio.timeout(REAP_SECONDS):
                    await self._reap_now.wait()
            self._reap_now.clear()

    async def _reap(self) -> None:
        """Take over the runs of dead workers, some at a time."""
        await self._retire_silent()
        while orphans := await self._find_orphans():
            self._orphans = len(orphans)
            try:
                taken = await self._take_over_all(iter(orphans))
            finally:
                self._orphans = 0
            if not taken:
                return

    async def _find_orphans(self) -> list[Run]:
        found = await self._storage.orphaned_runs(agents=self._executor.agents)
        # Others may have retired this worker while its process slept. It never takes over its own
        # runs: they have not stopped.
        orphans = [
            run for run in found if run.worker != self.worker and run.run_id not in self._active
        ]
        return await self._with_one_suspect(orphans)

    async def _with_one_suspect(self, orphans: list[Run]) -> list[Run]:
        """The orphans, with one at most of those that the process may have died of. If it dies
        again, it was of that one, and the others are not given up with it."""
        suspects = [run.run_id for run in orphans if transitions.is_suspect(run)]
        if not suspects:
            return orphans
        waiting = set(suspects if await self._tries_suspect() else suspects[1:])
        return [run for run in orphans if run.run_id not in waiting]

    async def _tries_suspect(self) -> bool:
        """True if a run is active on its last recovery, and has not come further yet."""
        for active in list(self._active.values()):
            run = active.held.run
            if run.status is RunStatus.RUNNING and run.stuck >= transitions.MAX_RECOVERIES:
                state = await self._executor.recovery_state(run)
                if state.checkpoint_id == run.at_checkpoint:
                    return True
        return False

    async def _take_over_all(self, orphans: Iterator[Run]) -> int:
        """Take over the runs, some at a time; return how many."""
        taken: list[Run] = []
        failures: list[Exception] = []

        async def take_over_next() -> None:
            for run in orphans:
                if self._draining:
                    break
                try:
                    with self._start():
                        if await self._take_over(run):
                            taken.append(run)
                except Exception as error:
                    # It keeps no other from its turn: perhaps a page is damaged that only it needs.
                    failures.append(error)
                self._orphans -= 1

        await asyncio.gather(*(take_over_next() for _ in range(TAKEN_OVER_AT_ONCE)))
        if failures:
            raise failures[0]
        return len(taken)

    async def _retire_silent(self) -> None:
        if self._storage.outage() is not None:
            # Nobody can count a heartbeat now.
            return
        heartbeats = await self._storage.workers()
        for worker in self._watch.silent(heartbeats, asyncio.get_running_loop().time()):
            if worker != self.worker:
                await self._storage.retire(worker, heartbeats[worker])

    async def _take_over(self, run: Run) -> bool:
        """Go on with the run, or end it if that is impossible. Returns False if another worker was
        faster."""
        try:
            state = await self._executor.recovery_state(run)
            if transitions.is_poison(run, state):
                await self._fail_poisoned(run, state)
                return True
            change, taken = transitions.taken_over(run, self.worker, state, self._clock.now())
            await self._storage.commit(change)
        except Tampered as error:
            log_of(run).error("a run is not recovered", reason=error.message)
            await self._storage.distrust(run.thread_id, error.message, stopped=True)
            return True
        except Conflict:
            return False
        except Unavailable:
            raise
        except Exception as error:
            # The thread cannot be read. Fail its run, and let the others go on.
            log_of(run).exception("a run cannot be recovered")
            await self._fail_unfenced(run, error)
            return True
        self._begin(HeldRun(taken))
        return True

    async def _fail_poisoned(self, run: Run, state: RecoveryState) -> None:
        """Fail a run that crashed its process at the same checkpoint in every recovery."""
        at = f"at {' and '.join(state.next)}" if state.next else "before its first step"
        error = AssentError(
            f"The server died {run.stuck + 1} times while this run was {at}, "
            "so it is not tried again. Look into the server's log for the cause, "
            "then send the message again."
        )
        await self._fail_unfenced(run, error)

    async def _fail_unfenced(self, run: Run, error: Exception) -> None:
        """Fail a run that this worker has not acquired, so without a lease."""
        held = HeldRun(run)
        await self._store(held, await self._executor.fail(held, error), fenced=False)

    async def _warn_of_left_runs(self) -> None:
        for agent, count in (await self._storage.unfinished_runs()).items():
            if agent not in self._executor.agents:
                log.warning("runs wait for their agent", agent=agent, count=count)

    async def _stop_cancelled(self) -> None:
        """Stop the runs that another process cancelled."""
        if not self._active:
            return
        for run in await self._storage.runs(status=(RunStatus.CANCELLING,)):
            if run.run_id in self._active:
                await self.cancel(run)

    # ── timers ────────────────────────────────────────────────────────────────────────────────────

    async def _fire_timers(self) -> None:
        """Fire timers until none is due, including those that a handler moves to a time that has
        come already."""
        fired: set[tuple[str, int]] = set()
        while not self._draining:
            # Timers that failed come first, as they are due the longest. They must not fill the
            # batch.
            limit = BATCH + len(self._failed_timers) + len(fired)
            due = []
            for timer in await self._storage.due_timers(self._clock.now(), limit=limit):
                key = (timer.timer_id, timer.version)
                if timer.timer_id not in self._failed_timers and key not in fired:
                    due.append(timer)
                    fired.add(key)
            if not due:
                return
            # All at once, so that they share commits.
            await asyncio.gather(*map(self._fire, due))

    async def _fire(self, timer: Timer) -> None:
        try:
            await self._on_timer[timer.kind](timer)
        except Conflict:
            # Another worker was faster. If anything is left to do, the timer is still due.
            return
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            # An agent's code may raise anything, and must not end the loop of all runs. If the
            # storage is away, the tick says so.
            if not isinstance(error, Unavailable):
                log.exception("a timer failed", timer_id=timer.timer_id, kind=timer.kind)
            self._failed_timers.add(timer.timer_id)
            retry = self._failed_timers.discard
            asyncio.get_running_loop().call_later(RETRY_SECONDS, retry, timer.timer_id)

    # ── one run ───────────────────────────────────────────────────────────────────────────────────

    def _begin(self, held: HeldRun) -> None:
        run_id = held.run.run_id
        work: Coroutine[Any, Any, Ending]
        if self._draining:
            # Its start was being committed when the draining began.
            work = _not_now()
        elif held.run.status is RunStatus.CANCELLING:
            work = self._executor.cancel(held)
        else:
            work = self._executor.execute(held)
        active = ActiveRun(held, asyncio.create_task(work, name=f"run {run_id}"))
        self._active[run_id] = active
        active.supervisor = asyncio.create_task(
            self._supervise(active), name=f"supervisor of run {run_id}"
        )

    async def _supervise(self, active: ActiveRun) -> None:
        """Wait for the end of the run's work, and store it."""
        held = active.held
        try:
            await asyncio.wait({active.work})
            ending = await self._ending(active)
            if ending is not None:
                await self._store(held, ending)
            self._pauses.pop(held.run.run_id, None)
        except Unavailable as error:
            await self._put_back(active, error)
        except asyncio.CancelledError:
            raise
        except BaseException:
            log_of(held.run).exception("the end of a run could not be stored")
            await self._release(held.run)
        finally:
            del self._active[held.run.run_id]
            if self._queue_may_have_runs or self._full:
                self.wake()

    async def _ending(self, active: ActiveRun) -> Ending | None:
        """Return the run's ending, or None if it is no longer this worker's to store."""
        held, work = active.held, active.work
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        if active.stop_reason is StopReason.ABANDONED or isinstance(error, StaleLease):
            log_of(held.run).info("run abandoned")
            return None
        if active.stop_reason is StopReason.CANCELLED:
            return await self._cancelled(held)
        cut_off = work.cancelled() and active.stop_reason is StopReason.DRAINED
        if cut_off or isinstance(error, RunDrained):
            return lambda thread, run, now: transitions.released(run)
        if error is None:
            return work.result()

        if isinstance(error, Unavailable):
            raise error
        # It may be anything: SystemExit, or a cancellation that nobody here has asked for.
        log_of(held.run).error("a run raised an exception", exc_info=error)
        ending = await self._executor.fail(held, error)
        # Failing it took a moment, in which it may have been cancelled.
        if held.run.status is RunStatus.CANCELLING:
            return await self._cancelled(held)
        return ending

    async def _cancelled(self, held: HeldRun) -> Ending:
        try:
            return await self._executor.cancel(held)
        except Unavailable:
            raise
        except Exception as error:
            log_of(held.run).exception("the thread of a cancelled run could not be closed")
            return await self._executor.fail(held, error)

    async def _put_back(self, active: ActiveRun, error: Unavailable) -> None:
        """Release a run whose storage failed it, after a pause that grows each time, so that a
        worker takes it over."""
        run = active.held.run
        if run.run_id not in self._pauses:
            log_of(run).warning("run put back", reason=error.message)
            self._pauses[run.run_id] = pauses(PUT_BACK_FIRST, PUT_BACK_LONGEST)
        await active.pause(next(self._pauses[run.run_id]))
        if active.stop_reason is not StopReason.ABANDONED:
            await self._store(active.held, lambda thread, run, now: transitions.released(run))
            self._queue_changed()

    async def _store(self, held: HeldRun, ending: Ending, *, fenced: bool = True) -> None:
        """Commit the run's ending, unless the run is no longer this worker's. A worker that is to
        stop leaves it to the next one, if the storage is away."""
        retries = pauses_while_away()
        # The run as it was read for the ending: meanwhile somebody may cancel it.
        left: tuple[Run, Ending] | None = (held.run, ending)
        while left is not None:
            try:
                left = await self._try_to_store(held, *left, fenced=fenced)
            except Unavailable:
                if self._draining:
                    return
                await asyncio.sleep(next(retries))

    async def _try_to_store(
        self, held: HeldRun, run: Run, ending: Ending, *, fenced: bool
    ) -> tuple[Run, Ending] | None:
        """Commit the run's ending. If the rows have moved, return the run as it is now, and what to
        store instead."""
        thread = held.thread or await self._storage.thread(run.thread_id)
        if thread is None:
            log_of(run).warning("a thread was removed while a run was active on it")
            return None
        try:
            made = ending(thread, run, self._clock.now())
            change = await made if isinstance(made, Awaitable) else made
            if fenced:
                change = replace(change, lease=held.lease)
            await self._storage.commit(change)
        except StaleLease:
            return None
        except Tampered as error:
            await self._storage.distrust(run.thread_id, error.message, stopped=True)
            return None
        except Conflict:
            return await self._after_conflict(held, run, ending)
        # Standing grants may have answered all that the run asked. Then the run that goes on is
        # part of the change.
        self._queue_may_have_runs |= any(
            isinstance(row, Run) and row.status is RunStatus.PENDING for row in change.rows
        )
        return None

    async def _after_conflict(
        self, held: HeldRun, run: Run, ending: Ending
    ) -> tuple[Run, Ending] | None:
        """Read the run again; None if it is no longer this worker's."""
        stored = await self._still_active(run)
        if stored is None:
            return None
        held.run, held.thread = stored, None
        if stored.status is RunStatus.CANCELLING and run.status is not RunStatus.CANCELLING:
            # It was cancelled at the last moment, and the caller knows it as cancelled.
            return stored, await self._cancelled(held)
        return stored, ending

    async def _still_active(self, run: Run) -> Run | None:
        """The run's current row, if no other attempt has begun and the run has not ended."""
        stored = await self._storage.run(run.run_id)
        if stored is None or stored.attempt != run.attempt or stored.status not in ACTIVE:
            return None
        return stored

    async def _let_go(self, run: Run) -> None:
        """Release a run that does not stop. Its process ends, which is no crash of the run."""
        with suppress(Conflict, Unavailable):
            await self._storage.commit(transitions.released(run))

    async def _release(self, run: Run) -> None:
        """Clear the run's worker, so that a worker takes it over."""
        while not self._draining:
            try:
                stored = await self._still_active(run)
                if stored is not None:
                    released = replace(stored, worker=None, version=stored.version + 1)
                    await self._storage.commit(Change(rows=(released,)))
                return
            except Conflict:
                continue
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)


async def _not_now() -> Ending:
    raise RunDrained


async def _wait_for(runs: Iterable[ActiveRun]) -> None:
    supervisors = {active.supervisor for active in runs}
    if supervisors:
        await asyncio.wait(supervisors)
