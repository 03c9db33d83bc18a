"""What a run does: plans how its graph goes on, runs it, and says how it ended. The engine says
when, and whether it still may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.graph import START
from langgraph.runtime import RunControl
from langgraph.types import StateSnapshot

from assent.core.clock import Clock
from assent.core.decisions import Approve, Decision, decision_from_json
from assent.core.errors import AssentError, Conflict, Tampered
from assent.core.events import Checkpoint
from assent.core.policy import PolicyBook
from assent.core.rows import LEASE_KEY, ApprovalKind, CancelMode, Run, RunKind, RunStatus, Thread
from assent.graph.admission import ADMISSION_KEY, Admission
from assent.graph.builder import HitlGraph
from assent.graph.closing import close, roll_back
from assent.graph.conversation import last_turn
from assent.graph.effects import EFFECTS_KEY, EffectIntent
from assent.graph.forking import Standing, at_checkpoint, fork, saver_of, without_run
from assent.graph.interrupts.resume import (
    Agent,
    Continuation,
    PendingApproval,
    apply_updates,
    continuation,
    find_pending,
    with_previews,
)
from assent.graph.state import checkpoint_of, messages_in, open_calls
from assent.graph.stream.callbacks import run_graph
from assent.runs import outcome
from assent.runs.budgets import Limit, Rules, question, refusal, sentence
from assent.runs.emitter import PROGRESS_TYPES, RunLog, RunProgress, UsageCounter, past_events
from assent.runs.engine import Ending, Executor, HeldRun, RecoveryState, RunDrained
from assent.runs.ledger import StoredEffects, StoredOutcomes
from assent.runs.metering import STOP, Meter, Metering, Terms, watched
from assent.runs.states import thread_config
from assent.runs.sync_threads import SyncThreads
from assent.storage.base import Change, Storage

log = structlog.get_logger(__name__)

FORKED = "assent_forked_by"
"""Whose fork it is stands in a checkpoint's metadata under this name, since `run_id` there would
have LangGraph drop the run's input."""


@dataclass(frozen=True, slots=True)
class Work:
    """A run that is being executed."""

    held: HeldRun
    agent: Agent
    config: RunnableConfig
    terms: Terms
    meter: Meter
    events: RunLog

    def reached(self, snapshot: StateSnapshot) -> list[Limit]:
        """The budgets that leave nothing more to do in this state."""
        return self.meter.reached(
            tools=self.meter.held_back or self.meter.overrun() or _has_open_calls(snapshot)
        )


