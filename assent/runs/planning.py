"""The plan of a run: what its graph is given, so that it starts, or goes on after a pause or a
crash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START
from langgraph.types import StateSnapshot

from assent.approvals.decide import approvals_of_pause
from assent.core.approval import Approval, ApprovalKind
from assent.core.decisions import Approve, Decision
from assent.core.json import Json, JsonObject
from assent.core.rows import Run, RunKind
from assent.core.run_input import RunInput, given_in
from assent.graph.checkpoints import head_of, saver_of, without_run
from assent.graph.closing import close
from assent.graph.effects import EffectIntent
from assent.graph.forking import Standing, fork
from assent.graph.input_fields import MESSAGES
from assent.graph.inputs import InputShape
from assent.graph.interrupts.matching import shown_questions
from assent.graph.interrupts.questions import find_pending
from assent.graph.interrupts.resume import Continuation, continuation
from assent.graph.kinds import Agent
from assent.graph.outside_messages import (
    joining,
    may_clash,
    read_messages,
    spoken,
    with_ids,
)
from assent.graph.state import Head, messages_in
from assent.graph.updating import UPDATED_BY, check_may_go_on, write_state
from assent.runs.distrust import check_trusted
from assent.runs.ledger import StoredEffects
from assent.runs.states import thread_config, wrote
from assent.storage.base import Storage

CALLS_AND_STEPS = (ApprovalKind.TOOL, ApprovalKind.NODE)

MAX_PAUSES = 10
"""The most pauses amid a call before which its approval is looked for."""


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans how a run goes on, from its row and the thread's state."""

    storage: Storage
    run: Run
    agent: Agent
    config: RunnableConfig
    effects: StoredEffects
    shape: InputShape
    leave_out: Callable[[str, str], None]
    """Reports that a message of the input, by its id, does not join the conversation, and why."""

    async def plan(self) -> Continuation:
        """The input for the graph. After a crash it depends on how far the run had come."""
        run, agent = self.run, self.agent
        if run.attempt == 1 and run.kind is RunKind.INPUT:
            return await self._first_input()

        snapshot = await agent.aget_state(self.config, subgraphs=True)
        has_input = wrote(run, snapshot)
        if run.kind is RunKind.INPUT and not has_input:
            return await self._first_input()

        asked: Sequence[Approval] = ()
        if run.kind is RunKind.RESUME:
            asked = await self._approvals_of(str(run.input["paused_run"]))
        if has_input:
            # The state has the run's input already. It may even have the run's end, or its pause.
            pending = find_pending(agent, snapshot, pause=run.run_id)
            plan = Continuation(ended=bool(pending) or not snapshot.tasks)
        else:
            plan = await self._answered(snapshot, asked)
        return plan if plan.ended else replace(plan, approved=await self._approved(asked))

    def _messages(self) -> list[HumanMessage]:
        message = given_in(self.run.input).message
        # The message has the run's id. If the input is applied twice, it is in the conversation
        # once.
        return [spoken(message, self.run.run_id)] if message else []

    # ── new input ─────────────────────────────────────────────────────────────────────────────────

    async def _first_input(self) -> Continuation:
        run, agent, config = self.run, self.agent, self.config
        given = given_in(run.input)
        if "update" in run.input:
            await self._write(run.input["input"], run.input["update"].get("as_node"))
            return Continuation(ended=True)
        if "checkpoint_id" not in run.input:
            return Continuation(input=await self._graph_input(given))
        if "fork_of" in run.input:
            await self._copy_state(str(run.input["fork_of"]))
            return Continuation(ended=True)

        forked = await fork(agent, config, str(run.input["checkpoint_id"]))
        if given.is_empty:
            if forked.standing is Standing.CAN_GO_ON:
                check_may_go_on((await agent.aget_state(config)).metadata)
            return Continuation(ended=forked.standing is not Standing.CAN_GO_ON)
        if (await agent.aget_state(config)).next != (START,):
            # The input takes the place of an answer, so the question and its calls are closed.
            # This is done without the run's id: after a checkpoint that has it, LangGraph takes
            # the input for one that is applied already.
            await close(agent, without_run(config), {})
        return Continuation(input=await self._graph_input(given))

    async def _graph_input(self, given: RunInput) -> Json:
        """The input as the graph takes it, with its messages as LangChain's."""
        if given.message:
            return {MESSAGES: self._messages()}
        if not isinstance(given.input, dict):
            return given.input
        graph_input: JsonObject = dict(given.input)
        for key in sorted(self.shape.messages_keys & set(graph_input)):
            messages = read_messages(graph_input[key], f"In the input, '{key}'")
            graph_input[key] = await self._joining(key, messages)
        return graph_input

    async def _joining(self, key: str, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """Those of the messages that may join the ones that the thread has."""
        if not may_clash(messages):
            return with_ids(messages, self.run.run_id)
        values = (await self.agent.aget_state(self.config)).values
        kept, left_out = joining(with_ids(messages, self.run.run_id), messages_in(values, key))
        for id, reason in left_out:
            self.leave_out(id, reason)
        return kept

    async def _write(self, given: JsonObject, as_node: str | None) -> None:
        """Write to the thread's state from outside. What was approved there is asked about anew."""
        run, agent, config = self.run, self.agent, self.config
        head = await head_of(agent, config)
        if head is not None and head.metadata.get(UPDATED_BY) == run.run_id:
            # It did so before a crash.
            return
        if "checkpoint_id" in run.input:
            await fork(agent, config, str(run.input["checkpoint_id"]))
        values = dict(given)
        for key in sorted(self.shape.messages_keys & set(values)):
            messages = read_messages(values[key], f"In the values, '{key}'")
            values[key] = with_ids(messages, run.run_id)
        await write_state(agent, config, values, as_node, run_id=run.run_id)

    async def _copy_state(self, source: str) -> None:
        """Begin the run's thread with a state of the thread `source`."""
        run, agent = self.run, self.agent
        await check_trusted(self.storage, source)
        if run.attempt > 1:
            # A crash may have left half of it. Until the run ends, the thread is its own.
            await saver_of(agent).adelete_thread(run.thread_id)
        checkpoint_id = str(run.input["checkpoint_id"])
        await fork(agent, thread_config(source), checkpoint_id, target=self.config)

    # ── decisions ─────────────────────────────────────────────────────────────────────────────────

    async def _approvals_of(self, paused_run: str) -> Sequence[Approval]:
        """The approvals that a run paused for."""
        thread_id = self.run.thread_id
        asked = await approvals_of_pause(self.storage, thread_id, paused_run)
        await check_trusted(self.storage, thread_id)
        return asked

    def _decided(
        self, snapshot: StateSnapshot, asked: Sequence[Approval]
    ) -> list[tuple[Approval, Decision]]:
        """The pending approvals that have a decision.

        After a crash a task may have asked its next question already. That question has another
        interrupt id, so it finds no decision here, and no answer is given twice.
        """
        decisions = {row.approval_id: row.decision for row in asked}
        paused = str(self.run.input["paused_run"])
        decided = []
        for approval in find_pending(self.agent, snapshot, pause=paused):
            decision = decisions.get(approval.approval_id)
            if decision is not None:
                decided.append((approval, decision))
        return decided

    async def _answered(self, snapshot: StateSnapshot, asked: Sequence[Approval]) -> Continuation:
        """How the graph goes on with the decisions on what was asked."""
        decided = self._decided(snapshot, asked)
        if await self._approved_node_began(decided):
            return Continuation(ended=True)
        plan = continuation(self.agent, snapshot, decided, messages=self._messages())
        return replace(plan, shown=await self._shown(snapshot, asked))

    async def _approved(self, asked: Sequence[Approval]) -> Sequence[Approval]:
        """The approvals of what may run now: those of this pause and, if it was amid calls, as one
        that a tool makes by a question of its own, those of the pauses before it."""
        found = [*asked]
        for _ in range(MAX_PAUSES):
            if not asked or all(each.kind in CALLS_AND_STEPS for each in asked):
                break
            asking = await self.storage.run(asked[0].run_id)
            if asking is None or asking.kind is not RunKind.RESUME:
                break
            asked = await self._approvals_of(str(asking.input["paused_run"]))
            found += asked
        return found

    async def _shown(self, snapshot: StateSnapshot, asked: Sequence[Approval]) -> dict[str, str]:
        """What people were shown for each answer that the waiting tasks have: in this pause, and in
        earlier ones at the same checkpoint, in which the same tasks had asked."""
        head = Head.of(snapshot).checkpoint_id
        shown: dict[str, str] = {}
        while True:
            asked = [row for row in asked if row.interrupt_id and row.checkpoint_id == head]
            if not asked:
                return shown
            shown = {**shown_questions(asked), **shown}
            asking = await self.storage.run(asked[0].run_id)
            if asking is None or asking.kind is not RunKind.RESUME:
                return shown
            asked = await self._approvals_of(str(asking.input["paused_run"]))

    async def _approved_node_began(self, decided: Sequence[tuple[Approval, Decision]]) -> bool:
        """Store an intent for each approved node of a user's graph. Return True if one had begun
        before, and was cut off.

        No gate sees what such a node does, so the node as a whole has an intent.
        """
        began = False
        for approval, decision in decided:
            if approval.kind is ApprovalKind.NODE and isinstance(decision, Approve):
                intent = EffectIntent(
                    key=f"{self.run.run_id}:{approval.approval_id}",
                    tool=approval.node,
                    tool_call_id="",
                    digest=approval.digest,
                )
                earlier = await self.effects.begin(intent)
                began = began or earlier is not None
        return began
