"""The life of a run: submitted, executed, ended; and gone on with after a crash.

A run is a row before it is a task. When the process dies the row stays `running`, and the next start goes on from the thread's last
checkpoint. At most one run is active on a thread, because each takes the thread's row from one version to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import structlog
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot

from assent.approvals.deciding import Decided, Verdict, decide, pending_of
from assent.checkpoint.contracts import Approval, ApprovalKind, Change, Run, RunKind, RunStatus, Storage, Thread, ThreadStatus
from assent.clock import Clock
from assent.decisions import Approve, Decision, Edit, Reject, decision_from_json
from assent.errors import AssentError, Conflict, InvalidRequest, NotFound, Tampered, ThreadBusy, ThreadPaused, Unavailable
from assent.events import Checkpoint, Event, LlmEnd, NodeError, RunRecovered, RunStart, Usage, decode
from assent.graph.builder import HitlGraph
from assent.graph.consent import decision_from_message
from assent.graph.effects import EFFECTS_KEY, EffectIntent
from assent.graph.pending import Agent, Continuation, PendingApproval, check_args, continuation, find_pending, with_previews
from assent.graph.source import run_graph
from assent.graph.types import state_types as state_types_of
from assent.runs import outcome
from assent.runs.effects import StoredEffects

log = structlog.get_logger(__name__)

ALL = 1_000_000
"""More runs than one process can have been running when it died."""

MODEL_EVENTS = frozenset({"llm_start", "llm_end", "token", "reasoning", "tool_call_delta", "node_end"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """New input for a thread. `thread_id` None makes a new one; `if_paused="reject"` rejects what is pending, for the message as reason."""

    message: str
    owner: str
    agent: str | None = None
    thread_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    if_paused: Literal["refuse", "reject"] = "refuse"


@dataclass(frozen=True, slots=True)
class Started:
    """A run that goes, and the number of the first event that tells of it."""

    run: Run
    first_seq: int


class Runs:
    """Runs agents on threads. Open it with `Runs.open`, after the storage and the agents."""

    def __init__(
        self,
        storage: Storage,
        agents: Mapping[str, Agent],
        *,
        clock: Clock,
        recursion_limit: int,
        drain_seconds: float,
        state_types: Iterable[tuple[str, str]],
    ) -> None:
        self.storage = storage
        # The server's checkpointer takes the place of any that a graph brought along: a pause must outlive the process.
        saver = storage.checkpointer.with_allowlist(list(state_types))
        self.agents = {
            name: agent.copy(update={"checkpointer": saver.with_allowlist(state_types_of(agent))}) for name, agent in agents.items()
        }
        self._clock = clock
        self._recursion_limit = recursion_limit
        self._drain_seconds = drain_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._active: dict[str, asyncio.Task[None]] = {}

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
        state_types: Iterable[tuple[str, str]] = (),
    ) -> AsyncIterator[Runs]:
        """Go on with what the last process left, and take runs until the context is left.

        Then active runs get `drain_seconds` to end; those that need longer are cut off and go on at the next start. `state_types` are the
        types, as module and name, that agents keep in their state without declaring them.
        """
        runs = cls(
            storage,
            agents,
            clock=clock or Clock(),
            recursion_limit=recursion_limit,
            drain_seconds=drain_seconds,
            state_types=state_types,
        )
        try:
            await runs._recover()
            yield runs
        finally:
            await runs._drain()

    # ── submitting ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, submission: Submission) -> Started:
        """Start a run with new input; it is durable when this returns.

        Raises `ThreadBusy`, `ThreadPaused`, `NotFound` for an unknown agent, `InvalidRequest` for another agent than the thread's, or
        `Tampered`.
        """
        while True:
            thread = await self.storage.thread(submission.thread_id) if submission.thread_id else None
            name = self._agent_name(submission, thread)
            if thread is not None and thread.tampered is not None:
                raise Tampered(thread.tampered, thread_id=thread.thread_id)
            if thread is not None and thread.status is ThreadStatus.BUSY:
                raise ThreadBusy(f"A run is active on the thread '{thread.thread_id}'. Wait for its end, then send the message again.")
            if thread is not None and thread.status is ThreadStatus.INTERRUPTED:
                return await self._answer_pause(submission, thread)
            change, thread, run = self._starting(submission, thread, name)
            try:
                numbers = await self.storage.commit(change)
            except Conflict:
                if submission.thread_id is None:
                    raise
                continue
            self._spawn(run, thread)
            return Started(run, numbers[0])

    def _agent_name(self, submission: Submission, thread: Thread | None) -> str:
        belongs_to = thread.agent if thread is not None else None
        name = submission.agent or belongs_to or next(iter(self.agents))
        if name not in self.agents:
            raise NotFound(f"There is no agent '{name}'. There are: {', '.join(self.agents)}.")
        if belongs_to is not None and name != belongs_to:
            raise InvalidRequest(f"The thread belongs to the agent '{belongs_to}', so '{name}' cannot take it. Start a new thread.")
        return name

    def _starting(self, submission: Submission, thread: Thread | None, agent: str) -> tuple[Change, Thread, Run]:
        now, run_id = self._clock.now(), self._clock.new_id()
        thread = thread or replace(self._new_thread(submission.thread_id, submission.owner, submission.metadata, now), version=0)
        thread = replace(thread, status=ThreadStatus.BUSY, agent=agent, run_id=run_id, updated_at=now, version=thread.version + 1)
        run = Run(
            run_id=run_id,
            thread_id=thread.thread_id,
            owner=submission.owner,
            agent=agent,
            kind=RunKind.INPUT,
            status=RunStatus.RUNNING,
            input={"message": submission.message},
            metadata=submission.metadata,
            created_at=now,
            started_at=now,
        )
        event = RunStart(
            ts=now,
            thread_id=thread.thread_id,
            run_id=run_id,
            agent=agent,
            message=submission.message,
            metadata=dict(submission.metadata),
        )
        return Change(rows=(thread, run), events=(event,)), thread, run

    async def create_thread(self, thread_id: str | None, *, owner: str, metadata: Mapping[str, Any]) -> Thread:
        """A new thread, without a run. Raises `Conflict` if there is one of this id."""
        thread = self._new_thread(thread_id, owner, metadata, self._clock.now())
        await self.storage.commit(Change(rows=(thread,)))
        return thread

    def _new_thread(self, thread_id: str | None, owner: str, metadata: Mapping[str, Any], now: datetime) -> Thread:
        return Thread(
            thread_id=thread_id or self._clock.new_id(),
            owner=owner,
            status=ThreadStatus.IDLE,
            created_at=now,
            updated_at=now,
            metadata=metadata,
        )

    async def _answer_pause(self, submission: Submission, thread: Thread) -> Started:
        """New input on a paused thread decides nothing, unless the caller or the agent says that it does."""
        agent = self._agent(thread)
        decision: Decision
        if submission.if_paused == "reject":
            decision = Reject(submission.message)
        elif isinstance(agent.builder, HitlGraph) and agent.builder.takes_chat_decisions:
            decision = decision_from_message(submission.message)
        else:
            approvals = await pending_of(self.storage, thread)
            raise ThreadPaused(
                f"The thread '{thread.thread_id}' waits for {len(approvals)} decision(s). Decide with "
                f"POST /threads/{thread.thread_id}/resume, or send "
                '"if_paused": "reject" to reject them with this message as the reason.',
                approvals=approvals,
            )
        verdict = Verdict(decisions=decision, by=submission.owner, for_all=True, message=submission.message)
        decided = await self.decide(thread.thread_id, verdict)
        assert decided.run is not None, "a decision for all approvals leaves none pending"
        return Started(decided.run, decided.first_seq)

    async def decide(self, thread_id: str, verdict: Verdict) -> Decided:
        """Decide pending approvals; if none is left, the run that goes on is started.

        Raises `NotFound`, `NothingPending`, `AlreadyDecided`, `InvalidDecision` or `Tampered`, and then nothing was changed.
        """
        try:
            decided = await decide(self.storage, self._clock, thread_id, verdict, self._check)
        except Tampered as error:
            # Which thread this is about is known here. What the row itself says may be what was changed.
            found = Tampered(error.message, **{**error.details, "thread_id": thread_id})
            await self.distrust(thread_id, found)
            raise found from error
        if decided.run is not None:
            self._spawn(decided.run)
        return decided

    def _check(self, approval: Approval, decision: Decision) -> None:
        agent = self.agents.get(approval.agent)
        if agent is None:
            raise NotFound(f"The approval {approval.approval_id} is for the agent '{approval.agent}', which this server does not have.")
        if isinstance(decision, Edit) and isinstance(agent.builder, HitlGraph):
            check_args(agent.builder.gate.tools[approval.tool], decision.args)

    async def distrust(self, thread_id: str, error: Tampered) -> None:
        """Something of the thread is not what was stored: stop what runs on it, and let nothing run on it any more."""
        await self.storage.distrust(thread_id, error.message)
        if (task := self._active.get(thread_id)) is not None:
            task.cancel()
            await asyncio.wait({task})
            await self.storage.distrust(thread_id, error.message, stopped=True)

    # ── reading and deleting ─────────────────────────────────────────────────────────────────────────────────────────

    async def state(self, thread: Thread) -> StateSnapshot:
        """The thread's state at its head."""
        return await self._agent(thread).aget_state(_thread_config(thread.thread_id))

    async def history(self, thread: Thread, *, limit: int, before: str | None) -> list[StateSnapshot]:
        """The thread's states, newest first; `before` is a checkpoint id."""
        cursor = _thread_config(thread.thread_id, before) if before else None
        states = self._agent(thread).aget_state_history(_thread_config(thread.thread_id), before=cursor, limit=limit)
        return [state async for state in states]

    async def delete(self, thread: Thread) -> None:
        """Remove the thread and everything of it. Raises `ThreadBusy` while a run is active."""
        if thread.status is ThreadStatus.BUSY:
            raise ThreadBusy(f"A run is active on the thread '{thread.thread_id}'. Wait for its end, then delete it.")
        await self.storage.commit(Change(unmoved=(thread,), erase=thread.thread_id))

    def _agent(self, thread: Thread) -> Agent:
        name = thread.agent or next(iter(self.agents))
        if name not in self.agents:
            raise NotFound(f"The thread '{thread.thread_id}' belongs to the agent '{name}', which this server does not have.")
        return self.agents[name]

    # ── executing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, run: Run, thread: Thread | None = None) -> None:
        task = asyncio.create_task(self._execute(run, thread), name=f"run {run.run_id}")
        self._tasks.add(task)
        self._active[run.thread_id] = task
        task.add_done_callback(lambda task: self._is_over(run, task))

    def _is_over(self, run: Run, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # The thread may have its next run already.
        if self._active.get(run.thread_id) is task:
            del self._active[run.thread_id]

    async def _execute(self, run: Run, thread: Thread | None) -> None:
        """Run it to its end. `thread` is the row as the run left it, where that is at hand: nobody else writes it while a run is active."""
        agent, config, events = self.agents[run.agent], self._config(run), RunLog(self.storage)
        try:
            plan = await self._plan(run, agent, config)
            for values, as_node in plan.updates:
                await agent.aupdate_state(config, values, as_node=as_node)
            if not plan.ended:
                await run_graph(agent, plan.input, config, events.emit, thread_id=run.thread_id, run_id=run.run_id, now=self._clock.now)
            await _last_word(self._end(run, thread, agent, config, events.usage))
        except Exception as error:
            log.exception("run failed", run_id=run.run_id, thread_id=run.thread_id, agent=run.agent)
            await _last_word(self._fail(run, error, events.failed_node))

    async def _plan(self, run: Run, agent: Agent, config: RunnableConfig) -> Continuation:
        """What to give the graph. After a crash that depends on how far the run had come."""
        if run.attempt == 1 and run.kind is RunKind.INPUT:
            return self._first_input(run)
        snapshot = await agent.aget_state(config)
        if _wrote(run, snapshot):
            # This run has written a checkpoint, so its input is in the state. It may have reached its end or its pause already.
            at_rest = not snapshot.tasks or bool(find_pending(agent, snapshot, pause=run.run_id))
            return Continuation(ended=at_rest)
        if run.kind is RunKind.INPUT:
            return self._first_input(run)
        decided = await self._decided(run, agent, snapshot)
        if await self._was_let_go_before(run, decided):
            return Continuation(ended=True)
        said = str(run.input.get("message", ""))
        return continuation(agent, snapshot, decided, messages=[HumanMessage(said, id=run.run_id)] if said else ())

    def _first_input(self, run: Run) -> Continuation:
        # The run's id as the message's: should the input be applied twice, it stands in the conversation once.
        return Continuation(input={"messages": [HumanMessage(str(run.input["message"]), id=run.run_id)]})

    async def _decided(self, run: Run, agent: Agent, snapshot: StateSnapshot) -> list[tuple[PendingApproval, Decision]]:
        # After a crash a task may have asked its next question already. That has another interrupt id, so no decision is found for it here,
        # and no answer is given twice.
        paused_run = str(run.input["paused_run"])
        page = await self.storage.approvals(thread_id=run.thread_id, run_id=paused_run, limit=1000)
        await self._check_trusted(run.thread_id)
        decisions = {row.approval_id: decision_from_json(row.decision) for row in page.rows if row.decision is not None}
        pending = find_pending(agent, snapshot, pause=paused_run)
        return [(approval, decisions[approval.approval_id]) for approval in pending if approval.approval_id in decisions]

    async def _check_trusted(self, thread_id: str) -> None:
        """A list leaves out what was tampered with, and marks the thread: then what is left of it decides nothing."""
        thread = await self.storage.thread(thread_id)
        if thread is not None and thread.tampered is not None:
            raise Tampered(thread.tampered, thread_id=thread_id)

    async def _was_let_go_before(self, run: Run, decided: Sequence[tuple[PendingApproval, Decision]]) -> bool:
        """Whether a node of a user's graph was approved, begun and cut off in this run.

        What such a node does passes no gate, so the node as a whole has an intent, which this stores the first time it is asked.
        """
        for approval, decision in decided:
            if approval.kind is ApprovalKind.NODE and isinstance(decision, Approve):
                key = f"{run.run_id}:{approval.node}"
                intent = EffectIntent(key=key, tool=approval.node, tool_call_id="", digest=approval.digest)
                return await self._effects(run).begin(intent) is not None
        return False

    def _effects(self, run: Run) -> StoredEffects:
        return StoredEffects(self.storage, self._clock, run.thread_id, run.run_id)

    def _config(self, run: Run) -> RunnableConfig:
        config = _thread_config(run.thread_id)
        config["configurable"][EFFECTS_KEY] = self._effects(run)
        config["recursion_limit"] = self._recursion_limit
        # Kept in each checkpoint: it tells a recovery which checkpoints are this run's. Nothing of a client's goes in here.
        config["metadata"] = {"run_id": run.run_id}
        return config

    async def _end(self, run: Run, thread: Thread | None, agent: Agent, config: RunnableConfig, usage: Usage | None) -> None:
        snapshot = await agent.aget_state(config)
        pending = await with_previews(agent, _as_left(run, snapshot, find_pending(agent, snapshot, pause=run.run_id)))
        known = {approval.approval_id for approval in pending if await self.storage.approval(approval.approval_id)}
        await self._commit_end(
            run,
            thread,
            lambda thread, now: (
                outcome.paused(thread, run, pending, known, _checkpoint(snapshot), now)
                if pending
                else outcome.succeeded(thread, run, _checkpoint(snapshot), usage, now)
            ),
        )

    async def _fail(self, run: Run, error: Exception, node: str) -> None:
        try:
            if isinstance(error, Tampered):
                await self.storage.distrust(run.thread_id, error.message)
            await self._end_badly(run, error, node)
        except Unavailable:
            # The row stays `running`: the next start goes on with the run, once there is room to write again.
            log.exception("the end of a run could not be stored", run_id=run.run_id, thread_id=run.thread_id)

    async def _end_badly(self, run: Run, error: Exception, node: str) -> None:
        try:
            await self._commit_end(run, None, lambda thread, now: outcome.failed(thread, run, error, node, now))
        except Tampered as found:
            await self.storage.distrust(run.thread_id, found.message, stopped=True)

    async def _commit_end(self, run: Run, thread: Thread | None, ending: Callable[[Thread, datetime], Change]) -> None:
        while True:
            thread = thread or await self.storage.thread(run.thread_id)
            if thread is None:
                raise NotFound(f"The thread '{run.thread_id}' was removed while its run '{run.run_id}' was active.")
            try:
                await self.storage.commit(ending(thread, self._clock.now()))
                return
            except Conflict:
                if await self._has_ended(run):
                    return
                thread = None

    async def _has_ended(self, run: Run) -> bool:
        """Whether somebody else was faster to say how the run ended."""
        stored = await self.storage.run(run.run_id)
        return stored is None or stored.version != run.version

    # ── starting and stopping ────────────────────────────────────────────────────────────────────────────────────────

    async def _recover(self) -> None:
        for run in await self.storage.runs(status=(RunStatus.PENDING, RunStatus.RUNNING), limit=ALL):
            try:
                await self._go_on(run)
            except Tampered as error:
                log.error("a run is not gone on with", run_id=run.run_id, thread_id=run.thread_id, reason=error.message)
                await self.storage.distrust(run.thread_id, error.message, stopped=True)
        await self._end_unreadable()

    async def _end_unreadable(self) -> None:
        """A thread whose active run was tampered with is busy with nothing: such a run is not listed."""
        cursor: str | None = None
        while True:
            page = await self.storage.threads(status=ThreadStatus.BUSY, cursor=cursor)
            for thread in page.rows:
                reason = await self._reason_to_distrust(thread)
                if reason is not None and thread.thread_id not in self._active:
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

    async def _go_on(self, run: Run) -> None:
        """Go on with a run of the last process."""
        await self._check_trusted(run.thread_id)
        again = replace(run, attempt=run.attempt + 1, version=run.version + 1)
        recovered = RunRecovered(
            ts=self._clock.now(),
            thread_id=run.thread_id,
            run_id=run.run_id,
            attempt=again.attempt,
            message_ids=await self._cut_off(run),
        )
        await self.storage.commit(Change(rows=(again,), events=(recovered,)))
        if run.agent in self.agents:
            self._spawn(again)
        else:
            missing = AssentError(
                f"The agent '{run.agent}' is not on this server any more. Start it with that agent, and send the message again."
            )
            await self._fail(again, missing, "")

    async def _cut_off(self, run: Run) -> tuple[str, ...]:
        """The messages that this run had begun to show, and whose node had not ended."""
        open_messages: dict[str, dict[str, None]] = {}
        after = 0
        while entries := await self.storage.read_log(run.thread_id, after, types=MODEL_EVENTS):
            after = entries[-1].seq
            for entry in entries:
                event = decode(entry.body)
                if event.run_id != run.run_id:
                    continue
                if entry.type == "node_end":
                    open_messages.pop(event.task_id, None)
                else:
                    open_messages.setdefault(event.task_id, {})[event.message_id] = None
        return tuple(message_id for ids in open_messages.values() for message_id in ids)

    async def _drain(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class RunLog:
    """Where a run's events go. Emitting is safe from any thread, and raises what the storage could not store before."""

    def __init__(self, storage: Storage) -> None:
        self._append = storage.append
        self._error: Exception | None = None
        self.usage: Usage | None = None
        self.failed_node = ""

    def emit(self, event: Event) -> None:
        """Queue the event for the log."""
        if self._error is not None:
            raise self._error
        self._append((event,), self._failed)
        if type(event) is LlmEnd and event.usage is not None:
            self.usage = _add(self.usage, event.usage)
        elif type(event) is NodeError:
            self.failed_node = event.node

    def _failed(self, error: Exception) -> None:
        self._error = error


async def _last_word(ending: Coroutine[Any, Any, None]) -> None:
    """Store how a run ended, also when it is cancelled meanwhile."""
    task = asyncio.create_task(ending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _add(total: Usage | None, usage: Usage) -> Usage:
    if total is None:
        return usage
    return Usage(
        input_tokens=total.input_tokens + usage.input_tokens,
        output_tokens=total.output_tokens + usage.output_tokens,
        total_tokens=total.total_tokens + usage.total_tokens,
    )


def _thread_config(thread_id: str, checkpoint_id: str | None = None) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}}


def _as_left(run: Run, snapshot: StateSnapshot, pending: list[PendingApproval]) -> list[PendingApproval]:
    """What is pending. A node that this run let go, and that still waits where it did, was cut off by a crash: did it happen?"""
    if run.kind is RunKind.INPUT or _wrote(run, snapshot):
        return pending
    return [replace(each, kind=ApprovalKind.UNKNOWN_OUTCOME) if each.kind is ApprovalKind.NODE else each for each in pending]


def _wrote(run: Run, snapshot: StateSnapshot) -> bool:
    """Whether the checkpoint is this run's."""
    return (snapshot.metadata or {}).get("run_id") == run.run_id


def _checkpoint(snapshot: StateSnapshot) -> Checkpoint:
    step = (snapshot.metadata or {}).get("step", 0)
    return Checkpoint(checkpoint_id=str(snapshot.config["configurable"].get("checkpoint_id", "")), step=step, next=tuple(snapshot.next))
