"""What is asked of runs: submitted, decided, cancelled, looked at. What is to be done goes to the
engine, what is durable to the storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import structlog
from langgraph.types import StateSnapshot

from assent.approvals import deadlines, granting
from assent.approvals import record as recording
from assent.approvals.decide import Along as AlongDecision
from assent.approvals.decide import Decided, Desk, Verdict, act, decide, pending_of
from assent.approvals.grants import Bound, Grant
from assent.approvals.rules import Delegate, Say, Withdraw
from assent.core.clock import Clock
from assent.core.decisions import Decision, Reject
from assent.core.errors import (
    Conflict,
    InvalidDecision,
    InvalidRequest,
    NotFound,
    Tampered,
    ThreadBusy,
    ThreadPaused,
)
from assent.core.policy import Person, Policy, PolicyBook
from assent.core.rows import (
    ACTIVE,
    UNFINISHED,
    Approval,
    AuditAction,
    AuditEntry,
    Authentication,
    CancelMode,
    Run,
    RunStatus,
    StandingGrant,
    Thread,
    ThreadStatus,
    Timer,
)
from assent.graph.builder import HitlGraph
from assent.graph.chat_decisions import decision_from_message
from assent.graph.interrupts.resume import Agent
from assent.graph.state_types import state_types as state_types_of
from assent.runs import transitions
from assent.runs.agent_answers import Asking, check_policies, check_tool
from assent.runs.budgets import Rules, check_agents
from assent.runs.engine import Engine, OnTimer
from assent.runs.executor import GraphExecutor
from assent.runs.schedules import KIND, Schedules
from assent.runs.states import thread_config
from assent.runs.sync_threads import SyncThreads
from assent.runs.transitions import Submission
from assent.runs.worker import EmbeddedEngine
from assent.storage.base import Change, Storage, together

log = structlog.get_logger(__name__)

T = TypeVar("T")

Along = Callable[[Run], Change]
"""What is to be stored in one transaction with a run, given its row."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was submitted, and a number that none of its events is below."""

    run: Run
    first_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A submission as a change; then what is to be told once it has been committed: the run with
    the thread's row, those that it stops, and a number that none of the run's events is below (0 if
    its first event is in the change)."""

    change: Change
    run: Run
    thread: Thread | None = None
    stopped: tuple[Run, ...] = ()
    first_seq: int = 0


class Runs:
    """Runs agents on threads. Open it with `Runs.open`, after the storage and the agents."""

    def __init__(
        self,
        storage: Storage,
        agents: Mapping[str, Agent],
        engine: Engine,
        *,
        clock: Clock,
        drain_seconds: float,
        policies: PolicyBook,
        people: Mapping[str, Person],
    ) -> None:
        self.storage = storage
        self.agents = agents
        self.engine = engine
        self._clock = clock
        self._policies = policies
        self._people = people
        self._asks = Asking(agents, policies)
        self._drain_seconds = drain_seconds
        self.schedules = Schedules(storage, clock, self._submit_scheduled, self.agent_for)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        storage: Storage,
        agents: Mapping[str, Agent],
        *,
        clock: Clock | None = None,
        recursion_limit: int = 25,
        drain_seconds: float = 5.0,
        max_runs: int = 500,
        state_types: Iterable[tuple[str, str]] = (),
        budgets: Rules = Rules(),
        policies: PolicyBook = PolicyBook(),
        people: Mapping[str, Person] | None = None,
    ) -> AsyncIterator[Runs]:
        """Go on with what the last process left, and take runs until the context is left.

        Then active runs get `drain_seconds` to reach the end of a step; those that need longer are
        cut off, and all go on at the next start. At most `max_runs` run at once, and more wait
        their turn. `state_types` are the types, as module and name, that agents keep in their state
        without declaring them. `budgets` are what runs may use, `policies` say how calls are
        approved, and `people` have roles, by name; raises `ConfigurationError` if one is of an
        agent that there is not, or does not go with what its code says.
        """
        clock = clock or Clock()
        check_agents(budgets, agents)
        check_policies(policies, agents)
        # The server's checkpointer takes the place of any that a graph brought along: a pause must
        # outlive the process.
        saver = storage.checkpointer.with_allowlist(list(state_types))
        agents = {
            name: agent.copy(update={"checkpointer": saver.with_allowlist(state_types_of(agent))})
            for name, agent in agents.items()
        }
        threads = SyncThreads()
        asyncio.get_running_loop().set_default_executor(threads)
        executor = GraphExecutor(
            storage,
            agents,
            clock=clock,
            recursion_limit=recursion_limit,
            threads=threads,
            budgets=budgets,
            policies=policies,
        )
        # Timers are due from the moment that the engine works.
        on_timer: dict[str, OnTimer] = {
            KIND: lambda timer: runs.schedules.fire(timer),
            recording.KIND: lambda timer: runs.look(timer),
        }
        engine = EmbeddedEngine(
            storage, executor, clock=clock, max_runs=max_runs, on_timer=on_timer
        )
        runs = cls(
            storage,
            agents,
            engine,
            clock=clock,
            drain_seconds=drain_seconds,
            policies=policies,
            people=people or {},
        )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(runs.drain)
            await stack.enter_async_context(engine.working())
            await runs._end_unreadable()
            yield runs

    async def drain(self) -> None:
        """Take no more runs, let those that are active reach the end of a step, and tell whoever
        follows them that this is all for now."""
        await self.engine.drain(self._drain_seconds)
        self.storage.end_listening()

    # ── submitting ────────────────────────────────────────────────────────────────────────────────

    async def submit(self, submission: Submission, *, along: Along | None = None) -> Started:
        """Take new input; it is durable when this returns.

        What is to be stored `along` with the run is in the same transaction; then `Conflict` is
        raised if anything has moved, for the caller to look again at what it wants to store.

        Raises `ThreadBusy`, `ThreadPaused`, `NotFound` for an unknown agent or checkpoint,
        `InvalidRequest` for another agent than the thread's, or `Tampered`.
        """
        return await _to_the_end(self._submit(submission, along))

    async def _submit(self, submission: Submission, along: Along | None) -> Started:
        while True:
            thread = (
                await self.storage.thread(submission.thread_id) if submission.thread_id else None
            )
            agent = self.agent_for(submission, thread)
            if thread is not None and thread.tampered is not None:
                raise Tampered(thread.tampered, thread_id=thread.thread_id)
            if submission.checkpoint_id is not None:
                await self._check_checkpoint(submission, thread)
            is_later = submission.due_at is not None and submission.due_at > self._clock.now()
            is_paused = (
                not is_later and thread is not None and thread.status is ThreadStatus.INTERRUPTED
            )
            if is_paused and thread is not None and submission.if_paused in ("refuse", "reject"):
                return await self._answer_pause(submission, thread)
            if is_paused and thread is not None and submission.if_paused == "wait":
                if submission.on_busy == "reject":
                    raise await self._paused(thread)
                is_later = True
            try:
                with self.engine.reserve() as worker:
                    prepare = (
                        self._queued(submission, thread, agent)
                        if is_later
                        else self._started(submission, thread, agent, worker)
                    )
                    return await self._commit(await prepare, along)
            except Conflict as error:
                if along is not None or submission.thread_id is None or type(error) is not Conflict:
                    raise

    async def _commit(self, prepared: Prepared, along: Along | None) -> Started:
        change = (
            prepared.change if along is None else together(prepared.change, along(prepared.run))
        )
        numbers = await self.storage.commit(change)
        self.engine.submit(prepared.run, prepared.thread)
        await self._ring(prepared.stopped)
        return Started(prepared.run, prepared.first_seq or numbers[0])

    async def _submit_scheduled(self, submission: Submission, along: Along) -> Run:
        return (await self.submit(submission, along=along)).run

    def agent_for(self, submission: Submission, thread: Thread | None) -> str:
        """The name of the agent that takes it. Raises `NotFound`, or `InvalidRequest` if the thread
        is another's."""
        belongs_to = thread.agent if thread is not None else None
        name = submission.agent or belongs_to or next(iter(self.agents))
        if name not in self.agents:
            raise NotFound(f"There is no agent '{name}'. There are: {', '.join(self.agents)}.")
        if belongs_to is not None and name != belongs_to:
            raise InvalidRequest(
                f"The thread belongs to the agent '{belongs_to}', so '{name}' cannot take it. Start a new thread."
            )
        return name

    async def _check_checkpoint(self, submission: Submission, thread: Thread | None) -> None:
        if thread is None or await self._snapshot(thread, submission.checkpoint_id) is None:
            raise NotFound(
                f"The thread '{submission.thread_id}' has no checkpoint '{submission.checkpoint_id}'. "
                f"GET /threads/{submission.thread_id}/history lists those that it has."
            )

    async def _started(
        self, submission: Submission, thread: Thread | None, agent: str, worker: str | None
    ) -> Prepared:
        """The run starts now; or, if others of its thread go first, what `on_busy` says is done."""
        if (
            thread is not None
            and thread.status is ThreadStatus.INTERRUPTED
            and thread.run_id is not None
        ):
            return await self._instead(
                submission, thread, agent, [await self.run(thread.run_id)], CancelMode.INTERRUPT
            )
        ahead = await self._ahead(thread) if thread is not None else []
        if thread is not None and ahead:
            return await self._behind(submission, thread, agent, ahead)
        return await self._now(
            thread, self._new_run(submission, agent), worker, submission.metadata
        )

    async def _now(
        self, thread: Thread | None, run: Run, worker: str | None, metadata: Mapping[str, Any]
    ) -> Prepared:
        change, taken = transitions.submitted(
            thread, run, worker, self._clock.now(), metadata=metadata
        )
        first = 0 if worker is not None else await self._next_seq(run)
        (run,) = (row for row in change.rows if isinstance(row, Run))
        return Prepared(change=change, run=run, thread=taken, first_seq=first)

    async def _queued(self, submission: Submission, thread: Thread | None, agent: str) -> Prepared:
        run = self._new_run(submission, agent)
        change, _ = transitions.queued(thread, run, self._clock.now(), metadata=submission.metadata)
        return Prepared(change=change, run=run, first_seq=await self._next_seq(run))

    async def _behind(
        self, submission: Submission, thread: Thread, agent: str, ahead: list[Run]
    ) -> Prepared:
        if submission.on_busy == "reject":
            raise ThreadBusy(
                f"A run is active on the thread '{thread.thread_id}', or waits its turn there. Wait for its end, cancel it with "
                f'POST /threads/{thread.thread_id}/cancel, or say what is to be done: "on_busy": "enqueue" waits behind it, "interrupt" '
                'cancels it, and "rollback" also undoes what it did to the state.',
                runs=[run.run_id for run in ahead],
            )
        if submission.on_busy == "enqueue":
            return await self._queued(submission, thread, agent)
        mode = CancelMode.ROLLBACK if submission.on_busy == "rollback" else CancelMode.INTERRUPT
        return await self._instead(submission, thread, agent, ahead, mode)

    async def _instead(
        self,
        submission: Submission,
        thread: Thread,
        agent: str,
        others: list[Run],
        mode: CancelMode,
    ) -> Prepared:
        """The others are cancelled, and the run starts when they have ended."""
        behind = await self._queued(submission, thread, agent)
        asked = await self._asked_by(thread, others)
        stop, stopped = transitions.cancelled(
            thread,
            others,
            asked,
            mode=mode,
            by=submission.owner,
            now=self._clock.now(),
            authentication=submission.authentication,
        )
        return replace(behind, change=together(stop, behind.change), stopped=stopped)

    async def _next_seq(self, run: Run) -> int:
        return await self.storage.last_seq(run.thread_id) + 1

    async def _ahead(self, thread: Thread) -> list[Run]:
        """What of the thread's runs goes before a new one."""
        runs = await self.storage.runs(thread_id=thread.thread_id, status=UNFINISHED)
        return transitions.to_cancel(thread, runs, self._clock.now())

    def _new_run(self, submission: Submission, agent: str) -> Run:
        thread_id = submission.thread_id or self._clock.new_id()
        return transitions.new_run(
            submission, thread_id, agent, self._clock.new_id(), self._clock.now()
        )

    async def create_thread(
        self, thread_id: str | None, *, owner: str, metadata: Mapping[str, Any]
    ) -> Thread:
        """A new thread, without a run. Raises `Conflict` if there is one of this id."""
        thread = transitions.new_thread(
            thread_id or self._clock.new_id(), owner, metadata, self._clock.now()
        )
        await self.storage.commit(Change(rows=(thread,)))
        return thread

    async def fork(
        self,
        thread_id: str,
        checkpoint_id: str | None = None,
        *,
        target: str | None = None,
        owner: str,
        metadata: Mapping[str, Any],
    ) -> Started:
        """Begin a new thread with the state of this one at a checkpoint, or at its head. The run
        that does it ends at once: where that state waits for a person, it pauses and asks anew; and
        else the thread is idle.

        Raises `NotFound` for an unknown thread or checkpoint, `InvalidRequest` for a thread without
        any, `Conflict` if there is a thread `target`, or `Tampered`.
        """
        return await _to_the_end(self._fork(thread_id, checkpoint_id, target, owner, metadata))

    async def _fork(
        self,
        thread_id: str,
        checkpoint_id: str | None,
        target: str | None,
        owner: str,
        metadata: Mapping[str, Any],
    ) -> Started:
        source = await self.storage.thread(thread_id)
        if source is None:
            raise NotFound(f"There is no thread '{thread_id}'.")
        if source.tampered is not None:
            raise Tampered(source.tampered, thread_id=thread_id)
        submission = Submission(message="", owner=owner, thread_id=target, metadata=metadata)
        at = (await self.state(source, checkpoint_id)).config["configurable"].get("checkpoint_id")
        if at is None:
            raise InvalidRequest(
                f"Nothing has happened on the thread '{thread_id}' yet, so there is no state to fork from."
            )
        run = self._new_run(submission, self.agent_for(submission, source))
        run = replace(run, input={"fork_of": thread_id, "checkpoint_id": at})
        try:
            with self.engine.reserve() as worker:
                return await self._commit(await self._now(None, run, worker, metadata), None)
        except Conflict as error:
            raise Conflict(
                f"There is a thread '{run.thread_id}' already. Fork to a new one."
            ) from error

    async def _answer_pause(self, submission: Submission, thread: Thread) -> Started:
        """New input on a paused thread decides nothing, unless the caller or the agent says that it
        does."""
        agent = self._agent(thread)
        decision: Decision
        if submission.if_paused == "reject" and submission.checkpoint_id is not None:
            raise InvalidRequest(
                "What is rejected goes on from where it is, so it cannot go on from a checkpoint. To drop what is pending, send "
                '"if_paused": "cancel" with the "checkpoint_id".'
            )
        if submission.if_paused == "reject":
            decision = Reject(submission.message)
        elif (
            submission.checkpoint_id is None
            and isinstance(agent.builder, HitlGraph)
            and agent.builder.takes_chat_decisions
        ):
            decision = decision_from_message(submission.message)
        else:
            raise await self._paused(thread)
        verdict = Verdict(
            decisions=decision,
            by=submission.owner,
            for_all=True,
            message=submission.message,
            authentication=submission.authentication,
        )
        try:
            decided = await self.decide(thread.thread_id, verdict)
        except InvalidDecision as error:
            # A question of a graph that has no room for a rejection, say.
            raise InvalidDecision(
                f"{error.message} So this message decides nothing: answer with POST /threads/{thread.thread_id}/resume, or send "
                '"if_paused": "cancel" to drop what the thread waits for.',
                **error.details,
            ) from error
        if decided.run is None:
            raise await self._paused(
                thread,
                "Your message was taken as your vote, and others must agree before anything runs. ",
            )
        return Started(decided.run, decided.first_seq)

    async def _paused(self, thread: Thread, first: str = "") -> ThreadPaused:
        approvals = await pending_of(self.storage, thread)
        return ThreadPaused(
            f"{first}The thread '{thread.thread_id}' waits for {_decisions(len(approvals))}. "
            f"Decide with POST /threads/{thread.thread_id}/resume; "
            'or send "if_paused": "reject" to reject with this message as the reason, "cancel" to drop what the thread waits for, or '
            '"wait" with "on_busy": "enqueue" to have this message wait until it was decided.',
            approvals=approvals,
        )

    # ── deciding ──────────────────────────────────────────────────────────────────────────────────

    async def decide(
        self, thread_id: str, verdict: Verdict, *, along: AlongDecision | None = None
    ) -> Decided:
        """Decide pending approvals; if none is left, the run that goes on is started. What is to be
        stored `along` is in the same transaction.

        Raises `NotFound`, `NothingPending`, `AlreadyDecided`, `InvalidDecision`, `Forbidden`,
        `Superseded` or `Tampered`, and then nothing was decided.
        """
        return await _to_the_end(self._decide(thread_id, verdict, along))

    async def _decide(
        self, thread_id: str, verdict: Verdict, along: AlongDecision | None
    ) -> Decided:
        with self.engine.reserve() as worker:
            try:
                return await decide(self._desk(worker), thread_id, verdict, self._asks, along=along)
            except Tampered as error:
                # Which thread this is about is known here. What the row itself says may be what was
                # changed.
                found = Tampered(error.message, **{**error.details, "thread_id": thread_id})
                await self.distrust(thread_id, found)
                raise found from error

    async def act(
        self,
        approval_id: str,
        action: Withdraw | Delegate | Say,
        *,
        authentication: Authentication = Authentication.LOCAL,
    ) -> Approval:
        """Do what decides nothing: take a vote back, hand a say over, comment. The approval as it
        is then.

        Raises `NotFound`, `AlreadyDecided`, `Forbidden`, `InvalidRequest` or `Tampered`, and then
        nothing was changed.
        """
        return await _to_the_end(
            act(self._desk(None), approval_id, action, authentication=authentication)
        )

    async def look(self, timer: Timer) -> None:
        """See what time has done to the approval of the timer."""
        with self.engine.reserve() as worker:
            await deadlines.look(self._desk(worker), timer.timer_id)

    async def give_grant(
        self,
        *,
        agent: str | None,
        tool: str,
        bounds: Mapping[str, Bound],
        by: str,
        until: datetime,
        uses: int,
        thread_id: str = "",
        user: str = "",
        authentication: Authentication = Authentication.LOCAL,
    ) -> StandingGrant:
        """Approve calls of a tool in advance. Raises `Forbidden`, `InvalidRequest`, or `NotFound`
        for an unknown agent, tool or thread."""
        agent = agent or next(iter(self.agents))
        policy = self.policy(agent, tool)
        check_tool(self.agents[agent], agent, tool)
        if thread_id and await self.storage.thread(thread_id) is None:
            raise NotFound(f"There is no thread '{thread_id}'.")
        grant = Grant(
            grant_id=self._clock.new_id(),
            agent=agent,
            tool=tool,
            bounds=bounds,
            given_by=self.person(by),
            given_at=self._clock.now(),
            until=until,
            uses=uses,
            thread_id=thread_id,
            user=user,
        )
        return await _to_the_end(granting.give(self.storage, grant, policy, authentication))

    async def revoke_grant(
        self, grant_id: str, *, by: str, authentication: Authentication = Authentication.LOCAL
    ) -> StandingGrant:
        """Revoke a grant. Raises `NotFound` or `Forbidden`."""
        row = await self.storage.grant(grant_id)
        if row is None:
            raise NotFound(
                f"There is no grant '{grant_id}'. GET /grants lists those that there are."
            )
        # One for an agent that is not here any more can still be revoked, by whoever gave it.
        policy = (
            self.policy(row.agent, row.tool)
            if row.agent in self.agents
            else Policy(names=(row.given_by,))
        )
        revoking = granting.revoke(
            self.storage, self._clock, grant_id, self.person(by), policy, authentication
        )
        return await _to_the_end(revoking)

    def _desk(self, worker: str | None) -> Desk:
        return Desk(
            storage=self.storage,
            clock=self._clock,
            start=self.engine.submit,
            person=self.person,
            worker=worker,
        )

    def person(self, name: str) -> Person:
        """The person of this name, with his roles."""
        return self._people.get(name) or Person(name=name)

    def policy(self, agent: str, tool: str) -> Policy:
        """What calls of the agent's tool are approved under, if they need anybody. Raises
        `NotFound` for an agent that there is not."""
        if agent not in self.agents:
            raise NotFound(f"There is no agent '{agent}'. There are: {', '.join(self.agents)}.")
        builder = self.agents[agent].builder
        written = builder.gate.rules.policies.get(tool) if isinstance(builder, HitlGraph) else None
        return self._policies.policy(agent, tool, written)

    # ── cancelling ────────────────────────────────────────────────────────────────────────────────

    async def cancel_run(
        self,
        run_id: str,
        *,
        by: str,
        mode: CancelMode = CancelMode.INTERRUPT,
        authentication: Authentication = Authentication.LOCAL,
    ) -> Run:
        """Stop the run: at once if it has not begun, and otherwise it is `cancelling` until what it
        does has really ended.

        To cancel a run that is cancelled already changes nothing. Raises `NotFound`, or `Conflict`
        if it ended otherwise.
        """
        return await _to_the_end(self._cancel_run(run_id, by, mode, authentication))

    async def _cancel_run(
        self, run_id: str, by: str, mode: CancelMode, authentication: Authentication
    ) -> Run:
        while True:
            run = await self.run(run_id)
            thread = await self.storage.thread(run.thread_id)
            if run.status in (RunStatus.CANCELLED, RunStatus.CANCELLING) or thread is None:
                return run
            waits = run.status is RunStatus.INTERRUPTED and transitions.is_its_own(run, thread)
            if run.status not in UNFINISHED and not waits:
                raise Conflict(
                    f"The run '{run_id}' has ended as '{run.status}', so there is nothing to cancel.",
                    run_status=run.status,
                    ended_at=run.ended_at,
                )
            stopped = await self._cancel(thread, [run], by, mode, authentication)
            if stopped is not None:
                return stopped[0]

    async def cancel_thread(
        self,
        thread_id: str,
        *,
        by: str,
        mode: CancelMode = CancelMode.INTERRUPT,
        authentication: Authentication = Authentication.LOCAL,
    ) -> tuple[Run, ...]:
        """Stop what runs on the thread, what it waits for a person to decide, and what is due and
        waits its turn; return those runs.

        Runs that are to start later are left. Raises `NotFound`.
        """
        return await _to_the_end(self._cancel_thread(thread_id, by, mode, authentication))

    async def _cancel_thread(
        self, thread_id: str, by: str, mode: CancelMode, authentication: Authentication
    ) -> tuple[Run, ...]:
        while True:
            thread = await self.storage.thread(thread_id)
            if thread is None:
                raise NotFound(f"There is no thread '{thread_id}'.")
            runs = await self._ahead(thread)
            if thread.status is ThreadStatus.INTERRUPTED and thread.run_id is not None:
                runs.insert(0, await self.run(thread.run_id))
            if not runs:
                return ()
            stopped = await self._cancel(thread, runs, by, mode, authentication)
            if stopped is not None:
                return stopped

    async def _cancel(
        self,
        thread: Thread,
        runs: list[Run],
        by: str,
        mode: CancelMode,
        authentication: Authentication,
    ) -> tuple[Run, ...] | None:
        """The runs as they are now; None if somebody else was faster."""
        asked = await self._asked_by(thread, runs)
        change, stopped = transitions.cancelled(
            thread,
            runs,
            asked,
            mode=mode,
            by=by,
            now=self._clock.now(),
            authentication=authentication,
        )
        try:
            await self.storage.commit(change)
        except Conflict:
            return None
        await self._ring(stopped)
        return stopped

    async def _asked_by(
        self, thread: Thread, runs: Iterable[Run]
    ) -> list[tuple[Approval, Timer | None]]:
        """What the thread waits for, if it is these runs that ask; each with its timer."""
        asked = (
            await pending_of(self.storage, thread)
            if any(run.run_id == thread.run_id for run in runs)
            else []
        )
        return [(approval, await self.storage.timer(approval.approval_id)) for approval in asked]

    async def _ring(self, stopped: Iterable[Run]) -> None:
        for run in stopped:
            if run.status in ACTIVE:
                await self.engine.cancel(run)
        # Where a run had not begun, the next one may.
        self.engine.wake()

    async def distrust(self, thread_id: str, error: Tampered) -> None:
        """Something of the thread is not what was stored: stop what runs on it, and let nothing run
        on it any more."""
        await self.storage.distrust(thread_id, error.message)
        await self.engine.abandon(thread_id)
        await self.storage.distrust(thread_id, error.message, stopped=True)

    async def _end_unreadable(self) -> None:
        """A thread whose active run was tampered with is busy with nothing: no list shows such a
        run, so no engine takes it up."""
        cursor: str | None = None
        while True:
            page = await self.storage.threads(status=ThreadStatus.BUSY, cursor=cursor)
            for thread in page.rows:
                if (reason := await self._reason_to_distrust(thread)) is not None:
                    await self.storage.distrust(thread.thread_id, reason, stopped=True)
            cursor = page.next
            if cursor is None:
                return

    async def _reason_to_distrust(self, thread: Thread) -> str | None:
        try:
            if thread.run_id is not None:
                await self.storage.run(thread.run_id)
        except Tampered as error:
            return error.message
        return thread.tampered

    def now(self) -> datetime:
        """The time, by the clock that runs are started by."""
        return self._clock.now()

    def new_id(self) -> str:
        """A new id, by the same clock."""
        return self._clock.new_id()

    # ── reading and deleting ──────────────────────────────────────────────────────────────────────

    async def run(self, run_id: str) -> Run:
        """The run. Raises `NotFound`."""
        run = await self.storage.run(run_id)
        if run is None:
            raise NotFound(f"There is no run '{run_id}'.")
        return run

    async def state(self, thread: Thread, checkpoint_id: str | None = None) -> StateSnapshot:
        """The thread's state at its head, or at a checkpoint. Raises `NotFound` for one that it
        does not have."""
        snapshot = await self._snapshot(thread, checkpoint_id)
        if snapshot is None:
            raise NotFound(f"The thread '{thread.thread_id}' has no checkpoint '{checkpoint_id}'.")
        return snapshot

    async def _snapshot(self, thread: Thread, checkpoint_id: str | None) -> StateSnapshot | None:
        snapshot = await self._agent(thread).aget_state(
            thread_config(thread.thread_id, checkpoint_id)
        )
        # Of a checkpoint that is not there, LangGraph gives an empty state.
        return snapshot if checkpoint_id is None or snapshot.metadata is not None else None

    async def history(
        self, thread: Thread, *, limit: int, before: str | None
    ) -> list[StateSnapshot]:
        """The thread's states, newest first; `before` is a checkpoint id."""
        cursor = thread_config(thread.thread_id, before) if before else None
        states = self._agent(thread).aget_state_history(
            thread_config(thread.thread_id), before=cursor, limit=limit
        )
        return [state async for state in states]

    async def delete(
        self, thread: Thread, *, by: str, authentication: Authentication = Authentication.LOCAL
    ) -> None:
        """Remove the thread and everything of it, but for what the audit chain says of it. Raises
        `ThreadBusy` while a run is active."""
        if thread.status is ThreadStatus.BUSY:
            raise ThreadBusy(
                f"A run is active on the thread '{thread.thread_id}'. Wait for its end, or cancel it, then delete the thread."
            )
        erased = AuditEntry(
            at=self._clock.now(),
            action=AuditAction.ERASED,
            authentication=authentication,
            actor=by,
            thread_id=thread.thread_id,
        )
        await self.storage.commit(
            Change(unchanged=(thread,), erase=thread.thread_id, audit=(erased,))
        )

    def _agent(self, thread: Thread) -> Agent:
        name = thread.agent or next(iter(self.agents))
        if name not in self.agents:
            raise NotFound(
                f"The thread '{thread.thread_id}' belongs to the agent '{name}', which this server does not have."
            )
        return self.agents[name]


def _decisions(count: int) -> str:
    return "a decision" if count == 1 else f"{count} decisions"


async def _to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it whole, even if the caller goes away meanwhile: between a commit and the engine's
    knowing of it nobody may be lost."""
    return await asyncio.shield(asyncio.create_task(coroutine))
