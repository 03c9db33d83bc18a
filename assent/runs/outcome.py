"""The end of a run: pure functions from what the graph left to the change that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from msgspec import structs

from assent.approvals.ask import ask_all, new_approval
from assent.approvals.decide import going_on
from assent.approvals.grants import WhyNoVote
from assent.approvals.requesters import each_once
from assent.core.approval import Approval, ApprovalKind
from assent.core.events import (
    Done,
    Error,
    Event,
    Interrupt,
    RunCancelled,
    RunPaused,
    ToolUnknown,
    Usage,
)
from assent.core.grant import Grant
from assent.core.rows import Run, RunStatus, Thread, ThreadStatus
from assent.core.run_input import given_in
from assent.graph.explain import explain as explain_error
from assent.graph.state import Head
from assent.storage.base import Change, together


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedUnder:
    """The circumstances of a pause: the last turn of the `conversation` for people to read, the
    standing `grants` that could answer, the reason why one of them does not any more, and the id of
    the run that goes on if they answer all."""

    conversation: Mapping[str, str] = field(default_factory=dict)
    grants: Sequence[Grant] = ()
    why_no_vote: WhyNoVote = lambda grant, approval: ""
    next_run: str = ""


def paused(
    thread: Thread,
    run: Run,
    pending: Sequence[Approval],
    head: Head,
    now: datetime,
    under: AskedUnder = AskedUnder(),
    interrupts: Sequence[Interrupt] = (),
) -> Change:
    """The run waits for a person. What standing grants answer is decided at once; if that is all,
    another run goes on. The `interrupts` of the graph's code are told as it made them."""
    new: list[Approval] = []
    for place, found in enumerate(pending):
        # A microsecond apart, so that lists by time keep the order in which the agent asks.
        at = now + timedelta(microseconds=place)
        new.append(new_approval(found, run, at, under.conversation))
    asked, used_grants = ask_all(new, under.grants, under.why_no_vote)

    ids = tuple(approval.approval_id for approval in pending)
    answered = {each.approval.approval_id for each in asked if not each.voted.approval.is_pending}
    left = tuple(id for id in ids if id not in answered)
    lost: list[Event] = []
    for each in new:
        if each.kind is ApprovalKind.UNKNOWN_OUTCOME and each.tool:
            event = ToolUnknown(tool=each.tool, tool_call_id=each.tool_call_id, node=each.node)
            lost.append(event)
    stopped = _stopped(thread, ThreadStatus.INTERRUPTED, head.checkpoint_id, now, pending=left)
    ended = _ended(run, RunStatus.INTERRUPTED, now)
    if not left:
        ended = replace(ended, next_run=under.next_run)
    pauses = RunPaused(approvals=left or ids, next=head.next, next_run=ended.next_run or "")

    asks = together(
        Change(events=_stamped(run, now, *lost)),
        *(each.change(with_votes=bool(left)) for each in asked),
        Change(rows=used_grants, events=_stamped(run, now, *interrupts, pauses)),
    )
    if left:
        return together(Change(rows=(stopped, ended)), asks)
    busy, resuming, resumed = going_on(
        stopped,
        ended,
        ids,
        now,
        under.next_run,
        inherited=given_in(run.input).inherited(),
        trace=run.trace,
    )
    return together(
        Change(rows=(busy, ended, resuming)),
        asks,
        *(each.votes(resuming.run_id) for each in asked),
        Change(events=(resumed,)),
    )


def succeeded(thread: Thread, run: Run, head: Head, now: datetime) -> Change:
    """The run came to its end."""
    done = Done(usage=_tokens(run), steps=int(run.usage.get("steps", 0)))
    return _change(thread, run, ThreadStatus.IDLE, RunStatus.SUCCESS, head, done, now)


def failed(thread: Thread, run: Run, code: str, message: str, node: str, now: datetime) -> Change:
    """The run raised. The `message` is shown to clients, so it names no internals: they are in the
    server's log."""
    run = replace(run, error={"code": code, "message": message})
    event = Error(code=code, message=message, node=node)
    return _change(thread, run, ThreadStatus.ERROR, RunStatus.ERROR, None, event, now)


def stopped(
    thread: Thread,
    run: Run,
    message: str,
    head: Head,
    now: datetime,
    *,
    status: RunStatus,
) -> Change:
    """The run had used up a budget, and its thread is at rest."""
    run = replace(run, error={"code": "budget_exceeded", "message": message})
    event = Error(code="budget_exceeded", message=message)
    return _change(thread, run, ThreadStatus.ERROR, status, head, event, now)


def cancelled(thread: Thread, run: Run, head: Head, now: datetime, *, rolled_back: bool) -> Change:
    """The run was stopped on request, and its thread is at rest."""
    run = replace(run, error=None)
    if rolled_back:
        # Among them is now who asked for it.
        requesters = each_once(thread.requested_by, run.requested_by)
        thread = replace(thread, requested_by=requesters)
    event = RunCancelled(rolled_back=rolled_back)
    return _change(thread, run, ThreadStatus.IDLE, RunStatus.CANCELLED, head, event, now)


def explain(error: BaseException, run: Run) -> tuple[str, str]:
    """A code for programs and a sentence for people."""
    code, message = explain_error(error)
    if code == "agent_error":
        message += f" The server's log has the details under the run {run.run_id}."
    return code, message


def _change(
    thread: Thread,
    run: Run,
    thread_status: ThreadStatus,
    run_status: RunStatus,
    head: Head | None,
    last: Event,
    now: datetime,
) -> Change:
    """The rows of a run that ended and of its thread, with the run's last event."""
    checkpoint_id = head.checkpoint_id if head else thread.checkpoint_id
    rows = (_stopped(thread, thread_status, checkpoint_id, now), _ended(run, run_status, now))
    return Change(rows=rows, events=_stamped(run, now, last))


def _stamped(run: Run, now: datetime, *events: Event) -> tuple[Event, ...]:
    return tuple(
        structs.replace(event, ts=now, thread_id=run.thread_id, run_id=run.run_id)
        for event in events
    )


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
    counted = {name: int(run.usage.get(name, 0)) for name in Usage.__struct_fields__}
    return Usage(**counted) if any(counted.values()) else None
