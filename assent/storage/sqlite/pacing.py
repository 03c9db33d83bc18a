"""Pacing: while the event loop is busy, commits of pieces of messages are some milliseconds apart,
so that many streams share each.

A commit costs about the same for one piece as for fifty: a flush of the disk, the waits of the
writer's thread for the interpreter, and a turn of the event loop for whoever reads. An idle loop
can afford that for each piece. A busy one takes its time until it sees what was committed; so the
pieces that come meanwhile wait in proportion, and then share a commit.
"""

from __future__ import annotations

PER_LATENESS = 4
"""The seconds from the beginning of one commit of pieces to that of the next, per second that
deliveries take to reach the event loop."""

MOST = 0.008
"""The most that commits of pieces are apart, in seconds, while the event loop is in time."""

JOIN = 0.040
"""The seconds between commits of pieces while the event loop is late. Those of one message that
wait are then joined."""

LATE = 0.020
"""The seconds that deliveries take to reach the event loop from which on it is late. It stays so
until they take a quarter of that."""

MOST_LATE = 2 * LATE
"""The most that one delivery counts for, so that one long stop is not taken for a busy loop."""

WEIGHT = 1 / 8
"""The weight of the newest delivery in the average."""


class Pacing:
    """Says how far apart commits of pieces are.

    `rest` and `begin` are called on the writer's thread, `delivered` on the event loop.
    """

    def __init__(
        self, most: float = MOST, join: float = JOIN, per_lateness: float = PER_LATENESS
    ) -> None:
        self.is_late = False
        self._most = most
        self._join = join
        self._per_lateness = per_lateness
        self._begun = 0.0
        self._lateness = 0.0

    def rest(self, now: float) -> float:
        """The seconds until the next commit of pieces may begin; none after a pause."""
        proportional = min(self._most, self._per_lateness * self._lateness)
        apart = self._join if self.is_late else proportional
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
