"""What becomes of approvals in storage: rows, events, timers and, when nothing of the pause is left
to decide, the run that goes on. All of it, or none.

The rules are in `machine`. Here each is asked of what was read; what it gives is committed if
nothing of that has moved, or else asked again. So of those that decide at the same moment, and of a
decision and a deadline, one comes first, and the other learns what it did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from assent.approvals.record import recorded
from assent.approvals.rows import question_of
from assent.approvals.rules import (
    Decide,
    Delegate,
    Look,
    Needs,
    Next,
    Say,
    Supersede,
    Withdraw,
    advance,
    already_decided,
)
from assent.core.clock import Clock
from assent.core.decisions import Decision, Edit, match_decisions
from assent.core.errors import (
    AlreadyDecided,
    Conflict,
    NotFound,
    NothingPending,
    Superseded,
    Tampered,
)
from assent.core.events import RunResumed
from assent.core.policy import Person
from assent.core.rows import (
    Approval,
    ApprovalStatus,
    Authentication,
    Run,
    RunKind,
    RunStatus,
    Thread,
    ThreadStatus,
    Timer,
)
from assent.storage.base import Change, Storage, together

Json = Any
"""Any JSON value."""


Reading = Callable[[Sequence[Approval]], Mapping[str, Decision]]
"""Reads an answer as decisions by id, given what is pending. Raises what `match_decisions` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What somebody decided: `decisions` by approval id or tool call id, or one for the only
    pending approval, or one `for_all`; or what tells them once it is known what is pending.

    `digests` are of what he was shown, by the same ids; a bare decision's has the key "". `message`
    is added to the conversation as the person's words when the run goes on. `authentication` is how
    it is known that it was he.
    """

    decisions: Mapping[str, Decision] | Decision | Reading
    by: str
    for_all: bool = False
    message: str = ""
    authentication: Authentication = Authentication.LOCAL
    digests: Mapping[str, str] = field(default_factory=dict)

    def digest_for(self, approval: Approval) -> str | None:
        """The digest of what he was shown of this approval; None if he does not say."""
        keys = (approval.approval_id, approval.tool_call_id, "")
        return next((self.digests[key] for key in keys if key in self.digests), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What came of it: the approvals as they are now, the ids still pending, the run that goes on
    (None while any is pending), the thread's row then, the number of the first event that tells of
    it, and how many of the thread's do."""

    approvals: tuple[Approval, ...]
    pending: tuple[str, ...]
    run: Run | None
    thread: Thread
    first_seq: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What only the agent knows of a thread's pending approvals.

    `check` raises `InvalidDecision` if an approval does not take a decision; `needs` tells what
    other arguments of a call need. `stale` says, by approval id, why what was asked does not stand
    any more: a sentence.
    """

    check: Callable[[Approval, Decision], None]
    needs: Callable[[Approval, Mapping[str, Json]], Needs]
    stale: Mapping[str, str] = field(default_factory=dict)


Asks = Callable[[Thread, Sequence[Approval]], Awaitable[Asked]]
"""Looks at what a thread asks now, given its pending approvals."""

Start = Callable[[Run, Thread], None]
"""Told of a run that goes on, and of its thread's row, once they are stored."""

Along = Callable[[Decided], Change]
"""What is to be stored in one transaction with a decision, given what came of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where approvals are decided: `person` knows people's roles. The run that goes on is
    `worker`'s, and running; without one it waits for one."""

    storage: Storage
    clock: Clock
    start: Start
    person: Callable[[str], Person]
    worker: str | None = None


async def decide(
    desk: Desk, thread_id: str, verdict: Verdict, asks: Asks, *, along: Along | None = None
) -> Decided:
    """Decide. With `along`, `first_seq` is a number that no event of the decision is below.

    Raises `NotFound`, `NothingPending`, `AlreadyDecided`, `InvalidDecision`, `Forbidden`,
    `Superseded` or `Tampered`, and then nothing was decided. What does not stand any more has been
    `superseded` then, and if it was all that was pending, a run goes on to ask anew.
    """
    while True:
        thread, pending = await _thread(desk.storage, thread_id)
        try:
            decisions = (
                verdict.decisions(pending) if callable(verdict.decisions) else verdict.decisions
            )
            matched = match_decisions(pending, decisions, for_all=verdict.for_all)
        except (NotFound, NothingPending) as error:
            raise (
                await _no_longer_pending(desk.storage, thread_id, error.details.get("key")) or error
            ) from None
        asked = await asks(thread, pending)
        if asked.stale:
            await _supersede(
                desk, thread, pending, asked.stale, [approval for approval, _ in matched]
            )
            continue
        by, now = desk.person(verdict.by), desk.clock.now()
        if late := _ended_by_time((approval for approval, _ in matched), now):
            await store(desk, thread, pending, late)
            continue
        done = [
            (
                approval,
                advance(
                    question_of(approval), _decide(verdict, by, approval, decision, asked), now
                ),
            )
            for approval, decision in matched
        ]
        for approval, decision in matched:
            asked.check(approval, decision)
        if decided := await store(
            desk,
            thread,
            pending,
            done,
            message=verdict.message,
            authentication=verdict.authentication,
            along=along,
        ):
            return decided


