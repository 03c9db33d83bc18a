"""From one state of a run to the next: pure functions from the rows that were read to the change
that moves them.

    (new) ──> pending ──> running ──> success | error | timeout | interrupted (by a question)
                 │           ├──> cancelling ──> cancelled
                 │           └──> running, taken over from a worker that is gone: the next attempt
                 └──> cancelled

How a run ends is said in `outcome`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from msgspec import structs

from assent.approvals.idempotency import Key
from assent.approvals.record import record
from assent.approvals.requesters import each_once
from assent.approvals.rules import Cancel, advance
from assent.core.access import Owner
from assent.core.approval import Approval
from assent.core.assistants import assistant_in
from assent.core.audit import Actor, AuditAction, AuditEntry, Authentication
from assent.core.events import Event, RunCancelled, RunRecovered, RunStart
from assent.core.json import JsonObject
from assent.core.rows import (
    CancelMode,
    Row,
    Run,
    RunKind,
    RunStatus,
    Thread,
    ThreadStatus,
    Timer,
)
from assent.core.run_input import RunInput, given_in
from assent.core.titles import title_from, with_title
from assent.runs.engine import RecoveryState
from assent.storage.base import Change, together

MAX_RECOVERIES = 3
"""The most recoveries of a run in a row at the same checkpoint. A run that crashes its process
there each time would do so for ever."""

OnBusy = Literal["reject", "enqueue", "interrupt", "rollback"]
IfPaused = Literal["refuse", "reject", "wait", "cancel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """New input for a thread. `thread_id` None makes a new one. An `assistant_id` is in place of an
    agent: the name of one, its id as an assistant, or that of an `Assistant`, which has settings of
    its own.

    `given` is empty only with a `checkpoint_id`, a state of the thread's past to go on from: then
    the graph goes on there by itself. `if_paused="reject"` rejects what is pending, for the message
    as reason; `wait` leaves it, and goes when it was decided and has run; `cancel` cancels it, and
    then takes the input. `on_busy` says what to do while a run is active or waits its turn:
    `reject` refuses, `enqueue` waits behind it, `interrupt` cancels it and `rollback` also undoes
    what it did to the thread's state; then the new run goes. A run with `due_at` starts then, or as
    soon after as the thread is free; those of a higher `priority` first where there are more than
    may run at once. `requested_by` are others whose words or changes it can be traced to. With an
    `update` the input is written to the state, as the node that this names, and the graph does not
    run. Under a `key` that the same request had before, nothing is done again.
    """

    given: RunInput
    by: Actor
    agent: str | None = None
    assistant_id: str | None = None
    thread_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    if_paused: IfPaused = "refuse"
    on_busy: OnBusy = "reject"
    checkpoint_id: str | None = None
    due_at: datetime | None = None
    priority: int = 0
    budget: Mapping[str, Any] = field(default_factory=dict)
    recursion_limit: int | None = None
    requested_by: tuple[str, ...] = ()
    schedule_id: str | None = None
    update: JsonObject | None = None
    key: Key | None = None


def new_thread(thread_id: str, owner: Owner, metadata: Mapping[str, Any], now: datetime) -> Thread:
    """A thread that nothing has happened on."""
    return Thread(
        thread_id=thread_id,
        owner=owner.name,
        tenant=owner.tenant,
        status=ThreadStatus.IDLE,
        created_at=now,
        updated_at=now,
        metadata=metadata,
    )


def new_run(
    submission: Submission,
    thread_id: str,
    agent: str,
    run_id: str,
    now: datetime,
    *,
    trace: str | None = None,
) -> Run:
    """The run that a submission asks for, before anything was done about it."""
    budget: JsonObject = {}
    if submission.budget:
        budget["limits"] = dict(submission.budget)
    if submission.recursion_limit is not None:
        budget["recursion_limit"] = submission.recursion_limit
    beside: JsonObject = {}
    if submission.checkpoint_id:
        beside["checkpoint_id"] = submission.checkpoint_id
    if submission.update is not None:
        beside["update"] = submission.update
    if submission.on_busy != "reject":
        beside["on_busy"] = submission.on_busy
    return Run(
        run_id=run_id,
        thread_id=thread_id,
        owner=submission.by.name,
        tenant=submission.by.tenant,
        agent=agent,
        kind=RunKind.INPUT,
        status=RunStatus.PENDING,
        input={**_given(submission).stored(), **beside},
        metadata=submission.metadata,
        priority=submission.priority,
        due_at=submission.due_at,
        budget=budget,
        requested_by=each_once(submission.by.people, submission.requested_by),
        schedule_id=submission.schedule_id,
        trace=trace,
        created_at=now,
    )


def _given(submission: Submission) -> RunInput:
    """What was given, and what is known of who gives it: that is never the client's to say."""
    return structs.replace(submission.given, user=dict(submission.by.known) or None)


