"""Pauses between attempts at what cannot be done now."""

from __future__ import annotations

from collections.abc import Iterator


def pauses(first: float, longest: float) -> Iterator[float]:
    """Seconds to wait before each next attempt: `first`, then twice as long each time, up to
    `longest`. There is always a next one."""
    pause = first
    while True:
        yield pause
        pause = min(2 * pause, longest)
