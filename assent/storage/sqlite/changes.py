"""Changes as statements: each is applied in one transaction, in which the versions of the rows that
it was computed from are checked."""

from __future__ import annotations

from collections.abc import Callable

from assent.core.errors import Conflict, QueueFull
from assent.core.rows import Row, Run
from assent.storage.base import Change, QueueLimits
from assent.storage.sqlite import holdings
from assent.storage.sqlite.erasing import Erased
from assent.storage.sqlite.queries import IDLE_THREAD, QUEUE_LENGTHS, SETTLED_THREAD
from assent.storage.sqlite.tables import Tables
from assent.storage.sqlite.writer import Transaction

Step = Callable[[Transaction], None]


def operation(
    change: Change, tables: Tables, erased: Erased
) -> Callable[[Transaction], tuple[int, ...]]:
    """The operation that applies the change, and returns the numbers of its events; or raises
    `StillErased`.

    Rows are encoded here, before anything is queued. Raises `TypeError` or `ValueError` if a row
    cannot be stored.
    """
    steps = [_check_unchanged(row, tables) for row in change.unchanged]
    steps += [_remove(row, tables) for row in change.removed]
    if change.erase is not None:
        begins_anew = any(row.thread_id == change.erase for row in change.rows)
        if change.if_idle:
            steps.append(_check_idle(change.erase))
        if change.if_settled:
            steps.append(_check_settled(change.erase))
        steps.append(_erase(change.erase, erased, begins_anew))
    steps += [_write(row, tables) for row in change.rows]
    threads = {row.thread_id for row in (*change.rows, *change.unchanged, *change.removed)}
    grown = holdings.grown_by(change.rows) if change.caps is not None else ()
    runs = [row.run_id for row in (*change.rows, *change.removed) if isinstance(row, Run)]

    def apply(transaction: Transaction) -> tuple[int, ...]:
        # Checked before the change's own rows are written, because they may end the run.
        transaction.leases.check(change.lease)
        erased.check(transaction.connection, threads)
        for step in steps:
            step(transaction)
        for run_id in runs:
            transaction.leases.forget(run_id)
        if change.queue is not None:
            _check_queue(transaction, change.queue, threads)
        if change.caps is not None:
            holdings.check(transaction, change.caps, grown)
        transaction.chain.add(change.audit)
        return tuple(transaction.log.add(change.events))

    return apply


def _write(row: Row, tables: Tables) -> Step:
    if row.version < 1:
        raise ValueError(f"A new row has version 1, but {row!r} has {row.version}.")
    table = tables.of(row)
    columns = table.encode(row)
    before: int | None = None
    sql, parameters = table.insert, columns
    if row.version > 1:
        before = row.version - 1
        sql, parameters = table.update, (*columns, table.key_of(row), before)

    def write(transaction: Transaction) -> None:
        if transaction.connection.execute(sql, parameters).rowcount != 1:
            raise _conflict(transaction, row, tables, expected=before)

    return write


def _check_unchanged(row: Row, tables: Tables) -> Step:
    def check(transaction: Transaction) -> None:
        if _version(transaction, row, tables) != row.version:
            raise _conflict(transaction, row, tables, expected=row.version)

    return check


def _remove(row: Row, tables: Tables) -> Step:
    table = tables.of(row)
    parameters = (table.key_of(row), row.version)

    def remove(transaction: Transaction) -> None:
        if transaction.connection.execute(table.delete, parameters).rowcount != 1:
            raise _conflict(transaction, row, tables, expected=row.version)

    return remove


def _check_idle(thread_id: str) -> Step:
    def check(transaction: Transaction) -> None:
        if not transaction.connection.execute(IDLE_THREAD, (thread_id,)).fetchone():
            raise Conflict(
                f"The thread {thread_id} is not idle: a run of it has not ended, it waits for a "
                "person, or a schedule names it. Leave it, or look again later.",
                kind="thread",
                id=thread_id,
            )

    return check


def _check_settled(thread_id: str) -> Step:
    def check(transaction: Transaction) -> None:
        if not transaction.connection.execute(SETTLED_THREAD, (thread_id,)).fetchone():
            raise Conflict(
                f"The thread {thread_id} is not settled: a notification of it is to be sent, or "
                "the answer of an idempotency key names it. Look again later.",
                kind="thread",
                id=thread_id,
            )

    return check


def _erase(thread_id: str, erased: Erased, begins_anew: bool) -> Step:
    def erase(transaction: Transaction) -> None:
        erased.erase(transaction, thread_id, begins_anew=begins_anew)

    return erase


def _check_queue(transaction: Transaction, limits: QueueLimits, threads: set[str]) -> None:
    for thread_id in threads:
        lengths = dict(transaction.connection.execute(QUEUE_LENGTHS, (thread_id,)).fetchall())
        if lengths.get("thread", 0) > limits.per_thread:
            raise QueueFull(
                f"{limits.per_thread:,} runs wait on the thread '{thread_id}' already, so no other "
                "was added. Try again when some of them have ended, or cancel them with POST "
                f"/threads/{thread_id}/cancel.",
                thread_id=thread_id,
            )
        if lengths.get("all", 0) > limits.in_all:
            raise QueueFull(
                f"{limits.in_all:,} runs wait for their turn already, so no other was added. "
                "Try again when some of them have ended."
            )


def _version(transaction: Transaction, row: Row, tables: Tables) -> int | None:
    table = tables.of(row)
    found = transaction.connection.execute(table.version, (table.key_of(row),)).fetchone()
    return found[0] if found else None


def _conflict(
    transaction: Transaction, row: Row, tables: Tables, *, expected: int | None
) -> Conflict:
    kind = type(row).__name__.lower()
    key = tables.of(row).key_of(row)
    found = _version(transaction, row, tables)
    if expected is None:
        problem = "exists already"
    elif found is None:
        problem = "does not exist any more"
    else:
        problem = (
            f"has changed since it was read (version {expected} then, {found} now). Read it again"
        )
    return Conflict(
        f"The {kind} {key} {problem}.", kind=kind, id=key, expected=expected, found=found
    )
