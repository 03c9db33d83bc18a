"""Pacing: commits of pieces of messages are some milliseconds apart, so that many streams share
each, and other events that nobody awaits wait a little for their neighbours.

A commit costs about the same for one piece as for fifty: a flush of the disk, the waits of the
writer's thread for the interpreter, and a turn of the event loop for whoever reads. Nobody sees a
word some milliseconds earlier; and a model alone, which is slower than this, is not held at all.
"""

from __future__ import annotations

APART = 0.012
"""The seconds between commits of pieces while the event loop is in time."""

JOIN = 0.040
"""The seconds between commits of pieces while the event loop is late. Those of one message that
wait are then joined."""

LATE = 0.020
"""The seconds that deliveries take to reach the event loop from which on it is late. It stays so
until they take a quarter of that."""

TOGETHER = 0.002
"""The seconds for which other events wait for their neighbours: that of a node, which begins, for
that of the model that it calls."""

MOST_LATE = 2 * LATE
"""The most that one delivery counts for, so that one long stop is not taken for a busy loop."""

WEIGHT = 1 / 8
"""The weight of the newest delivery in the average."""


class Pacing:
    """Says how far apart commits of pieces are.

    `rest` and `begin` are called on the writer's thread, `delivered` on the event loop.
    """

    def __init__(
        self, apart: float = APART, join: float = JOIN, together: float = TOGETHER
    ) -> None:
        self.is_late = False
        self.together = together
        self._apart = apart
        self._join = join
        self._begun = 0.0
        self._lateness = 0.0

    def rest(self, now: float) -> float:
        """The seconds until the next commit of pieces may begin; none after a pause."""
        apart = self._join if self.is_late else self._apart
        return max(self._begun + apart - now, 0.0)

    def begin(self, now: float) -> None:
        """Note that a commit of pieces begins."""
        self._begun = now

    def delivered(self, lateness: float) -> None:
        """Note how many seconds after its commit a delivery has reached the event loop."""
        self._lateness += WEIGHT * (min(lateness, MOST_LATE) - self._lateness)
        if self._lateness > LATE:
            self.is_late = True
        elif self._lateness < LATE / 4:
            self.is_late = False
