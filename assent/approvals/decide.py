"""Deciding: an answer is read against what is pending, checked with the agent, judged by the rules,
and stored in one commit with everything that follows from it.

A commit succeeds only if nothing that was read has moved; otherwise everything is read and judged
again. So of two people who decide at the same moment, and of a decision and a deadline, one comes
first, and the other learns what it did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from assent.approvals.idempotency import Key, stored_outcome
from assent.approvals.record import record
from assent.approvals.requesters import after_decisions, authors, each_once, is_agreed
from assent.approvals.rules import (
    Advanced,
    CheckDeadline,
    Decide,
    PersonalAction,
    Requirement,
    Supersede,
    advance,
    already_decided,
    next_deadline,
)
from assent.core.access import NOTHING, Sight
from assent.core.approval import Approval, Choice, Outcome, match_decisions
from assent.core.audit import Actor, Authentication
from assent.core.clock import Clock
from assent.core.decisions import Decision, Edit
from assent.core.errors import (
    AlreadyDecided,
    AssentError,
    Conflict,
    NotFound,
    NothingPending,
    Superseded,
)
from assent.core.events import RunResumed
from assent.core.json import Json, JsonObject
from assent.core.policy import Person
from assent.core.rows import Run, RunKind, RunStatus, Thread, ThreadStatus, Timer
from assent.core.run_input import Message, given_in
from assent.storage.base import Change, Storage, all_pages, all_rows, together

ReadAnswer = Callable[[Sequence[Approval]], Sequence[Choice]]
"""Reads an answer as choices, given what is pending. Raises what `match_decisions` does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The decisions of one person on what a thread waits for.

    `decisions` are by approval id or tool call id, or one for the only pending approval, or one
    `for_all`; or an answer that is read once it is known what is pending. `digests` are of what the
    person was shown, by the same ids; a bare decision's has the key "". `message` is added to the
    conversation as their words when the run goes on, and `webhook` is told of that run's end, in
    place of that of the run that asked. Under a `key` the outcome is stored in the same commit, and
    `also` is committed with it.
    """

    decisions: Decision | Mapping[str, Decision] | ReadAnswer
    by: Actor
    for_all: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)
    message: Message = ""
    webhook: str | None = None
    key: Key | None = None
    also: Change = Change()  # noqa: RUF009  (it is frozen)

    def choices(self, pending: Sequence[Approval]) -> Sequence[Choice]:
        """The decisions, each with its approval."""
        if callable(self.decisions):
            return self.decisions(pending)
        return match_decisions(pending, self.decisions, for_all=self.for_all, digests=self.digests)


class Inspection(Protocol):
    """The knowledge of an agent about what it asks."""

    @property
    def stale(self) -> Mapping[str, str]:
        """Why approvals no longer stand for what the thread asks, by their ids: sentences."""

    def check(self, approval: Approval, decision: Decision) -> None:
        """Raise `InvalidDecision` if the approval does not take the decision."""

    def requires(self, approval: Approval, args: Mapping[str, Json]) -> Requirement:
        """The policy that these arguments of the approval's call would need."""

    async def preview(self, approval: Approval, args: JsonObject) -> Json:
        """What the approval's tool shows of a call with these arguments, None if nothing."""


Inspect = Callable[[Thread, Sequence[Approval]], Awaitable[Inspection]]
"""Reads a thread's checkpoint, and compares its pending approvals with what it asks."""

