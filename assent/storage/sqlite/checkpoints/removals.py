"""Removes checkpoints, on the writer's thread. Each operation returns the keys of the namespaces
that it changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson
from langgraph._internal._constants import NS_END

from assent.checkpoint import bindings
from assent.checkpoint.codec import Codec
from assent.checkpoint.extents import Extent, extents_of, from_json, position, positions
from assent.storage.sqlite.database import column
from assent.storage.sqlite.steps import remove_some
from assent.storage.sqlite.writer import Transaction

NAMESPACES = """
    SELECT t.k, t.ns, c.number, c.outer_ids FROM checkpoint_threads t
    LEFT JOIN checkpoints c ON c.number = (SELECT max(number) FROM checkpoints WHERE k = t.k)
    WHERE thread_id = ?
"""
"""A thread's namespaces, each with its newest checkpoint."""

TAKEN = "SELECT 1 FROM threads WHERE thread_id = ? AND status IN ('busy', 'interrupted')"
"""A thread that a run has. Asked for in the transaction that prunes, so that none can begin in
between."""

LOGS_PER_STEP = 8
"""Logs of a namespace without a thread that one step may remove."""


def delete_thread(thread_id: str) -> Callable[[Transaction], set[int]]:
    """Remove everything of the thread."""

    def apply(transaction: Transaction) -> set[int]:
        keys = _keys(transaction.connection, thread_id)
        for k in keys:
            _erase(transaction.connection, k)
        return keys

    return apply


def detach_thread(connection: sqlite3.Connection, thread_id: str) -> list[int]:
    """Let nobody see the thread's namespaces any more, and refuse every write to them. Return their
    keys."""
    keys = sorted(_keys(connection, thread_id))
    connection.execute(
        "UPDATE checkpoint_threads SET thread_id = NULL, generation = generation + 1 "
        "WHERE thread_id = ?",
        (thread_id,),
    )
    return keys


def remove_detached(k: int) -> Callable[[Transaction], bool]:
    """The step that removes some of a namespace that has no thread. It returns True if nothing of
    it is left."""

    def step(transaction: Transaction) -> bool:
        connection = transaction.connection
        for table in ("checkpoint_writes", "checkpoints"):
            if not remove_some(connection, table, "number", "k = ?", (k,)):
                return False
        of_it = "SELECT log FROM checkpoint_logs WHERE k = ? LIMIT ?"
        logs = column(connection, of_it, k, LOGS_PER_STEP)
        for log in logs:
            stretch = (position(log, 0), position(log + 1, 0))
            inside = "position >= ? AND position < ?"
            if not remove_some(connection, "checkpoint_blobs", "position", inside, stretch):
                return False
            connection.execute("DELETE FROM checkpoint_logs WHERE log = ?", (log,))
        if len(logs) == LOGS_PER_STEP:
            return False
        connection.execute("DELETE FROM checkpoint_threads WHERE k = ?", (k,))
        return True

    return step


def delete_for_runs(run_ids: Sequence[str]) -> Callable[[Transaction], set[int]]:
    """Remove the checkpoints that the runs made, with their writes."""
    runs = orjson.dumps(list(run_ids)).decode()
    made = "FROM checkpoints WHERE run_id IN (SELECT value FROM json_each(?))"

    def apply(transaction: Transaction) -> set[int]:
        connection = transaction.connection
        keys = set(column(connection, f"SELECT DISTINCT k {made}", runs))
        connection.execute(
            "DELETE FROM checkpoint_writes "
            f"WHERE (k, checkpoint_id) IN (SELECT k, checkpoint_id {made})",
            (runs,),
        )
        connection.execute(f"DELETE {made}", (runs,))
        for k in keys:
            _clean_up(connection, k)
        return keys

    return apply


def prune(thread_ids: Iterable[str], keep: int, codec: Codec) -> Callable[[Transaction], set[int]]:
    """Keep the latest checkpoints of each namespace of the threads, and those that their delta
    channels are rebuilt from. Of a task that has finished, the namespace goes with the checkpoint
    in whose step it ran. Threads that a run has are left out."""
    threads = list(thread_ids)

    def apply(transaction: Transaction) -> set[int]:
        connection = transaction.connection
        keys: set[int] = set()
        for thread_id in threads:
            if not connection.execute(TAKEN, (thread_id,)).fetchone():
                keys |= _prune_thread(connection, thread_id, keep, codec)
        return keys

    return apply


def sweep(connection: sqlite3.Connection, k: int) -> None:
    """Remove the blobs of the namespace that no checkpoint refers to, and the logs that are empty
    then."""
    extents: list[Extent] = []
    for refs in column(connection, "SELECT refs FROM checkpoints WHERE k = ?", k):
        for ref in orjson.loads(refs).values():
            extents += extents_of(from_json(ref))
    live = positions(extents)
    for log in column(connection, "SELECT log FROM checkpoint_logs WHERE k = ?", k):
        begin, end = position(log, 0), position(log + 1, 0)
        stretches = [stretch for stretch in live if begin <= stretch[0] < end]
        for first, last in stretches:
            # The blob that a stretch begins in may begin before it.
            connection.execute(
                "DELETE FROM checkpoint_blobs WHERE position >= ? AND position < "
                "(SELECT max(position) FROM checkpoint_blobs WHERE position <= ?)",
                (begin, first),
            )
            begin = last
        connection.execute(
            "DELETE FROM checkpoint_blobs WHERE position >= ? AND position < ?", (begin, end)
        )
        if not stretches:
            connection.execute("DELETE FROM checkpoint_logs WHERE log = ?", (log,))


