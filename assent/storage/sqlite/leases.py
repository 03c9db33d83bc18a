"""The leases of runs, as the writer's thread sees them. They are checked with every event and every
checkpoint, so their tokens are kept in memory.

A token in memory never outlives the row that it was read from: whoever writes a run's row calls
`forget`, and every rollback calls `forget_all`.
"""

from __future__ import annotations

import sqlite3

from assent.core.errors import StaleLease
from assent.core.rows import ACTIVE, Lease
from assent.storage.sqlite.tables import visible

REMEMBERED = 10_000
"""The number of runs whose tokens are kept in memory. The file has them all."""


class Leases:
    """The fencing token that holds for each run. Used by the writer's thread only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tokens: dict[str, int | None] = {}

    def check(self, lease: Lease | None) -> None:
        """Raise `StaleLease` unless the run is active, and was last acquired with the lease's
        token. None needs no check."""
        if lease is None:
            return
        try:
            token = self._tokens[lease.run_id]
        except KeyError:
            token = self._load(lease.run_id)
        if token != lease.token:
            raise _stale(lease, token)

    def forget(self, run_id: str) -> None:
        """Forget the run's token, because its row is written."""
        self._tokens.pop(run_id, None)

    def forget_all(self) -> None:
        """Forget every token, because any row may have been written or rolled back."""
        self._tokens.clear()

    def _load(self, run_id: str) -> int | None:
        if len(self._tokens) >= REMEMBERED:
            self._tokens.clear()
        found = self._connection.execute(
            f"SELECT attempt, status FROM {visible('runs')} WHERE run_id = ?", (run_id,)
        ).fetchone()
        token: int | None = found[0] if found and found[1] in ACTIVE else None
        self._tokens[run_id] = token
        return token


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
