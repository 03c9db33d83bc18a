"""The clock of a server process, moved by a test: what a server's BEFORE_SERVING may name.

    serving(…, BEFORE_SERVING="tests.support.moved_clock:install", CLOCK=str(file))

The file has the seconds that are added to the machine's time; without the file, none are. Only the
time of day moves, as when somebody sets it: what measures how much time passes is left alone.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from assent.core.clock import Clock, utc_now


def install() -> None:
    """Give the server that clock."""
    from assent.api import app

    app.Clock = lambda: Clock(now=moved_now)  # type: ignore[misc, assignment]


def move(file: Path, seconds: float) -> None:
    """Set the clock that reads this file to so many seconds from the machine's time."""
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(file)


def moved_now() -> datetime:
    """The machine's time, and the seconds in the file."""
    try:
        seconds = float(Path(os.environ["CLOCK"]).read_text())
    except FileNotFoundError:
        seconds = 0.0
    return utc_now() + timedelta(seconds=seconds)
