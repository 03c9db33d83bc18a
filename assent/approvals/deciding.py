"""What a decision means: rows, events and, when nothing of the pause is left to decide, the run that goes on. All of it, or none.

`deciding` is a pure function from what was read to a change. `decide` reads, asks it, commits, and does so again when somebody else was
faster: then the approval is no longer pending, and the caller learns who decided what, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from assent.approvals.audit import audit_of
from assent.checkpoint.contracts import (
    Approval,
    ApprovalStatus,
    AuditEntry,
    Authentication,
    Change,
    Run,
    RunKind,
    RunStatus,
    Storage,
    Thread,
    ThreadStatus,
)
from assent.clock import Clock
from assent.decisions import Approve, Decision, Edit, Reject, Respond, check_allowed, decision_to_json, decision_type, match_decisions
from assent.errors import AlreadyDecided, Conflict, NotFound, NothingPending, Tampered
from assent.events import ApprovalDecided, Event, RunResumed

STATUS_AFTER = {
    Approve: ApprovalStatus.APPROVED,
    Edit: ApprovalStatus.EDITED,
    Reject: ApprovalStatus.REJECTED,
    Respond: ApprovalStatus.RESPONDED,
}

Check = Callable[[Approval, Decision], None]
"""Raises `InvalidDecision` if the approval does not take the decision: what only the agent knows, such as a tool's arguments."""


