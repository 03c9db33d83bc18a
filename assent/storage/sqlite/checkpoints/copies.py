"""A thread's checkpoints copied to another: what the writer's thread does for it. Each value is
opened, and sealed for its new place."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from langgraph.checkpoint.serde.base import SerializerProtocol

from assent.checkpoint import bindings
from assent.checkpoint.bindings import Owner
from assent.checkpoint.extents import PLACES, position
from assent.checkpoint.values import Refs
from assent.core.sealing import Seal
from assent.storage.sqlite.checkpoints.writes import CHECKPOINT_COLUMNS, WRITE_COLUMNS, sweep
from assent.storage.sqlite.writer import Transaction


def copy_thread(
    source: str,
    target: str,
    new_key: Callable[[], int],
    new_log: Callable[[], int],
    serde: SerializerProtocol,
    seal: Seal,
) -> Callable[[Transaction], set[int]]:
    """Copy every checkpoint and write of a thread to another, in logs of its own; return the keys
    of the target's namespaces."""

    def apply(transaction: Transaction) -> set[int]:
        connection = transaction.connection
        namespaces = connection.execute(
            "SELECT k, ns FROM checkpoint_threads WHERE thread_id = ?", (source,)
        ).fetchall()
        keys = set()
        for k, ns in namespaces:
            keys.add(new_k := _target(connection, target, ns, new_key))
            _copy(connection, k, new_k, new_log, Resealing(seal, serde, source, target, ns))
        return keys

    return apply


@dataclass(frozen=True, slots=True)
class Owned:
    """Whose what stands in logs is: a value's channel and version, by its position; the channel of
    a list, by the log."""

    values: dict[int, tuple[str, Any]] = field(default_factory=dict)
    lists: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resealing:
    """Opens what belongs to one thread, and seals it for another."""

    seal: Seal
    serde: SerializerProtocol
    source: str
    target: str
    ns: str

    def checkpoint(self, row: Sequence[Any], new_refs: str) -> tuple[Any, ...]:
        """A row of `CHECKPOINT_COLUMNS`."""
        id, parent_id, run_id, kind, body, refs, metadata = row
        body = self._moved(
            body,
            bindings.checkpoint(self.source, self.ns, id, parent_id, kind, refs),
            bindings.checkpoint(self.target, self.ns, id, parent_id, kind, new_refs),
        )
        metadata = self._moved(
            metadata,
            bindings.metadata(self.source, self.ns, id),
            bindings.metadata(self.target, self.ns, id),
        )
        return id, parent_id, run_id, kind, body, new_refs, metadata

    def write(self, row: Sequence[Any]) -> tuple[Any, ...]:
        """A row of `WRITE_COLUMNS`."""
        id, task_id, idx, task_path, channel, kind, body = row
        old, new = (
            bindings.write(Owner(thread, self.ns, channel), id, task_id, idx, task_path, kind)
            for thread in self._both
        )
        return id, task_id, idx, task_path, channel, kind, self._moved(body, old, new)

    def value(
        self, channel: str, version: Any, place: int, new_place: int, kind: str, body: bytes
    ) -> Any:
        """A channel's value."""
        old = bindings.value(Owner(self.source, self.ns, channel), version, place, kind)
        return self._moved(
            body,
            old,
            bindings.value(Owner(self.target, self.ns, channel), version, new_place, kind),
        )

    def items(self, channel: str, place: int, new_place: int, kind: str, body: bytes) -> Any:
        """Some items of a channel's list."""
        old = bindings.items(Owner(self.source, self.ns, channel), place, kind)
        return self._moved(
            body, old, bindings.items(Owner(self.target, self.ns, channel), new_place, kind)
        )

    def owned(self, rows: Iterable[Sequence[Any]]) -> Owned:
        """What rows of `CHECKPOINT_COLUMNS` refer to."""
        owned = Owned()
        for id, parent_id, _, kind, body, refs, _ in rows:
            opened = self.seal.open(
                body, *bindings.checkpoint(self.source, self.ns, id, parent_id, kind, refs)
            )
            versions = self.serde.loads_typed((kind, opened))[0]["channel_versions"]
            for channel, ref in orjson.loads(refs).items():
                if isinstance(ref, list):
                    owned.lists.update((log, channel) for log, _, _ in ref)
                else:
                    owned.values[ref] = channel, versions.get(channel)
        return owned

    @property
    def _both(self) -> tuple[str, str]:
        return self.source, self.target

    def _moved(self, data: Any, old: bindings.Binding, new: bindings.Binding) -> Any:
        return self.seal.seal(self.seal.open(data, *old), *new) if self.seal.is_on else data


