"""Distrusting a thread of which something was tampered with. It is recorded, whatever is left of
the thread's rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from assent.core.access import Owner
from assent.core.errors import Tampered
from assent.core.events import Error
from assent.core.rows import ACTIVE, Run, RunKind, RunStatus, Thread, ThreadStatus
from assent.storage.sqlite.tables import R, Table, Tables
from assent.storage.sqlite.writer import Transaction

_UNFINISHED = "WHERE thread_id = ? AND status IN ('pending', 'running', 'cancelling')"
_FIRST_RUNS = "WHERE thread_id = ? ORDER BY number LIMIT 20"


def distrusting(
    thread_id: str, reason: str, now: datetime, tables: Tables, *, stopped: bool
) -> Callable[[Transaction], None]:
    """The operation that marks the thread. It also ends the thread's runs, if they have `stopped`
    or none of them is active."""
    status_at = tables.runs.columns.index("status")

    def apply(transaction: Transaction) -> None:
        connection = transaction.connection
        columns = connection.execute(
            f"{tables.threads.select} WHERE thread_id = ?", (thread_id,)
        ).fetchone()
        if columns is None:
            return
        unfinished = connection.execute(
            f"{tables.runs.select} {_UNFINISHED}", (thread_id,)
        ).fetchall()
        is_active = not stopped and any(run[status_at] in ACTIVE for run in unfinished)
        ending = [] if is_active else unfinished
        status = ThreadStatus.BUSY if is_active else ThreadStatus.ERROR

        thread, is_whole = _thread(tables.threads, columns, now)
        if not is_whole:
            of_thread = connection.execute(
                f"{tables.runs.select} {_FIRST_RUNS}", (thread_id,)
            ).fetchall()
            owner = _owner(tables.runs, of_thread)
            thread = replace(thread, owner=owner.name, tenant=owner.tenant)
        if is_whole and thread.tampered and thread.status is status and not ending:
            return
        marked = replace(
            thread, status=status, tampered=reason, updated_at=now, version=thread.version + 1
        )
        _overwrite(transaction, tables.threads, columns, marked)

        run_id = thread.run_id or ""
        for columns in ending:
            run = _run(tables.runs, columns, thread, now)
            run_id = run.run_id
            ended = replace(
                run,
                status=RunStatus.ERROR,
                ended_at=now,
                error={"code": "tampered", "message": reason},
                version=run.version + 1,
            )
            _overwrite(transaction, tables.runs, columns, ended)
            transaction.leases.forget(str(columns[0]))
        if not is_active:
            event = Error(
                ts=now, thread_id=thread_id, run_id=run_id, code="tampered", message=reason
            )
            transaction.log.add([event])

    return apply


def _overwrite(
    transaction: Transaction, table: Table[Any], before: Sequence[Any], row: Thread | Run
) -> None:
    version = before[table.columns.index("version")]
    transaction.connection.execute(table.update, (*table.encode(row), before[0], version))


def _thread(table: Table[Thread], columns: Sequence[Any], now: datetime) -> tuple[Thread, bool]:
    """The thread, and True if its row is as it was stored; else whatever of it can be read."""
    try:
        return table.decode(columns), True
    except Tampered:
        bare = Thread(
            thread_id=str(columns[0]),
            owner=str(columns[1]),
            status=ThreadStatus.ERROR,
            created_at=now,
            updated_at=now,
        )
        return _without_content(table, columns, bare), False


def _owner(table: Table[Run], found: Sequence[Sequence[Any]]) -> Owner:
    """The owner of a thread whose own row cannot be trusted, by the first of its runs that can;
    nobody without one. Or who changed the row would have made the thread theirs."""
    for columns in found:
        with suppress(Tampered):
            run = table.decode(columns)
            return Owner(run.owner, run.tenant)
    return Owner("")


def _run(table: Table[Run], columns: Sequence[Any], thread: Thread, now: datetime) -> Run:
    """The run, or whatever of it can be read, as one of whoever has the thread."""
    try:
        return table.decode(columns)
    except Tampered:
        run_id, thread_id, _, agent = map(str, columns[:4])
        bare = Run(
            run_id=run_id,
            thread_id=thread_id,
            owner=thread.owner,
            agent=agent,
            kind=RunKind.INPUT,
            status=RunStatus.ERROR,
            created_at=now,
            input={},
        )
        left = _without_content(table, columns, bare)
        return replace(left, owner=thread.owner, tenant=thread.tenant)


def _without_content(table: Table[R], columns: Sequence[Any], bare: R) -> R:
    """The row without its content, or the bare one if even that cannot be read."""
    try:
        row = table.without_content(columns)
    except (TypeError, ValueError):
        return bare
    return row if isinstance(row.version, int) else bare
