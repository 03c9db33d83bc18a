"""A server that dies as something is stored: what its BEFORE_SERVING may name.

    serving(…, BEFORE_SERVING="tests.support.dying:install", DIES=str(file))

The file says when, "before" the commit or "after" it, and that is once: it is gone then. The commit
is that of a decision, or the first one that the file names: with a row or an event of a class, as in
"before RunStart", a row that is removed, as in "after -Session", or a thread, as in "after erase".
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage


def install() -> None:
    """Let this process die so."""
    file = Path(os.environ["DIES"])
    commit = SqliteStorage.commit

    async def last(self: SqliteStorage, change: Change) -> tuple[int, ...]:
        moment = taken_from(file, change)
        if moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        numbers = await commit(self, change)
        if moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return numbers

    SqliteStorage.commit = last  # type: ignore[method-assign]


def taken_from(file: Path, change: Change) -> str:
    """The moment that the file says, if it is there and means this change, and then it is not."""
    if not file.exists():
        return ""
    moment, _, meant = file.read_text().partition(" ")
    stored = {type(each).__name__ for each in (*change.rows, *change.events)}
    stored |= {f"-{type(row).__name__}" for row in change.removed}
    stored |= {"erase"} if change.erase is not None else set()
    if (meant or "ApprovalDecided") not in stored:
        return ""
    file.unlink()
    return moment
