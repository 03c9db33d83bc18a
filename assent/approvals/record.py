"""How what happened to an approval is stored. Every change of one goes through `recorded`: its row,
its timer, its events their copies in the feed and their audit entries are one change, and whatever
else is to follow from an approval's events belongs here (`told`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

from assent.approvals.audit import audit_of
from assent.approvals.feed import with_copies
from assent.approvals.rows import question_of, row_of
from assent.approvals.rules import Next, look_again
from assent.core.events import Event
from assent.core.rows import Approval, Authentication, Row, Timer
from assent.storage.base import Change, together

KIND = "approval"
"""The kind of an approval's timer. It has the approval's id."""


def recorded(
    row: Approval,
    done: Next,
    timer: Timer | None,
    *,
    new: bool = False,
    run_id: str | None = None,
    authentication: Authentication = Authentication.ASSENT,
) -> Change:
    """What to store of the approval in this row; `timer` is the one that it has. Its events are
    `run_id`'s, or those of the run that asked. `authentication` is how it is known who did it. A
    row that is `new` has no earlier version."""
    after = row_of(row, done.question)
    rows: list[Row] = [after if new else replace(after, version=row.version + 1)]
    removed: tuple[Row, ...] = ()
    due_at = look_again(done.question)
    if due_at is None:
        removed = (timer,) if timer else ()
    elif timer is None:
        rows.append(
            Timer(timer_id=row.approval_id, kind=KIND, due_at=due_at, thread_id=row.thread_id)
        )
    elif timer.due_at != due_at:
        rows.append(replace(timer, due_at=due_at, version=timer.version + 1))
    return together(
        Change(rows=tuple(rows), removed=removed),
        told(row, done.events, run_id=run_id, authentication=authentication),
    )


def told(
    row: Approval,
    events: Iterable[Event],
    *,
    run_id: str | None = None,
    authentication: Authentication = Authentication.ASSENT,
) -> Change:
    """What is told of what happened to an approval, which stood as in this row: to its thread, to
    the feed, and to the audit chain."""
    question = question_of(row)
    of_run = [
        event if run_id is None else structs.replace(event, run_id=run_id) for event in events
    ]
    audit = audit_of(
        of_run,
        authentication=authentication,
        digest=question.asked_digest,
        policy=row.policy_digest,
    )
    return Change(events=with_copies(of_run), audit=audit)