class GraphExecutor(Executor):
    """Runs the agents' graphs."""

    def __init__(
        self,
        storage: Storage,
        agents: Mapping[str, Agent],
        *,
        clock: Clock,
        recursion_limit: int,
        threads: SyncThreads,
        budgets: Rules = Rules(),
        policies: PolicyBook = PolicyBook(),
    ) -> None:
        self._storage = storage
        self._agents = agents
        self._clock = clock
        self._recursion_limit = recursion_limit
        self._threads = threads
        self._policies = policies
        self._metering = Metering(storage, budgets, clock)

    # ── the seam ──────────────────────────────────────────────────────────────────────────────────

    async def execute(self, held: HeldRun) -> Ending:
        run, agent = held.run, self._agent(held.run)
        if run.error is not None:
            # It had failed when its worker died, and could not say so.
            await self._answer_open_calls(held)
            return await self._failure(held, run.error["code"], run.error["message"])
        terms = await self._metering.terms(run)
        progress = await self._progress(run) if run.attempt > 1 else None
        usage = UsageCounter(
            run.usage, self._metering.rules, steps=progress.steps if progress else ()
        )
        with self._metering.spending.by_others(run, usage.numbers) as by_others:
            meter = Meter(
                run,
                terms.limits,
                usage.numbers,
                rules=self._metering.rules,
                now=self._clock.now,
                told=progress.told if progress else (),
                by_others=by_others,
                stop=lambda: _stop(held),
                admits_tools=isinstance(agent.builder, HitlGraph),
            )
            events = RunLog(self._storage, held.lease, usage, meter)
            return await self._worked(
                Work(held, agent, self._config(held, meter), terms, meter, events)
            )

    async def _worked(self, work: Work) -> Ending:
        """Do what there is to do, as far as the run's budgets let it come."""
        if work.terms.refusal is not None:
            return await self._stopped(work, refusal(work.terms.refusal))
        if work.meter.limits and (ending := await self._before_it_begins(work)) is not None:
            return ending
        plan = await apply_updates(work.agent, work.config, await self._plan(work))
        drained = not plan.ended and await self._run(work, plan.input)
        return await self._ended(work, drained=drained, ran=not plan.ended)

    async def _before_it_begins(self, work: Work) -> Ending | None:
        """How the run ends, if its budgets leave it nothing to begin with."""
        run, snapshot = work.held.run, await work.agent.aget_state(work.config)
        if run.attempt > 1 and _is_closed(snapshot) and (reached := work.meter.told_reached()):
            # It was being stopped when its worker died.
            return await self._out_of_budget(work, reached)
        work.events.look()
        # An agent of ours asks before each call of a tool, so its runs may begin.
        reached = (
            work.meter.reached(tools=False)
            if isinstance(work.agent.builder, HitlGraph)
            else work.reached(snapshot)
        )
        if run.kind is RunKind.RESUME and not _wrote(run, snapshot) and reached:
            # Decisions that cannot be acted upon yet are kept for the run that may.
            return await self._ended_by(work, reached, snapshot, [], unbegun=True)
        return None

    async def _run(self, work: Work, graph_input: Any) -> bool:
        """Run the graph to its end or its pause, or until a budget stops it; whether it was stopped
        between two steps."""
        held = work.held
        async with watched(work.meter, work.events.look):
            for _ in range(self._recursion_limit):
                try:
                    await self._run_in_time(work, graph_input)
                    if (
                        not work.meter.held_back
                        or work.meter.reached()
                        or (await work.agent.aget_state(work.config)).interrupts
                    ):
                        return False
                    # A call was counted that then was none, since its outcome was known: there is
                    # room for one more.
                except GraphDrained as error:
                    if held.control.drain_reason == STOP and work.reached(
                        await work.agent.aget_state(work.config)
                    ):
                        return True
                    if held.control.drain_reason != STOP:
                        raise RunDrained from error
                    # Only calls of tools are used up, and none is next as far as can be seen: the
                    # model may say its last word.
                    held.control = RunControl()
                graph_input = None
        raise GraphRecursionError

    async def _run_in_time(self, work: Work, graph_input: Any) -> None:
        work.meter.held_back = False
        left = work.meter.seconds_left(on_exceeded="error")
        run = work.held.run
        try:
            # A hair more, so that the time is up when it is said to be.
            async with asyncio.timeout(left and left + 0.001) as limit, self._threads.waited_for():
                await run_graph(
                    work.agent,
                    graph_input,
                    work.config,
                    work.events.emit,
                    thread_id=run.thread_id,
                    run_id=run.run_id,
                    now=self._clock.now,
                    control=work.held.control,
                )
        except TimeoutError:
            if not limit.expired():
                raise
            work.events.look()

    async def cancel(self, held: HeldRun) -> Ending:
        run = held.run
        rolled_back = run.cancel is CancelMode.ROLLBACK
        checkpoint: Checkpoint | None = None
        if run.agent in self._agents:
            agent, config = self._agents[run.agent], self._config(held)
            outcomes = StoredOutcomes(self._storage, run.thread_id)
            if rolled_back:
                before = (
                    await self._head_before(run, agent, config)
                    if FORKED in config["metadata"]
                    else None
                )
                await roll_back(agent, config, run.run_id, outcomes)
                if before is not None:
                    await fork(agent, config, before)
                    await close(agent, config, outcomes)
            else:
                await close(agent, config, outcomes)
            checkpoint = checkpoint_of(await agent.aget_state(config))
        used = (await self._progress(run)).usage
        return lambda thread, run, now: outcome.cancelled(
            thread, replace(run, usage=used), checkpoint, now, rolled_back=rolled_back
        )

    async def _head_before(self, run: Run, agent: Agent, config: RunnableConfig) -> str | None:
        """The thread's head when a run that goes on from its past began: that past is not where a
        rollback leads to."""
        async for saved in saver_of(agent).alist(at_checkpoint(config)):
            if run.run_id not in (saved.metadata.get("run_id"), saved.metadata.get(FORKED)):
                return saved.checkpoint["id"]
        return None

    async def fail(self, held: HeldRun, error: Exception) -> Ending:
        code, message = outcome.explain(error, held.run)
        if isinstance(error, Tampered):
            await self._storage.distrust(held.run.thread_id, error.message)
        elif await self._has_open_calls(held):
            # Said first: should the process die amid the closing, the next one must not take the
            # closed thread for a run that came to its end.
            await self._note_failure(held, code, message)
            await self._answer_open_calls(held)
        return await self._failure(held, code, message)

    async def _failure(self, held: HeldRun, code: str, message: str) -> Ending:
        progress = await self._progress(held.run)
        return lambda thread, run, now: outcome.failed(
            thread, replace(run, usage=progress.usage), code, message, progress.failed_node, now
        )

    async def _note_failure(self, held: HeldRun, code: str, message: str) -> None:
        noted = replace(
            held.run, error={"code": code, "message": message}, version=held.run.version + 1
        )
        try:
            await self._storage.commit(Change(rows=(noted,), lease=held.lease))
        except Conflict:
            # Cancelled meanwhile, or somebody else's: the end of it will find out.
            return
        held.run = noted

    async def _has_open_calls(self, held: HeldRun) -> bool:
        agent = self._agents.get(held.run.agent)
        try:
            return agent is not None and _has_open_calls(await agent.aget_state(self._config(held)))
        except Exception:
            # It fails already, and says of what.
            log.exception(
                "the state of a failed run could not be read",
                run_id=held.run.run_id,
                thread_id=held.run.thread_id,
            )
            return False

    async def _answer_open_calls(self, held: HeldRun) -> None:
        """Say what became of the calls that a failed run leaves open: the next message would have
        them run, for the second time perhaps."""
        try:
            await close(
                self._agent(held.run),
                self._config(held),
                StoredOutcomes(self._storage, held.run.thread_id),
            )
        except Exception:
            log.exception(
                "the calls of a failed run could not be closed",
                run_id=held.run.run_id,
                thread_id=held.run.thread_id,
            )

    async def recovery_state(self, run: Run) -> RecoveryState:
        await self._check_trusted(run.thread_id)
        progress = await self._progress(run)
        if run.agent not in self._agents:
            return RecoveryState(message_ids=progress.message_ids, usage=progress.usage)
        snapshot = await self._agents[run.agent].aget_state(thread_config(run.thread_id))
        return RecoveryState(
            message_ids=progress.message_ids,
            checkpoint_id=checkpoint_of(snapshot).checkpoint_id,
            next=snapshot.next,
            usage=progress.usage,
        )

    # ── how it goes on ────────────────────────────────────────────────────────────────────────────

    def _agent(self, run: Run) -> Agent:
        if run.agent not in self._agents:
            raise AssentError(
                f"The agent '{run.agent}' is not on this server any more. Start it with that agent, and send the message again."
            )
        return self._agents[run.agent]

    async def _plan(self, work: Work) -> Continuation:
        """What to give the graph. After a crash that depends on how far the run had come."""
        held, agent, config = work.held, work.agent, work.config
        run = replace(held.run, input=work.terms.input)
        if run.attempt == 1 and run.kind is RunKind.INPUT:
            return await self._first_input(run, agent, config)
        snapshot = await agent.aget_state(config, subgraphs=True)
        if _wrote(run, snapshot):
            # This run has written a checkpoint, so its input is in the state. It may have reached
            # its end or its pause already.
            at_rest = not snapshot.tasks or bool(find_pending(agent, snapshot, pause=run.run_id))
            return Continuation(ended=at_rest)
        if run.kind is RunKind.INPUT:
            return await self._first_input(run, agent, config)
        decided = await self._decided(run, agent, snapshot)
        if await self._was_let_go_before(held, decided):
            return Continuation(ended=True)
        said = str(run.input.get("message", ""))
        return continuation(
            agent, snapshot, decided, messages=[HumanMessage(said, id=run.run_id)] if said else ()
        )

    async def _first_input(self, run: Run, agent: Agent, config: RunnableConfig) -> Continuation:
        message = str(run.input.get("message", ""))
        # The run's id as the message's: should the input be applied twice, it stands in the
        # conversation once.
        said = {"messages": [HumanMessage(message, id=run.run_id)]} if message else None
        if "checkpoint_id" not in run.input:
            return Continuation(input=said)
        if "fork_of" in run.input:
            await self._take_over_state(run, agent, config)
            return Continuation(ended=True)
        forked = await fork(agent, config, str(run.input["checkpoint_id"]))
        if said is None:
            return Continuation(ended=forked.standing is not Standing.CAN_GO_ON)
        if (await agent.aget_state(config)).next != (START,):
            # Something else is said in the place of an answer, so the question is no more, and no
            # call is left without one. Behind a checkpoint with this run's id, LangGraph would take
            # the input for one that is applied already.
            await close(agent, without_run(config), {})
        return Continuation(input=said)

    async def _take_over_state(self, run: Run, agent: Agent, config: RunnableConfig) -> None:
        """Begin the run's thread with a state of another one's."""
        source = str(run.input["fork_of"])
        await self._check_trusted(source)
        if run.attempt > 1:
            # A crash may have left half of it. The thread is this run's alone until it ends.
            await saver_of(agent).adelete_thread(run.thread_id)
        await fork(agent, thread_config(source), str(run.input["checkpoint_id"]), target=config)

    async def _decided(
        self, run: Run, agent: Agent, snapshot: StateSnapshot
    ) -> list[tuple[PendingApproval, Decision]]:
        # After a crash a task may have asked its next question already. That has another interrupt
        # id, so no decision is found for it here, and no answer is given twice.
        paused_run = str(run.input["paused_run"])
        page = await self._storage.approvals(thread_id=run.thread_id, run_id=paused_run, limit=1000)
        await self._check_trusted(run.thread_id)
        decisions = {
            row.approval_id: decision_from_json(row.decision)
            for row in page.rows
            if row.decision is not None
        }
        pending = find_pending(agent, snapshot, pause=paused_run)
        return [
            (approval, decisions[approval.approval_id])
            for approval in pending
            if approval.approval_id in decisions
        ]

    async def _check_trusted(self, thread_id: str) -> None:
        """A list leaves out what was tampered with, and marks the thread: then what is left of it
        decides nothing."""
        thread = await self._storage.thread(thread_id)
        if thread is not None and thread.tampered is not None:
            raise Tampered(thread.tampered, thread_id=thread_id)

    async def _was_let_go_before(
        self, held: HeldRun, decided: Sequence[tuple[PendingApproval, Decision]]
    ) -> bool:
        """Whether nodes of a user's graph were approved, begun and cut off in this run.

        What such a node does passes no gate, so the node as a whole has an intent, which this
        stores the first time it is asked.
        """
        begun = [
            await self._effects(held).begin(
                EffectIntent(
                    key=f"{held.run.run_id}:{approval.approval_id}",
                    tool=approval.node,
                    tool_call_id="",
                    digest=approval.digest,
                )
            )
            for approval, decision in decided
            if approval.kind is ApprovalKind.NODE and isinstance(decision, Approve)
        ]
        return any(earlier is not None for earlier in begun)

    def _effects(self, held: HeldRun) -> StoredEffects:
        return StoredEffects(self._storage, self._clock, held.run.thread_id, held.lease)

    def _config(self, held: HeldRun, meter: Meter | None = None) -> RunnableConfig:
        config = thread_config(held.run.thread_id)
        config["configurable"][EFFECTS_KEY] = self._effects(held)
        config["configurable"][LEASE_KEY] = held.lease
        if meter is not None and meter.limits:
            config["configurable"][ADMISSION_KEY] = self._admission(held.run.thread_id, meter)
        config["recursion_limit"] = self._recursion_limit
        # Kept in each checkpoint: it tells a recovery which checkpoints are this run's. Nothing of
        # a client's goes in here.
        config["metadata"] = {"run_id": held.run.run_id}
        if "checkpoint_id" in held.run.input:
            config["metadata"][FORKED] = held.run.run_id
        return config

    def _admission(self, thread_id: str, meter: Meter) -> Admission:
        async def admits(task_id: str, tool_call_id: str) -> bool:
            # What had begun has been counted, and must be able to say, or ask, what became of it.
            if meter.admit(task_id) or await self._storage.effects(thread_id, tool_call_id):
                return True
            meter.held_back = True
            return False

        return admits

    # ── how it ended ──────────────────────────────────────────────────────────────────────────────

    async def _ended(self, work: Work, *, drained: bool, ran: bool) -> Ending:
        """Say what the graph came to. Where it was `drained` it stands between two steps, and asks
        nothing."""
        run, agent = work.held.run, work.agent
        snapshot = await agent.aget_state(work.config, subgraphs=True)
        asked = (
            []
            if drained
            else _as_left(run, snapshot, find_pending(agent, snapshot, pause=run.run_id))
        )
        reached = work.reached(snapshot) if ran and snapshot.tasks else []
        if reached:
            work.events.look()
        if reached or asked:
            return await self._ended_by(work, reached, snapshot, asked)
        if ran and snapshot.next:
            raise AssentError(
                f"The graph stopped at a pause inside of '{', '.join(snapshot.next)}' that nobody can see and decide. "
                "A graph that is called by a tool, or second in one node, must ask with interrupt() rather than pause before a node."
            )
        checkpoint, used = checkpoint_of(snapshot), work.meter.usage
        return lambda thread, run, now: outcome.succeeded(
            thread, replace(run, usage=used), checkpoint, now
        )

    async def _ended_by(
        self,
        work: Work,
        reached: Sequence[Limit],
        snapshot: StateSnapshot,
        asked: Sequence[PendingApproval],
        *,
        unbegun: bool = False,
    ) -> Ending:
        """The run waits for a person, for what it asks and for what more it may use; or it ends, if
        that is nothing to ask about."""
        if any(limit.on_exceeded == "error" for limit in reached):
            return await self._out_of_budget(work, reached)
        run, used, checkpoint = work.held.run, work.meter.usage, checkpoint_of(snapshot)
        ids = {
            "thread_id": run.thread_id,
            "run_id": run.run_id,
            "checkpoint_id": checkpoint.checkpoint_id,
        }
        questions = [question(limit, work.meter.used(limit), **ids) for limit in reached]
        pending = [*await with_previews(work.agent, asked), *questions]
        known = {
            approval.approval_id
            for approval in pending
            if await self._storage.approval(approval.approval_id)
        }
        budget = work.terms.stored(used, asked=bool(questions), unbegun=unbegun)
        shown = last_turn(snapshot)

        async def ending(thread: Thread, run: Run, now: datetime) -> Change:
            # Grants are read here, each time that this is tried, since others use the same ones.
            grants = await self._storage.open_grants(
                run.agent, {each.tool for each in pending}, now
            )
            under = outcome.AskedUnder(
                policies=self._policies, shown=shown, grants=grants, next_run=self._clock.new_id()
            )
            return outcome.paused(
                thread,
                replace(run, usage=used, budget=budget),
                pending,
                known,
                checkpoint,
                now,
                under,
            )

        return ending

    async def _out_of_budget(self, work: Work, reached: Sequence[Limit]) -> Ending:
        first = next((limit for limit in reached if limit.on_exceeded == "error"), reached[0])
        status = RunStatus.TIMEOUT if first.name == "seconds" else RunStatus.ERROR
        return await self._stopped(work, sentence(first, work.meter.used(first)), status)

    async def _stopped(
        self, work: Work, message: str, status: RunStatus = RunStatus.ERROR
    ) -> Ending:
        """The run ends here, with work left. Its thread is brought to rest, so that it takes new
        input."""
        await close(work.agent, work.config, StoredOutcomes(self._storage, work.held.run.thread_id))
        checkpoint, used = checkpoint_of(await work.agent.aget_state(work.config)), work.meter.usage
        return lambda thread, run, now: outcome.stopped(
            thread, replace(run, usage=used), message, checkpoint, now, status=status
        )

    async def _progress(self, run: Run) -> RunProgress:
        """What the run's events tell of it so far."""
        progress = RunProgress(self._metering.rules, run.started_at)
        async for event in past_events(
            self._storage, run.thread_id, PROGRESS_TYPES, run_id=run.run_id
        ):
            progress.add(event)
        return progress


def _stop(held: HeldRun) -> None:
    """Ask the run to stop at its next step, unless that was asked already: the server's stop goes
    first."""
    if not held.control.drain_requested:
        held.control.request_drain(STOP)


def _has_open_calls(snapshot: StateSnapshot) -> bool:
    return bool(open_calls(messages_in(snapshot.values))[1])


def _is_closed(snapshot: StateSnapshot) -> bool:
    """Whether the thread was brought to rest."""
    return not snapshot.tasks and (snapshot.metadata or {}).get("source") == "update"


def _as_left(
    run: Run, snapshot: StateSnapshot, pending: list[PendingApproval]
) -> list[PendingApproval]:
    """What is pending. A node that this run let go, and that still waits where it did, was cut off
    by a crash: did it happen?"""
    if run.kind is RunKind.INPUT or _wrote(run, snapshot):
        return pending
    return [
        replace(each, kind=ApprovalKind.UNKNOWN_OUTCOME) if each.kind is ApprovalKind.NODE else each
        for each in pending
    ]


def _wrote(run: Run, snapshot: StateSnapshot) -> bool:
    """Whether the checkpoint is this run's."""
    return (snapshot.metadata or {}).get("run_id") == run.run_id
