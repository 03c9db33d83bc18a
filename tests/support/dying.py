"""A server that dies as a decision is stored: what its BEFORE_SERVING may name.

    serving(…, BEFORE_SERVING="tests.support.dying:install", DIES=str(file))

The file says when, "before" the commit or "after" it, and that is once: it is gone then.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from assent.core.events import ApprovalDecided
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage


def install() -> None:
    """Let this process die so."""
    file = Path(os.environ["DIES"])
    commit = SqliteStorage.commit

    async def last(self: SqliteStorage, change: Change) -> tuple[int, ...]:
        decides = any(isinstance(event, ApprovalDecided) for event in change.events)
        moment = taken_from(file) if decides else ""
        if moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        numbers = await commit(self, change)
        if moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return numbers

    SqliteStorage.commit = last  # type: ignore[method-assign]


def taken_from(file: Path) -> str:
    """What the file says, if it is there, and then it is not."""
    if not file.exists():
        return ""
    text = file.read_text()
    file.unlink()
    return text
