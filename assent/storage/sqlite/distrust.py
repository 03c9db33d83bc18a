"""A thread of which something was tampered with: that is recorded, whatever is left of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from assent.core.errors import Tampered
from assent.core.events import Error
from assent.core.rows import ACTIVE, Run, RunKind, RunStatus, Thread, ThreadStatus
from assent.storage.sqlite.tables import R, Table, Tables
from assent.storage.sqlite.writer import Transaction

_UNFINISHED = "WHERE thread_id = ? AND status IN ('pending', 'running', 'cancelling')"


def distrusting(
    thread_id: str, reason: str, now: datetime, tables: Tables, *, stopped: bool
) -> Callable[[Transaction], None]:
    """What the writer runs to mark the thread, and to end its runs if they have `stopped`, or if
    none of them was begun."""

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
        is_active = any(each[status_at] in ACTIVE for each in unfinished) and not stopped
        ending = [] if is_active else unfinished
        thread, is_whole = _thread(tables.threads, columns, now)
        status = ThreadStatus.BUSY if is_active else ThreadStatus.ERROR
        if is_whole and thread.tampered and thread.status is status and not ending:
            return
        marked = replace(
            thread, status=status, tampered=reason, updated_at=now, version=thread.version + 1
        )
        _overwrite(transaction, tables.threads, columns, marked)
        run_id = thread.run_id or ""
        for each in ending:
            run = _run(tables.runs, each, now)
            run_id = run.run_id
            said = {"code": "tampered", "message": reason}
            ended = replace(
                run, status=RunStatus.ERROR, ended_at=now, error=said, version=run.version + 1
            )
            _overwrite(transaction, tables.runs, each, ended)
            transaction.leases.forget(str(each[0]))
        if status is ThreadStatus.ERROR:
            transaction.log.add(
                [Error(ts=now, thread_id=thread_id, run_id=run_id, code="tampered", message=reason)]
            )

    return apply


def _overwrite(
    transaction: Transaction, table: Table[Any], before: Sequence[Any], row: Thread | Run
) -> None:
    version = before[table.columns.index("version")]
    transaction.connection.execute(table.update, (*table.encode(row), before[0], version))


def _thread(table: Table[Thread], columns: Sequence[Any], now: datetime) -> tuple[Thread, bool]:
    """The thread, and whether its row is as it was stored; if not, what can be made of it."""
    try:
        return table.decode(columns), True
    except Tampered:
        thread_id, owner = str(columns[0]), str(columns[1])
        bare = Thread(
            thread_id=thread_id,
            owner=owner,
            status=ThreadStatus.ERROR,
            created_at=now,
            updated_at=now,
        )
        return _without_content(table, columns, bare), False


def _run(table: Table[Run], columns: Sequence[Any], now: datetime) -> Run:
    try:
        return table.decode(columns)
    except Tampered:
        run_id, thread_id, owner, agent = (str(column) for column in columns[:4])
        kind, status = RunKind.INPUT, RunStatus.ERROR
        bare = Run(
            run_id=run_id,
            thread_id=thread_id,
            owner=owner,
            agent=agent,
            kind=kind,
            status=status,
            created_at=now,
            input={},
        )
        return _without_content(table, columns, bare)


def _without_content(table: Table[R], columns: Sequence[Any], bare: R) -> R:
    """The row with all but its content; the bare one if even that cannot be made of it."""
    try:
        row = table.without_content(columns)
    except (TypeError, ValueError):
        return bare
    return row if isinstance(row.version, int) else bare