def submitted(
    thread: Thread | None,
    run: Run,
    worker: str | None,
    now: datetime,
    *,
    metadata: Mapping[str, Any],
) -> tuple[Change, Thread]:
    """A new run on a thread that is free: it has the thread from here on, and runs at once if there
    is a worker for it."""
    made = thread or replace(_thread_for(run, metadata, now), version=0)
    busy = _taken_by(run, made, now)
    run = replace(run, requested_by=busy.requested_by)
    if worker is None:
        return Change(rows=(busy, run)), busy
    running = _running(run, worker, now)
    return Change(rows=(busy, running), events=(run_start(running, now),)), busy


def queued(
    thread: Thread | None, run: Run, now: datetime, *, metadata: Mapping[str, Any]
) -> tuple[Change, Thread]:
    """A new run that waits for its time, or behind others of its thread."""
    if thread is None:
        made = replace(
            _titled(_thread_for(run, metadata, now), run),
            agent=run.agent,
            assistant_id=assistant_in(run.input),
        )
        return Change(rows=(made, run)), made
    if thread.agent is None:
        # It belongs to the agent that it is first sent to, whenever that begins.
        taken = replace(
            _titled(thread, run),
            agent=run.agent,
            assistant_id=assistant_in(run.input),
            version=thread.version + 1,
        )
        return Change(rows=(taken, run)), taken
    return Change(rows=(run,), unchanged=(thread,)), thread


def _thread_for(run: Run, metadata: Mapping[str, Any], now: datetime) -> Thread:
    return new_thread(run.thread_id, Owner(run.owner, run.tenant), metadata, now)


def started(thread: Thread, run: Run, worker: str, now: datetime) -> tuple[Change, Thread, Run]:
    """A worker takes a pending run."""
    running = replace(_running(run, worker, now), version=run.version + 1)
    events = (run_start(running, now),) if run.kind is RunKind.INPUT else ()
    if is_its_own(run, thread):
        return Change(rows=(running,), unchanged=(thread,), events=events), thread, running
    busy = _taken_by(run, thread, now)
    running = replace(running, requested_by=busy.requested_by)
    return Change(rows=(busy, running), events=events), busy, running


def taken_over(run: Run, worker: str, state: RecoveryState, now: datetime) -> tuple[Change, Run]:
    """A worker takes a run whose worker is gone."""
    again = state.checkpoint_id == run.at_checkpoint
    taken = replace(
        run,
        worker=worker,
        attempt=run.attempt + 1,
        at_checkpoint=state.checkpoint_id,
        stuck=run.stuck + 1 if again else 1,
        usage=state.usage,
        version=run.version + 1,
    )
    recovered = RunRecovered(
        ts=now,
        thread_id=run.thread_id,
        run_id=run.run_id,
        attempt=taken.attempt,
        message_ids=state.message_ids,
    )
    events = () if run.status is RunStatus.CANCELLING else (recovered,)
    return Change(rows=(taken,), events=events), taken


def is_poison(run: Run, state: RecoveryState) -> bool:
    """True if the run has crashed its process at this checkpoint as often as it may."""
    return (
        run.status is RunStatus.RUNNING
        and state.checkpoint_id == run.at_checkpoint
        and run.stuck >= MAX_RECOVERIES
    )


def is_suspect(run: Run) -> bool:
    """True if the next recovery is the run's last, unless it comes further. The process may have
    died of another run beside it."""
    return run.status is RunStatus.RUNNING and run.stuck == MAX_RECOVERIES - 1


def released(run: Run) -> Change:
    """A worker that stops puts a run back. Such a restart does not count as a crash of the run."""
    free = replace(run, worker=None, at_checkpoint=None, stuck=0, version=run.version + 1)
    return Change(rows=(free,))


