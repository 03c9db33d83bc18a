"""Copies a thread's checkpoints to another thread, on the writer's thread.

Sealed values are opened, and sealed for their new place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from assent.checkpoint import bindings
from assent.checkpoint.bindings import Binding, Owner
from assent.checkpoint.codec import Codec
from assent.checkpoint.extents import PLACES, position
from assent.storage.sqlite.checkpoints.removals import sweep
from assent.storage.sqlite.checkpoints.writes import CHECKPOINT_COLUMNS, WRITE_COLUMNS
from assent.storage.sqlite.writer import Transaction

IN_STRETCH = "FROM checkpoint_blobs WHERE position >= ? AND position < ?"
EIGHT = "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
NINE = "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def copy_thread(
    source: str,
    target: str,
    new_key: Callable[[], int],
    new_log: Callable[[], int],
    codec: Codec,
) -> Callable[[Transaction], set[int]]:
    """Copy every checkpoint and write of a thread to another, into new logs.

    The operation returns the keys of the target's namespaces.
    """

    def apply(transaction: Transaction) -> set[int]:
        connection = transaction.connection
        keys = set()
        namespaces = connection.execute(
            "SELECT k, ns FROM checkpoint_threads WHERE thread_id = ?", (source,)
        )
        for k, ns in namespaces.fetchall():
            new_k = _target_key(connection, target, ns, new_key)
            _copy(connection, k, new_k, new_log, Resealing(codec, source, target, ns))
            keys.add(new_k)
        return keys

    return apply


@dataclass(frozen=True, slots=True)
class Resealing:
    """Opens the values of one thread's namespace, and seals them for another thread.

    A blob does not say which channel it belongs to: `lists` has the channel by log, and `values`
    the channel and its version by position.
    """

    codec: Codec
    source: str
    target: str
    ns: str
    lists: dict[int, str] = field(default_factory=dict)
    values: dict[int, tuple[str, Any]] = field(default_factory=dict)

    @property
    def is_on(self) -> bool:
        return self.codec.seal.is_on

    def find_owners(self, rows: Iterable[Sequence[Any]]) -> None:
        """Learn from rows of `CHECKPOINT_COLUMNS` which blobs belong to which channel."""
        for id, parent_id, _, _, encoding, body, refs, _ in rows:
            binding = bindings.checkpoint(self.source, self.ns, id, parent_id, encoding, refs)
            checkpoint, _ = self.codec.decoded(encoding, body, binding)
            for channel, ref in orjson.loads(refs).items():
                if isinstance(ref, list):
                    self.lists.update((log, channel) for log, _, _ in ref)
                else:
                    self.values[ref] = channel, checkpoint["channel_versions"].get(channel)

    def checkpoint(self, row: Sequence[Any], new_refs: str) -> tuple[Any, ...]:
        """Reseal a row of `CHECKPOINT_COLUMNS`."""
        id, parent_id, outer_ids, run_id, encoding, body, refs, metadata = row
        body = self._reseal(
            body,
            bindings.checkpoint(self.source, self.ns, id, parent_id, encoding, refs),
            bindings.checkpoint(self.target, self.ns, id, parent_id, encoding, new_refs),
        )
        metadata = self._reseal(
            metadata,
            bindings.metadata(self.source, self.ns, id),
            bindings.metadata(self.target, self.ns, id),
        )
        return id, parent_id, outer_ids, run_id, encoding, body, new_refs, metadata

    def write(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """Reseal a row of `WRITE_COLUMNS`."""
        id, task_id, idx, task_path, channel, encoding, body = row
        old, new = (
            bindings.write(owner, id, task_id, idx, task_path, encoding)
            for owner in self._owners(channel)
        )
        return *row[:-1], self._reseal(body, old, new)

    def blob(self, place: int, new_place: int, encoding: str, body: bytes) -> Any:
        """Reseal a blob; None if no checkpoint refers to it."""
        log = place // PLACES
        if log in self.lists:
            source, target = self._owners(self.lists[log])
            old = bindings.items(source, place, encoding)
            new = bindings.items(target, new_place, encoding)
        elif place in self.values:
            channel, version = self.values[place]
            source, target = self._owners(channel)
            old = bindings.value(source, version, place, encoding)
            new = bindings.value(target, version, new_place, encoding)
        else:
            return None
        return self._reseal(body, old, new)

    def _owners(self, channel: str) -> tuple[Owner, Owner]:
        return Owner(self.source, self.ns, channel), Owner(self.target, self.ns, channel)

    def _reseal(self, data: Any, old: Binding, new: Binding) -> Any:
        if not self.is_on:
            return data
        return self.codec.sealed(self.codec.seal.open(data, *old), new)


def _target_key(
    connection: sqlite3.Connection, thread_id: str, ns: str, new_key: Callable[[], int]
) -> int:
    found = connection.execute(
        "SELECT k FROM checkpoint_threads WHERE thread_id = ? AND ns = ?", (thread_id, ns)
    ).fetchone()
    k: int = found[0] if found else new_key()
    connection.execute(
        "INSERT INTO checkpoint_threads VALUES (?, ?, ?, 0) "
        "ON CONFLICT (k) DO UPDATE SET generation = generation + 1",
        (k, thread_id, ns),
    )
    return k


def _copy(
    connection: sqlite3.Connection,
    k: int,
    new_k: int,
    new_log: Callable[[], int],
    resealing: Resealing,
) -> None:
    rows = connection.execute(
        f"SELECT {CHECKPOINT_COLUMNS} FROM checkpoints WHERE k = ? ORDER BY number", (k,)
    ).fetchall()
    if resealing.is_on:
        resealing.find_owners(rows)
    logs: dict[int, int] = {}
    found = connection.execute("SELECT log FROM checkpoint_logs WHERE k = ?", (k,))
    for (log,) in found.fetchall():
        logs[log] = new_log()
        connection.execute("INSERT INTO checkpoint_logs VALUES (?, ?)", (logs[log], new_k))
        _copy_log(connection, log, logs[log], resealing)
    for row in rows:
        new_row = resealing.checkpoint(row, _moved_refs(row[6], logs))
        connection.execute(
            f"INSERT OR REPLACE INTO checkpoints (k, {CHECKPOINT_COLUMNS}) {NINE}",
            (new_k, *new_row),
        )
    writes = connection.execute(
        f"SELECT {WRITE_COLUMNS} FROM checkpoint_writes WHERE k = ?", (k,)
    ).fetchall()
    connection.executemany(
        f"INSERT OR REPLACE INTO checkpoint_writes (k, {WRITE_COLUMNS}) {EIGHT}",
        [(new_k, *resealing.write(row)) for row in writes],
    )
    # The target's checkpoints of the same ids were replaced.
    sweep(connection, new_k)


def _copy_log(connection: sqlite3.Connection, log: int, new_log: int, resealing: Resealing) -> None:
    stretch = (position(log, 0), position(log + 1, 0))
    moved = position(new_log - log, 0)
    if not resealing.is_on:
        connection.execute(
            f"INSERT INTO checkpoint_blobs SELECT position + ?, type, body {IN_STRETCH}",
            (moved, *stretch),
        )
        return
    blobs = connection.execute(f"SELECT position, type, body {IN_STRETCH}", stretch).fetchall()
    for place, encoding, body in blobs:
        resealed = resealing.blob(place, place + moved, encoding, body)
        if resealed is not None:
            connection.execute(
                "INSERT INTO checkpoint_blobs VALUES (?, ?, ?)", (place + moved, encoding, resealed)
            )


def _moved_refs(refs: str, logs: dict[int, int]) -> str:
    """A checkpoint's references, in the new logs."""
    moved: dict[str, Any] = {}
    for channel, ref in orjson.loads(refs).items():
        if isinstance(ref, list):
            moved[channel] = [(logs[log], start, stop) for log, start, stop in ref]
        else:
            moved[channel] = position(logs[ref // PLACES], ref % PLACES)
    return orjson.dumps(moved).decode()