Reading = Callable[[Sequence[Approval]], Mapping[str, Decision]]
"""Reads an answer as decisions by id, given what is pending. Raises what `match_decisions` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What somebody decided: `decisions` by approval id or tool call id, or one for the only pending approval, or one `for_all`; or what
    tells them once it is known what is pending.

    `message` is added to the conversation as the person's words when the run goes on. `authentication` is how it is known that it was he.
    """

    decisions: Mapping[str, Decision] | Decision | Reading
    by: str
    for_all: bool = False
    message: str = ""
    authentication: Authentication = Authentication.LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What came of it: the approvals decided now, the ids still pending, the run that goes on (None while any is pending), the thread's row
    then, and the number of the first event that tells of it."""

    approvals: tuple[Approval, ...]
    pending: tuple[str, ...]
    run: Run | None
    thread: Thread
    first_seq: int = 0


async def decide(storage: Storage, clock: Clock, thread_id: str, verdict: Verdict, check: Check, *, worker: str | None = None) -> Decided:
    """Decide. The run that goes on is `worker`'s, and running; without one it waits for one. Raises `NotFound`, `AlreadyDecided`,
    `InvalidDecision` or `Tampered`, and then nothing was changed."""
    while True:
        thread = await storage.thread(thread_id)
        if thread is None:
            raise NotFound(f"There is no thread '{thread_id}'.")
        if thread.tampered is not None:
            raise Tampered(thread.tampered, thread_id=thread_id)
        pending = await pending_of(storage, thread)
        try:
            decisions = verdict.decisions(pending) if callable(verdict.decisions) else verdict.decisions
            matched = match_decisions(pending, decisions, for_all=verdict.for_all)
        except (NotFound, NothingPending) as error:
            raise await _no_longer_pending(storage, thread_id, error.details.get("key")) or error from None
        for approval, decision in matched:
            check_allowed(decision, approval.approval_id, approval.allowed)
            check(approval, decision)
        change, decided = deciding(thread, pending, matched, verdict, clock.now(), clock.new_id(), worker)
        try:
            numbers = await storage.commit(change)
        except Conflict:
            continue
        return replace(decided, first_seq=numbers[0])


async def pending_of(storage: Storage, thread: Thread) -> list[Approval]:
    """The approvals that the thread waits for, in the order in which they were asked."""
    return [approval for id in thread.pending if (approval := await storage.approval(id)) is not None]


def deciding(
    thread: Thread,
    pending: Sequence[Approval],
    matched: Sequence[tuple[Approval, Decision]],
    verdict: Verdict,
    now: datetime,
    new_run_id: str,
    worker: str | None = None,
) -> tuple[Change, Decided]:
    """The change that these decisions make to a thread whose pending approvals are `pending`."""
    approvals = tuple(
        replace(
            approval,
            status=STATUS_AFTER[type(decision)],
            decision=decision_to_json(decision),
            decided_by=verdict.by,
            decided_at=now,
            version=approval.version + 1,
        )
        for approval, decision in matched
    )
    done = {approval.approval_id for approval in approvals}
    left = tuple(approval.approval_id for approval in pending if approval.approval_id not in done)
    paused = approvals[0]
    run_id = new_run_id if not left else paused.run_id
    events: list[Event] = [
        _decided_event(approval, decision, run_id, verdict.by, now) for approval, (_, decision) in zip(approvals, matched, strict=True)
    ]
    audit = tuple(_audited(approval, event, verdict) for approval, event in zip(approvals, events, strict=True))
    thread = replace(thread, pending=left, updated_at=now, version=thread.version + 1)
    if left:
        return Change(rows=(thread, *approvals), events=tuple(events), audit=audit), Decided(
            approvals=approvals, pending=left, run=None, thread=thread
        )
    run = Run(
        run_id=run_id,
        thread_id=thread.thread_id,
        owner=thread.owner,
        agent=paused.agent,
        kind=RunKind.RESUME,
        status=RunStatus.RUNNING if worker else RunStatus.PENDING,
        worker=worker,
        attempt=1 if worker else 0,
        input={"paused_run": paused.run_id, **({"message": verdict.message} if verdict.message else {})},
        created_at=now,
        started_at=now if worker else None,
    )
    thread = replace(thread, status=ThreadStatus.BUSY, run_id=run_id)
    events.append(
        RunResumed(ts=now, thread_id=thread.thread_id, run_id=run_id, agent=run.agent, approvals=tuple(a.approval_id for a in approvals))
    )
    return Change(rows=(thread, *approvals, run), events=tuple(events), audit=audit), Decided(
        approvals=approvals, pending=(), run=run, thread=thread
    )


def _audited(approval: Approval, event: Event, verdict: Verdict) -> AuditEntry:
    (entry,) = audit_of([event], authentication=verdict.authentication, digest=approval.digest)
    return entry


def _decided_event(approval: Approval, decision: Decision, run_id: str, by: str, now: datetime) -> ApprovalDecided:
    said: dict[str, Any] = decision_to_json(decision)
    return ApprovalDecided(
        ts=now,
        thread_id=approval.thread_id,
        run_id=run_id,
        approval_id=approval.approval_id,
        kind=approval.kind,
        tool=approval.tool,
        tool_call_id=approval.tool_call_id,
        decision=decision_type(decision),
        by=by,
        args=said.get("args"),
        message=said.get("message"),
    )


async def _no_longer_pending(storage: Storage, thread_id: str, key: str | None) -> AlreadyDecided | None:
    """Who decided what the caller meant: the approval with this id, or of this tool call or interrupt; or the newest one."""
    past = [a for a in await _all_approvals(storage, thread_id) if key is None or key in (a.approval_id, a.tool_call_id, a.interrupt_id)]
    return already_decided(past[-1]) if past else None


async def _all_approvals(storage: Storage, thread_id: str) -> list[Approval]:
    rows: list[Approval] = []
    cursor: str | None = None
    while True:
        page = await storage.approvals(thread_id=thread_id, cursor=cursor)
        rows.extend(page.rows)
        cursor = page.next
        if cursor is None:
            return rows


def already_decided(approval: Approval) -> AlreadyDecided:
    """Who decided what, and when."""
    decided_at = approval.decided_at.isoformat() if approval.decided_at else None
    who = approval.decided_by or "Assent"
    return AlreadyDecided(
        f"The approval {approval.approval_id} is no longer pending: {who} made it '{approval.status}' at {decided_at}.",
        approval_id=approval.approval_id,
        outcome=approval.status,
        decided_by=approval.decided_by,
        decision=approval.decision,
        decided_at=decided_at,
    )