Acted = tuple[Approval, Advanced]
"""An approval as it was read, and after an action."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A change that stores actions on approvals; its outcome; and the thread's row then, with the
    run that goes on, if nothing is left to decide."""

    change: Change
    outcome: Outcome
    thread: Thread
    run: Run | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """Decides approvals of a storage.

    `person` gives the roles with which somebody acts. `start` is called with a run that goes on,
    and its thread, once they are stored. That run is `worker`'s, and running, if it is of one of
    the worker's `agents`; otherwise it is pending. What the `sight` does not show is not decided,
    and not told of: it is asked each time that the approvals are read.
    """

    storage: Storage
    sight: Sight = NOTHING
    clock: Clock
    person: Callable[[Actor], Person]
    inspect: Inspect
    start: Callable[[Run, Thread], None]
    worker: str | None = None
    agents: Collection[str] = ()

    async def decide(self, thread_id: str, verdict: Verdict) -> Outcome:
        """Decide, unless that was done under the verdict's key already.

        Raises `NotFound`, `NothingPending`, `AlreadyDecided`, `InvalidDecision`, `Forbidden`,
        `Superseded` or `Tampered`, and then nothing was decided. By then, approvals that no longer
        stand are superseded, and if those were all, a run goes on to ask anew.
        """
        if (known := await stored_outcome(self.storage, verdict.key)) is not None:
            return known
        try:
            while (outcome := await self._try_to_decide(thread_id, verdict)) is None:
                pass
            return outcome
        except AssentError:
            # The same request may have decided it a moment ago.
            if (known := await stored_outcome(self.storage, verdict.key)) is not None:
                return known
            raise

    async def _try_to_decide(self, thread_id: str, verdict: Verdict) -> Outcome | None:
        """The outcome; None if it has to be tried again."""
        thread = await self._thread(thread_id)
        pending = await pending_approvals(self.storage, thread)
        shown = [each for each in pending if self.sight.shows(each, thread)]
        try:
            choices = verdict.choices(shown)
        except (NotFound, NothingPending) as error:
            decided = await self._already_decided(thread, error.details.get("key"))
            raise decided or error from None

        inspection = await self.inspect(thread, pending)
        chosen = [choice.approval for choice in choices]
        if inspection.stale:
            await self._supersede(thread, pending, inspection.stale, chosen)
            return None
        now = self.clock.now()
        if expired := _expired(chosen, now):
            # Stored before anybody learns of it: somebody who was in time may be on their way to
            # the storage, and then it was they who decided.
            await self._store(thread, pending, expired)
            return None

        by = self.person(verdict.by)
        acted = [(choice.approval, _judge(choice, by, inspection, now)) for choice in choices]
        for choice in choices:
            inspection.check(choice.approval, choice.decision)
        return await self._store(thread, pending, acted, verdict)

    async def act(self, approval_id: str, action: PersonalAction, by: Actor) -> Approval:
        """Withdraw, delegate or comment. Returns the approval as it is then.

        Raises `NotFound`, `AlreadyDecided`, `Forbidden`, `InvalidRequest` or `Tampered`, and then
        nothing was changed.
        """
        while True:
            approval = await stored_approval(self.storage, approval_id)
            thread = await self._thread(approval.thread_id)
            if not self.sight.shows(approval, thread):
                raise no_approval(approval_id)
            now = self.clock.now()
            if expired := _expired([approval], now):
                pending = await pending_approvals(self.storage, thread)
                await self._store(thread, pending, expired)
                continue
            acted = advance(approval, action, now)
            timer = await self.storage.timer(approval_id)
            change = record(approval, acted, timer, authentication=by.authentication)
            try:
                await self.storage.commit(change)
            except Conflict:
                continue
            return next(row for row in change.rows if isinstance(row, Approval))

    async def check_deadline(self, approval_id: str) -> Outcome | None:
        """Store what time has done to the approval: a reminder, an escalation or its expiry. None
        if it has done nothing.

        A pending approval has one timer, at the next moment at which time changes it. The timer is
        moved in each change of the approval, so each thing happens once, and never early.
        """
        while True:
            timer = await self.storage.timer(approval_id)
            approval = await self.storage.approval(approval_id)
            thread = await self.storage.thread(approval.thread_id) if approval else None
            if approval is None or thread is None or not approval.is_pending:
                if timer is None or await self._remove(timer):
                    return None
                continue
            checked = advance(approval, CheckDeadline(), self.clock.now())
            due_at = timer.due_at if timer else None
            if not checked.events and due_at == next_deadline(checked.approval):
                return None
            pending = await pending_approvals(self.storage, thread)
            outcome = await self._store(thread, pending, [(approval, checked)])
            if outcome is not None:
                return outcome

    # ── reading ───────────────────────────────────────────────────────────────────────────────────

    async def _thread(self, thread_id: str) -> Thread:
        thread = await self.storage.thread(thread_id)
        if thread is None:
            raise NotFound(f"There is no thread '{thread_id}'.")
        thread.check_trusted()
        return thread

    async def _already_decided(self, thread: Thread, key: str | None) -> AlreadyDecided | None:
        """The error that says who decided what the caller meant: the approval with this id, or of
        this tool call or interrupt; or the newest one. One that is pending was asked after the
        thread was read."""
        newest: Approval | None = None
        async for rows in all_pages(self.storage.approvals, thread_id=thread.thread_id):
            for row in rows:
                is_meant = key is None or key in (
                    row.approval_id,
                    row.tool_call_id,
                    row.interrupt_id,
                )
                if is_meant and not row.is_pending and self.sight.shows(row, thread):
                    newest = row
        return already_decided(newest) if newest else None

    async def _earlier(self, acted: Sequence[Acted]) -> list[Approval]:
        """The approvals of the pause that are decided already, if somebody now agrees with what
        they decide."""
        if not any(is_agreed(done.approval) for _, done in acted):
            return []
        asked, _ = acted[0]
        rows = await approvals_of_pause(self.storage, asked.thread_id, asked.run_id)
        return [row for row in rows if not row.is_pending]

    async def _inherited(self, acted: Sequence[Acted]) -> tuple[JsonObject, str | None]:
        """The part of the input of the run that asked, and its trace, which the run that goes on
        takes over."""
        asked, _ = acted[0]
        run = await self.storage.run(asked.run_id)
        return (given_in(run.input).inherited(), run.trace) if run is not None else ({}, None)

    # ── committing ────────────────────────────────────────────────────────────────────────────────

    async def _store(
        self,
        thread: Thread,
        pending: Sequence[Approval],
        acted: Sequence[Acted],
        verdict: Verdict | None = None,
    ) -> Outcome | None:
        """Commit what was done to approvals of the thread, and start the run that goes on. None if
        somebody else was faster."""
        storage, now = self.storage, self.clock.now()
        timers: dict[str, Timer | None] = {}
        for approval, _ in acted:
            timers[approval.approval_id] = await storage.timer(approval.approval_id)
        inherited, trace = await self._inherited(acted)
        if verdict is not None and verdict.webhook is not None:
            inherited["webhook"] = verdict.webhook
        decided = decided_change(
            thread,
            pending,
            acted,
            timers,
            now,
            self.clock.new_id(),
            worker=self.worker if thread.agent in self.agents else None,
            earlier=await self._earlier(acted),
            inherited=inherited,
            trace=trace,
            message=verdict.message if verdict else "",
            authentication=verdict.by.authentication if verdict else Authentication.ASSENT,
            known_to=verdict.by.known_to if verdict else (),
        )
        change, outcome = decided.change, decided.outcome
        if verdict is not None and verdict.key is not None:
            # What is stored with the change cannot have the numbers that its events will get.
            first_seq = await storage.last_seq(thread.thread_id) + 1
            outcome = outcome.starting_at(first_seq)
            answer = verdict.key.answer(outcome, now)
            change = together(change, Change(rows=(answer,)))
        if verdict is not None:
            change = together(change, verdict.also)
        try:
            numbers = await storage.commit(change)
        except Conflict as error:
            if error.details.get("kind") in ("answer", "link", "file", "fileuse"):
                raise
            return None
        if not outcome.first_seq:
            first_seq = numbers[0] if numbers else await storage.last_seq(thread.thread_id) + 1
            outcome = outcome.starting_at(first_seq)
        if decided.run is not None:
            self.start(decided.run, decided.thread)
        return outcome

    async def _supersede(
        self,
        thread: Thread,
        pending: Sequence[Approval],
        stale: Mapping[str, str],
        chosen: Sequence[Approval],
    ) -> None:
        """End what is stale. Raises `Superseded` if that is what somebody chose to decide."""
        now = self.clock.now()
        acted: list[Acted] = []
        for approval in pending:
            reason = stale.get(approval.approval_id)
            if reason is not None:
                acted.append((approval, advance(approval, Supersede(reason=reason), now)))
        if await self._store(thread, pending, acted) is None:
            return
        for approval in chosen:
            id = approval.approval_id
            if id in stale:
                raise Superseded(
                    f"{stale[id]} So the approval {id} decides nothing any more, "
                    "and the thread asks anew once nothing else of it is pending.",
                    approval_id=id,
                )

    async def _remove(self, timer: Timer) -> bool:
        try:
            await self.storage.commit(Change(removed=(timer,)))
        except Conflict:
            return False
        return True


