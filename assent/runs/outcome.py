"""How a run ends: pure functions from what the graph left to the change that says so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from langgraph.errors import GraphRecursionError
from msgspec import structs

from assent.approvals.audit import audit_of
from assent.checkpoint.contracts import (
    Approval,
    ApprovalKind,
    ApprovalStatus,
    Authentication,
    Change,
    Run,
    RunStatus,
    Thread,
    ThreadStatus,
)
from assent.errors import AssentError
from assent.events import ApprovalRequired, Checkpoint, Done, Error, Event, RunCancelled, RunPaused, ToolUnknown, Usage
from assent.graph.pending import PendingApproval


def approval_row(pending: PendingApproval, run: Run, now: datetime) -> Approval:
    """The question as a row."""
    return Approval(
        approval_id=pending.approval_id,
        thread_id=run.thread_id,
        run_id=run.run_id,
        owner=run.owner,
        agent=run.agent,
        kind=pending.kind,
        status=ApprovalStatus.PENDING,
        requested_at=now,
        digest=pending.digest,
        allowed=pending.allowed,
        tool=pending.tool,
        tool_call_id=pending.tool_call_id,
        message_id=pending.message_id,
        args=pending.args,
        schema=pending.schema,
        preview=pending.preview,
        node=pending.node,
        checkpoint_id=pending.checkpoint_id,
        interrupt_id=pending.interrupt_id,
    )


def paused(
    thread: Thread, run: Run, pending: Sequence[PendingApproval], known: Collection[str], checkpoint: Checkpoint, now: datetime
) -> Change:
    """The run waits for a person. `known` are the approvals that are rows already, from before a crash."""
    # A microsecond apart, so that lists by time keep the order in which the agent asks.
    asked = [approval_row(approval, run, now + timedelta(microseconds=place)) for place, approval in enumerate(pending)]
    new = [row for row in asked if row.approval_id not in known]
    ids = tuple(approval.approval_id for approval in pending)
    events: list[Event] = []
    for row in new:
        if row.kind is ApprovalKind.UNKNOWN_OUTCOME and row.tool:
            events.append(_stamped(ToolUnknown(tool=row.tool, tool_call_id=row.tool_call_id, node=row.node), run, now))
        events.append(
            ApprovalRequired(
                ts=now,
                thread_id=run.thread_id,
                run_id=run.run_id,
                approval_id=row.approval_id,
                kind=row.kind,
                tool=row.tool,
                tool_call_id=row.tool_call_id,
                args=row.args,
                schema=row.schema,
                digest=row.digest,
                allowed=row.allowed,
                preview=row.preview,
                expires_at=row.expires_at,
            )
        )
    events.append(_stamped(checkpoint, run, now))
    events.append(_stamped(RunPaused(approvals=ids, next=checkpoint.next), run, now))
    thread = _stopped(thread, ThreadStatus.INTERRUPTED, checkpoint.checkpoint_id, now, pending=ids)
    audit = audit_of(events, authentication=Authentication.ASSENT)
    return Change(rows=(thread, _ended(run, RunStatus.INTERRUPTED, now), *new), events=tuple(events), audit=audit)


def succeeded(thread: Thread, run: Run, checkpoint: Checkpoint, now: datetime) -> Change:
    """The run came to its end."""
    events = (_stamped(checkpoint, run, now), _stamped(Done(usage=_tokens(run), steps=int(run.usage.get("steps", 0))), run, now))
    thread = _stopped(thread, ThreadStatus.IDLE, checkpoint.checkpoint_id, now)
    return Change(rows=(thread, _ended(run, RunStatus.SUCCESS, now)), events=events)


def failed(thread: Thread, run: Run, error: Exception, node: str, now: datetime) -> Change:
    """The run raised. What is stored and shown names no internals: they are in the server's log."""
    code, message = explain(error, run)
    event = _stamped(Error(code=code, message=message, node=node), run, now)
    thread = _stopped(thread, ThreadStatus.ERROR, thread.checkpoint_id, now)
    return Change(rows=(thread, replace(_ended(run, RunStatus.ERROR, now), error={"code": code, "message": message})), events=(event,))


def stopped(thread: Thread, run: Run, message: str, checkpoint: Checkpoint, now: datetime, *, status: RunStatus) -> Change:
    """The run had used up a budget, and its thread is at rest."""
    error = {"code": "budget_exceeded", "message": message}
    events = (_stamped(checkpoint, run, now), _stamped(Error(code="budget_exceeded", message=message), run, now))
    thread = _stopped(thread, ThreadStatus.ERROR, checkpoint.checkpoint_id, now)
    return Change(rows=(thread, replace(_ended(run, status, now), error=error)), events=events)


def cancelled(thread: Thread, run: Run, checkpoint: Checkpoint | None, now: datetime, *, rolled_back: bool) -> Change:
    """The run was stopped on request, and its thread is at rest. `checkpoint` is None if the thread's agent is not there to say."""
    told = [_stamped(checkpoint, run, now)] if checkpoint else []
    events = (*told, _stamped(RunCancelled(rolled_back=rolled_back), run, now))
    thread = _stopped(thread, ThreadStatus.IDLE, checkpoint.checkpoint_id if checkpoint else thread.checkpoint_id, now)
    return Change(rows=(thread, _ended(run, RunStatus.CANCELLED, now)), events=events)


def explain(error: Exception, run: Run) -> tuple[str, str]:
    """A code for programs and a sentence for people."""
    if isinstance(error, GraphRecursionError):
        return "recursion_limit", "The agent took more steps than a run may take. Ask for less at once, or raise ASSENT_RECURSION_LIMIT."
    if isinstance(error, AssentError):
        return _snake(type(error).__name__), error.message
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return "provider_error", f"The model's provider answered with status {status}. Send the message again to try once more."
    return "agent_error", f"The run failed with {type(error).__name__}. The server's log has the details under the run {run.run_id}."


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _stamped(event: Event, run: Run, now: datetime) -> Event:
    return structs.replace(event, ts=now, thread_id=run.thread_id, run_id=run.run_id)


def _stopped(thread: Thread, status: ThreadStatus, checkpoint_id: str | None, now: datetime, pending: tuple[str, ...] = ()) -> Thread:
    if thread.tampered is not None:
        status = ThreadStatus.ERROR
    return replace(thread, status=status, checkpoint_id=checkpoint_id, pending=pending, updated_at=now, version=thread.version + 1)


def _ended(run: Run, status: RunStatus, now: datetime) -> Run:
    return replace(run, status=status, ended_at=now, worker=None, version=run.version + 1)


def _tokens(run: Run) -> Usage | None:
    counted = {name: int(run.usage.get(name, 0)) for name in ("input_tokens", "output_tokens", "total_tokens")}
    return Usage(**counted) if any(counted.values()) else None
