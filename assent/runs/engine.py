"""The engine's seam: where runs wait for their turn, who works on them, and how long they are his.

A run is a row before it is a task, and the queue is those rows: `pending` waits, `running` and
`cancelling` are some worker's. To take a run is one compare-and-swap, which gives a lease with it:
the run's `attempt` is the fencing token, and the storage refuses events and checkpoints that come
with an older one. So whatever a worker believes, one run of a thread is worked on by one worker at
a time.

An engine knows nothing of agents: what a run does, and what it means to stop it, is its
`Executor`'s. Nor does it need to be told anything in order to be right: `submit` and `cancel` ring,
and what they ring for is a row that a lost ring only delays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from langgraph.runtime import RunControl

from assent.core.rows import Lease, Run, Thread, Timer
from assent.storage.base import Change

Ending = Callable[[Thread, Run, datetime], Change | Awaitable[Change]]
"""What to store at a run's end, given its thread's row and its own as they are then. Whatever else
it is made from, it reads each time."""

OnTimer = Callable[[Timer], Awaitable[None]]
"""Does what a timer is for. It removes the timer, or moves it, in the change that it makes; if it
raises, it is called again a little later."""


@dataclass(slots=True)
class HeldRun:
    """A run in a worker's hands. `run` is its row as the worker last saw it; `thread` its thread's,
    if that is at hand.

    `control` asks the run to stop at its next step.
    """

    run: Run
    thread: Thread | None = None
    control: RunControl = field(default_factory=RunControl)

    @property
    def lease(self) -> Lease:
        """What lets the worker write for the run."""
        return Lease(self.run.run_id, self.run.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryState:
    """What a worker that is gone left of a run: the messages it had begun to show, the thread's
    head, which nodes are next there, and what it had used."""

    message_ids: tuple[str, ...] = ()
    checkpoint_id: str = ""
    next: tuple[str, ...] = ()
    usage: Mapping[str, float] = field(default_factory=dict)


class RunDrained(Exception):
    """The run stopped between two steps because its worker was asked to stop. It is anybody's, and
    goes on from there."""


class Executor(Protocol):
    """What runs do. Each method may be called again after a crash, for what the one before had not
    finished."""

    async def execute(self, held: HeldRun) -> Ending:
        """Do the run's work, up to its end or its pause. Raises `RunDrained` after `held.control`
        asked it to stop, or whatever it failed with."""

    async def cancel(self, held: HeldRun) -> Ending:
        """Bring the thread of a run that was stopped on request to rest."""

    async def fail(self, held: HeldRun, error: Exception) -> Ending:
        """Say what the run failed with."""

    async def recovery_state(self, run: Run) -> RecoveryState:
        """Look at what was left of a run whose worker is gone."""


class Engine(ABC):
    """Takes runs and timers, and works on them while `working` is entered."""

    worker: str
    """This worker's id: what stands in the rows of the runs that it holds."""

    @abstractmethod
    def reserve(self) -> AbstractContextManager[str | None]:
        """Room for one more run, kept while the context is entered: the worker to write into its
        row, as a run that is `running`. None if there is none here, or others wait for it; then the
        row is to be `pending`."""

    @abstractmethod
    def submit(self, run: Run, thread: Thread | None = None) -> None:
        """The run's row was committed: work on it, if it is this worker's; let the queue be looked
        at, if it is pending. `thread` is the thread's row as that change left it."""

    @abstractmethod
    async def cancel(self, run: Run) -> None:
        """The run's row was made `cancelling`: stop it."""

    @abstractmethod
    async def abandon(self, thread_id: str) -> None:
        """Stop what runs on the thread, without a last word; return when it has ended."""

    @abstractmethod
    def wake(self) -> None:
        """Timers or runs were committed in a change of somebody else's: look."""

    @abstractmethod
    def working(self) -> AbstractAsyncContextManager[None]:
        """Work, until the context is left. On entering, what a worker that is gone left has been
        taken."""

    @abstractmethod
    async def drain(self, seconds: float) -> None:
        """Take nothing more; let each run reach the end of its step, and put it back. After
        `seconds`, those that have not are cut off. Once is enough."""
