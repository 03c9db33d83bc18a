"""Stores checkpoints and tasks' writes, on the writer's thread.

Everything is serialized and sealed already, and the operation touches nothing but the file, so
that it can be rolled back and run again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from assent.checkpoint.extents import PLACES
from assent.checkpoint.values import Blob, Key
from assent.core.events import Checkpoint
from assent.core.rows import Lease
from assent.storage.sqlite.writer import BulkOperation, Transaction

WriteRow = tuple[str, str, int, str, str, str, bytes]
"""The values of `WRITE_COLUMNS`."""

CHECKPOINT_COLUMNS = "checkpoint_id, parent_id, outer_ids, run_id, type, body, refs, metadata"
WRITE_COLUMNS = "checkpoint_id, task_id, idx, task_path, channel, type, body"

ROWS_PER_STATEMENT = 64
"""Many, because each statement has to wait for the interpreter, but not so many that a statement
which is seldom used takes long to prepare."""

MAKE_KEYS = """
    INSERT INTO checkpoint_threads SELECT column1, column2, column3, 0 FROM (VALUES {}) WHERE true
    ON CONFLICT (k) DO NOTHING
"""

# One that is put again is the newest from then on.
PUT_CHECKPOINTS = f"""
    INSERT OR REPLACE INTO checkpoints (k, {CHECKPOINT_COLUMNS})
    SELECT k, column3, column4, column5, column6, column7, column8, column9, column10
    FROM (VALUES {{}}) CROSS JOIN checkpoint_threads ON k = column1 AND generation = column2
"""

PUT_LOGS = "INSERT OR IGNORE INTO checkpoint_logs VALUES {}"
PUT_BLOBS = "INSERT INTO checkpoint_blobs VALUES {}"

# A regular write stays as it was first stored. A special one, whose index is below 0, is replaced.
PUT_WRITES = f"""
    INSERT INTO checkpoint_writes (k, {WRITE_COLUMNS}) SELECT * FROM (VALUES {{}}) WHERE true
    ON CONFLICT (k, checkpoint_id, task_id, idx) DO UPDATE SET
    task_path = excluded.task_path, channel = excluded.channel,
    type = excluded.type, body = excluded.body
    WHERE idx < 0
"""


class Stale(Exception):
    """Something that the write relied on was removed. Read again, and compute the write anew."""


@dataclass(slots=True, kw_only=True)
class CheckpointWrite(BulkOperation):
    """Stores a checkpoint, or a task's writes.

    `row` has the key's number and generation, then the values of `CHECKPOINT_COLUMNS`. `event`
    says that a run stored the checkpoint. It is told on the run's own thread, and not on another
    that a tool of the run may write to.

    Raises `Stale`; or `StaleLease`, if the lease does not hold any more.
    """

    key: Key
    row: tuple[Any, ...] | None = None
    blobs: Sequence[Blob] = ()
    writes: Sequence[WriteRow] = ()
    lease: Lease | None = None
    event: Checkpoint | None = None

    def __call__(self, transaction: Transaction) -> None:
        self.apply_all(transaction, (self,))

    @staticmethod
    def apply_all(transaction: Transaction, operations: Sequence[CheckpointWrite]) -> None:
        connection, leases = transaction.connection, transaction.leases
        keys, checkpoints, writes = {}, [], []
        logs, blobs = set(), []
        for each in operations:
            leases.check(each.lease)
            k = each.key.k
            if not each.key.stored:
                keys[k] = (k, each.key.thread_id, each.key.ns)
            if each.row is not None:
                checkpoints.append(each.row)
            for blob in each.blobs:
                blobs.append(blob)
                # Named with each blob, because the write that made the log may have failed.
                logs.add((blob[0] // PLACES, k))
            for write in each.writes:
                writes.append((k, *write))
        try:
            _insert(connection, MAKE_KEYS, list(keys.values()))
            if _insert(connection, PUT_CHECKPOINTS, checkpoints) != len(checkpoints):
                raise Stale
            if writes and not _all_exist(connection, {k for k, *_ in writes}):
                raise Stale
            _insert(connection, PUT_LOGS, list(logs))
            _insert(connection, PUT_BLOBS, blobs)
            _insert(connection, PUT_WRITES, writes)
        except sqlite3.IntegrityError as error:
            # Another write has taken the thread's name, or the place in a log.
            raise Stale from error
        transaction.log.add(
            each.event
            for each in operations
            if each.event and each.lease and leases.thread_of(each.lease) == each.event.thread_id
        )


def _insert(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert all the rows in few statements; return the number of rows that were inserted."""
    inserted = 0
    for at in range(0, len(rows), ROWS_PER_STATEMENT):
        some = rows[at : at + ROWS_PER_STATEMENT]
        row = f"({', '.join('?' * len(some[0]))})"
        marks = ", ".join([row] * len(some))
        values = [value for row in some for value in row]
        inserted += connection.execute(sql.format(marks), values).rowcount
    return inserted


def _all_exist(connection: sqlite3.Connection, keys: set[int]) -> bool:
    sql = (
        "SELECT count(*) FROM json_each(?) JOIN checkpoint_threads ON k = value "
        "WHERE thread_id IS NOT NULL"
    )
    (count,) = connection.execute(sql, (orjson.dumps(list(keys)).decode(),)).fetchone()
    return bool(count == len(keys))
