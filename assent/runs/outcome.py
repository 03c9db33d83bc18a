"""How a run ends: pure functions from what the graph left to the change that says so."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from assent.approvals.ask import put_all, under_policy
from assent.approvals.decide import going_on
from assent.approvals.record import told
from assent.core.events import (
    Checkpoint,
    Done,
    Error,
    Event,
    RunCancelled,
    RunPaused,
    ToolUnknown,
    Usage,
)
from assent.core.policy import Policy, PolicyBook
from assent.core.rows import (
    Approval,
    ApprovalKind,
    ApprovalStatus,
    Run,
    RunStatus,
    StandingGrant,
    Thread,
    ThreadStatus,
)
from assent.graph import failures
from assent.graph.interrupts.resume import PendingApproval
from assent.storage.base import Change, together


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedUnder:
    """Under what a pause asks: the operator's `policies`, what people are `shown` of the
    conversation, the standing `grants` that could answer, and the id of the run that goes on if
    they answer all."""

    policies: PolicyBook = field(default_factory=PolicyBook)
    shown: Mapping[str, Any] = field(default_factory=dict)
    grants: Sequence[StandingGrant] = ()
    next_run: str = ""


def approval_row(pending: PendingApproval, run: Run, now: datetime, under: AskedUnder) -> Approval:
    """The question as a row. Raises `ConfigurationError` if the operator's policies and the agent's
    do not go together."""
    policy = under.policies.policy(run.agent, pending.tool, pending.policy)
    row = Approval(
        approval_id=pending.approval_id,
        thread_id=run.thread_id,
        run_id=run.run_id,
        owner=run.owner,
        agent=run.agent,
        kind=pending.kind,
        status=ApprovalStatus.PENDING,
        requested_at=now,
        requested_by=run.owner,
        digest=pending.digest,
        allowed=_allowed(pending, policy),
        tool=pending.tool,
        tool_call_id=pending.tool_call_id,
        message_id=pending.message_id,
        args=pending.args,
        schema=pending.schema,
        preview=pending.preview,
        node=pending.node,
        checkpoint_id=pending.checkpoint_id,
        interrupt_id=pending.interrupt_id,
        shown=under.shown,
    )
    return under_policy(row, policy)


def _allowed(pending: PendingApproval, policy: Policy) -> tuple[str, ...]:
    """A call of our own gate takes what its policy allows. A graph's own question takes what it
    takes, and of that what the policy allows, unless that would leave nothing to say no with."""
    if pending.policy is not None:
        return policy.allowed
    both = tuple(each for each in pending.allowed if each in policy.allowed)
    return both if {"reject", "respond"} & set(both) else pending.allowed


def paused(
    thread: Thread,
    run: Run,
    pending: Sequence[PendingApproval],
    known: Collection[str],
    checkpoint: Checkpoint,
    now: datetime,
    under: AskedUnder = AskedUnder(),
) -> Change:
    """The run waits for a person. `known` are the approvals that are rows already, from before a
    crash.

    What standing grants answer is decided at once; if that is all, another run goes on.
    """
    # A microsecond apart, so that lists by time keep the order in which the agent asks.
    new = [
        approval_row(approval, run, now + timedelta(microseconds=place), under)
        for place, approval in enumerate(pending)
        if approval.approval_id not in known
    ]
    asked, uses = put_all(new, under.grants)
    over = {each.row.approval_id for each in asked if not each.question.is_pending}
    ids = tuple(approval.approval_id for approval in pending)
    left = tuple(id for id in ids if id not in over)
    lost = tuple(
        _stamped(_unknown(row), run, now)
        for row in new
        if row.kind is ApprovalKind.UNKNOWN_OUTCOME and row.tool
    )
    put = [each.change(with_cast=bool(left)) for each in asked]
    ended = Change(
        events=(
            _stamped(checkpoint, run, now),
            _stamped(RunPaused(approvals=left or ids, next=checkpoint.next), run, now),
        )
    )
    stopped = _stopped(
        thread, ThreadStatus.INTERRUPTED, checkpoint.checkpoint_id, now, pending=left
    )
    run = _ended(run, RunStatus.INTERRUPTED, now)
    if left:
        return together(Change(rows=(stopped, run), events=lost), *put, uses, ended)
    busy, goes_on, resumed = going_on(stopped, run, ids, now, under.next_run)
    decided = [told(each.row, each.cast, run_id=goes_on.run_id) for each in asked]
    return together(
        Change(rows=(busy, run, goes_on), events=lost),
        *put,
        uses,
        ended,
        *decided,
        Change(events=(resumed,)),
    )


def _unknown(row: Approval) -> ToolUnknown:
    return ToolUnknown(tool=row.tool, tool_call_id=row.tool_call_id, node=row.node)


def succeeded(thread: Thread, run: Run, checkpoint: Checkpoint, now: datetime) -> Change:
    """The run came to its end."""
    events = (
        _stamped(checkpoint, run, now),
        _stamped(Done(usage=_tokens(run), steps=int(run.usage.get("steps", 0))), run, now),
    )
    thread = _stopped(thread, ThreadStatus.IDLE, checkpoint.checkpoint_id, now)
    return Change(rows=(thread, _ended(run, RunStatus.SUCCESS, now)), events=events)


def failed(thread: Thread, run: Run, code: str, message: str, node: str, now: datetime) -> Change:
    """The run raised. What is stored and shown, as `explain` has it, names no internals: they are
    in the server's log."""
    event = _stamped(Error(code=code, message=message, node=node), run, now)
    thread = _stopped(thread, ThreadStatus.ERROR, thread.checkpoint_id, now)
    return Change(
        rows=(
            thread,
            replace(_ended(run, RunStatus.ERROR, now), error={"code": code, "message": message}),
        ),
        events=(event,),
    )


