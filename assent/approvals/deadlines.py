"""What time does to approvals: reminders, escalations and expiries, each once, never early, and
however often the server was restarted.

A pending approval has one timer, which stands at the next moment at which time does something to
it, and is written with the approval in each of its changes. When it is due, the rules are asked
what time has done, as they are asked about a decision; so of a decision and a deadline at the same
moment one comes first.
"""

from __future__ import annotations

from assent.approvals.decide import Decided, Desk, pending_of, store
from assent.approvals.rows import question_of
from assent.approvals.rules import Look, Question, advance, look_again
from assent.core.errors import Conflict
from assent.core.rows import ApprovalStatus, Timer
from assent.storage.base import Change, Storage


async def look(desk: Desk, approval_id: str) -> Decided | None:
    """See what time has done to the approval, and store that. None if it has done nothing."""
    storage = desk.storage
    while True:
        timer, approval = await storage.timer(approval_id), await storage.approval(approval_id)
        thread = await storage.thread(approval.thread_id) if approval is not None else None
        if approval is None or thread is None or approval.status is not ApprovalStatus.PENDING:
            if timer is None or await _removed(storage, timer):
                return None
            continue
        done = advance(question_of(approval), Look(), desk.clock.now())
        if not done.events and _stands(timer, done.question):
            return None
        pending = await pending_of(storage, thread)
        if decided := await store(desk, thread, pending, [(approval, done)]):
            return decided


def _stands(timer: Timer | None, question: Question) -> bool:
    """Whether the timer is where it should be."""
    return (timer.due_at if timer else None) == look_again(question)


async def _removed(storage: Storage, timer: Timer) -> bool:
    try:
        await storage.commit(Change(removed=(timer,)))
    except Conflict:
        return False
    return True
