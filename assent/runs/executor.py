"""Runs the graphs of agents. The engine says when a run is worked on, and whether it still may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained, GraphRecursionError, is_invalid_resume
from langgraph.runtime import RunControl
from langgraph.types import StateSnapshot
from msgspec import structs
from pydantic import ValidationError

from assent.approvals.people import People
from assent.core.access import Owner
from assent.core.approval import Approval, ApprovalKind
from assent.core.clock import Clock
from assent.core.errors import AssentError, Conflict, NotFound, Tampered, Unavailable
from assent.core.events import Custom, decode
from assent.core.json import JsonObject
from assent.core.policy import PolicyBook
from assent.core.rows import LEASE_KEY, TENANT_KEY, CancelMode, Run, RunKind, RunStatus, Thread
from assent.core.run_input import given_in
from assent.graph.admission import ADMISSION_KEY, Admission
from assent.graph.approved import with_approvals
from assent.graph.breakpoints import Breakpoints
from assent.graph.checkpoints import at_checkpoint, saver_of
from assent.graph.closing import close, roll_back
from assent.graph.effects import EFFECTS_KEY
from assent.graph.excerpt import excerpt, given_excerpt
from assent.graph.forking import fork
from assent.graph.inputs import InputShape
from assent.graph.interrupts.matching import SHOWN_KEY, Shown
from assent.graph.interrupts.previews import with_previews, with_problem
from assent.graph.interrupts.questions import find_pending, interrupts_in
from assent.graph.interrupts.resume import apply_updates, problems_in
from assent.graph.kinds import Agent, gated_graph, graph_notes
from assent.graph.model_files import EncodedFiles, uploads_from
from assent.graph.reading import read_state
from assent.graph.state import Head, messages_in, open_calls
from assent.graph.stream.callbacks import run_graph
from assent.runs import outcome
from assent.runs.asker import add_asker
from assent.runs.budgets import Budgets, Limit, budget_question, limit_message, refusal_message
from assent.runs.distrust import check_trusted
from assent.runs.emitter import PROGRESS_TYPES, RunLog, RunProgress, UsageCounter, past_events
from assent.runs.engine import Ending, Executor, HeldRun, RecoveryState, RunDrained, log_of
from assent.runs.givers import Givers
from assent.runs.inputs import Shapes, TaskModels, add_given_config, check_given, shapes_of
from assent.runs.keys import may_run
from assent.runs.ledger import StoredEffects, StoredOutcomes
from assent.runs.metering import BUDGET_STOP, MARGIN_SECONDS, Meter, Metering, Terms, watch_time
from assent.runs.planning import Planner
from assent.runs.recursion import RecursionLimits
from assent.runs.states import run_metadata, thread_config, wrote
from assent.runs.sync_threads import SyncThreads
from assent.runs.uploads import uploads_of
from assent.storage.base import Change, Storage

FORKED = "assent_forked_by"
"""The metadata key for the run that made a fork. Under `run_id`, LangGraph would drop the run's
input."""


@dataclass(frozen=True, slots=True)
class Work:
    """A run in progress, with all that it needs."""

    held: HeldRun
    agent: Agent
    config: RunnableConfig
    terms: Terms
    meter: Meter
    log: RunLog

    @property
    def context(self) -> JsonObject | None:
        """The context that the graph is run with; None for a graph that declares none. Without any
        given, the defaults of its schema hold."""
        if self.agent.context_schema is None:
            return None
        return given_in(self.held.run.input).context or {}

    async def state(self) -> StateSnapshot:
        """The thread's state."""
        return await self.agent.aget_state(self.config)

    def reached(self, snapshot: StateSnapshot) -> list[Limit]:
        """The budgets that leave nothing more to do in this state."""
        meter = self.meter
        tools = meter.held_back or meter.overrun() or _has_open_calls(snapshot)
        return meter.reached(tools=tools)