@dataclass(frozen=True, slots=True)
class Kept:
    """The checkpoints of a namespace that are left, and the number of the newest."""

    ids: set[str]
    newest: int


def _prune_thread(
    connection: sqlite3.Connection, thread_id: str, keep: int, codec: Codec
) -> set[int]:
    namespaces = [
        (k, ns, number, orjson.loads(outer_ids or "{}"))
        for k, ns, number, outer_ids in connection.execute(NAMESPACES, (thread_id,))
    ]
    # A graph comes behind those that are around it, of which it names one more.
    namespaces.sort(key=lambda each: len(each[3]))
    kept: dict[str, Kept | None] = {}
    for k, ns, number, outer in namespaces:
        # Without the id of a task, it is that of a subgraph that remembers from call to call.
        if NS_END in ns and _is_over(number, outer, kept):
            _erase(connection, k)
            kept[ns] = None
        else:
            kept[ns] = Kept(_prune(connection, k, keep, codec), number or 0)
    return {k for k, *_ in namespaces}


def _is_over(newest: int, outer: Mapping[str, str], kept: Mapping[str, Kept | None]) -> bool:
    """True if a graph around the task is over itself, or has left the step in which the task ran.

    That step's checkpoint may never have been stored. Or it is still to come; then the graph has
    stored nothing since the task did.
    """
    for ns, checkpoint_id in outer.items():
        if ns not in kept:
            continue
        around = kept[ns]
        if around is None or (checkpoint_id not in around.ids and newest < around.newest):
            return True
    return False


def _prune(connection: sqlite3.Connection, k: int, keep: int, codec: Codec) -> set[str]:
    """Prune one namespace; return the ids of the checkpoints that are left."""
    latest = column(
        connection,
        "SELECT checkpoint_id FROM checkpoints WHERE k = ? ORDER BY number DESC LIMIT ?",
        k,
        keep,
    )
    kept = set(latest)
    for checkpoint_id in latest:
        kept |= _lineage(connection, k, checkpoint_id, codec)
    gone = "k = ? AND checkpoint_id NOT IN (SELECT value FROM json_each(?))"
    parameters = (k, orjson.dumps(sorted(kept)).decode())
    # The writes to a checkpoint may be here before it is. One that is still to come is newer than
    # all that are here, and so are the writes to it.
    connection.execute(
        f"""
            DELETE FROM checkpoint_writes WHERE {gone} AND number <= (
                SELECT max(w.number) FROM checkpoint_writes w
                JOIN checkpoints USING (k, checkpoint_id) WHERE k = ?
            )
        """,
        (*parameters, k),
    )
    connection.execute(f"DELETE FROM checkpoints WHERE {gone}", parameters)
    _clean_up(connection, k)
    return kept


def _lineage(connection: sqlite3.Connection, k: int, checkpoint_id: str, codec: Codec) -> set[str]:
    """The checkpoint and the ancestors whose writes rebuild its delta channels, back to where each
    channel was last stored."""
    thread_id, ns = connection.execute(
        "SELECT thread_id, ns FROM checkpoint_threads WHERE k = ?", (k,)
    ).fetchone()
    lineage: set[str] = set()
    channels: set[str] | None = None
    at: str | None = checkpoint_id
    while at is not None and at not in lineage:
        row = connection.execute(
            "SELECT parent_id, type, body, refs, metadata FROM checkpoints "
            "WHERE k = ? AND checkpoint_id = ?",
            (k, at),
        ).fetchone()
        if row is None:
            break
        parent_id, encoding, body, refs, metadata = row
        binding = bindings.checkpoint(thread_id, ns, at, parent_id, encoding, refs)
        checkpoint, small = codec.decoded(encoding, body, binding)
        if channels is None:
            opened = codec.seal.open(metadata, *bindings.metadata(thread_id, ns, at))
            counters = orjson.loads(opened).get("counters_since_delta_snapshot") or {}
            channels = checkpoint["channel_versions"].keys() & counters
        lineage.add(at)
        channels -= {*small, *orjson.loads(refs)}
        if not channels:
            break
        at = parent_id
    return lineage


def _clean_up(connection: sqlite3.Connection, k: int) -> None:
    """Remove what only removed checkpoints of the namespace referred to, and refuse the writes that
    were computed before."""
    (is_used,) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM checkpoints WHERE k = ?) "
        "OR EXISTS (SELECT 1 FROM checkpoint_writes WHERE k = ?)",
        (k, k),
    ).fetchone()
    if is_used:
        connection.execute(
            "UPDATE checkpoint_threads SET generation = generation + 1 WHERE k = ?", (k,)
        )
        sweep(connection, k)
    else:
        _erase(connection, k)


def _erase(connection: sqlite3.Connection, k: int) -> None:
    connection.execute("DELETE FROM checkpoints WHERE k = ?", (k,))
    connection.execute("DELETE FROM checkpoint_writes WHERE k = ?", (k,))
    sweep(connection, k)
    connection.execute("DELETE FROM checkpoint_threads WHERE k = ?", (k,))


def _keys(connection: sqlite3.Connection, thread_id: str) -> set[int]:
    sql = "SELECT k FROM checkpoint_threads WHERE thread_id = ?"
    return set(column(connection, sql, thread_id))