def _copy(
    connection: sqlite3.Connection,
    k: int,
    new_k: int,
    new_log: Callable[[], int],
    resealing: Resealing,
) -> None:
    rows = connection.execute(
        f"SELECT {CHECKPOINT_COLUMNS} FROM checkpoints WHERE k = ?", (k,)
    ).fetchall()
    logs = {
        log: new_log()
        for (log,) in connection.execute(
            "SELECT log FROM checkpoint_logs WHERE k = ?", (k,)
        ).fetchall()
    }
    connection.executemany(
        "INSERT INTO checkpoint_logs VALUES (?, ?)", [(log, new_k) for log in logs.values()]
    )
    owned = resealing.owned(rows) if resealing.seal.is_on else Owned()
    for log, new in logs.items():
        _copy_log(connection, log, new, owned, resealing)
    connection.executemany(
        f"INSERT OR REPLACE INTO checkpoints (k, {CHECKPOINT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                new_k,
                *resealing.checkpoint(
                    row, orjson.dumps(_moved(orjson.loads(row[5]), logs)).decode()
                ),
            )
            for row in rows
        ],
    )
    writes = connection.execute(
        f"SELECT {WRITE_COLUMNS} FROM checkpoint_writes WHERE k = ?", (k,)
    ).fetchall()
    connection.executemany(
        f"INSERT OR REPLACE INTO checkpoint_writes (k, {WRITE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(new_k, *resealing.write(row)) for row in writes],
    )
    # What was in the target under the same names is gone.
    sweep(connection, new_k)


def _copy_log(
    connection: sqlite3.Connection, log: int, new: int, owned: Owned, resealing: Resealing
) -> None:
    within = "position >= ? AND position < ?"
    begin, end, moved = position(log, 0), position(log + 1, 0), position(new - log, 0)
    if not resealing.seal.is_on:
        sql = f"INSERT INTO checkpoint_blobs SELECT position + ?, type, body FROM checkpoint_blobs WHERE {within}"
        connection.execute(sql, (moved, begin, end))
        return
    found = connection.execute(
        f"SELECT position, type, body FROM checkpoint_blobs WHERE {within}", (begin, end)
    ).fetchall()
    for place, kind, body in found:
        if log in owned.lists:
            body = resealing.items(owned.lists[log], place, place + moved, kind, body)
        elif place in owned.values:
            body = resealing.value(*owned.values[place], place, place + moved, kind, body)
        else:
            # What no checkpoint refers to is nobody's.
            continue
        connection.execute(
            "INSERT INTO checkpoint_blobs VALUES (?, ?, ?)", (place + moved, kind, body)
        )


def _target(
    connection: sqlite3.Connection, thread_id: str, ns: str, new_key: Callable[[], int]
) -> int:
    found = connection.execute(
        "SELECT k FROM checkpoint_threads WHERE thread_id = ? AND ns = ?", (thread_id, ns)
    ).fetchone()
    k: int = found[0] if found else new_key()
    connection.execute(
        "INSERT INTO checkpoint_threads VALUES (?, ?, ?, 0) ON CONFLICT (k) DO UPDATE SET generation = generation + 1",
        (k, thread_id, ns),
    )
    return k


def _moved(refs: Refs, logs: dict[int, int]) -> Refs:
    return {
        channel: [[logs[log], start, stop] for log, start, stop in ref]
        if isinstance(ref, list)
        else position(logs[ref // PLACES], ref % PLACES)
        for channel, ref in refs.items()
    }
