"""Pauses between attempts at what cannot be done now."""

from __future__ import annotations

from collections.abc import Iterator

AWAY_FIRST, AWAY_LONGEST = 0.1, 2.0
"""Seconds between two attempts while the storage is away: at first, and at most. Whoever waits goes
on within two seconds of its return."""


def pauses(first: float, longest: float) -> Iterator[float]:
    """Seconds to wait before each next attempt: `first`, then twice as long each time, up to
    `longest`. There is always a next one."""
    pause = first
    while True:
        yield pause
        pause = min(2 * pause, longest)


def pauses_while_away() -> Iterator[float]:
    """Seconds to wait before each next attempt while the storage is away."""
    return pauses(AWAY_FIRST, AWAY_LONGEST)