class GraphExecutor(Executor):
    """Runs the graphs of `agents`, each as far as its recursion limit allows."""

    def __init__(
        self,
        storage: Storage,
        agents: Mapping[str, Agent],
        *,
        clock: Clock,
        threads: SyncThreads,
        recursion: RecursionLimits = RecursionLimits(),
        budgets: Budgets = Budgets(),
        policies: PolicyBook = PolicyBook(),
        people: People = People(),
        shapes: Shapes | None = None,
        task_models: TaskModels | None = None,
    ) -> None:
        self._storage = storage
        self._agents = agents
        self._shapes = shapes if shapes is not None else shapes_of(agents)
        self._task_models = task_models or {}
        self._encoded = EncodedFiles(storage.files.read_here)
        self._breakpoints = Breakpoints(agents)
        self._clock = clock
        self._recursion = recursion
        self._threads = threads
        self._policies = policies
        self._people = people
        self._metering = Metering(storage, budgets, clock)

    @property
    def agents(self) -> Collection[str]:
        return self._agents.keys()

    # ── running ───────────────────────────────────────────────────────────────────────────────────

    async def execute(self, held: HeldRun) -> Ending:
        run, agent = held.run, self._agent(held.run)
        if run.error is not None:
            # It failed before, and its worker died before it could store that.
            await self._close_failed(held)
            return await self._failure(held, run.error["code"], run.error["message"])

        budgets = self._metering.budgets
        terms = await self._metering.terms(run)
        progress = await self._progress(run) if run.attempt > 1 else RunProgress(budgets)
        usage = UsageCounter(run.usage, budgets, steps=progress.steps)
        with self._metering.spending.by_others(run, usage.numbers) as by_others:
            meter = Meter(
                run,
                terms.limits,
                usage.numbers,
                budgets=budgets,
                now=self._clock.now,
                reported=progress.reported,
                by_others=by_others,
                stop=lambda: _stop(held),
                admits_tools=gated_graph(agent) is not None,
            )
            run_log = RunLog(self._storage, held.lease, usage, meter)
            config = self._config(held, meter)
            limit = self._recursion.of(run.agent, agent, terms.recursion_limit)
            config["recursion_limit"] = limit
            work = Work(held, agent, config, terms, meter, run_log)
            async with self._threads.joined():
                return await self._work(work)

    async def _work(self, work: Work) -> Ending:
        """Do what there is to do, as far as the run's budgets allow."""
        if work.terms.refusal is not None:
            return await self._stopped(work, refusal_message(work.terms.refusal))
        if not await self._may_begin(work.held.run):
            return await self._stopped(
                work, f"'{work.held.run.owner}' may not run agents any more."
            )
        if work.meter.limits:
            ending = await self._check_budgets_first(work)
            if ending is not None:
                return ending

        run = replace(work.held.run, input=work.terms.input)
        shape = self._shapes[run.agent]
        await _check_input(shape, run)
        planner = Planner(
            self._storage,
            run,
            work.agent,
            work.config,
            self._effects(work.held),
            shape,
            lambda id, reason: work.log.emit(self._left_out(run, id, reason)),
        )
        plan = await apply_updates(work.agent, work.config, await planner.plan())
        shown = Shown(plan.shown)
        with_approvals(work.config, plan.approved)
        if plan.shown:
            work.config["configurable"][SHOWN_KEY] = shown
        drained = False
        if not plan.ended:
            try:
                drained = await self._run(work, plan.input)
            except ValidationError as error:
                if not is_invalid_resume(error):
                    raise
                # LangGraph keeps nothing of an answer that its `interrupt()` does not take.
                shown.invalid = f"The graph did not take the answer: {problems_in(error)}."
        return await self._ended(work, shown, drained=drained, ran=not plan.ended)

    async def _may_begin(self, run: Run) -> bool:
        """False for a run that was put off, if whoever asked for it may not run agents by now."""
        if run.due_at is None or run.attempt > 1:
            return True
        owner = Owner(run.owner, run.tenant)
        return await may_run(self._storage, self._people, owner, self._clock.now())

    async def _check_budgets_first(self, work: Work) -> Ending | None:
        """The run's ending, if its budgets leave it nothing to begin with."""
        run, meter = work.held.run, work.meter
        snapshot = await work.state()
        if run.attempt > 1 and _is_closed(snapshot):
            reached = meter.reported_reached()
            if reached:
                # Its worker died while it stopped the run.
                return await self._out_of_budget(work, reached)

        work.log.check_budgets()
        # A gated agent asks the meter before each call of a tool, so its run may begin.
        gated = gated_graph(work.agent) is not None
        reached = meter.reached(tools=False) if gated else work.reached(snapshot)
        if reached and run.kind is RunKind.RESUME and not wrote(run, snapshot):
            # Decisions that nobody can act on now are kept for the run that can.
            return await self._paused(work, reached, snapshot, [], unbegun=True)
        return None

    async def _run(self, work: Work, graph_input: Any) -> bool:
        """Run the graph until it ends, pauses, or is stopped by a budget. Returns True if it was
        stopped between two steps."""
        held = work.held
        async with watch_time(work.meter, work.log.check_budgets):
            for _ in range(work.config["recursion_limit"]):
                try:
                    await self._run_in_time(work, graph_input)
                    if not await self._held_back_needlessly(work):
                        return False
                except GraphDrained as error:
                    if held.control.drain_reason != BUDGET_STOP:
                        raise RunDrained from error
                    if work.reached(await work.state()):
                        return True
                    # Only the budget of tool calls is used up, and no call is open. The model may
                    # still finish.
                    held.control = RunControl()
                graph_input = None
        raise GraphRecursionError

    async def _held_back_needlessly(self, work: Work) -> bool:
        """True if a call was held back, and there is room for it after all: another call that was
        counted did not run, as its outcome was known."""
        if not work.meter.held_back or work.meter.reached():
            return False
        return not (await work.state()).interrupts

    async def _run_in_time(self, work: Work, graph_input: Any) -> None:
        run, meter = work.held.run, work.meter
        meter.held_back = False
        seconds = meter.seconds_left(on_exceeded="error")
        if seconds is not None:
            seconds += MARGIN_SECONDS
        try:
            encoded = await self._read_uploads(run)
            async with asyncio.timeout(seconds) as limit, self._threads.joined():
                with uploads_from(encoded):
                    await run_graph(
                        work.agent,
                        graph_input,
                        work.config,
                        work.log.emit,
                        thread_id=run.thread_id,
                        run_id=run.run_id,
                        now=self._clock.now,
                        control=work.held.control,
                        context=work.context,
                    )
        except TimeoutError:
            if not limit.expired():
                raise
            work.log.check_budgets()

    async def _read_uploads(self, run: Run) -> Callable[[str], str]:
        """Read what a new message refers to. What earlier ones do, a call of a model reads, with
        what this returns: the base64 of an upload that the thread refers to. Any other is none,
        however its id came into a message."""
        uses = await self._storage.file_uses(run.thread_id)
        known = frozenset(use.file_id for use in uses)
        for file_id in uploads_of(given_in(run.input), self._shapes[run.agent].messages_keys):
            # One that is gone, the model is told of.
            with suppress(NotFound):
                self._encoded.keep(file_id, await self._storage.files.read(file_id))

        def encoded(file_id: str) -> str:
            if file_id not in known:
                raise NotFound(f"The thread refers to no upload '{file_id}'.")
            return self._encoded(file_id)

        return encoded

    # ── how a run ended ───────────────────────────────────────────────────────────────────────────

    async def _ended(self, work: Work, shown: Shown, *, drained: bool, ran: bool) -> Ending:
        """The ending, by the thread's state. A `drained` run is between two steps, and asks
        nothing. What it asks although it had been `shown` and answered says why."""
        run, agent = work.held.run, work.agent
        snapshot = await agent.aget_state(work.config, subgraphs=True)
        asked: list[Approval] = []
        if not drained:
            asked = _with_lost_nodes(run, snapshot, find_pending(agent, snapshot, pause=run.run_id))
            asked = [with_problem(each, shown.problem(each.interrupt_id)) for each in asked]
        reached = work.reached(snapshot) if ran and snapshot.tasks else []
        if reached:
            work.log.check_budgets()
        if reached or asked:
            return await self._paused(work, reached, snapshot, asked)
        if ran and snapshot.next:
            raise AssentError(
                f"The graph stopped at a pause inside of '{', '.join(snapshot.next)}' "
                "that nobody can see and decide. A graph that is called by a tool, or second in "
                "one node, must ask with interrupt() rather than pause before a node."
            )
        head, usage = Head.of(snapshot), work.meter.usage
        return lambda thread, run, now: outcome.succeeded(
            thread, replace(run, usage=usage), head, now
        )

    async def _paused(
        self,
        work: Work,
        reached: Sequence[Limit],
        snapshot: StateSnapshot,
        asked: Sequence[Approval],
        *,
        unbegun: bool = False,
    ) -> Ending:
        """The run waits for a person: for answers to what it `asked`, and for larger budgets in
        place of those it `reached`. It ends if one of those allows no asking."""
        if any(limit.on_exceeded == "error" for limit in reached):
            return await self._out_of_budget(work, reached)

        run, head = work.held.run, Head.of(snapshot)
        now = self._clock.now()
        questions = [
            budget_question(limit, work.meter.used(limit), run, head.checkpoint_id, now)
            for limit in reached
        ]
        found = [*await with_previews(work.agent, asked, snapshot), *questions]
        pending = [self._under_policy(run, approval) for approval in found]
        usage = work.meter.usage
        budget = work.terms.for_next_run(usage, asked=bool(questions), unbegun=unbegun)
        given = given_excerpt(given_in(run.input))
        conversation = {**excerpt(snapshot), **given, **graph_notes(work.agent)}
        interrupts = interrupts_in(work.agent, snapshot) if asked else ()

        async def ending(thread: Thread, run: Run, now: datetime) -> Change:
            # Other runs use the same grants, so they are read at each attempt to commit.
            tools = {approval.tool for approval in pending}
            found = await self._storage.open_grants(run.tenant, run.agent, tools, now)
            givers = await Givers.of(found, self._storage, self._people, now)
            under = outcome.AskedUnder(
                conversation=conversation,
                grants=found,
                why_no_vote=givers.why_no_vote,
                next_run=self._clock.new_id(),
            )
            run = replace(run, usage=usage, budget=budget)
            change = outcome.paused(thread, run, pending, head, now, under, interrupts)
            return givers.holding(change)

        return ending

    def _under_policy(self, run: Run, approval: Approval) -> Approval:
        """The approval under the policy that the code and the operator give it. Raises
        `ConfigurationError` if these contradict each other."""
        policy = self._policies.policy(run.agent, approval.tool, approval.policy)
        return structs.replace(approval, policy=policy)

    async def _out_of_budget(self, work: Work, reached: Sequence[Limit]) -> Ending:
        first = next((limit for limit in reached if limit.on_exceeded == "error"), reached[0])
        status = RunStatus.TIMEOUT if first.name == "seconds" else RunStatus.ERROR
        return await self._stopped(work, limit_message(first, work.meter.used(first)), status)

    async def _stopped(
        self, work: Work, message: str, status: RunStatus = RunStatus.ERROR
    ) -> Ending:
        """End the run with work left, and close its thread, so that it takes new input."""
        await close(work.agent, work.config, self._outcomes(work.held.run))
        head, usage = Head.of(await work.state()), work.meter.usage
        return lambda thread, run, now: outcome.stopped(
            thread, replace(run, usage=usage), message, head, now, status=status
        )

    # ── cancelling ────────────────────────────────────────────────────────────────────────────────

    async def cancel(self, held: HeldRun) -> Ending:
        run = held.run
        async with self._threads.joined():
            head = await self._close_cancelled(held)
        usage = (await self._progress(run)).usage
        rolled_back = run.cancel is CancelMode.ROLLBACK
        return lambda thread, run, now: outcome.cancelled(
            thread, replace(run, usage=usage), head, now, rolled_back=rolled_back
        )

    async def _close_cancelled(self, held: HeldRun) -> Head:
        run, agent, config = held.run, self._agent(held.run), self._config(held)
        outcomes = self._outcomes(run)
        if run.cancel is not CancelMode.ROLLBACK:
            await close(agent, config, outcomes)
        elif FORKED not in config["metadata"]:
            await roll_back(agent, config, run.run_id, outcomes)
        else:
            before = await self._head_before(run, agent, config)
            await roll_back(agent, config, run.run_id, outcomes)
            if before is not None:
                await fork(agent, config, before)
                await close(agent, config, outcomes)
        return Head.of(await agent.aget_state(config))

    async def _head_before(self, run: Run, agent: Agent, config: RunnableConfig) -> str | None:
        """The thread's head before the run, which went on from an earlier checkpoint. A rollback
        leads to the head, not to that checkpoint."""
        async for saved in saver_of(agent).alist(at_checkpoint(config)):
            if run.run_id not in (saved.metadata.get("run_id"), saved.metadata.get(FORKED)):
                return saved.checkpoint["id"]
        return None

    # ── failing ───────────────────────────────────────────────────────────────────────────────────

    async def fail(self, held: HeldRun, error: BaseException) -> Ending:
        code, message = outcome.explain(error, held.run)
        # What is no thread's, an item of the store, says nothing about this one.
        if isinstance(error, Tampered) and error.details.get("thread_id"):
            await self._storage.distrust(held.run.thread_id, error.message)
        elif await self._leaves_open_calls(held):
            # Store the failure first: if the process dies while it closes the thread, the next one
            # must not take the closed thread for a run that succeeded.
            await self._note_failure(held, code, message)
            await self._close_failed(held)
        return await self._failure(held, code, message)

    async def _failure(self, held: HeldRun, code: str, message: str) -> Ending:
        progress = await self._progress(held.run)
        usage, node = progress.usage, progress.failed_node
        return lambda thread, run, now: outcome.failed(
            thread, replace(run, usage=usage), code, message, node, now
        )

    async def _note_failure(self, held: HeldRun, code: str, message: str) -> None:
        run = held.run
        noted = replace(run, error={"code": code, "message": message}, version=run.version + 1)
        try:
            await self._storage.commit(Change(rows=(noted,), lease=held.lease))
        except Conflict:
            # It was cancelled, or taken over. Whoever stores its end will find out.
            return
        held.run = noted

    async def _leaves_open_calls(self, held: HeldRun) -> bool:
        run = held.run
        try:
            snapshot = await read_state(self._agent(run), self._config(held))
            return _has_open_calls(snapshot)
        except Unavailable:
            raise
        except Exception:
            # It has failed anyway, and says why.
            log_of(run).exception("the state of a failed run could not be read")
            return False

    async def _close_failed(self, held: HeldRun) -> None:
        """Answer the open calls of a failed run. With the next message they would run, perhaps for
        the second time."""
        run = held.run
        try:
            async with self._threads.joined():
                await close(self._agent(run), self._config(held), self._outcomes(run))
        except Unavailable:
            raise
        except Exception:
            log_of(run).exception("the thread of a failed run could not be closed")

    # ── what a run left ───────────────────────────────────────────────────────────────────────────

    async def recovery_state(self, run: Run) -> RecoveryState:
        await check_trusted(self._storage, run.thread_id)
        progress = await self._progress(run)
        state = RecoveryState(message_ids=progress.message_ids, usage=progress.usage)
        snapshot = await read_state(self._agent(run), thread_config(run.thread_id))
        head = Head.of(snapshot)
        return replace(state, checkpoint_id=head.checkpoint_id, next=head.next)

    async def _progress(self, run: Run) -> RunProgress:
        """The run's progress, from its events."""
        progress = RunProgress(self._metering.budgets, run.started_at)
        thread_id, run_id = run.thread_id, run.run_id
        async for event in past_events(self._storage, thread_id, PROGRESS_TYPES, run_id=run_id):
            progress.add(event)
        newest = await self._storage.newest_event(thread_id, run_id)
        if newest is not None:
            progress.add_time(decode(newest.body))
        return progress

    def _left_out(self, run: Run, id: str, reason: str) -> Custom:
        return Custom(
            ts=self._clock.now(),
            thread_id=run.thread_id,
            run_id=run.run_id,
            name="assent:message_left_out",
            data={"id": id, "reason": reason},
        )

    # ── what a run needs ──────────────────────────────────────────────────────────────────────────

    def _agent(self, run: Run) -> Agent:
        """The run's agent, which pauses where the run asks for it."""
        return self._breakpoints.agent(run.agent, given_in(run.input))

    def _config(self, held: HeldRun, meter: Meter | None = None) -> RunnableConfig:
        run = held.run
        config = thread_config(run.thread_id)
        config["configurable"][EFFECTS_KEY] = self._effects(held)
        config["configurable"][LEASE_KEY] = held.lease
        if run.tenant is not None:
            config["configurable"][TENANT_KEY] = run.tenant
        if meter is not None and meter.limits:
            config["configurable"][ADMISSION_KEY] = self._admission(run.thread_id, meter)
        config["metadata"] = {**run_metadata(run)}
        if "checkpoint_id" in run.input:
            config["metadata"][FORKED] = run.run_id
        add_given_config(config, run, self._task_models)
        add_asker(config, run)
        return config

    def _admission(self, thread_id: str, meter: Meter) -> Admission:
        async def admit(task_id: str, tool_call_id: str) -> bool:
            # A call that began earlier was counted then. It must be able to tell its outcome, or
            # to ask about it.
            if meter.admit(task_id) or await self._storage.effects(thread_id, tool_call_id):
                return True
            meter.held_back = True
            return False

        return admit

    def _effects(self, held: HeldRun) -> StoredEffects:
        return StoredEffects(self._storage, self._clock, held.run.thread_id, held.lease)

    def _outcomes(self, run: Run) -> StoredOutcomes:
        return StoredOutcomes(self._storage, run.thread_id)


