"""A clock that stands until a test moves it."""

from __future__ import annotations

from datetime import timedelta

from assent.core.clock import Clock
from tests.storage.samples import NOON


class ManualClock:
    """A `clock` that shows the `time`, which a test may set, and the seconds that have `passed`,
    which nobody sets."""

    def __init__(self) -> None:
        self.time = NOON
        self.passed = 0.0
        self.clock = Clock(now=lambda: self.time)

    def wait(self, time: timedelta) -> None:
        """Let time pass."""
        self.time += time
        self.passed += time.total_seconds()
