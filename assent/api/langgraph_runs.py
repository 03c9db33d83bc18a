"""What LangGraph's clients ask of a thread by one request: new input, a decision, or to drop what
it waits for. However it is asked, nothing that a person has to agree with runs without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from msgspec import structs

from assent.api.decision_bodies import ThreadAnswer
from assent.api.deps import RunsBy
from assent.api.dialects.langgraph.inputs import answered_in, by_approval, ids_in
from assent.api.langgraph_again import (
    Begun,
    answered_before,
    begun_before,
    decided_before,
    task_key,
)
from assent.api.langgraph_shapes import ThreadRunRequest
from assent.api.outcomes import due_after
from assent.approvals.decide import ReadAnswer, Verdict
from assent.approvals.idempotency import Key
from assent.core.access import Right
from assent.core.approval import Approval, Choice, match_decisions
from assent.core.audit import Actor, Authentication
from assent.core.decisions import Approve
from assent.core.errors import AlreadyDecided, Conflict, InvalidInput, NotFound
from assent.core.json import Json, JsonObject
from assent.core.rows import Run, Thread, ThreadStatus
from assent.core.run_input import NodeNames, given_in
from assent.graph.breakpoints import only_its_run_asked
from assent.runs.follow import wait_for_run
from assent.runs.service import Runs
from assent.runs.transitions import IfPaused, Submission


async def begin(
    runs_by: RunsBy,
    thread_id: str,
    body: ThreadRunRequest,
    by: Actor,
    key: Key | None,
    *,
    decides: bool = True,
) -> Begun:
    """Do what the body asks of the thread. Unless it `decides`, a body without a command is new
    input and nothing else. Otherwise answers that its config carries are a decision; and so is no
    input where the thread only waits at breakpoints that its run asked for: consent to go on."""
    if body.command is None:
        runs = runs_by(Right.RUN)
        thread = await runs.storage.thread(thread_id)
        carried = await _answered(runs, thread, body.carried) if decides else {}
        passed = await _passed(runs, thread, body) if decides and not carried else []
        known: Begun | None = None
        if decides and body.task is not None and key is None and not (carried or passed):
            own = task_key(body.task, thread_id, body.input, by.owner)
            was_sent, known = await begun_before(runs, own)
            if was_sent:
                carried = await answered_before(runs.storage, thread_id, body.carried)
            else:
                key = own
        if carried:
            choices, ids = _read_as(carried), ids_in(carried)
        elif passed:
            choices, ids = _passing(passed), set[str]()
        elif known is not None:
            return known
        else:
            return await _submitted(runs, thread_id, thread, body, by, key)
    elif body.command.drops:
        return await _dropped(runs_by(Right.RUN), thread_id, by)
    else:
        choices, ids = _read_as(body.command.resume), ids_in(body.command.resume)

    runs = runs_by(Right.DECIDE)
    # Whoever only decides what others asked is shown none of their runs.
    paused = await runs.thread(thread_id)
    if body.place is not None and not await _is_head(runs, paused, body.place):
        raise Conflict(
            "The checkpoint is not the last one of the thread, and what was asked there is asked "
            "no more. Decide what the thread waits for now, without a checkpoint."
        )
    if body.webhook is not None:
        runs.check_webhook(body.webhook)
    verdict = Verdict(decisions=choices, by=by, webhook=body.webhook, key=key)
    try:
        return await _decided(runs, paused, verdict)
    except (AlreadyDecided, NotFound) as error:
        # Who asks a server that knows nobody may be somebody else; a task is the same.
        is_known = by.authentication is not Authentication.LOCAL or body.task is not None
        return await decided_before(runs, thread_id, choices, ids, by, error, is_known=is_known)


def _read_as(answer: Json) -> ReadAnswer:
    def choices(pending: Sequence[Approval]) -> Sequence[Choice]:
        return ThreadAnswer(by_approval(pending, answer)).choices(pending)

    return choices


async def _answered(runs: Runs, thread: Thread | None, carried: JsonObject) -> JsonObject:
    """The carried answers that are to what the thread waits for."""
    if not carried or thread is None or thread.status is not ThreadStatus.INTERRUPTED:
        return {}
    return answered_in(carried, await runs.approvals.pending(thread))


async def _passed(runs: Runs, thread: Thread | None, body: ThreadRunRequest) -> Sequence[Approval]:
    """What the thread waits for, if the body has no input and that is only breakpoints which the
    run that paused asked for; else nothing. Raises `InvalidInput` if the body asks for others."""
    if body.input is not None or body.after_seconds or thread is None:
        return []
    if thread.status is not ThreadStatus.INTERRUPTED or thread.run_id is None:
        return []
    agent = runs.agents.get(thread.agent or "")
    asked_agent = await runs.assistants.agent_of(body.assistant_id, thread)
    if agent is None or asked_agent != thread.agent:
        return []
    pending = await runs.approvals.pending(thread)
    if len(pending) != len(thread.pending):
        return []
    given = given_in((await runs.run(thread.run_id)).input)
    if not all(only_its_run_asked(agent, each, given) for each in pending):
        return []
    if body.place is not None and not await _is_head(runs, thread, body.place):
        return []
    asked = body.fields_given()
    for name in ("interrupt_before", "interrupt_after"):
        if not _covers(getattr(given, name), asked.get(name)):
            raise InvalidInput(
                f"The run goes on with the breakpoints that it was asked with, and '{name}' names "
                "others. Leave it out."
            )
    return pending


def _covers(given: NodeNames | None, asked: NodeNames | None) -> bool:
    """True if all of the nodes that are asked for are given already."""
    return given == "*" or (asked != "*" and {*(asked or ())} <= {*(given or ())})


def _passing(asked: Sequence[Approval]) -> ReadAnswer:
    """Approves these, and nothing that is asked besides by now."""
    passed = {each.approval_id for each in asked}

    def choices(pending: Sequence[Approval]) -> Sequence[Choice]:
        if {each.approval_id for each in pending} - passed:
            raise Conflict("The thread waits for something else by now. Look at it, and decide.")
        return match_decisions(pending, Approve(), for_all=True)

    return choices


async def run_of(runs: Runs, thread_id: str, run_id: str) -> Run:
    """The run of the thread. Raises `NotFound`."""
    run = await runs.run(run_id)
    if run.thread_id != thread_id:
        raise NotFound(f"The thread '{thread_id}' has no run '{run_id}'.")
    return run


async def _submitted(
    runs: Runs,
    thread_id: str,
    thread: Thread | None,
    body: ThreadRunRequest,
    by: Actor,
    key: Key | None,
) -> Begun:
    if thread is None and body.if_not_exists == "reject":
        await runs.thread(thread_id)
    place = body.place
    # Clients send the head with whatever they ask: it is no place to go back to.
    at_head = thread is not None and place is not None and await _is_head(runs, thread, place)
    if at_head and body.input is not None:
        place = None
    submission = await submission_of(
        runs,
        body,
        by,
        thread_id,
        place=place,
        # To go on with nothing where a person was asked is to do it without them.
        if_paused="cancel" if body.input is not None or (place and not at_head) else "refuse",
        due_at=due_after(runs, body.after_seconds),
        key=key,
    )
    started = await runs.submit(submission)
    return Begun(runs, started.run, started.first_seq)


async def submission_of(
    runs: Runs,
    body: ThreadRunRequest,
    by: Actor,
    thread_id: str,
    *,
    place: str | None = None,
    if_paused: IfPaused = "refuse",
    due_at: datetime | None = None,
    key: Key | None = None,
) -> Submission:
    """The submission of the body's input by the actor, with what its assistant sets; to go on from
    the `place`, a checkpoint. As LangGraph does, it leaves out what the graph does not know:
    clients send the same to any."""
    submission = body.submission(
        by, thread_id, place=place, if_paused=if_paused, due_at=due_at, key=key
    )
    submission = await runs.assistants.applied(submission)
    agent, given = submission.agent or "", submission.given
    if agent not in runs.agents or not given.has_input:
        return submission
    known = runs.shape_of(agent).known(given.input)
    return replace(submission, given=structs.replace(given, input=known))


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