async def act(
    desk: Desk,
    approval_id: str,
    action: Withdraw | Delegate | Say,
    *,
    authentication: Authentication = Authentication.LOCAL,
) -> Approval:
    """Do what decides nothing: take a vote back, hand a say over, comment. Return the approval as
    it is then.

    Raises `NotFound`, `AlreadyDecided`, `Forbidden`, `InvalidRequest` or `Tampered`, and then
    nothing was changed.
    """
    storage = desk.storage
    while True:
        approval = await storage.approval(approval_id)
        if approval is None:
            raise NotFound(f"There is no approval '{approval_id}'.")
        thread = await storage.thread(approval.thread_id)
        if thread is not None and thread.tampered is not None:
            raise Tampered(thread.tampered, thread_id=thread.thread_id)
        now = desk.clock.now()
        if thread is not None and (late := _ended_by_time([approval], now)):
            await store(desk, thread, await pending_of(storage, thread), late)
            continue
        done = advance(question_of(approval), action, now)
        change = recorded(
            approval, done, await storage.timer(approval_id), authentication=authentication
        )
        try:
            await storage.commit(change)
        except Conflict:
            continue
        return next(row for row in change.rows if isinstance(row, Approval))


async def pending_of(storage: Storage, thread: Thread) -> list[Approval]:
    """The approvals that the thread waits for, in the order in which they were asked."""
    return [
        approval for id in thread.pending if (approval := await storage.approval(id)) is not None
    ]


# ── as changes ────────────────────────────────────────────────────────────────────────────────────


def deciding(
    thread: Thread,
    pending: Sequence[Approval],
    done: Sequence[tuple[Approval, Next, Timer | None]],
    now: datetime,
    new_run_id: str,
    *,
    worker: str | None = None,
    message: str = "",
    authentication: Authentication = Authentication.ASSENT,
) -> tuple[Change, Decided]:
    """The change that is made by what was done to some of the approvals that a thread waits for,
    each with its timer."""
    over = {approval.approval_id for approval, next_, _ in done if not next_.question.is_pending}
    left = tuple(approval.approval_id for approval in pending if approval.approval_id not in over)
    run_id = new_run_id if not left else None
    changes = [
        recorded(approval, next_, timer, run_id=run_id, authentication=authentication)
        for approval, next_, timer in done
    ]
    approvals = tuple(row for change in changes for row in change.rows if isinstance(row, Approval))
    told = sum(len(next_.events) for _, next_, _ in done)
    if not over:
        return together(*changes), Decided(
            approvals=approvals, pending=left, run=None, thread=thread, events=told
        )
    thread = replace(thread, pending=left, updated_at=now, version=thread.version + 1)
    if left:
        return together(Change(rows=(thread,)), *changes), Decided(
            approvals=approvals, pending=left, run=None, thread=thread, events=told
        )
    paused = approvals[0]
    thread, run, resumed = going_on(
        thread,
        paused,
        [each.approval_id for each in approvals],
        now,
        new_run_id,
        worker=worker,
        message=message,
    )
    change = together(Change(rows=(thread,)), *changes, Change(rows=(run,), events=(resumed,)))
    return change, Decided(approvals=approvals, pending=(), run=run, thread=thread, events=told + 1)


def going_on(
    thread: Thread,
    paused: Approval | Run,
    approvals: Sequence[str],
    now: datetime,
    run_id: str,
    *,
    worker: str | None = None,
    message: str = "",
) -> tuple[Thread, Run, RunResumed]:
    """The thread taken by the run that goes on with the decisions on what was asked, given the run
    that `paused` or one of its approvals; that run; and the event that tells of it. It works for
    whoever the paused one worked for, also where the thread is another's."""
    run = Run(
        run_id=run_id,
        thread_id=thread.thread_id,
        owner=paused.owner,
        agent=paused.agent,
        kind=RunKind.RESUME,
        status=RunStatus.RUNNING if worker else RunStatus.PENDING,
        worker=worker,
        attempt=1 if worker else 0,
        input={"paused_run": paused.run_id, **({"message": message} if message else {})},
        created_at=now,
        started_at=now if worker else None,
    )
    resumed = RunResumed(
        ts=now,
        thread_id=thread.thread_id,
        run_id=run_id,
        agent=run.agent,
        approvals=tuple(approvals),
    )
    return replace(thread, status=ThreadStatus.BUSY, run_id=run_id, pending=()), run, resumed


