"""The one writer. A thread with the only connection that writes takes everything that waits and
commits it at once.

A batch is whatever waited while the batch before was being committed; there is no timer. Alone, a
caller waits for one fsync; in a crowd all share one. Each operation has a savepoint, so one that
fails is rolled back alone, and its caller alone is told. Nobody is told of success before the
commit.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from assent.core.events import Event
from assent.core.rows import Lease
from assent.core.sealing import NoSeal, Seal
from assent.storage.chain import AuditKey
from assent.storage.sqlite.audit_chain import Chain
from assent.storage.sqlite.failures import closed, is_unavailable, overrun, translated
from assent.storage.sqlite.leases import Leases
from assent.storage.sqlite.log import Log, StoredEvent
from assent.storage.sqlite.merging import MERGE_FROM, Append, merged

T = TypeVar("T")

MAX_BATCH = 4096
"""Operations in one transaction. More would share the fsync no better, and keep the event loop
longer at the delivery."""

MAX_WAITING = 250_000
"""Operations that may wait while the disk stands still, before callers are refused."""

logger = logging.getLogger(__name__)


class Transaction(NamedTuple):
    """What an operation works with, on the writer's thread. It neither commits nor rolls back."""

    connection: sqlite3.Connection
    log: Log
    leases: Leases
    chain: Chain


class Joint(ABC):
    """An operation that can be done in one go with others of its kind. Each statement makes the
    writer's thread wait for its turn of the interpreter, so a few for all of them are many times
    faster than a few for each. It touches nothing of the log."""

    @abstractmethod
    def __call__(self, transaction: Transaction) -> None:
        """Do it alone."""

    @staticmethod
    @abstractmethod
    def together(transaction: Transaction, operations: Sequence[Any]) -> None:
        """Do all, or raise if any of them cannot be done; then they are done one by one."""


@dataclass(slots=True)
class Waiting(Generic[T]):
    """Somebody who waits for a result."""

    future: asyncio.Future[T]

    def on_result(self, result: T) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def on_error(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True)
class Job(Waiting[T]):
    """An operation, who waits for what it returns, and the threads whose events or runs it may
    touch (None: any)."""

    operation: Callable[[Transaction], T]
    threads: Collection[str] | None


Item = Append | Job[Any]


@dataclass(slots=True)
class Errand(Waiting[T]):
    """What must be done between two transactions, and who waits for it."""

    operation: Callable[[sqlite3.Connection], T]


class End(Enum):
    """Behind the last item."""

    END = "end"


@dataclass(slots=True)
class Outcome:
    """What became of a batch."""

    stored: Sequence[StoredEvent] = ()
    done: list[tuple[Job[Any], Any]] = field(default_factory=list)
    failed: list[tuple[Item, Exception]] = field(default_factory=list)


def _groups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """What can be done together, in order. Joint operations pass by appends, which only fill
    memory, but by no other job."""
    joint: list[Item] = []
    for item in items:
        if isinstance(item, Job) and isinstance(item.operation, Joint):
            joint.append(item)
            continue
        if joint and isinstance(item, Job):
            yield joint
            joint = []
        yield (item,)
    if joint:
        yield joint


