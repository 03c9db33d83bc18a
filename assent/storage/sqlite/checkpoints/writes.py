"""What the writer's thread does for the checkpointer: the operations.

An operation is given everything ready to be stored, and touches nothing but the file, so that it
can be rolled back and run again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from langgraph.checkpoint.serde.base import SerializerProtocol

from assent.checkpoint import bindings
from assent.checkpoint.extents import PLACES, Extent, from_json, position, positions
from assent.checkpoint.values import Blob, Key, Refs
from assent.core.rows import Lease
from assent.core.sealing import Seal
from assent.storage.sqlite.writer import BulkOperation, Transaction

Write = tuple[str, str, int, str, str, str, bytes]
"""The values of `WRITE_COLUMNS`."""

CHECKPOINT_COLUMNS = "checkpoint_id, parent_id, run_id, type, body, refs, metadata"
WRITE_COLUMNS = "checkpoint_id, task_id, idx, task_path, channel, type, body"


class Stale(Exception):
    """What the write was computed from is gone. Read again, and compute it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCheckpoint:
    """A checkpoint's row (`k, generation`, and the values of `CHECKPOINT_COLUMNS`), and what is new
    in the logs."""

    columns: tuple[Any, ...]
    blobs: Sequence[Blob]


class CheckpointWrite(BulkOperation):
    """A checkpoint, or what a task wrote, to be stored. Raises `Stale`; or `StaleLease`, if its
    lease does not hold any more."""

    __slots__ = ("_checkpoints", "_key", "_lease", "_writes")

    def __init__(
        self,
        key: Key,
        checkpoint: NewCheckpoint | None = None,
        writes: Sequence[Write] = (),
        lease: Lease | None = None,
    ) -> None:
        self._key = key
        self._lease = lease
        self._checkpoints = (checkpoint,) if checkpoint else ()
        self._writes = [(key.k, *row) for row in writes]

    def __call__(self, transaction: Transaction) -> None:
        self.apply_all(transaction, (self,))

    @staticmethod
    def apply_all(transaction: Transaction, operations: Sequence[CheckpointWrite]) -> None:
        connection = transaction.connection
        for each in operations:
            transaction.leases.check(each._lease)
        keys = {each._key.k: each._key for each in operations}
        checkpoints = [checkpoint for each in operations for checkpoint in each._checkpoints]
        writes = [row for each in operations for row in each._writes]
        try:
            _insert(
                connection,
                MAKE_KEY,
                [(key.k, key.thread_id, key.ns) for key in keys.values() if not key.stored],
            )
            if len(checkpoints) != _insert(
                connection, PUT_CHECKPOINT, [checkpoint.columns for checkpoint in checkpoints]
            ):
                raise Stale
            if writes and not _all_exist(connection, {row[0] for row in writes}):
                raise Stale
            # Named with each blob, because whoever meant to make the log may have failed.
            logs = {
                (blob[0] // PLACES, each.columns[0]) for each in checkpoints for blob in each.blobs
            }
            _insert(connection, "INSERT OR IGNORE INTO checkpoint_logs VALUES", list(logs))
            _insert(
                connection,
                "INSERT INTO checkpoint_blobs VALUES",
                [row for each in checkpoints for row in each.blobs],
            )
            _insert(connection, PUT_WRITES, writes)
        except sqlite3.IntegrityError as error:
            # Another write has taken the thread's name, or the place in a log.
            raise Stale from error


MAKE_KEY = "INSERT INTO checkpoint_threads SELECT column1, column2, column3, 0 FROM (VALUES {}) WHERE true ON CONFLICT (k) DO NOTHING"

PUT_CHECKPOINT = f"""
INSERT OR REPLACE INTO checkpoints (k, {CHECKPOINT_COLUMNS})
SELECT k, column3, column4, column5, column6, column7, column8, column9
FROM (VALUES {{}}) CROSS JOIN checkpoint_threads ON k = column1 AND generation = column2
"""

# A regular write that is there already stays; a special one, whose index is below 0, takes the
# place of the last.
PUT_WRITES = f"""
INSERT INTO checkpoint_writes (k, {WRITE_COLUMNS}) SELECT * FROM (VALUES {{}}) WHERE true
ON CONFLICT (k, checkpoint_id, task_id, idx) DO UPDATE
SET task_path = excluded.task_path, channel = excluded.channel, type = excluded.type, body = excluded.body WHERE idx < 0
"""

ROWS_PER_STATEMENT = 64
"""Many, because it is each statement that has to wait, and not so many that preparing one that is
seldom asked for takes long."""


def _insert(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert all the rows in few statements; return how many were inserted."""
    inserted = 0
    for at in range(0, len(rows), ROWS_PER_STATEMENT):
        some = rows[at : at + ROWS_PER_STATEMENT]
        row = f"({', '.join('?' * len(some[0]))})"
        marks = ", ".join([row] * len(some))
        statement = sql.format(marks) if "{}" in sql else f"{sql} {marks}"
        inserted += connection.execute(statement, [value for row in some for value in row]).rowcount
    return inserted


def _all_exist(connection: sqlite3.Connection, keys: set[int]) -> bool:
    sql = "SELECT count(*) FROM json_each(?) JOIN checkpoint_threads ON k = value"
    (count,) = connection.execute(sql, (orjson.dumps(list(keys)).decode(),)).fetchone()
    return bool(count == len(keys))


# ── removing ──


def delete_thread(thread_id: str) -> Callable[[Transaction], set[int]]:
    """Remove everything of the thread; return the keys of its namespaces."""

    def apply(transaction: Transaction) -> set[int]:
        return erase_thread(transaction.connection, thread_id)

    return apply


def erase_thread(connection: sqlite3.Connection, thread_id: str) -> set[int]:
    """Remove everything of the thread, inside a transaction of the caller's; return the keys of its
    namespaces."""
    keys = _keys(connection, thread_id)
    for k in keys:
        _erase(connection, k)
    return keys


def _keys(connection: sqlite3.Connection, thread_id: str) -> set[int]:
    return {
        k
        for (k,) in connection.execute(
            "SELECT k FROM checkpoint_threads WHERE thread_id = ?", (thread_id,)
        )
    }


def _erase(connection: sqlite3.Connection, k: int) -> None:
    connection.execute("DELETE FROM checkpoints WHERE k = ?", (k,))
    connection.execute("DELETE FROM checkpoint_writes WHERE k = ?", (k,))
    sweep(connection, k)
    connection.execute("DELETE FROM checkpoint_threads WHERE k = ?", (k,))


def delete_for_runs(run_ids: Sequence[str]) -> Callable[[Transaction], set[int]]:
    """Remove the checkpoints that the runs made, with their writes; return the keys of the
    namespaces they were in."""
    runs = orjson.dumps(list(run_ids)).decode()
    chosen = "run_id IN (SELECT value FROM json_each(?))"

    def apply(transaction: Transaction) -> set[int]:
        connection = transaction.connection
        keys = {
            k
            for (k,) in connection.execute(
                f"SELECT DISTINCT k FROM checkpoints WHERE {chosen}", (runs,)
            )
        }
        connection.execute(
            f"DELETE FROM checkpoint_writes WHERE (k, checkpoint_id) IN (SELECT k, checkpoint_id FROM checkpoints WHERE {chosen})",
            (runs,),
        )
        connection.execute(f"DELETE FROM checkpoints WHERE {chosen}", (runs,))
        for k in keys:
            _removed(connection, k)
        return keys

    return apply


def prune(
    thread_ids: Iterable[str], keep: int, serde: SerializerProtocol, seal: Seal
) -> Callable[[Transaction], set[int]]:
    """Keep the latest checkpoints of each namespace of the threads, and what delta channels need to
    be rebuilt there."""
    threads = list(thread_ids)

    def apply(transaction: Transaction) -> set[int]:
        connection = transaction.connection
        keys = {k for thread_id in threads for k in _keys(connection, thread_id)}
        for k in keys:
            _prune(connection, k, keep, serde, seal)
        return keys

    return apply


def _prune(
    connection: sqlite3.Connection, k: int, keep: int, serde: SerializerProtocol, seal: Seal
) -> None:
    latest = [
        checkpoint_id
        for (checkpoint_id,) in connection.execute(
            "SELECT checkpoint_id FROM checkpoints WHERE k = ? ORDER BY checkpoint_id DESC LIMIT ?",
            (k, keep),
        )
    ]
    kept = set(latest)
    for checkpoint_id in latest:
        kept |= _needed(connection, k, checkpoint_id, serde, seal)
    gone = "k = ? AND checkpoint_id NOT IN (SELECT value FROM json_each(?))"
    parameters = (k, orjson.dumps(sorted(kept)).decode())
    connection.execute(f"DELETE FROM checkpoints WHERE {gone}", parameters)
    # The writes of a checkpoint that is yet to come may be there before it.
    connection.execute(
        f"DELETE FROM checkpoint_writes WHERE {gone} AND checkpoint_id < ?",
        (*parameters, max(kept, default="")),
    )
    _removed(connection, k)


def _needed(
    connection: sqlite3.Connection,
    k: int,
    checkpoint_id: str,
    serde: SerializerProtocol,
    seal: Seal,
) -> set[str]:
    """The ancestors whose writes rebuild the checkpoint's delta channels, back to where each was
    last stored."""
    thread_id, ns = connection.execute(
        "SELECT thread_id, ns FROM checkpoint_threads WHERE k = ?", (k,)
    ).fetchone()
    needed: set[str] = set()
    channels: set[str] | None = None
    at: str | None = checkpoint_id
    while at is not None and at not in needed:
        row = connection.execute(
            "SELECT parent_id, type, body, refs, metadata FROM checkpoints WHERE k = ? AND checkpoint_id = ?",
            (k, at),
        ).fetchone()
        if row is None:
            break
        parent_id, kind, body, refs, metadata = row
        body = seal.open(body, *bindings.checkpoint(thread_id, ns, at, parent_id, kind, refs))
        checkpoint, small = serde.loads_typed((kind, body))
        if channels is None:
            metadata = seal.open(metadata, *bindings.metadata(thread_id, ns, at))
            channels = set(orjson.loads(metadata).get("counters_since_delta_snapshot") or ()) & set(
                checkpoint["channel_versions"]
            )
        needed.add(at)
        channels -= set(small) | set(orjson.loads(refs))
        if not channels:
            break
        at = parent_id
    return needed


def _removed(connection: sqlite3.Connection, k: int) -> None:
    """Something of the namespace was removed: remove what only that referred to, and refuse writes
    that were computed before."""
    left = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM checkpoints WHERE k = ?) OR EXISTS (SELECT 1 FROM checkpoint_writes WHERE k = ?)",
        (k, k),
    ).fetchone()[0]
    if left:
        connection.execute(
            "UPDATE checkpoint_threads SET generation = generation + 1 WHERE k = ?", (k,)
        )
        sweep(connection, k)
    else:
        _erase(connection, k)


def sweep(connection: sqlite3.Connection, k: int) -> None:
    """Remove every blob of the namespace that no checkpoint refers to, and every log that is empty
    then."""
    live = positions(
        extent
        for (refs,) in connection.execute("SELECT refs FROM checkpoints WHERE k = ?", (k,))
        for extent in _extents(orjson.loads(refs))
    )
    for log in [
        log for (log,) in connection.execute("SELECT log FROM checkpoint_logs WHERE k = ?", (k,))
    ]:
        begin, end = position(log, 0), position(log + 1, 0)
        stretches = [stretch for stretch in live if begin <= stretch[0] < end]
        for first, last in stretches:
            # The blob that a stretch begins in may begin before it.
            connection.execute(
                "DELETE FROM checkpoint_blobs WHERE position >= ? "
                "AND position < (SELECT max(position) FROM checkpoint_blobs WHERE position <= ?)",
                (begin, first),
            )
            begin = last
        connection.execute(
            "DELETE FROM checkpoint_blobs WHERE position >= ? AND position < ?", (begin, end)
        )
        if not stretches:
            connection.execute("DELETE FROM checkpoint_logs WHERE log = ?", (log,))


def _extents(refs: Refs) -> Iterable[Extent]:
    for ref in refs.values():
        yield from from_json(ref) if isinstance(ref, list) else (_one(ref),)


def _one(place: int) -> Extent:
    log, at = divmod(place, PLACES)
    return Extent(log, at, at + 1)
