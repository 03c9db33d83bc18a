"""Who may write for a run, as the writer's thread sees it: asked with every event and every
checkpoint, so it is kept in memory.

What is kept never outlives what it was read from: a run is forgotten by whoever writes its row
(`forget`), and all are when anything is rolled back.
"""

from __future__ import annotations

import sqlite3

from assent.core.errors import StaleLease
from assent.core.rows import ACTIVE, Lease

REMEMBERED = 10_000
"""Of how many runs the token is kept in memory; the file has them all."""

_ACTIVE = frozenset(str(status.value) for status in ACTIVE)


class Leases:
    """The token that holds for each run, inside one transaction after another. Used by the writer's
    thread only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._tokens: dict[str, int | None] = {}

    def check(self, lease: Lease | None) -> None:
        """Raises `StaleLease` unless the run is active, and was last given out with this token.
        None needs no check."""
        if lease is None:
            return
        try:
            token = self._tokens[lease.run_id]
        except KeyError:
            token = self._load(lease.run_id)
        if token != lease.token:
            raise _stale(lease, token)

    def forget(self, run_id: str) -> None:
        """The run's row is written."""
        self._tokens.pop(run_id, None)

    def forget_all(self) -> None:
        """Any row may have been written, or be again as it was before."""
        self._tokens.clear()

    def _load(self, run_id: str) -> int | None:
        if len(self._tokens) >= REMEMBERED:
            self._tokens.clear()
        found = self._connection.execute(
            "SELECT attempt, status FROM runs WHERE run_id = ?", (run_id,)
        ).fetchone()
        token: int | None = found[0] if found and found[1] in _ACTIVE else None
        self._tokens[run_id] = token
        return token


def _stale(lease: Lease, token: int | None) -> StaleLease:
    if token is None:
        message = f"The run '{lease.run_id}' has ended, or waits to be given to a worker: nothing more is stored for it. Let go of it."
    else:
        message = (
            f"The run '{lease.run_id}' was given to another worker, for its attempt {token}: nothing of the attempt {lease.token} is "
            "stored any more. Let go of it."
        )
    return StaleLease(message, run_id=lease.run_id, token=lease.token, holds=token)
