"""What LangGraph's clients ask of a thread by one request: new input, a decision, or to drop what
it waits for. However it is asked, nothing that a person has to agree with runs without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from assent.api.decision_bodies import ThreadAnswer
from assent.api.deps import RunsBy
from assent.api.dialects.langgraph.inputs import answered_in, by_approval
from assent.api.langgraph_shapes import ThreadRunRequest
from assent.api.outcomes import due_after
from assent.approvals.decide import Verdict
from assent.approvals.idempotency import Key
from assent.core.access import Right
from assent.core.approval import Approval, Choice
from assent.core.audit import Actor
from assent.core.errors import Conflict, NotFound
from assent.core.json import Json, JsonObject
from assent.core.rows import Run, Thread, ThreadStatus
from assent.runs.follow import wait_for_run
from assent.runs.service import Runs


class Begun(NamedTuple):
    """A run that was asked for, as the request may see it, and a number that none of its events is
    below. With `stays` nothing goes on: others must agree too, or what was asked is dropped."""

    runs: Runs
    run: Run
    first_seq: int
    stays: bool = False


async def begin(
    runs_by: RunsBy, thread_id: str, body: ThreadRunRequest, by: Actor, key: Key | None
) -> Begun:
    """Do what the body asks of the thread."""
    if body.command is None:
        runs = runs_by(Right.RUN)
        carried = await _answered(runs, thread_id, body.carried)
        if not carried:
            return await _submitted(runs, thread_id, body, by, key)
        answer: Json = carried
    elif body.command.drops:
        return await _dropped(runs_by(Right.RUN), thread_id, by)
    else:
        answer = body.command.resume

    def choices(pending: Sequence[Approval]) -> Sequence[Choice]:
        return ThreadAnswer(by_approval(pending, answer)).choices(pending)

    runs = runs_by(Right.DECIDE)
    # Whoever only decides what others asked is shown none of their runs.
    paused = await runs.thread(thread_id)
    if body.place is not None and not await _is_head(runs, paused, body.place):
        raise Conflict(
            "The checkpoint is not the last one of the thread, and what was asked there is asked "
            "no more. Decide what the thread waits for now, without a checkpoint."
        )
    return await _decided(runs, paused, Verdict(decisions=choices, by=by, key=key))


async def _answered(runs: Runs, thread_id: str, carried: JsonObject) -> JsonObject:
    """The carried answers that are to what the thread waits for."""
    thread = await runs.storage.thread(thread_id) if carried else None
    if thread is None or thread.status is not ThreadStatus.INTERRUPTED:
        return {}
    return answered_in(carried, await runs.approvals.pending(thread))


async def run_of(runs: Runs, thread_id: str, run_id: str) -> Run:
    """The run of the thread. Raises `NotFound`."""
    run = await runs.run(run_id)
    if run.thread_id != thread_id:
        raise NotFound(f"The thread '{thread_id}' has no run '{run_id}'.")
    return run


async def _submitted(
    runs: Runs, thread_id: str, body: ThreadRunRequest, by: Actor, key: Key | None
) -> Begun:
    thread = await runs.storage.thread(thread_id)
    if thread is None and body.if_not_exists == "reject":
        await runs.thread(thread_id)
    place = body.place
    # Clients send the head with whatever they ask: it is no place to go back to.
    at_head = thread is not None and place is not None and await _is_head(runs, thread, place)
    if at_head and body.input is not None:
        place = None
    submission = body.submission(
        by,
        thread_id,
        runs.agents,
        place=place,
        # To go on with nothing where a person was asked is to do it without them.
        if_paused="cancel" if body.input is not None or (place and not at_head) else "refuse",
        due_at=due_after(runs, body.after_seconds),
        key=key,
    )
    started = await runs.submit(submission)
    return Begun(runs, started.run, started.first_seq)


async def _is_head(runs: Runs, thread: Thread, checkpoint_id: str) -> bool:
    snapshot = await runs.state(thread)
    head: str | None = snapshot.config["configurable"].get("checkpoint_id")
    return head == checkpoint_id


async def _dropped(runs: Runs, thread_id: str, by: Actor) -> Begun:
    """The paused run, once nobody is asked any more."""
    thread = await runs.thread(thread_id)
    if thread.status is not ThreadStatus.INTERRUPTED or thread.run_id is None:
        raise Conflict(
            f"The thread '{thread_id}' waits for nothing, so there is nothing to drop. "
            f"To stop what runs there, use POST /threads/{thread_id}/cancel."
        )
    dropped = await runs.cancel_run(thread.run_id, by)
    return Begun(runs, await wait_for_run(runs.storage, dropped), 0, stays=True)


async def _decided(runs: Runs, paused: Thread, verdict: Verdict) -> Begun:
    """The run that goes on with the decision; the paused one, if that alone decides nothing."""
    outcome = await runs.approvals.decide(paused.thread_id, verdict)
    run = await runs.run(outcome.run_id or paused.run_id or "")
    return Begun(runs, run, outcome.first_seq, stays=outcome.run_id is None)