def _judge(choice: Choice, by: Person, inspection: Inspection, now: datetime) -> Advanced:
    approval, decision = choice.approval, choice.decision
    requires = None
    if isinstance(decision, Edit):
        requires = inspection.requires(approval, decision.args)
    action = Decide(by=by, decision=decision, digest=choice.digest, requires=requires)
    return advance(approval, action, now)


def _expired(approvals: Iterable[Approval], now: datetime) -> list[Acted]:
    """The approvals that are pending although their time is over, with what time does to them."""
    expired: list[Acted] = []
    for approval in approvals:
        done = advance(approval, CheckDeadline(), now)
        if approval.is_pending and not done.approval.is_pending:
            expired.append((approval, done))
    return expired


async def stored_approval(storage: Storage, approval_id: str) -> Approval:
    """The approval with this id. Raises `NotFound`."""
    approval = await storage.approval(approval_id)
    if approval is None:
        raise no_approval(approval_id)
    return approval


def no_approval(approval_id: str) -> NotFound:
    """The error for an approval that there is not, or that is not seen."""
    return NotFound(f"There is no approval '{approval_id}'.")


async def pending_approvals(storage: Storage, thread: Thread) -> list[Approval]:
    """The approvals that the thread waits for, in the order in which they were asked; without those
    that were decided since the thread was read."""
    found = [await storage.approval(approval_id) for approval_id in thread.pending]
    return [approval for approval in found if approval is not None and approval.is_pending]


