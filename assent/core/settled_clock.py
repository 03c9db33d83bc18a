"""The time to judge age by, where a clock that was set for a while must do no harm."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta


class SettledClock:
    """A clock that nobody has set forward for some `seconds`.

    It compares the time of day with a clock of this process that never steps. Of what the time of
    day was, by that, at each look within those seconds, the earliest counts. So a step back counts
    at once, and a step forward only when it has lasted. Until it has looked for that long, it has
    no time.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._seconds = seconds
        self._monotonic = monotonic
        self._looks: deque[tuple[float, datetime]] = deque()

    def look(self) -> datetime | None:
        """Look at the clock, and return the settled time, if there is one."""
        passed = self._monotonic()
        zero = self._now() - timedelta(seconds=passed)
        self._looks.append((passed, zero))
        begins = passed - self._seconds
        # The last look before those seconds says what the time was as they began.
        while len(self._looks) > 1 and self._looks[1][0] <= begins:
            self._looks.popleft()
        if self._looks[0][0] > begins:
            return None
        return min(zero for _, zero in self._looks) + timedelta(seconds=passed)
