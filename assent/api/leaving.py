"""Clients that leave before their run has ended."""

from __future__ import annotations

from fastapi import Request

from assent.api.access.authorizing import identity_of
from assent.api.deps import runs_by_right
from assent.api.streams.sse import WhenGone
from assent.core.access import Right
from assent.core.audit import Actor
from assent.core.errors import Conflict, NotFound
from assent.core.rows import UNFINISHED, Run


def cancelling(request: Request, run: Run, by: Actor) -> WhenGone | None:
    """Cancels the run, or the one that goes on behind it, if its sender may stop it; None if not,
    and for whoever has a ticket, which is for reading."""
    identity = identity_of(request)
    if Right.STOP not in identity.rights or identity.credential.kind == "ticket":
        return None
    runs = runs_by_right(request, Right.STOP)

    async def cancel() -> None:
        last = await runs.storage.run(run.run_id)
        while last is not None and last.next_run is not None:
            last = await runs.storage.run(last.next_run)
        if last is None or last.status not in UNFINISHED:
            return
        try:
            await runs.cancel_run(last.run_id, by)
        except (Conflict, NotFound):
            # It has ended by itself.
            return

    return cancel