async def _check_input(shape: InputShape, run: Run) -> None:
    """Raise `InvalidInput` if the agent does not take what the run was given. It may have waited,
    and the agent be another version of itself."""
    given = given_in(run.input)
    if run.kind is RunKind.RESUME:
        # Its message is a reason or a comment, and no input.
        shape.check_run_with(given)
    elif "fork_of" not in run.input:
        await check_given(shape, given, is_update="update" in run.input)


def _stop(held: HeldRun) -> None:
    # If the server is stopping, that reason stays.
    if not held.control.drain_requested:
        held.control.request_drain(BUDGET_STOP)


def _has_open_calls(snapshot: StateSnapshot) -> bool:
    return bool(open_calls(messages_in(snapshot.values))[1])


def _is_closed(snapshot: StateSnapshot) -> bool:
    return not snapshot.tasks and (snapshot.metadata or {}).get("source") == "update"


def _with_lost_nodes(run: Run, snapshot: StateSnapshot, pending: list[Approval]) -> list[Approval]:
    """The pending approvals. If the run approved a node, and it still waits where it did, a crash
    cut it off: then ask whether it happened."""
    if run.kind is RunKind.INPUT or wrote(run, snapshot):
        return pending
    asked: list[Approval] = []
    for approval in pending:
        if approval.kind is ApprovalKind.NODE:
            approval = structs.replace(approval, kind=ApprovalKind.UNKNOWN_OUTCOME)
        asked.append(approval)
    return asked
