"""The change that stores an action on an approval: its row, its timer, its events with their copies
in the feed, and its audit entries. Every change of an approval is made here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from msgspec import structs

from assent.approvals.audit_entries import audit_entries
from assent.approvals.feed import with_copies
from assent.approvals.rules import Advanced, next_deadline
from assent.core.approval import Approval
from assent.core.audit import Authentication
from assent.core.events import ApprovalEvent
from assent.core.rows import Row, Timer
from assent.storage.base import Change, together

APPROVAL_TIMER = "approval"
"""The kind of an approval's timer, whose id is the approval's."""


def record(
    before: Approval,
    done: Advanced,
    timer: Timer | None,
    *,
    run_id: str | None = None,
    authentication: Authentication = Authentication.ASSENT,
) -> Change:
    """The change that stores what was done to the approval as it was `before`, and moves its
    `timer`.

    The events belong to the run `run_id`, or else to the one that asked. `authentication` says how
    it is known who acted. An approval that is new has version 0 before.
    """
    after = structs.replace(done.approval, version=before.version + 1)
    rows: list[Row] = [after]
    removed: tuple[Row, ...] = ()
    due_at = next_deadline(after)
    if due_at is None:
        removed = (timer,) if timer else ()
    elif timer is None:
        made = Timer(
            timer_id=after.approval_id,
            kind=APPROVAL_TIMER,
            due_at=due_at,
            thread_id=after.thread_id,
        )
        rows.append(made)
    elif timer.due_at != due_at:
        rows.append(replace(timer, due_at=due_at, version=timer.version + 1))
    stored = Change(rows=tuple(rows), removed=removed)
    reported = report(before, done.events, run_id=run_id, authentication=authentication)
    return together(stored, reported)


def report(
    before: Approval,
    events: Iterable[ApprovalEvent],
    *,
    run_id: str | None = None,
    authentication: Authentication = Authentication.ASSENT,
) -> Change:
    """The events of an approval, for its thread, the feed and the audit chain."""
    if run_id is not None:
        events = [structs.replace(event, run_id=run_id) for event in events]
    events = tuple(events)
    entries = audit_entries(
        events,
        authentication=authentication,
        digest=before.current_digest,
        policy=before.policy_digest,
        tenant=before.tenant,
    )
    return Change(events=with_copies(events, before.tenant), audit=entries)
