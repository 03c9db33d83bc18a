"""Threads that were begun elsewhere become an agent's own: what they wait for becomes approvals, as
if a run had paused here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from assent.core.clock import Clock
from assent.core.rows import Run, RunKind, RunStatus, Thread
from assent.graph.excerpt import excerpt
from assent.graph.interrupts.previews import with_previews
from assent.graph.interrupts.questions import find_pending, interrupts_in
from assent.graph.kinds import Agent
from assent.graph.state import Head
from assent.runs import outcome
from assent.runs.states import thread_config
from assent.runs.transitions import run_start
from assent.storage.base import Change


@dataclass(frozen=True, slots=True)
class Adopter:
    """Gives threads to an agent. `agent` reads from the checkpointer where their checkpoints
    are."""

    name: str
    agent: Agent
    clock: Clock

    async def __call__(self, thread: Thread) -> Change:
        """The change to commit for an idle thread beside its checkpoints. Raises what LangGraph
        does if the agent cannot read them."""
        snapshot = await self.agent.aget_state(thread_config(thread.thread_id), subgraphs=True)
        thread = replace(thread, agent=self.name)
        run = _run(thread, self.clock.new_id(), self.clock.now())
        pending = find_pending(self.agent, snapshot, pause=run.run_id)
        if not pending:
            return Change(rows=(thread,))
        change = outcome.paused(
            # Taken back by one, since a pause is a change to a row that is there.
            replace(thread, run_id=run.run_id, version=thread.version - 1),
            run,
            await with_previews(self.agent, pending, snapshot),
            head=Head.of(snapshot),
            now=self.clock.now(),
            under=outcome.AskedUnder(conversation=excerpt(snapshot)),
            interrupts=interrupts_in(self.agent, snapshot),
        )
        start = run_start(run, run.created_at)
        return replace(change, events=(start, *change.events))


def _run(thread: Thread, run_id: str, now: datetime) -> Run:
    """The run that paused, as far as it is known. It has no row yet, hence version 0."""
    return Run(
        run_id=run_id,
        thread_id=thread.thread_id,
        owner=thread.owner,
        tenant=thread.tenant,
        agent=thread.agent or "",
        kind=RunKind.INPUT,
        status=RunStatus.RUNNING,
        created_at=now,
        started_at=now,
        input={"message": ""},
        requested_by=(thread.owner,),
        metadata={"imported": True},
        version=0,
    )
