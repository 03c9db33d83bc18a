"""The interface of an engine: submit a run, acquire it, extend its lease, release it, reap it.

A run is a row before it is a task, and the queue is made of those rows. A `pending` run waits; a
`running` or `cancelling` run belongs to a worker. A worker acquires a run by compare-and-swap, and
holds it under a lease: the run's `attempt` is the fencing token, and the storage refuses events and
checkpoints that carry an older one. So one worker at a time works on a thread, whatever others
believe.

An engine knows nothing about agents but their names. Its `Executor` does a run's work and closes
its thread, and a run of an agent that the executor does not have is left to a worker that has it.
`submit` and `cancel` only say that a row has changed: if a call is lost, the run is delayed until
the next poll, and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import structlog
from langgraph.runtime import RunControl

from assent.core.rows import Lease, Run, Thread, Timer
from assent.storage.base import Change

Ending = Callable[[Thread, Run, datetime], Change | Awaitable[Change]]
"""Makes the change that ends a run, from the current rows of its thread and the run.

It is called again if they have moved, so it reads anything else that it needs each time.
"""

OnTimer = Callable[[Timer], Awaitable[None]]
"""Handles a timer that is due. The handler removes or moves the timer in the change that it
commits. If it raises, it is called again a little later."""


@dataclass(slots=True)
class HeldRun:
    """A run that a worker holds: its row as last read, and its thread's row if already known.

    `control` asks the run to stop at its next step.
    """

    run: Run
    thread: Thread | None = None
    control: RunControl = field(default_factory=RunControl)

    @property
    def lease(self) -> Lease:
        """The lease under which the worker writes."""
        return Lease(self.run.run_id, self.run.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryState:
    """The state in which a dead worker left a run.

    `message_ids` are the messages it had begun to stream, `checkpoint_id` is the thread's head,
    `next` are the nodes that come next, and `usage` is what the run had used.
    """

    message_ids: tuple[str, ...] = ()
    checkpoint_id: str = ""
    next: tuple[str, ...] = ()
    usage: Mapping[str, float] = field(default_factory=dict)


class RunDrained(Exception):
    """The run stopped between two steps because its worker is draining. Any worker may go on."""


class Executor(Protocol):
    """Does the work of runs. Every method may be called again after a crash, to finish what an
    earlier call began."""

    @property
    def agents(self) -> Collection[str]:
        """The agents whose runs it does. Runs of other agents are left as they are."""

    async def execute(self, held: HeldRun) -> Ending:
        """Work until the run ends or pauses. Raises `RunDrained` after `held.control` asked it to
        stop, or whatever the run failed with."""

    async def cancel(self, held: HeldRun) -> Ending:
        """Close the thread of a run that was cancelled."""

    async def fail(self, held: HeldRun, error: BaseException) -> Ending:
        """Close the thread of a run that failed with this error."""

    async def recovery_state(self, run: Run) -> RecoveryState:
        """Read the state in which a dead worker left the run."""


class Engine(ABC):
    """Works on runs and timers while `working` is entered."""

    worker: str
    """The id of this worker, stored in the rows of the runs that it holds."""

    @abstractmethod
    def reserve(self) -> AbstractContextManager[str | None]:
        """Reserve room for one more run while the context is entered.

        Yields the worker to store in the row of a `running` run. Yields None if there is no room,
        or if other runs wait for it; then store the run as `pending`.
        """

    @abstractmethod
    def submit(self, run: Run, thread: Thread | None = None) -> None:
        """Work on a run whose row was committed, or check the queue if it is pending. `thread` is
        the thread's row as that commit left it."""

    @abstractmethod
    async def cancel(self, run: Run) -> None:
        """Stop a run whose row is now `cancelling`."""

    @abstractmethod
    async def abandon(self, thread_id: str) -> None:
        """Stop the thread's runs and store nothing about them. Returns when they have stopped."""

    @abstractmethod
    def wake(self) -> None:
        """Check runs and timers now, because a change may have made some due."""

    @abstractmethod
    def working(self) -> AbstractAsyncContextManager[None]:
        """Work until the context is left. Timers that are due are fired on entry, and the runs of
        dead workers are taken over from then on."""

    @abstractmethod
    async def drain(self, seconds: float) -> None:
        """Acquire nothing more, and release each run at the end of its step.

        Runs that take longer than `seconds` are cut off. A second call does nothing.
        """


def log_of(run: Run) -> Any:
    """The log, for lines about this run."""
    log = structlog.get_logger("assent.runs")
    return log.bind(run_id=run.run_id, thread_id=run.thread_id, agent=run.agent)