def cancelled(
    thread: Thread,
    runs: Sequence[Run],
    approvals: Sequence[tuple[Approval, Timer | None]],
    *,
    mode: CancelMode,
    by: Actor,
    now: datetime,
) -> tuple[Change, tuple[Run, ...]]:
    """All these runs of the thread are to stop; `approvals` are those that it waits for, each with
    its timer.

    What has begun is `cancelling` until its worker has stopped it, or, where it waits for a person,
    until a worker has brought the thread to rest. What has not begun is `cancelled` at once.
    """
    rows: list[Row] = []
    events: list[Event] = []
    stopped: list[Run] = []
    for run in runs:
        if run.status is RunStatus.CANCELLING:
            # It stops already, in the mode of the first request.
            stopped.append(run)
            continue
        stops = _stopping(run, mode, by, now)
        stopped.append(stops)
        rows.append(stops)
        left = ThreadStatus.BUSY
        if stops.status is RunStatus.CANCELLED:
            left = ThreadStatus.IDLE
            events.append(
                RunCancelled(
                    ts=now, thread_id=run.thread_id, run_id=run.run_id, reason=_by(by.name)
                )
            )
        if is_its_own(run, thread) and thread.status is not left:
            version = thread.version + 1
            rows.append(replace(thread, status=left, pending=(), updated_at=now, version=version))

    dropped: list[Change] = []
    for approval, timer in approvals:
        done = advance(approval, Cancel(by=by.name), now)
        dropped.append(record(approval, done, timer, authentication=by.authentication))
    # Unmoved, or a run that has taken the thread since would leave it busy for ever.
    change = Change(rows=tuple(rows), unchanged=(thread,), events=tuple(events))
    return together(change, *dropped), tuple(stopped)


def is_its_own(run: Run, thread: Thread) -> bool:
    """True if the run has the thread, be it active, about to be, or waiting for a person."""
    return _is_taken(thread) and thread.run_id == run.run_id


def may_start(run: Run, thread: Thread) -> bool:
    """True if no other run has the thread."""
    return not _is_taken(thread) or thread.run_id == run.run_id


def _is_taken(thread: Thread) -> bool:
    return thread.status in (ThreadStatus.BUSY, ThreadStatus.INTERRUPTED)


def _stopping(run: Run, mode: CancelMode, by: Actor, now: datetime) -> Run:
    if mode is CancelMode.ROLLBACK:
        # What was said is unsaid, so whatever the agent does next can be traced to that too.
        run = replace(run, requested_by=each_once(run.requested_by, by.people))
    if run.status is RunStatus.PENDING and run.kind is RunKind.INPUT:
        return replace(
            run, status=RunStatus.CANCELLED, cancel=mode, ended_at=now, version=run.version + 1
        )
    # A pause, or decisions that were not acted upon yet, leave calls open: a worker has to close
    # them.
    return replace(
        run, status=RunStatus.CANCELLING, cancel=mode, ended_at=None, version=run.version + 1
    )


def _running(run: Run, worker: str, now: datetime) -> Run:
    return replace(
        run, status=RunStatus.RUNNING, worker=worker, attempt=run.attempt + 1, started_at=now
    )


def run_start(run: Run, now: datetime) -> RunStart:
    """The event that reports the start of a run with new input."""
    given = given_in(run.input)
    return RunStart(
        ts=now,
        thread_id=run.thread_id,
        run_id=run.run_id,
        agent=run.agent,
        message=given.text,
        input=given.input if given.has_input else None,
        metadata=dict(run.metadata),
    )


def _taken_by(run: Run, thread: Thread, now: datetime) -> Thread:
    # What is written to a state is written for whichever assistant the thread has.
    keeps_assistant = "update" in run.input
    return replace(
        _titled(thread, run),
        status=ThreadStatus.BUSY,
        agent=run.agent,
        assistant_id=thread.assistant_id if keeps_assistant else assistant_in(run.input),
        run_id=run.run_id,
        pending=(),
        requested_by=each_once(run.requested_by, thread.requested_by),
        updated_at=now,
        version=thread.version + 1,
    )


def _titled(thread: Thread, run: Run) -> Thread:
    """The thread, which has a title from the first run on in which a person said something."""
    if thread.title is not None or "update" in run.input:
        return thread
    title = title_from(given_in(run.input).words)
    return replace(thread, metadata=with_title(thread.metadata, title))


def _by(by: str) -> str:
    return f"{by} cancelled it." if by else ""


# ── erasures ──────────────────────────────────────────────────────────────────────────────────────


def erasure(
    owned: Thread | Run, at: datetime, by: Actor | None = None, *, run_id: str = ""
) -> AuditEntry:
    """The audit entry of the erasure of a thread, or of the row of a run, whose id is given: by
    somebody, or without them by time."""
    return AuditEntry(
        at=at,
        action=AuditAction.ERASED,
        authentication=by.authentication if by else Authentication.TIME,
        actor=by.name if by else "",
        thread_id=owned.thread_id,
        run_id=run_id,
        tenant=owned.tenant,
        detail={"owner": owned.owner} if by and by.name != owned.owner else {},
    )
