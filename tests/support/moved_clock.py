"""The clock of a server process, moved by a test: what a server's BEFORE_SERVING may name.

    serving(…, BEFORE_SERVING="tests.support.moved_clock:install", CLOCK=str(file))

The file has the seconds that are added to the machine's time; without the file, none are. Only the
time of day moves, as when somebody sets it, and the ids that are made of it: what measures how much
time passes is left alone.
"""

from __future__ import annotations

import os
import time
from datetime import datetime, tzinfo
from pathlib import Path

import uuid_utils


def install() -> None:
    """Give the process that clock: also to LangGraph, whose checkpoints have times and ids."""
    from langgraph.pregel import _checkpoint

    from assent.core import clock

    file = Path(os.environ["CLOCK"])
    time_ns, uuid7 = time.time_ns, uuid_utils.uuid7

    def moved_ns() -> int:
        try:
            seconds = float(file.read_text())
        except FileNotFoundError:
            seconds = 0.0
        return time_ns() + round(seconds * 1e9)

    def moved() -> float:
        return moved_ns() / 1e9

    class Moved(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(moved(), tz)

    time.time, time.time_ns = moved, moved_ns
    uuid_utils.uuid7 = lambda: uuid7(*divmod(moved_ns(), 10**9))  # type: ignore[assignment, misc]
    for module in (clock, _checkpoint):
        module.datetime = Moved  # type: ignore[attr-defined]


def move(file: Path, seconds: float) -> None:
    """Set the clock that reads this file to so many seconds from the machine's time."""
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(file)