# ── reading and committing ────────────────────────────────────────────────────────────────────────


async def _thread(storage: Storage, thread_id: str) -> tuple[Thread, list[Approval]]:
    thread = await storage.thread(thread_id)
    if thread is None:
        raise NotFound(f"There is no thread '{thread_id}'.")
    if thread.tampered is not None:
        raise Tampered(thread.tampered, thread_id=thread_id)
    return thread, await pending_of(storage, thread)


def _ended_by_time(approvals: Iterable[Approval], now: datetime) -> list[tuple[Approval, Next]]:
    """Those that are pending, though their time is over. That is stored before anybody is told:
    somebody who was in time may be on his way to the storage, and then it is he who decided."""
    looked_at = [
        (row, advance(question_of(row), Look(), now))
        for row in approvals
        if row.status is ApprovalStatus.PENDING
    ]
    return [(row, done) for row, done in looked_at if not done.question.is_pending]


def _decide(
    verdict: Verdict, by: Person, approval: Approval, decision: Decision, asked: Asked
) -> Decide:
    needs = asked.needs(approval, decision.args) if isinstance(decision, Edit) else None
    return Decide(by=by, decision=decision, digest=verdict.digest_for(approval), needs=needs)


async def store(
    desk: Desk,
    thread: Thread,
    pending: Sequence[Approval],
    done: Sequence[tuple[Approval, Next]],
    *,
    message: str = "",
    authentication: Authentication = Authentication.ASSENT,
    along: Along | None = None,
) -> Decided | None:
    """Commit what was `done` to approvals of the thread, and start the run that goes on. None if
    somebody else was faster."""
    storage = desk.storage
    with_timers = [
        (approval, next_, await storage.timer(approval.approval_id)) for approval, next_ in done
    ]
    change, decided = deciding(
        thread,
        pending,
        with_timers,
        desk.clock.now(),
        desk.clock.new_id(),
        worker=desk.worker,
        message=message,
        authentication=authentication,
    )
    if along is not None:
        decided = replace(decided, first_seq=await storage.last_seq(thread.thread_id) + 1)
        change = together(change, along(decided))
    try:
        numbers = await storage.commit(change)
    except Conflict as error:
        if along is not None and error.details.get("kind") in ("answer", "link"):
            raise
        return None
    if along is None:
        decided = replace(
            decided,
            first_seq=numbers[0] if numbers else await storage.last_seq(thread.thread_id) + 1,
        )
    if decided.run is not None:
        desk.start(decided.run, decided.thread)
    return decided


async def _supersede(
    desk: Desk,
    thread: Thread,
    pending: Sequence[Approval],
    stale: Mapping[str, str],
    meant: Sequence[Approval],
) -> None:
    """End what is stale. Raises `Superseded` if that is what somebody meant to decide."""
    now = desk.clock.now()
    done = [
        (
            approval,
            advance(question_of(approval), Supersede(reason=stale[approval.approval_id]), now),
        )
        for approval in pending
        if approval.approval_id in stale
    ]
    if await store(desk, thread, pending, done) is None:
        return
    for approval in meant:
        if approval.approval_id in stale:
            raise Superseded(
                f"{stale[approval.approval_id]} So the approval {approval.approval_id} decides nothing any more, and the thread asks anew "
                "once nothing else of it is pending.",
                approval_id=approval.approval_id,
            )


async def _no_longer_pending(
    storage: Storage, thread_id: str, key: str | None
) -> AlreadyDecided | None:
    """Who decided what the caller meant: the approval with this id, or of this tool call or
    interrupt; or the newest one."""
    past = [
        a
        for a in await _all_approvals(storage, thread_id)
        if key is None or key in (a.approval_id, a.tool_call_id, a.interrupt_id)
    ]
    return already_decided(question_of(past[-1])) if past else None


async def _all_approvals(storage: Storage, thread_id: str) -> list[Approval]:
    rows: list[Approval] = []
    cursor: str | None = None
    while True:
        page = await storage.approvals(thread_id=thread_id, cursor=cursor)
        rows.extend(page.rows)
        cursor = page.next
        if cursor is None:
            return rows
