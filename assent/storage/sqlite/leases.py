"""The leases of runs, as the writer's thread sees them. They are checked with every event and every
checkpoint, so their tokens are kept in memory.

A token in memory never outlives the row that it was read from: whoever writes a run's row calls
`forget`, and every rollback calls `forget_all`.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from assent.core.errors import StaleLease
from assent.core.rows import ACTIVE, Lease
from assent.storage.sqlite.tables import unerased

REMEMBERED = 10_000
"""The number of runs whose tokens are kept in memory. The file has them all."""


class Held(NamedTuple):
    """The token that holds for a run, None if none does; and the run's thread."""

    token: int | None
    thread_id: str


class Leases:
    """The fencing token that holds for each run. Used by the writer's thread only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._held: dict[str, Held] = {}

    def check(self, lease: Lease | None) -> None:
        """Raise `StaleLease` unless the run is active, and was last acquired with the lease's
        token. None needs no check."""
        if lease is None:
            return
        token = self._of(lease.run_id).token
        if token != lease.token:
            raise _stale(lease, token)

    def thread_of(self, lease: Lease) -> str:
        """The thread of the lease's run; "" if there is no such run."""
        return self._of(lease.run_id).thread_id

    def forget(self, run_id: str) -> None:
        """Forget the run's token, because its row is written."""
        self._held.pop(run_id, None)

    def forget_all(self) -> None:
        """Forget every token, because any row may have been written or rolled back."""
        self._held.clear()

    def _of(self, run_id: str) -> Held:
        held = self._held.get(run_id)
        return self._load(run_id) if held is None else held

    def _load(self, run_id: str) -> Held:
        if len(self._held) >= REMEMBERED:
            self._held.clear()
        found = self._connection.execute(
            f"SELECT attempt, status, thread_id FROM {unerased('runs')} WHERE run_id = ?", (run_id,)
        ).fetchone()
        attempt, status, thread_id = found or (None, "", "")
        held = Held(attempt if status in ACTIVE else None, thread_id)
        self._held[run_id] = held
        return held


def _stale(lease: Lease, token: int | None) -> StaleLease:
    if token is None:
        message = (
            f"The run '{lease.run_id}' has ended, or waits for a worker: nothing more is stored "
            "for it. Release it."
        )
    else:
        message = (
            f"The run '{lease.run_id}' was acquired by another worker, for its attempt {token}: "
            f"nothing more of the attempt {lease.token} is stored. Release it."
        )
    return StaleLease(message, run_id=lease.run_id, token=lease.token, holds=token)
