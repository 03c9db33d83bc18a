"""The one writer: a thread with the only connection that writes. It takes every operation that
waits, and commits them in one transaction.

A batch is whatever arrived while the batch before was being committed. A caller alone waits for one
fsync, and a crowd shares one. Only events for which no caller waits are held for some milliseconds,
so that more of them share a commit (`pacing.py`). Each operation has a savepoint, so
one that fails is rolled back alone, and only its caller gets the error. Nobody learns of success
before the commit.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from assent.core.errors import Unavailable
from assent.core.events import Event
from assent.core.pauses import pauses_while_away
from assent.core.rows import Lease
from assent.core.sealing import NoSeal, Seal
from assent.core.tally import SECONDS, SIZES, Tally
from assent.storage.base import Outage
from assent.storage.chain import AuditKey
from assent.storage.sqlite.audit_chain import Chain
from assent.storage.sqlite.database import pragma, waiting_for_locks
from assent.storage.sqlite.failures import closed, is_outage, is_unavailable, overrun, translated
from assent.storage.sqlite.handing_over import Waiting, call_on_loop, until_ended
from assent.storage.sqlite.leases import Leases
from assent.storage.sqlite.log import Log, StoredEvent
from assent.storage.sqlite.merging import MERGE_FROM, Append, is_piece, merged
from assent.storage.sqlite.pacing import Pacing

T = TypeVar("T")

MAX_BATCH = 4096
"""Operations in one transaction. More would save no more fsyncs, and hold the event loop longer
when their results are delivered."""

MAX_WAITING = 250_000
"""Operations that may wait while the disk stands still, before callers are refused."""

RETRY_BUSY_MS = 200
"""While the file cannot be written: the wait of each attempt for another program's lock, so that
the thread hears soon that it is to end."""

logger = logging.getLogger(__name__)


class Transaction(NamedTuple):
    """The parts of the open transaction. An operation uses them on the writer's thread, and neither
    commits nor rolls back."""

    connection: sqlite3.Connection
    log: Log
    leases: Leases
    chain: Chain


class BulkOperation(ABC):
    """An operation that can be applied together with others of its kind, in a few statements for
    all of them. It may add to the log, but removes nothing from it.

    That is many times faster, because before each statement the writer's thread waits for its turn
    of the interpreter.
    """

    @abstractmethod
    def __call__(self, transaction: Transaction) -> None:
        """Apply this one."""

    @staticmethod
    @abstractmethod
    def apply_all(transaction: Transaction, operations: Sequence[Any]) -> None:
        """Apply all of them. If this raises, they are applied one by one instead."""


@dataclass(slots=True)
class Job(Waiting[T]):
    """An operation in a transaction, and the threads whose events or runs it may touch (None:
    any). While the storage is away, it waits or is refused."""

    operation: Callable[[Transaction], T]
    threads: Collection[str] | None
    waits: bool


@dataclass(slots=True)
class Maintenance(Waiting[T]):
    """An operation between two transactions."""

    operation: Callable[[sqlite3.Connection], T]


class End(Enum):
    """The mark behind the last item of the queue."""

    END = "end"


Item = Append | Job[Any]


@dataclass(slots=True)
class BatchResult:
    """The results of a batch, and when they were handed over to the event loop."""

    at: float = 0.0
    stored: Sequence[StoredEvent] = ()
    done: list[tuple[Job[Any], Any]] = field(default_factory=list)
    failed: list[tuple[Item, Exception]] = field(default_factory=list)


class Writer:
    """Takes operations on the event loop, and commits them on its own thread.

    If the file cannot be written (locked, full), the storage is away: operations that wait are kept
    in their order and tried again until it is back, and all others are refused at once.

    `name` is the database's, for error messages. `on_stored` is called on the loop with the events
    of each commit, before any caller gets its own result. `seal` seals the events in the file, and
    `audit_key` signs the records that are added to its audit chain. `pacing` says how long events
    are held.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        name: str,
        on_stored: Callable[[Sequence[StoredEvent]], None],
        seal: Seal | None = None,
        audit_key: AuditKey | None = None,
        pacing: Pacing | None = None,
    ) -> None:
        seal = seal or NoSeal()
        self._connection = connection
        self._name = name
        self._on_stored = on_stored
        self._loop = asyncio.get_running_loop()
        self._log = Log(connection, seal)
        self._leases = Leases(connection)
        self._chain = Chain(connection, seal, audit_key)
        self._transaction = Transaction(connection, self._log, self._leases, self._chain)
        self._queue: SimpleQueue[Item | Maintenance[Any] | End] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"assent-writer-{name}")
        self._gathered: list[Job[Any]] = []
        self._closed = False
        self._pacing = pacing or Pacing()
        # Set behind each item of the queue for which somebody waits.
        self._hurry = threading.Event()
        self._ending = threading.Event()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._kept = 0
        self.outage: Outage | None = None
        self.commits = Tally(SECONDS)
        self.sizes = Tally(SIZES)
        self._last_delivery = self._loop.time()
        self._thread.start()

    async def write(
        self,
        operation: Callable[[Transaction], T],
        *,
        threads: Collection[str] | None = None,
        waits: bool = False,
    ) -> T:
        """Run the operation in the next transaction, on the writer's thread. Return its result once
        that has committed.

        `threads` are those whose events it may add or remove, or whose runs it may write, if that
        is known; under load, the tokens of other threads are merged past it. If the storage is
        away, the operation `waits` for it. Raises whatever the operation raised, after its own
        writes were rolled back, or `Unavailable`. Cancelling the call does not cancel the
        operation, unless that waits for the storage.
        """
        if refusal := self._refusal(waits=waits):
            raise refusal
        job: Job[T] = Job(self._loop.create_future(), operation, threads, waits)
        if isinstance(operation, BulkOperation):
            self._gather(job)
        else:
            self._queue.put(job)
            self._end_hold()
        return await job.future

    async def execute(self, sql: str, *parameters: str | int) -> int:
        """Run one statement that writes no events and no runs. Return how many rows it changed."""

        def operation(transaction: Transaction) -> int:
            return transaction.connection.execute(sql, parameters).rowcount

        return await self.write(operation, threads=())

    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        """Queue events behind everything queued before. If the storage is away, they wait for it.
        If they cannot be stored, `on_error` is called on the event loop."""
        if refusal := self._refusal(waits=True):
            self._loop.call_soon_threadsafe(on_error, refusal)
        else:
            self._queue.put(Append(events, on_error, lease))

    async def outside_transaction(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run the operation between two transactions, behind everything queued before. Return its
        result.

        It must leave no transaction open. Raises whatever it raised, or `Unavailable`.
        """
        if refusal := self._refusal(waits=False):
            raise refusal
        maintenance: Maintenance[T] = Maintenance(self._loop.create_future(), operation)
        self._queue.put(maintenance)
        self._end_hold()
        return await maintenance.future

    @property
    def waiting(self) -> int:
        """The operations that wait for a transaction."""
        return self._queue.qsize() + self._kept

    def quiet_for(self) -> float:
        """Return the seconds since the last transaction."""
        return self._loop.time() - self._last_delivery

    async def close(self) -> None:
        """Accept nothing more, commit everything that was accepted, and end the thread. If the
        storage is away, what waits for it is tried once more and given up."""
        self._closed = True
        self._queue_gathered()
        self._queue.put(End.END)
        self._end_hold()
        self._ending.set()
        try:
            await until_ended([self._ended])
        finally:
            self._thread.join()

    def _gather(self, job: Job[Any]) -> None:
        """Queue the job together with all others of this turn of the loop, so that callers that one
        commit has woken share the next one."""
        if not self._gathered:
            self._loop.call_soon(self._queue_gathered)
        self._gathered.append(job)

    def _queue_gathered(self) -> None:
        for job in self._gathered:
            self._queue.put(job)
        self._gathered.clear()
        self._end_hold()

    def _end_hold(self) -> None:
        # Behind what was queued. Asking first costs a tenth, and it is set most of the time.
        if not self._hurry.is_set():
            self._hurry.set()

    def _refusal(self, *, waits: bool) -> Exception | None:
        if self._closed:
            return closed(self._name)
        if self.waiting > MAX_WAITING:
            return overrun(self._name)
        outage = self.outage
        if outage is not None and not waits:
            return Unavailable(outage.reason)
        return None

    # ── on the writer's thread ──

    def _work(self) -> None:
        following: Maintenance[Any] | End | None = None
        while following is not End.END:
            items, following = self._take()
            error = self._commit(items) if items else None
            if error is not None:
                following = self._outlast(error, items, following)
            if isinstance(following, Maintenance):
                self._maintain(following)
        call_on_loop(self._loop, self._ended.set_result, None)

    def _take(self) -> tuple[list[Item], Maintenance[Any] | End | None]:
        """Wait for an item, and take what waits then, up to anything that must follow after its
        commit."""
        first = self._queue.get()
        if isinstance(first, (Maintenance, End)):
            return [], first
        items = [first]
        # Before anything else is taken: whatever is not, and is waited for, sets it again.
        self._hurry.clear()
        following = self._take_waiting(items, MAX_BATCH)
        if following is None and len(items) < MERGE_FROM and not any(map(is_waited_for, items)):
            following = self._hold(items)
        return items, following

    def _hold(self, items: list[Item]) -> Maintenance[Any] | End | None:
        """Hold events until it is time for them, or for something else that has come, and take what
        waits then."""
        following = None
        are_pieces = all(map(is_piece, items))
        rest = self._pacing.rest(time.monotonic()) if are_pieces else self._pacing.together
        if rest:
            self._hurry.wait(rest)
            following = self._take_waiting(items, MAX_BATCH)
        if any(map(is_piece, items)):
            self._pacing.begin(time.monotonic())
        return following

    def _take_waiting(
        self, items: list[Item], most: float = math.inf
    ) -> Maintenance[Any] | End | None:
        """Add the items that wait, until they are so many, or up to one that must follow after
        their commit. Return that one."""
        with suppress(Empty):
            while len(items) < most:
                item = self._queue.get_nowait()
                if isinstance(item, (Maintenance, End)):
                    return item
                items.append(item)
        return None

    # ── while the storage is away ──

    def _outlast(
        self, error: Exception, items: Sequence[Item], following: Maintenance[Any] | End | None
    ) -> Maintenance[Any] | End | None:
        """Keep what waits until the storage is back, and commit it then. Refuse everything else.
        Return what follows."""
        since = time.monotonic()
        retries = pauses_while_away()
        kept = list(items)
        with waiting_for_locks(self._connection, RETRY_BUSY_MS):
            while True:
                self.outage = Outage(str(translated(error, self._name)), since)
                kept = self._keep(kept, error)
                if isinstance(following, Maintenance):
                    call_on_loop(self._loop, following.on_error, translated(error, self._name))
                if following is End.END:
                    self._refuse(kept, error)
                    return following

                self._ending.wait(next(retries))
                following = self._take_waiting(kept)
                kept = [item for item in kept if not _is_given_up(item)]
                still = self._commit_kept(kept)
                if still is None:
                    self._kept = 0
                    return following
                error = still

    def _keep(self, items: Sequence[Item], error: Exception) -> list[Item]:
        """The items that wait. The others are refused."""
        kept: list[Item] = []
        refused: list[Item] = []
        for item in items:
            if isinstance(item, Append) or item.waits:
                kept.append(item)
            else:
                refused.append(item)
        self._refuse(refused, error)
        self._kept = len(kept)
        return kept

    def _refuse(self, items: Sequence[Item], error: Exception) -> None:
        # An exception each: raised in several tasks, one would gather the tracebacks of all.
        failed = [(item, translated(error, self._name)) for item in items]
        if failed:
            self._hand_over(BatchResult(failed=failed))

    def _commit_kept(self, kept: list[Item]) -> Exception | None:
        """Commit what was kept, some at a time, and leave the rest if the storage is still away."""
        while (error := self._commit(kept[:MAX_BATCH])) is None:
            del kept[:MAX_BATCH]
            if not kept:
                return None
        return error

    # ── transactions ──

    def _maintain(self, maintenance: Maintenance[Any]) -> None:
        try:
            result = maintenance.operation(self._connection)
        except Exception as error:
            call_on_loop(self._loop, maintenance.on_error, translated(error, self._name))
        else:
            call_on_loop(self._loop, maintenance.on_result, result)

    def _commit(self, items: Sequence[Item]) -> Exception | None:
        """Commit one transaction, and deliver its results. Return the error if the storage is away;
        then nothing was done."""
        count, began = len(items), time.monotonic()
        if count > (1 if self._pacing.is_late else MERGE_FROM):
            items = merged(items)
        try:
            outcome = self._transact(items)
        except Exception as error:
            if is_outage(error):
                return error
            logger.error(
                "A transaction of %d operations was rolled back. %s",
                len(items),
                translated(error, self._name),
            )
            self._refuse(items, error)
        else:
            self.commits.add(time.monotonic() - began)
            self.sizes.add(count)
            # Before anybody learns of their success, and asks for more.
            self.outage = None
            self._hand_over(outcome)
        return None

    def _hand_over(self, outcome: BatchResult) -> None:
        outcome.at = time.monotonic()
        call_on_loop(self._loop, self._deliver, outcome)

    def _transact(self, items: Sequence[Item], *, each_flushed: bool = False) -> BatchResult:
        """Run one transaction. If the events of all items cannot be stored together, run it again
        and store those of each item by themselves."""
        outcome = BatchResult()
        self._log.begin()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if not items:
                _touch(self._connection)
            for group in _groups(items):
                self._apply_group(group, outcome, each_flushed)
            self._log.flush()
            self._connection.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            if each_flushed or is_unavailable(error):
                raise
            return self._transact(items, each_flushed=True)
        outcome.stored = self._log.committed()
        return outcome

    def _apply_group(self, group: Sequence[Item], outcome: BatchResult, flushed: bool) -> None:
        # Most groups are a single append, so this is asked first.
        if len(group) > 1 and not flushed:
            jobs = [item for item in group if isinstance(item, Job)]
            if self._apply_bulk([job.operation for job in jobs]):
                outcome.done += [(job, None) for job in jobs]
                return
        for item in group:
            self._apply(item, outcome, flushed)

    def _apply_bulk(self, operations: Sequence[Any]) -> bool:
        """Apply bulk operations together. False if that fails; then none of them is applied."""
        log_mark = self._log.mark()
        self._connection.execute("SAVEPOINT operation")
        try:
            type(operations[0]).apply_all(self._transaction, operations)
        except Exception:
            if not self._connection.in_transaction:
                raise
            self._connection.execute("ROLLBACK TO operation")
            self._leases.forget_all()
            self._log.rewind(log_mark)
            return False
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE operation")
        return True

    def _apply(self, item: Item, outcome: BatchResult, flushed: bool) -> None:
        log_mark = self._log.mark()
        chain_mark = self._chain.mark()
        # An append only fills memory until the flush, so it needs no savepoint in the file.
        saved = flushed or isinstance(item, Job)
        try:
            if saved:
                self._connection.execute("SAVEPOINT operation")
            if isinstance(item, Job):
                result = item.operation(self._transaction)
            else:
                self._leases.check(item.lease)
                self._log.add(item.events)
            if flushed:
                self._log.flush()
            if saved:
                self._connection.execute("RELEASE operation")
        except Exception as error:
            if is_outage(error) or not self._connection.in_transaction:
                # The whole batch has failed, and SQLite itself may have rolled it back.
                raise
            if saved:
                self._connection.execute("ROLLBACK TO operation")
                self._connection.execute("RELEASE operation")
                self._leases.forget_all()
            self._log.rewind(log_mark)
            self._chain.rewind(chain_mark)
            outcome.failed.append((item, translated(error, self._name)))
        else:
            if isinstance(item, Job):
                outcome.done.append((item, result))

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._leases.forget_all()
        self._chain.rewind()
        self._log.begin()

    # ── on the event loop ──

    def _deliver(self, outcome: BatchResult) -> None:
        self._last_delivery = self._loop.time()
        self._pacing.delivered(time.monotonic() - outcome.at)
        self._on_stored(outcome.stored)
        for job, result in outcome.done:
            job.on_result(result)
        for item, error in outcome.failed:
            # Through the loop, so that a callback that raises disturbs no other delivery.
            self._loop.call_soon(item.on_error, error)


def is_waited_for(item: Item) -> bool:
    """True if a caller waits for the item."""
    return not isinstance(item, Append)


def _is_given_up(item: Item) -> bool:
    """True if the item waited for the storage, and its caller has been cancelled."""
    return isinstance(item, Job) and item.waits and item.future.cancelled()


def _touch(connection: sqlite3.Connection) -> None:
    """Write one page as it is. A full disk is noticed only when something is written."""
    connection.execute(f"PRAGMA user_version = {pragma(connection, 'user_version')}")


def _groups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Group the items that can be applied together, in order. A bulk operation may overtake
    appends, which only fill memory, but no other job."""
    bulk: list[Item] = []
    for item in items:
        if isinstance(item, Job) and isinstance(item.operation, BulkOperation):
            bulk.append(item)
            continue
        if bulk and isinstance(item, Job):
            yield bulk
            bulk = []
        yield (item,)
    if bulk:
        yield bulk