async def approvals_of_pause(storage: Storage, thread_id: str, run_id: str) -> list[Approval]:
    """The approvals that the run paused for, pending or decided, in the order in which they were
    asked."""
    return await all_rows(storage.approvals, thread_id=thread_id, run_id=run_id, limit=1000)


# ── changes ───────────────────────────────────────────────────────────────────────────────────────


def decided_change(
    thread: Thread,
    pending: Sequence[Approval],
    acted: Sequence[Acted],
    timers: Mapping[str, Timer | None],
    now: datetime,
    new_run_id: str,
    *,
    worker: str | None = None,
    earlier: Sequence[Approval] = (),
    inherited: Mapping[str, Json] = {},
    trace: str | None = None,
    message: Message = "",
    authentication: Authentication = Authentication.ASSENT,
    known_to: Sequence[str] = (),
) -> Decided:
    """The change that stores actions on some of the approvals that a thread waits for. When none is
    left pending, it has the run `new_run_id` that goes on.

    `timers` are those of the approvals, by their ids. `earlier` are approvals of the pause that
    were decided before; they are needed if somebody agrees with the requesters of one. `inherited`
    are the fields of the paused run's input that the new one takes over, as its `trace`. What
    somebody decides may be the word of those whom they are `known_to`. A vote that decides nothing
    leaves the thread's row alone, so people who vote on different approvals do not meet.
    """
    ended = {each.approval_id for each, done in acted if not done.approval.is_pending}
    left = tuple(each.approval_id for each in pending if each.approval_id not in ended)
    run_id = None if left else new_run_id
    records: list[Change] = []
    for before, done in acted:
        timer = timers[before.approval_id]
        records.append(record(before, done, timer, run_id=run_id, authentication=authentication))
    recorded = together(*records)
    approvals = tuple(row for row in recorded.rows if isinstance(row, Approval))
    outcome = Outcome(
        thread_id=thread.thread_id,
        approvals=approvals,
        pending=left,
        status=ThreadStatus.INTERRUPTED,
        events=sum(len(done.events) for _, done in acted),
    )
    if not ended:
        return Decided(change=recorded, outcome=outcome, thread=thread)

    decided = [approval for approval in approvals if not approval.is_pending]
    thread = replace(
        thread,
        pending=left,
        requested_by=each_once(
            after_decisions(thread.requested_by, [*earlier, *decided]),
            # Their words may be those of whoever shares their secret.
            known_to if any(map(authors, decided)) else (),
        ),
        updated_at=now,
        version=thread.version + 1,
    )
    run: Run | None = None
    resumes = Change()
    if not left:
        ids = [approval.approval_id for approval in approvals]
        thread, run, resumed = going_on(
            thread,
            approvals[0],
            ids,
            now,
            new_run_id,
            worker=worker,
            message=message,
            inherited=inherited,
            trace=trace,
        )
        resumes = Change(rows=(run,), events=(resumed,))
        outcome = outcome.resumed_by(run.run_id, run.status)
    change = together(Change(rows=(thread,)), recorded, resumes)
    return Decided(change=change, outcome=outcome, thread=thread, run=run)


def going_on(
    thread: Thread,
    paused: Approval | Run,
    approvals: Sequence[str],
    now: datetime,
    run_id: str,
    *,
    worker: str | None = None,
    message: Message = "",
    inherited: Mapping[str, Json] = {},
    trace: str | None = None,
) -> tuple[Thread, Run, RunResumed]:
    """The thread's row, the run that goes on with the decisions on these `approvals`, and the event
    that reports it. `paused` is the run that asked, or one of its approvals; `inherited` are the
    fields of its input that are this run's too, and `trace` is its trace.

    The run belongs to the owner of the paused one, even if the thread is somebody else's. It acts
    on the words that the paused one acted on, and on those of the thread's row.
    """
    # Copied, as runs that ended long ago are removed.
    started: JsonObject = {**inherited, "paused_run": paused.run_id}
    if message:
        started["message"] = message
    run = Run(
        run_id=run_id,
        thread_id=thread.thread_id,
        owner=paused.owner,
        tenant=paused.tenant,
        agent=paused.agent,
        kind=RunKind.RESUME,
        status=RunStatus.RUNNING if worker else RunStatus.PENDING,
        worker=worker,
        attempt=1 if worker else 0,
        input=started,
        requested_by=each_once(paused.requested_by, thread.requested_by),
        trace=trace,
        created_at=now,
        started_at=now if worker else None,
    )
    resumed = RunResumed(
        ts=now,
        thread_id=thread.thread_id,
        run_id=run_id,
        agent=run.agent,
        approvals=tuple(approvals),
        paused_run=paused.run_id,
    )
    busy = replace(thread, status=ThreadStatus.BUSY, run_id=run_id, pending=())
    return busy, run, resumed
