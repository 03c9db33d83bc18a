"""The runs of all threads: submitted, cancelled, read. The storage keeps their rows, and the engine
works on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from langgraph.types import StateSnapshot
from msgspec import structs

from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key, is_about_a_key, stored_outcome
from assent.approvals.requesters import each_once
from assent.core.access import EVERYTHING, Owner, Sight
from assent.core.approval import Approval, Outcome
from assent.core.audit import Actor, AuditAction, AuditEntry
from assent.core.blocks import check_blocks
from assent.core.clock import Clock
from assent.core.decisions import Decision, Reject
from assent.core.digest import call_digest
from assent.core.errors import (
    AssentError,
    Conflict,
    InvalidDecision,
    InvalidInput,
    InvalidRequest,
    NotFound,
    Tampered,
    ThreadBusy,
    ThreadPaused,
)
from assent.core.events import Checkpoint, RunResumed
from assent.core.events import decode as decode_event
from assent.core.json import Json, JsonObject
from assent.core.metadata import check_metadata, without_title
from assent.core.rows import (
    ACTIVE,
    UNFINISHED,
    CancelMode,
    Row,
    Run,
    RunStatus,
    Thread,
    ThreadStatus,
    Timer,
)
from assent.core.run_input import AFTER_ITS_END, RunInput, given_in
from assent.core.titles import with_title
from assent.core.trace_parent import current_trace_parent
from assent.graph.chat_decisions import decision_from_messages
from assent.graph.checkpoints import at_checkpoint, head_of, saver_of
from assent.graph.forking import Standing
from assent.graph.inputs import InputShape
from assent.graph.kinds import Agent, first_of, gated_graph, refuse_workflow
from assent.graph.outside_messages import spoken
from assent.graph.reading import read_state, sent_at
from assent.graph.updating import check_may_go_on, node_to_write_as
from assent.runs import transitions
from assent.runs.approvals import Approvals
from assent.runs.assistants import Assistants
from assent.runs.distrust import distrust
from assent.runs.engine import Engine
from assent.runs.inputs import Shapes, check_given
from assent.runs.keys import may_run
from assent.runs.observed import Observed
from assent.runs.recursion import RecursionLimits
from assent.runs.schedules import Schedules
from assent.runs.shielding import shielded
from assent.runs.states import requesters_at, run_id_at, thread_config
from assent.runs.temporary import Temporary
from assent.runs.transitions import Submission
from assent.runs.uploads import Uploads, uploads_of
from assent.storage.base import Caps, Change, QueueLimits, Storage, together
from assent.storage.matching import Matching, MatchingStorage
from assent.storage.seen import SeenStorage

CANCEL_STEP = 200
"""The most queued runs that are cancelled in one transaction: it takes about as long as others can
wait unnoticed, a few hundredths of a second."""

TAKEN_AS_VOTE = "Your message was taken as your vote, and others must agree before anything runs. "

INSTEAD_OF_A_DECISION = (
    '; or send "if_paused": "reject" to reject with this message as the reason, '
    '"cancel" to drop what the thread waits for, or "wait" with "on_busy": "enqueue" '
    "to have this message wait until it was decided."
)

CheckWebhook = Callable[[str], object]
"""Raises `InvalidRequest` for a URL that is not told of the ends of runs."""

Extra = Callable[[Run], Change]
"""Makes a change to commit together with a new run, given its row."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was submitted, and a number that none of its events is below."""

    run: Run
    first_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A submission as a change, and what to give the engine once it is committed: the run with the
    thread's row, and the runs that it stops. `first_seq` is a number that none of the run's events
    is below; 0 if its first event is in the change."""

    change: Change
    run: Run
    thread: Thread | None = None
    stopped: tuple[Run, ...] = ()
    first_seq: int = 0


class Runs:
    """Runs agents on threads. `opening.open_runs` makes one."""

    def __init__(
        self,
        storage: Storage,
        agents: Mapping[str, Agent],
        engine: Engine,
        approvals: Approvals,
        *,
        clock: Clock,
        recursion: RecursionLimits,
        drain_seconds: float,
        queue: QueueLimits,
        caps: Caps,
        shapes: Shapes,
        uploads: Uploads,
        check_webhook: CheckWebhook,
        temporary: Temporary,
    ) -> None:
        self.storage = self._whole = storage
        self.agents = agents
        self.engine = engine
        self.approvals = approvals
        self.clock = clock
        self._uploads = uploads
        self._observed = Observed(storage, clock)
        self._recursion = recursion
        self._drain_seconds = drain_seconds
        self._queue_limits = queue
        self._caps = caps
        self._shapes = shapes
        self.check_webhook = check_webhook
        self.temporary = temporary

    def seen_by(self, sight: Sight, matching: Matching | None = None) -> Runs:
        """The same runs, as a request with this sight may see them, and change what it sees; with
        `matching`, only those on threads that match."""
        if sight == EVERYTHING and matching is None:
            return self
        seen = copy(self)
        storage = SeenStorage(self._whole, sight, self._caps)
        if matching is not None:
            storage = MatchingStorage(self._whole, sight, self._caps, matching)
        seen.storage = storage
        seen.approvals = self.approvals.seen_by(storage, sight)
        return seen

    @property
    def schedules(self) -> Schedules:
        """The schedules that are seen."""
        return Schedules(
            self.storage,
            self.clock,
            self._submit_scheduled,
            self.agent_for,
            self._check_scheduled,
            self._check_not_hidden,
            self._may_run,
            self.assistants,
        )

    @property
    def assistants(self) -> Assistants:
        """The assistants that are seen."""
        return Assistants(self.storage, self.clock, self._shapes, self._recursion)

    @property
    def uploads(self) -> Uploads:
        """The uploads that are seen."""
        caps = None if self.storage is self._whole else self._caps
        return replace(self._uploads, storage=self.storage, caps=caps)

    @property
    def observed(self) -> Observed:
        """The runs that are seen of those that programs make by themselves."""
        return self._observed.seen_by(self.storage)

    async def drain(self) -> None:
        """Take no more runs, let the active ones reach the end of a step, and tell whoever follows
        them that this is all for now."""
        await self.engine.drain(self._drain_seconds)
        self.storage.end_listening()

    async def distrust(self, thread_id: str, error: Tampered) -> None:
        """Let nothing run any more on a thread of which something was tampered with."""
        await distrust(self.storage, self.engine, thread_id, error)

    # ── submitting ────────────────────────────────────────────────────────────────────────────────

    @shielded
    async def submit(self, submission: Submission, *, extra: Extra | None = None) -> Started:
        """Take new input; it is durable when this returns. Or return the run that the same request
        under its key started before.

        With `extra` rows, `Conflict` is raised if anything has moved, so that the caller can
        compute them anew. Raises `ThreadBusy`, `ThreadPaused`, `NotFound` for an unknown agent or
        checkpoint, `InvalidRequest` for another agent than the thread's, too high a recursion limit
        or input that the agent does not take, `QueueFull`, or `Tampered`.
        """
        return await self._once(submission.key, lambda: self._submit(submission, extra))

    async def _submit(self, submission: Submission, extra: Extra | None) -> Started:
        submission = await self.assistants.applied(submission)
        self._recursion.check_requested(submission.recursion_limit)
        while True:
            thread = await self._thread_of(submission)
            if thread is not None and submission.given.temporary:
                # Only a thread that the run makes is its own.
                given = structs.replace(submission.given, temporary=False)
                submission = replace(submission, given=given)
            agent = self.agent_for(submission, thread)
            if submission.checkpoint_id is not None:
                refuse_workflow(self.agents[agent], agent)
                submission = await self._going_back(submission, thread)
            starts_later = submission.due_at is not None and submission.due_at > self.clock.now()
            if thread and thread.status is ThreadStatus.INTERRUPTED and not starts_later:
                if submission.if_paused in ("refuse", "reject"):
                    return await self._answer_pause(submission, thread)
                if submission.if_paused == "wait":
                    if submission.on_busy == "reject":
                        raise await self._paused(thread)
                    starts_later = True
            await self.check_input(submission, agent)
            submission = await self._put_aside(submission, agent)
            try:
                with self.engine.reserve() as worker:
                    if starts_later:
                        prepared = await self._queue(submission, thread, agent)
                    else:
                        prepared = await self._start(submission, thread, agent, worker)
                    uses = await self._uses(submission, agent, prepared.run)
                    return await self._commit(prepared, submission.key, extra, uses)
            except Conflict as error:
                can_retry = extra is None
                if not can_retry or type(error) is not Conflict or is_about_a_key(error):
                    raise
                await self._check_not_hidden(submission.thread_id)

    async def _check_not_hidden(self, thread_id: str | None) -> None:
        """Raise `NotFound` if there is a thread with this id, and it is not seen here: a change
        that begins it anew fails however often it is tried."""
        if self.storage is self._whole or not thread_id:
            return
        if await self.storage.thread(thread_id) is None and await self._whole.thread(thread_id):
            raise no_thread(thread_id)

    async def _may_run(self, owner: Owner) -> bool:
        """True unless it is known that the person may not run agents any more."""
        return await may_run(self._whole, self.approvals.people, owner, self.clock.now())

    async def _once(self, key: Key | None, start: Callable[[], Awaitable[Started]]) -> Started:
        """Start a run, unless the same request under this key has started one."""
        if (known := await stored_outcome(self.storage, key)) is not None:
            return await self._started_before(known)
        try:
            return await start()
        except AssentError:
            # The same request may have started it a moment ago.
            if (known := await stored_outcome(self.storage, key)) is not None:
                return await self._started_before(known)
            raise

    async def _started_before(self, outcome: Outcome) -> Started:
        if outcome.run_id is None:
            raise await self._paused(await self.thread(outcome.thread_id), TAKEN_AS_VOTE)
        return Started(await self.run(outcome.run_id), outcome.first_seq)

    async def _thread_of(self, submission: Submission) -> Thread | None:
        if not submission.thread_id:
            return None
        thread = await self.storage.thread(submission.thread_id)
        if thread is not None:
            if thread.tenant != submission.by.tenant:
                raise no_thread(thread.thread_id)
            thread.check_trusted()
        return thread

    async def _in_tenant(self, thread_id: str, by: Actor) -> Thread:
        """The thread, if it is one of their tenant: a program sees those of all."""
        thread = await self.thread(thread_id)
        if thread.tenant != by.tenant:
            raise no_thread(thread_id)
        thread.check_trusted()
        return thread

    async def _put_aside(self, submission: Submission, agent: str) -> Submission:
        """The submission with uploads in place of the bytes of files."""
        keys = self._shapes[agent].messages_keys
        given = await self.uploads.put_aside(submission.given, keys, submission.by.owner)
        return replace(submission, given=given)

    async def _uses(self, submission: Submission, agent: str, run: Run) -> Change:
        keys = self._shapes[agent].messages_keys
        return await self.uploads.uses(submission.given, keys, run.thread_id)

    async def _commit(
        self,
        prepared: Prepared,
        key: Key | None = None,
        extra: Extra | None = None,
        uses: Change | None = None,
    ) -> Started:
        change, run = prepared.change, prepared.run
        if uses is not None:
            change = together(change, uses)
        if run.status is RunStatus.PENDING:
            change = replace(change, queue=self._queue_limits)
        if extra is not None:
            change = together(change, extra(run))
        if key is not None:
            # What is stored with the change cannot have the numbers that its events will get.
            first_seq = prepared.first_seq or await self._next_seq(run)
            outcome = Outcome(
                thread_id=run.thread_id, run_id=run.run_id, status=run.status, first_seq=first_seq
            )
            change = together(change, Change(rows=(key.answer(outcome, self.clock.now()),)))
        numbers = await self.storage.commit(change)
        self.engine.submit(prepared.run, prepared.thread)
        await self._stop(prepared.stopped)
        return Started(run, prepared.first_seq or numbers[0])

    async def run_schedule(
        self, schedule_id: str, *, by: str, known_to: Sequence[str] = (), key: Key | None = None
    ) -> Run:
        """Start a run of the schedule now; or return the one that the same request under this `key`
        started. Raises what `Schedules.run` does."""

        async def start() -> Started:
            run = await self.schedules.run(schedule_id, by=by, known_to=known_to, key=key)
            return Started(run, first_seq=0)

        return (await self._once(key, start)).run

    async def _submit_scheduled(self, submission: Submission, extra: Extra) -> Run:
        return (await self.submit(submission, extra=extra)).run

    def agent_for(self, submission: Submission, thread: Thread | None) -> str:
        """The name of the agent that takes the submission. Raises `NotFound`, or `InvalidRequest`
        if the thread belongs to another."""
        belongs_to = thread.agent if thread is not None else None
        name = submission.agent or belongs_to or first_of(self.agents)
        if name not in self.agents:
            raise NotFound(f"There is no agent '{name}'. There are: {', '.join(self.agents)}.")
        if belongs_to is not None and name != belongs_to:
            raise InvalidRequest(
                f"The thread belongs to the agent '{belongs_to}', so '{name}' cannot take it. "
                "Start a new thread."
            )
        return name

    def shape_of(self, agent: str) -> InputShape:
        """The input that the agent takes. Raises `NotFound`."""
        if agent not in self._shapes:
            raise NotFound(f"There is no agent '{agent}'. There are: {', '.join(self.agents)}.")
        return self._shapes[agent]

    async def check_input(self, submission: Submission, agent: str) -> None:
        """Raise `InvalidInput` if the agent does not take the submission's input, and
        `InvalidRequest` if its webhook is told nothing."""
        given = submission.given
        if given.is_empty and submission.checkpoint_id is None:
            raise InvalidInput(
                "Send a 'message' or an 'input', or a 'checkpoint_id' to go on from."
            )
        if given.webhook is not None:
            self.check_webhook(given.webhook)
        await check_given(self._shapes[agent], given)

    async def _check_scheduled(self, submission: Submission, agent: str) -> None:
        await self.check_input(submission, agent)
        if uploads_of(submission.given, self._shapes[agent].messages_keys):
            raise InvalidInput(
                "A schedule takes no uploads: nothing would refer to them until its first run, and "
                "they would be gone by then. Send a URL, or base64."
            )

    async def _going_back(self, submission: Submission, thread: Thread | None) -> Submission:
        """The submission with the requesters of the checkpoint that it goes on from."""
        snapshot = await self._snapshot(thread, submission.checkpoint_id) if thread else None
        if snapshot is None:
            id = submission.thread_id
            raise NotFound(
                f"The thread '{id}' has no checkpoint '{submission.checkpoint_id}'. "
                f"GET /threads/{id}/history lists those that it has."
            )
        if submission.given.is_empty:
            check_may_go_on(snapshot.metadata)
        requesters = each_once(submission.requested_by, requesters_at(snapshot))
        return replace(submission, requested_by=requesters)

    async def _start(
        self, submission: Submission, thread: Thread | None, agent: str, worker: str | None
    ) -> Prepared:
        """The run starts now; or, if others of its thread go first, as `on_busy` says."""
        if thread is None:
            return await self._start_now(None, self._new_run(submission, agent), worker, submission)
        if thread.status is ThreadStatus.INTERRUPTED and thread.run_id is not None:
            paused = await self.run(thread.run_id)
            return await self._replace(submission, thread, agent, [paused], CancelMode.INTERRUPT)
        if thread.status is ThreadStatus.BUSY and submission.on_busy == "enqueue":
            # However many wait there, none of them has to be read.
            return await self._queue(submission, thread, agent)
        ahead = await self._ahead(thread)
        if ahead:
            return await self._go_behind(submission, thread, agent, ahead)
        return await self._start_now(thread, self._new_run(submission, agent), worker, submission)

    async def _start_now(
        self, thread: Thread | None, run: Run, worker: str | None, submission: Submission
    ) -> Prepared:
        change, busy = transitions.submitted(
            thread, run, worker, self.clock.now(), metadata=submission.metadata
        )
        first_seq = 0 if worker is not None else await self._next_seq(run)
        (run,) = (row for row in change.rows if isinstance(row, Run))
        return Prepared(change=change, run=run, thread=busy, first_seq=first_seq)

    async def _queue(self, submission: Submission, thread: Thread | None, agent: str) -> Prepared:
        run = self._new_run(submission, agent)
        change, _ = transitions.queued(thread, run, self.clock.now(), metadata=submission.metadata)
        return Prepared(change=change, run=run, first_seq=await self._next_seq(run))

    async def _go_behind(
        self, submission: Submission, thread: Thread, agent: str, ahead: Sequence[Run]
    ) -> Prepared:
        match submission.on_busy:
            case "enqueue":
                return await self._queue(submission, thread, agent)
            case "interrupt" | "rollback":
                mode = CancelMode(submission.on_busy)
                if await self._cancel_most(thread.thread_id, submission.by, mode):
                    ahead = await self._ahead(thread)
                return await self._replace(submission, thread, agent, ahead, mode)
        id = thread.thread_id
        raise ThreadBusy(
            f"A run is active on the thread '{id}', or waits its turn there. Wait for its end, "
            f"cancel it with POST /threads/{id}/cancel, or say what is to be done: "
            '"on_busy": "enqueue" waits behind it, "interrupt" cancels it, '
            'and "rollback" also undoes what it did to the state.',
            runs=[run.run_id for run in ahead],
        )

    async def _replace(
        self,
        submission: Submission,
        thread: Thread,
        agent: str,
        others: Sequence[Run],
        mode: CancelMode,
    ) -> Prepared:
        """The other runs are cancelled, and the new one starts when they have ended."""
        queued = await self._queue(submission, thread, agent)
        waiting = await self._waiting_for(thread, others)
        cancelling, stopped = transitions.cancelled(
            thread, others, waiting, mode=mode, by=submission.by, now=self.clock.now()
        )
        return replace(queued, change=together(cancelling, queued.change), stopped=stopped)

    async def _next_seq(self, run: Run) -> int:
        # There may be no such thread yet, for anybody to see.
        return await self._whole.last_seq(run.thread_id) + 1

    async def _ahead(self, thread: Thread) -> list[Run]:
        """The runs of the thread that go before a new one: those that are active, and those that
        are due and wait their turn."""
        now = self.clock.now()
        ahead = await self.storage.runs(thread_id=thread.thread_id, status=UNFINISHED, due_by=now)
        return list(ahead)

    def _new_run(self, submission: Submission, agent: str) -> Run:
        thread_id = submission.thread_id or self.clock.new_id()
        return transitions.new_run(
            submission,
            thread_id,
            agent,
            self.clock.new_id(),
            self.clock.now(),
            trace=current_trace_parent(),
        )

    async def create_thread(
        self,
        thread_id: str | None,
        *,
        owner: Owner,
        metadata: Mapping[str, Any],
        known_to: Sequence[str] = (),
        key: Key | None = None,
    ) -> Thread:
        """A new thread, without a run; or the one that the same request under its key made before.
        What is done on it can be traced to those who share the secret of whoever made it. Raises
        `Conflict` if one with this id exists."""
        now = self.clock.now()
        thread = transitions.new_thread(thread_id or self.clock.new_id(), owner, metadata, now)
        thread = replace(thread, requested_by=tuple(known_to))
        rows: tuple[Row, ...] = (thread,)
        if key is not None:
            made = Outcome(thread_id=thread.thread_id, status=thread.status)
            rows = (thread, key.answer(made, now))
        try:
            if (known := await stored_outcome(self.storage, key)) is None:
                await self.storage.commit(Change(rows=rows))
        except Conflict:
            if (known := await stored_outcome(self.storage, key)) is None:
                await self._check_not_hidden(thread_id)
                raise
        return thread if known is None else await self.thread(known.thread_id)

    @shielded
    async def change_thread(
        self, thread_id: str, changes: Mapping[str, Json], *, title: str | None = None
    ) -> Thread:
        """Give fields of the thread's metadata other values, or take those off that are None, and
        the thread another title, if one is given; the thread as it is then.

        That is no use of the thread: it is kept no longer for it. Raises `NotFound`, `Tampered`, or
        `InvalidRequest` for too much of it.
        """
        removed = {name for name, value in changes.items() if value is None}
        while True:
            thread = await self.thread(thread_id)
            thread.check_trusted()
            merged = {**thread.metadata, **changes}
            metadata = {name: value for name, value in merged.items() if name not in removed}
            check_metadata("thread", without_title(metadata))
            metadata = with_title(metadata, title)
            changed = replace(thread, metadata=metadata, version=thread.version + 1)
            try:
                await self.storage.commit(Change(rows=(changed,)))
                return changed
            except Conflict:
                # A run has begun or ended meanwhile. What it wrote stays.
                continue

    @shielded
    async def fork(
        self,
        thread_id: str,
        checkpoint_id: str | None = None,
        *,
        target: str | None = None,
        by: Actor,
        metadata: Mapping[str, Any],
        key: Key | None = None,
    ) -> Started:
        """Begin a new thread with the state of this one at a checkpoint, or at its head; or return
        the run that did so for the same request under this `key`.

        The run that does it ends at once: if that state waits for a person, it pauses and asks
        anew; otherwise the thread is idle. Raises `NotFound` for an unknown thread or checkpoint,
        `InvalidRequest` for a thread without any, `Conflict` if the thread `target` exists, or
        `Tampered`.
        """
        submission = Submission(
            given=RunInput(), by=by, thread_id=target, metadata=metadata, key=key
        )
        return await self._once(key, lambda: self._fork(thread_id, checkpoint_id, submission))

    async def _fork(
        self, thread_id: str, checkpoint_id: str | None, submission: Submission
    ) -> Started:
        source = await self._in_tenant(thread_id, submission.by)
        snapshot = await self.state(source, checkpoint_id)
        found_id = snapshot.config["configurable"].get("checkpoint_id")
        if found_id is None:
            raise InvalidRequest(
                f"Nothing has happened on the thread '{thread_id}' yet, "
                "so there is no state to fork from."
            )
        # All that the state was made of is in the fork too, also what nobody has agreed with yet.
        requesters = each_once(requesters_at(snapshot), source.requested_by)
        submission = replace(submission, requested_by=requesters)
        agent = self.agent_for(submission, source)
        refuse_workflow(self.agents[agent], agent)
        run = self._new_run(submission, agent)
        place = {"fork_of": thread_id, "checkpoint_id": found_id}
        run = replace(run, input={**await self._inherited_at(snapshot), **place})
        try:
            with self.engine.reserve() as worker:
                # The conversation is the same up to there, and so is what it is called.
                metadata = with_title(submission.metadata, source.title)
                titled = replace(submission, metadata=metadata)
                prepared = await self._start_now(None, run, worker, titled)
                uses = await self.uploads.uses_of_fork(thread_id, run.thread_id)
                return await self._commit(prepared, submission.key, uses=uses)
        except Conflict as error:
            await self._check_not_hidden(run.thread_id)
            raise Conflict(
                f"There is a thread '{run.thread_id}' already. Fork to a new one."
            ) from error

    async def _inherited_at(self, snapshot: StateSnapshot) -> JsonObject:
        """The context, config and so on that the state's run was given, if its row is left."""
        run_id = run_id_at(snapshot)
        run = await self.storage.run(run_id) if run_id else None
        inherited = given_in(run.input).inherited() if run is not None else {}
        return {name: value for name, value in inherited.items() if name not in AFTER_ITS_END}

    async def asked_at(
        self, thread: Thread, checkpoint_id: str
    ) -> tuple[Standing, Sequence[Approval]]:
        """The next thing that a fork from a state of the thread could do, and what it would ask.
        Nothing is changed.

        Raises `NotFound` for an unknown checkpoint, and `InvalidRequest` for a workflow, which
        cannot be forked.
        """
        refuse_workflow(self._agent(thread), thread.agent)
        snapshot = await self.state(thread, checkpoint_id)
        inherited = given_in(await self._inherited_at(snapshot))
        agent = thread.agent or first_of(self.agents)
        return await self.approvals.asked_at(agent, inherited, thread.thread_id, checkpoint_id)

    # ── writing to the state ──────────────────────────────────────────────────────────────────────

    @shielded
    async def update_state(
        self,
        thread_id: str,
        values: JsonObject,
        *,
        by: Actor,
        as_node: str | None = None,
        checkpoint_id: str | None = None,
        key: Key | None = None,
    ) -> Started:
        """Write values to the thread's state, at its head or at a checkpoint, as a node of the
        graph; or return the run that did so for the same request under this `key`.

        The run that does it ends at once, or pauses: whatever the new state waits for is asked,
        also if it was approved before. Raises `NotFound` for an unknown thread or checkpoint,
        `ThreadBusy`, `ThreadPaused`, `InvalidRequest` for values that are no input of the graph, a
        node that it does not have, or a workflow, or `Tampered`.
        """
        update: JsonObject = {"as_node": as_node} if as_node else {}
        submission = Submission(
            given=RunInput(input=values),
            by=by,
            thread_id=thread_id,
            checkpoint_id=checkpoint_id,
            update=update,
            key=key,
        )
        return await self._once(key, lambda: self._update_state(submission))

    async def _update_state(self, submission: Submission) -> Started:
        def written(run: Run) -> Change:
            return Change(audit=(_state_written(run, submission),))

        while True:
            thread = await self._in_tenant(str(submission.thread_id), submission.by)
            if thread.status is ThreadStatus.INTERRUPTED:
                raise await self._paused(
                    thread,
                    otherwise=', or drop what it waits for with {"values": null, "as_node": '
                    '"__end__"}; then write to its state.',
                )
            name = self.agent_for(submission, thread)
            placed = await self._placed(submission, thread, name)
            # Not twice, if somebody else is faster.
            submission = await self._put_aside(submission, name)
            placed = replace(placed, given=submission.given)
            try:
                with self.engine.reserve() as worker:
                    prepared = await self._start(placed, thread, name, worker)
                    uses = await self._uses(placed, name, prepared.run)
                    return await self._commit(prepared, placed.key, written, uses)
            except Conflict as error:
                if type(error) is not Conflict or is_about_a_key(error):
                    raise

    async def _placed(self, submission: Submission, thread: Thread, name: str) -> Submission:
        """The checked update, with the checkpoint that it is written to, if there is any."""
        agent, update = self.agents[name], submission.update or {}
        refuse_workflow(agent, name)
        await check_given(self._shapes[name], submission.given, is_update=True)
        config = thread_config(thread.thread_id)
        if submission.checkpoint_id is None:
            saved = await head_of(agent, config)
        else:
            saved = await saver_of(agent).aget_tuple(
                at_checkpoint(config, submission.checkpoint_id)
            )
        node_to_write_as(agent, saved, update.get("as_node"))
        if saved is None and submission.checkpoint_id is None:
            return submission
        found = saved.checkpoint["id"] if saved else submission.checkpoint_id
        return await self._going_back(replace(submission, checkpoint_id=found), thread)

    # ── new input on a paused thread ──────────────────────────────────────────────────────────────

    async def _answer_pause(self, submission: Submission, thread: Thread) -> Started:
        """Take the message as a decision, if the caller or the agent says that it is one. Otherwise
        new input decides nothing."""
        decision = await self._decision_in(submission, thread)
        await self._check_inherits(submission.given, thread)
        given = await self.uploads.put_aside(submission.given, frozenset(), submission.by.owner)
        verdict = Verdict(
            decisions=decision,
            by=submission.by,
            for_all=True,
            message=given.message or "",
            key=submission.key,
            also=await self.uploads.uses(given, frozenset(), thread.thread_id),
        )
        try:
            outcome = await self.approvals.decide(thread.thread_id, verdict)
        except InvalidDecision as error:
            # A question of a graph that has no room for a rejection, say.
            raise InvalidDecision(
                f"{error.message} So this message decides nothing: "
                f"answer with POST /threads/{thread.thread_id}/resume, "
                'or send "if_paused": "cancel" to drop what the thread waits for.',
                **error.details,
            ) from error
        if outcome.run_id is None:
            raise await self._paused(thread, TAKEN_AS_VOTE)
        return Started(await self.run(outcome.run_id), outcome.first_seq)

    async def _decision_in(self, submission: Submission, thread: Thread) -> Decision:
        graph = gated_graph(self._agent(thread))
        if submission.if_paused == "reject":
            if submission.checkpoint_id is not None:
                raise InvalidRequest(
                    "A rejected call goes on from where it is, so it cannot go on from a "
                    'checkpoint. To drop what is pending, send "if_paused": "cancel" with the '
                    '"checkpoint_id".'
                )
            if submission.given.has_input:
                raise InvalidInput(
                    "The reason of a rejection is a 'message'. To drop what is pending and send "
                    'an \'input\', send "if_paused": "cancel".'
                )
            return Reject(submission.given.text)
        takes_decisions = graph is not None and graph.takes_chat_decisions
        message = submission.given.message
        if submission.checkpoint_id is None and takes_decisions and message:
            return decision_from_messages([spoken(message, "")])
        raise await self._paused(thread)

    async def _check_inherits(self, given: RunInput, thread: Thread) -> None:
        """Raise `InvalidInput` if a message that decides brings another context, config or
        breakpoints than the run that asked was shown with."""
        if isinstance(given.message, list):
            check_blocks(given.message)
        asked = structs.replace(given, user=None, assistant=None).inherited()
        if not asked or thread.run_id is None:
            return
        paused = given_in((await self.run(thread.run_id)).input).inherited()
        changed = [name for name in asked if asked[name] != paused.get(name)]
        if changed:
            raise InvalidInput(
                f"This message decides what the thread waits for, and that goes on with the "
                f"'{changed[0]}' that it was asked with. Leave '{changed[0]}' out; or send "
                '"if_paused": "cancel" to drop what is pending.'
            )

    async def _paused(
        self, thread: Thread, first: str = "", otherwise: str = INSTEAD_OF_A_DECISION
    ) -> ThreadPaused:
        approvals = await self.approvals.pending(thread)
        count = "a decision" if len(approvals) == 1 else f"{len(approvals)} decisions"
        return ThreadPaused(
            f"{first}The thread '{thread.thread_id}' waits for {count}. "
            f"Decide with POST /threads/{thread.thread_id}/resume{otherwise}",
            approvals=approvals,
        )

    # ── cancelling ────────────────────────────────────────────────────────────────────────────────

    @shielded
    async def cancel_run(
        self, run_id: str, by: Actor, mode: CancelMode = CancelMode.INTERRUPT
    ) -> Run:
        """Stop the run: at once if it has not begun; otherwise it is `cancelling` until what it
        does has really ended.

        Cancelling is idempotent. Raises `NotFound`, or `Conflict` if the run ended otherwise.
        """
        while True:
            run = await self.run(run_id)
            if run.status in (RunStatus.CANCELLED, RunStatus.CANCELLING):
                return run
            thread = await self.thread(run.thread_id)
            waits = run.status is RunStatus.INTERRUPTED and transitions.is_its_own(run, thread)
            if run.status not in UNFINISHED and not waits:
                raise Conflict(
                    f"The run '{run_id}' has ended as '{run.status}', "
                    "so there is nothing to cancel.",
                    run_status=run.status,
                    ended_at=run.ended_at,
                )
            stopped = await self._cancel(thread, [run], by, mode)
            if stopped is not None:
                return stopped[0]

    @shielded
    async def cancel_thread(
        self, thread_id: str, by: Actor, mode: CancelMode = CancelMode.INTERRUPT
    ) -> tuple[Run, ...]:
        """Stop what runs on the thread, what waits for a person, and what is due and waits its
        turn; return those runs.

        Runs that are to start later are left. Raises `NotFound`.
        """
        queued: list[Run] = []
        while True:
            queued += await self._cancel_most(thread_id, by, mode)
            thread = await self.thread(thread_id)
            runs = await self._ahead(thread)
            if thread.status is ThreadStatus.INTERRUPTED and thread.run_id is not None:
                runs.insert(0, await self.run(thread.run_id))
            # Also without any: a run that was active may have paused since the thread was read.
            stopped = await self._cancel(thread, runs, by, mode)
            if stopped is not None:
                return (*stopped, *reversed(queued))

    async def _cancel_most(self, thread_id: str, by: Actor, mode: CancelMode) -> list[Run]:
        """Stop what is due and waits its turn on the thread, until no more than a step is left of
        it, and return those runs.

        The newest go first, and what has the thread stays: so none of the others starts meanwhile.
        """
        cancelled: list[Run] = []
        while True:
            thread = await self.thread(thread_id)
            waiting = await self.storage.latest_runs(
                thread_id=thread_id,
                status=(RunStatus.PENDING,),
                due_by=self.clock.now(),
                limit=CANCEL_STEP,
            )
            if waiting.next is None:
                return cancelled
            queued = [run for run in waiting.rows if run.run_id != thread.run_id]
            cancelled += await self._cancel(thread, queued, by, mode) or ()

    async def _cancel(
        self, thread: Thread, runs: Sequence[Run], by: Actor, mode: CancelMode
    ) -> tuple[Run, ...] | None:
        """The runs as they are then; None if somebody else was faster."""
        waiting = await self._waiting_for(thread, runs)
        change, stopped = transitions.cancelled(
            thread, runs, waiting, mode=mode, by=by, now=self.clock.now()
        )
        try:
            await self.storage.commit(change)
        except Conflict:
            return None
        await self._stop(stopped)
        return stopped

    async def _waiting_for(
        self, thread: Thread, runs: Iterable[Run]
    ) -> list[tuple[Approval, Timer | None]]:
        """The approvals that the thread waits for, if one of these runs asked; each with its
        timer."""
        if not any(run.run_id == thread.run_id for run in runs):
            return []
        pending = await self.approvals.pending(thread)
        return [(each, await self.storage.timer(each.approval_id)) for each in pending]

    async def _stop(self, stopped: Iterable[Run]) -> None:
        for run in stopped:
            if run.status in ACTIVE:
                await self.engine.cancel(run)
        # If a run had not begun, the next one may.
        self.engine.wake()

    # ── reading and deleting ──────────────────────────────────────────────────────────────────────

    async def run(self, run_id: str) -> Run:
        """The run. Raises `NotFound`."""
        run = await self.storage.run(run_id)
        if run is None:
            raise NotFound(f"There is no run '{run_id}'.")
        return run

    async def thread(self, thread_id: str) -> Thread:
        """The thread. Raises `NotFound`."""
        thread = await self.storage.thread(thread_id)
        if thread is None:
            raise no_thread(thread_id)
        return thread

    async def state(
        self,
        thread: Thread,
        checkpoint_id: str | None = None,
        *,
        ns: Sequence[str] = (),
        subgraphs: bool = False,
        is_shown: bool = False,
    ) -> StateSnapshot:
        """The thread's state at its head, or at a checkpoint; with those of its `subgraphs`, or
        that of the subgraph with this `ns`. One that `is_shown` is looked at before anything else
        is awaited, and not changed. Raises `NotFound` for an unknown one."""
        if ns:
            config = thread_config(thread.thread_id, checkpoint_id, ns)
            if await saver_of(self._agent(thread)).aget_tuple(config) is None:
                raise NotFound(
                    f"The thread '{thread.thread_id}' has no such checkpoint of '{'|'.join(ns)}'."
                )
        snapshot = await self._snapshot(
            thread, checkpoint_id, ns=ns, subgraphs=subgraphs, is_shown=is_shown
        )
        if snapshot is None:
            raise NotFound(f"The thread '{thread.thread_id}' has no checkpoint '{checkpoint_id}'.")
        return snapshot

    async def _snapshot(
        self,
        thread: Thread,
        checkpoint_id: str | None,
        *,
        ns: Sequence[str] = (),
        subgraphs: bool = False,
        is_shown: bool = False,
    ) -> StateSnapshot | None:
        config = thread_config(thread.thread_id, checkpoint_id, ns, is_shown=is_shown)
        snapshot = await read_state(self._agent(thread), config, subgraphs=subgraphs)
        # For a checkpoint that does not exist, LangGraph gives an empty state.
        exists = checkpoint_id is None or snapshot.metadata is not None
        return snapshot if exists else None

    async def state_behind(
        self, thread: Thread, event: Checkpoint, *, is_shown: bool = False
    ) -> StateSnapshot | None:
        """The state of the graph, or of its subgraph, that the event tells of; None if it was
        removed. One that `is_shown` is looked at before anything else is awaited, and not
        changed."""
        config = thread_config(thread.thread_id, event.checkpoint_id, event.ns, is_shown=is_shown)
        snapshot = await read_state(self._agent(thread), config)
        return snapshot if snapshot.metadata is not None else None

    async def states_before(self, thread: Thread, event: RunResumed) -> list[StateSnapshot]:
        """The state that the run went on from, and behind it those of the subgraphs that had
        paused, the outer ones first. None if it was removed."""
        found = await self._last_checkpoints(thread.thread_id, event.paused_run)
        states: dict[tuple[str, ...], StateSnapshot] = {}
        for ns in sorted(found, key=len):
            around = states.get(ns[:-1])
            tasks = around.tasks if around else ()
            if ns and ns[-1] not in {f"{task.name}:{task.id}" for task in tasks}:
                # It has ended, or is in one that has.
                continue
            snapshot = await self.state_behind(thread, found[ns])
            if snapshot is not None:
                states[ns] = snapshot
        return [*states.values()] if () in states else []

    async def _last_checkpoints(
        self, thread_id: str, run_id: str
    ) -> dict[tuple[str, ...], Checkpoint]:
        """The last checkpoint of the graph, and of each of its subgraphs since, as the run has left
        them, whichever run has stored it."""
        found: dict[tuple[str, ...], Checkpoint] = {}
        while run_id and () not in found:
            latest, after, paused_run = {}, 0, ""
            while entries := await self.storage.read_log(
                thread_id, after, types=("checkpoint", "run_resumed"), run_id=run_id
            ):
                after = entries[-1].seq
                for event in map(decode_event, (entry.body for entry in entries)):
                    if isinstance(event, Checkpoint):
                        latest[event.ns] = event
                    elif isinstance(event, RunResumed):
                        paused_run = event.paused_run
            found = {**latest, **found}
            run_id = paused_run
        return found

    async def sends_at(self, thread: Thread, snapshot: StateSnapshot) -> Sequence[Any]:
        """The values that the tasks of a state were sent, by their number."""
        return await sent_at(self._agent(thread), snapshot.config)

    async def history(
        self,
        thread: Thread,
        *,
        limit: int | None = None,
        before: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        is_shown: bool = False,
    ) -> AsyncIterator[StateSnapshot]:
        """The thread's states, newest first, or those of them that have this `metadata`; `before`
        is a checkpoint id. Each is read when it is asked for; one that `is_shown` is looked at
        before anything else is awaited, and not changed. Raises `NotFound` for an unknown id."""
        config = thread_config(thread.thread_id, is_shown=is_shown)
        if before:
            await self.state(thread, before)
        cursor = thread_config(thread.thread_id, before) if before else None
        return self._agent(thread).aget_state_history(
            config, filter=dict(metadata or {}), before=cursor, limit=limit
        )

    async def copy(
        self, thread_id: str, *, by: Actor, metadata: Mapping[str, Any], key: Key | None = None
    ) -> Started | None:
        """Begin a new thread with the state of this one, as `fork` does; None if nothing has
        happened on it yet, so that there is no state."""
        thread = await self._in_tenant(thread_id, by)
        state = await self.state(thread)
        if state.config["configurable"].get("checkpoint_id") is None:
            return None
        return await self.fork(thread_id, by=by, metadata=metadata, key=key)

    async def prune(self, thread_ids: Sequence[str], by: Actor, *, keep_latest: bool) -> int:
        """Remove the threads, or with `keep_latest` all of their states but the latest, and return
        of how many. Raises `NotFound` or `ThreadBusy` if one of them is not there or busy, and then
        nothing was done.

        Of a thread that waits for a person all states are kept, since it may be rolled back.
        """
        threads = [await self.thread(each) for each in dict.fromkeys(thread_ids)]
        for thread in threads:
            self._check_may_go(thread)
        if keep_latest:
            pruned = [each for each in threads if each.status is not ThreadStatus.INTERRUPTED]
            await self.storage.prune_checkpoints([each.thread_id for each in pruned], 1)
            return len(pruned)
        for thread in threads:
            await self.delete(thread.thread_id, by)
        return len(threads)

    def _check_may_go(self, thread: Thread) -> None:
        """Raise `ThreadBusy` while a run is active, unless it is left for want of its agent."""
        if thread.status is ThreadStatus.BUSY and thread.agent in self.agents:
            raise ThreadBusy(
                f"A run is active on the thread '{thread.thread_id}'. "
                "Wait for its end, or cancel it, then delete the thread."
            )

    async def delete(self, thread_id: str, by: Actor) -> None:
        """Remove the thread and everything of it, but for its audit entries. Raises `NotFound`, or
        `ThreadBusy` while a run is active, unless it is left for want of its agent: it may never
        end."""
        while True:
            thread = await self.thread(thread_id)
            self._check_may_go(thread)
            erased = transitions.erasure(thread, self.clock.now(), by)
            try:
                await self.storage.commit(
                    Change(unchanged=(thread,), erase=thread_id, audit=(erased,))
                )
                return
            except Conflict:
                continue

    @shielded
    async def delete_run(self, run_id: str, by: Actor) -> None:
        """Remove the row of a run that has ended. What it said and did stays: the thread's state,
        its log, the approvals, the effects, and what it has used. Raises `NotFound`, or `Conflict`
        if it has not ended, waits for a person, or another run goes on from it."""
        while True:
            run = await self.run(run_id)
            thread = await self.thread(run.thread_id)
            await self._check_run_may_go(run, thread)
            removed = transitions.erasure(run, self.clock.now(), by, run_id=run_id)
            try:
                # Unmoved, or a decision might have begun the run that goes on from it.
                await self.storage.commit(
                    Change(removed=(run,), unchanged=(thread,), audit=(removed,))
                )
                return
            except Conflict:
                continue

    async def _check_run_may_go(self, run: Run, thread: Thread) -> None:
        """Raise `Conflict` unless the run has ended, and nothing that has not ended needs it."""
        if run.status in UNFINISHED:
            raise Conflict(
                f"The run '{run.run_id}' is '{run.status}'. Wait for its end, or cancel it with "
                f"POST /threads/{run.thread_id}/runs/{run.run_id}/cancel, then delete it.",
                run_status=run.status,
            )
        if transitions.is_its_own(run, thread):
            raise Conflict(
                f"The run '{run.run_id}' waits for a person, and what it asks would be lost. "
                f"Decide it with POST /threads/{run.thread_id}/resume, or cancel the run, then "
                "delete it.",
                run_status=run.status,
            )
        # What goes on after a pause has the thread from the decision on.
        is_busy = thread.status is ThreadStatus.BUSY and thread.run_id is not None
        holder = await self.storage.run(thread.run_id or "") if is_busy else None
        if holder is not None and holder.input.get("paused_run") == run.run_id:
            raise Conflict(
                f"The run '{holder.run_id}' goes on from what was decided of '{run.run_id}', and "
                "has not ended. Wait for its end, or cancel it, then delete this one.",
                run_status=run.status,
            )

    def _agent(self, thread: Thread) -> Agent:
        name = thread.agent or first_of(self.agents)
        if name not in self.agents:
            raise NotFound(
                f"The thread '{thread.thread_id}' belongs to the agent '{name}', "
                "which this server does not have."
            )
        return self.agents[name]


def no_thread(thread_id: str) -> NotFound:
    """The error for a thread that there is not, or that is not seen."""
    return NotFound(f"There is no thread '{thread_id}'.")


def _state_written(run: Run, submission: Submission) -> AuditEntry:
    return AuditEntry(
        at=run.created_at,
        action=AuditAction.STATE_WRITTEN,
        authentication=submission.by.authentication,
        actor=submission.by.name,
        tenant=run.tenant,
        thread_id=run.thread_id,
        run_id=run.run_id,
        digest=call_digest(
            "update_state", {"values": submission.given.input, **run.input["update"]}
        ),
    )