class Writer:
    """Takes operations on the event loop and commits them on its own thread.

    `on_stored` is called on the loop with the events of each commit, before anybody learns of their
    own result. `seal` seals them in the file, and `audit_key` signs what is added to its audit
    chain.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        name: str,
        on_stored: Callable[[Sequence[StoredEvent]], None],
        seal: Seal | None = None,
        audit_key: AuditKey | None = None,
    ) -> None:
        self._connection = connection
        self._name = name
        self._on_stored = on_stored
        self._loop = asyncio.get_running_loop()
        self._log = Log(connection, seal)
        self._leases = Leases(connection)
        self._chain = Chain(connection, seal or NoSeal(), audit_key)
        self._transaction = Transaction(connection, self._log, self._leases, self._chain)
        self._queue: SimpleQueue[Item | Errand[Any] | End] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"assent-writer-{name}")
        self._gathered: list[Job[Any]] = []
        self._closed = False
        self._last_delivery = self._loop.time()
        self._thread.start()

    async def write(
        self, operation: Callable[[Transaction], T], *, threads: Collection[str] | None = None
    ) -> T:
        """Run the operation in the next transaction, on the writer's thread; return its result once
        that has committed.

        `threads` are those whose events it may add or remove, or whose runs it may write, if that
        is known; under load, tokens of others are merged past it. Raises what the operation raised,
        after its own writes were rolled back; or `Unavailable`. Cancelling the call does not call
        the operation back.
        """
        if refusal := self._refusal():
            raise refusal
        job: Job[T] = Job(self._loop.create_future(), operation, threads)
        if isinstance(operation, Joint):
            self._gather(job)
        else:
            self._queue.put(job)
        return await job.future

    def _gather(self, job: Job[Any]) -> None:
        """Queue the job with all others of this turn of the loop, so that those who were told of
        one commit together share the next."""
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(job)

    def _hand_over(self) -> None:
        for job in self._gathered:
            self._queue.put(job)
        self._gathered.clear()

    async def apart(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run the operation between two transactions, behind everything queued before; return its
        result.

        It must leave no transaction open. Raises what it raised, or `Unavailable`.
        """
        if refusal := self._refusal():
            raise refusal
        errand: Errand[T] = Errand(self._loop.create_future(), operation)
        self._queue.put(errand)
        return await errand.future

    def quiet_for(self) -> float:
        """Seconds since the last transaction."""
        return self._loop.time() - self._last_delivery

    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        """Queue events behind everything queued before. Should they not be stored, `on_error` is
        called on the event loop."""
        if refusal := self._refusal():
            self._loop.call_soon_threadsafe(on_error, refusal)
        else:
            self._queue.put(Append(events, on_error, lease))

    async def close(self) -> None:
        """Take nothing more, commit what was taken, and end the thread."""
        self._closed = True
        self._hand_over()
        self._queue.put(End.END)
        ended = asyncio.ensure_future(asyncio.to_thread(self._thread.join))
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            # The connection must not be closed under the thread, so even a cancelled caller waits
            # for its last commit.
            await ended
            raise

    def _refusal(self) -> Exception | None:
        if self._closed:
            return closed(self._name)
        if self._queue.qsize() > MAX_WAITING:
            return overrun(self._name)
        return None

    # ── on the writer's thread ──

    def _work(self) -> None:
        going = True
        while going:
            items, then = self._take()
            if items:
                self._tell(
                    self._deliver, self._commit(merged(items) if len(items) > MERGE_FROM else items)
                )
            if isinstance(then, Errand):
                self._run(then)
            elif then is End.END:
                going = False

    def _take(self) -> tuple[list[Item], Errand[Any] | End | None]:
        """What waits, up to what must be done after a commit."""
        items: list[Item] = []
        with suppress(Empty):
            while len(items) < MAX_BATCH:
                item = self._queue.get(block=not items)
                if isinstance(item, (Errand, End)):
                    return items, item
                items.append(item)
        return items, None

    def _run(self, errand: Errand[Any]) -> None:
        try:
            result = errand.operation(self._connection)
        except Exception as error:
            self._tell(errand.on_error, translated(error, self._name))
        else:
            self._tell(errand.on_result, result)

    def _commit(self, items: Sequence[Item], *, each_flushed: bool = False) -> Outcome:
        """One transaction. If storing everybody's events together fails, it is run again with each
        one's stored by themselves."""
        outcome = Outcome()
        self._log.begin()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for group in _groups(items):
                self._attempt_all(group, outcome, each_flushed)
            self._log.flush()
            self._connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            if not each_flushed and not is_unavailable(error):
                return self._commit(items, each_flushed=True)
            logger.error(
                "A transaction of %d operations was rolled back. %s",
                len(items),
                translated(error, self._name),
            )
            # An exception each: raised in several tasks, one would gather the tracebacks of all.
            return Outcome(failed=[(item, translated(error, self._name)) for item in items])
        outcome.stored = self._log.committed()
        return outcome

    def _attempt_all(self, group: Sequence[Item], outcome: Outcome, flushed: bool) -> None:
        if len(group) > 1 and not flushed and self._attempt_together(group):
            outcome.done += [(job, None) for job in group if isinstance(job, Job)]
        else:
            for item in group:
                self._attempt(item, outcome, flushed)

    def _attempt_together(self, group: Sequence[Item]) -> bool:
        """Whether the group could be done as one; if not, nothing of it is."""
        operations = [
            item.operation
            for item in group
            if isinstance(item, Job) and isinstance(item.operation, Joint)
        ]
        self._connection.execute("SAVEPOINT operation")
        try:
            type(operations[0]).together(self._transaction, operations)
        except Exception:
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO operation")
            self._leases.forget_all()
            return False
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE operation")
        return True

    def _attempt(self, item: Item, outcome: Outcome, flushed: bool) -> None:
        mark, audited = self._log.mark(), self._chain.mark()
        # An append only fills memory until the flush, so it needs no savepoint of the file's.
        saved = flushed or isinstance(item, Job)
        try:
            if saved:
                self._connection.execute("SAVEPOINT operation")
            result = (
                item.operation(self._transaction) if isinstance(item, Job) else self._append(item)
            )
            if flushed:
                self._log.flush()
            if saved:
                self._connection.execute("RELEASE operation")
        except Exception as error:
            if not self._connection.in_transaction:
                # SQLite has rolled back the whole transaction by itself, so the whole batch has
                # failed.
                raise
            if saved:
                self._connection.execute("ROLLBACK TO operation")
                self._connection.execute("RELEASE operation")
                self._leases.forget_all()
            self._log.rewind(mark)
            self._chain.rewind(audited)
            outcome.failed.append((item, translated(error, self._name)))
        else:
            if isinstance(item, Job):
                outcome.done.append((item, result))

    def _append(self, append: Append) -> list[int]:
        self._leases.check(append.lease)
        return self._log.add(append.events)

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._leases.forget_all()
        self._chain.rewind()
        self._log.begin()

    def _tell(self, callback: Callable[[Any], None], value: object) -> None:
        # A loop that was closed without closing the storage has nobody left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, value)

    # ── on the event loop ──

    def _deliver(self, outcome: Outcome) -> None:
        self._last_delivery = self._loop.time()
        self._on_stored(outcome.stored)
        for job, result in outcome.done:
            job.on_result(result)
        for item, error in outcome.failed:
            # Through the loop, so that a callback that raises spoils nobody else's delivery.
            self._loop.call_soon(item.on_error, error)