def stopped(
    thread: Thread,
    run: Run,
    message: str,
    checkpoint: Checkpoint,
    now: datetime,
    *,
    status: RunStatus,
) -> Change:
    """The run had used up a budget, and its thread is at rest."""
    error = {"code": "budget_exceeded", "message": message}
    events = (
        _stamped(checkpoint, run, now),
        _stamped(Error(code="budget_exceeded", message=message), run, now),
    )
    thread = _stopped(thread, ThreadStatus.ERROR, checkpoint.checkpoint_id, now)
    return Change(rows=(thread, replace(_ended(run, status, now), error=error)), events=events)


def cancelled(
    thread: Thread, run: Run, checkpoint: Checkpoint | None, now: datetime, *, rolled_back: bool
) -> Change:
    """The run was stopped on request, and its thread is at rest. `checkpoint` is None if the
    thread's agent is not there to say."""
    told = [_stamped(checkpoint, run, now)] if checkpoint else []
    events = (*told, _stamped(RunCancelled(rolled_back=rolled_back), run, now))
    thread = _stopped(
        thread,
        ThreadStatus.IDLE,
        checkpoint.checkpoint_id if checkpoint else thread.checkpoint_id,
        now,
    )
    return Change(
        rows=(thread, replace(_ended(run, RunStatus.CANCELLED, now), error=None)), events=events
    )


def explain(error: Exception, run: Run) -> tuple[str, str]:
    """A code for programs and a sentence for people."""
    code, message = failures.explain(error)
    if code == "agent_error":
        message += f" The server's log has the details under the run {run.run_id}."
    return code, message


def _stamped(event: Event, run: Run, now: datetime) -> Event:
    return structs.replace(event, ts=now, thread_id=run.thread_id, run_id=run.run_id)


def _stopped(
    thread: Thread,
    status: ThreadStatus,
    checkpoint_id: str | None,
    now: datetime,
    pending: tuple[str, ...] = (),
) -> Thread:
    if thread.tampered is not None:
        status = ThreadStatus.ERROR
    return replace(
        thread,
        status=status,
        checkpoint_id=checkpoint_id,
        pending=pending,
        updated_at=now,
        version=thread.version + 1,
    )


def _ended(run: Run, status: RunStatus, now: datetime) -> Run:
    return replace(run, status=status, ended_at=now, worker=None, version=run.version + 1)


def _tokens(run: Run) -> Usage | None:
    counted = {
        name: int(run.usage.get(name, 0))
        for name in ("input_tokens", "output_tokens", "total_tokens")
    }
    return Usage(**counted) if any(counted.values()) else None
