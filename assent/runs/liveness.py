"""Which workers live: measured here, and not read off a clock that somebody may set."""

from __future__ import annotations

from collections.abc import Mapping

LONGEST_STEP = 2.0
"""The most seconds that count between two looks: twice the time between them. What is beyond that
is a stall of this process, which the others may have shared, and says nothing against them."""


class Watch:
    """Measures for how long each worker has been silent.

    A worker shows that it lives by counting its heartbeats. The watch compares two looks at the
    counts, and measures the time between them by a clock of its own process that never steps. So no
    two clocks are ever compared, and a step of any of them does no harm.
    """

    def __init__(self, patience: float) -> None:
        """A worker is silent if its count has not changed for `patience` seconds."""
        self._patience = patience
        self._watched = 0.0
        self._looked_at: float | None = None
        self._changes: dict[str, tuple[int, float]] = {}

    def silent(self, heartbeats: Mapping[str, int], now: float) -> list[str]:
        """Take a look at the workers' heartbeats at the time `now`; return the silent workers."""
        if self._looked_at is not None:
            self._watched += min(now - self._looked_at, LONGEST_STEP)
        self._looked_at = now
        changes: dict[str, tuple[int, float]] = {}
        for worker, count in heartbeats.items():
            last_count, changed_at = self._changes.get(worker, (None, 0.0))
            changes[worker] = (count, changed_at if count == last_count else self._watched)
        self._changes = changes
        return [
            worker
            for worker, (_, changed_at) in changes.items()
            if self._watched - changed_at >= self._patience
        ]
