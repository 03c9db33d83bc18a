"""Threads: their state, their events, and deciding on what they wait for."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import Path, Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_events
from assent.api.decision_bodies import ThreadAnswer
from assent.api.deps import (
    AdmittedIfStreaming,
    AdmittedUnlessPage,
    PageLimit,
    Text,
    TheActor,
    TheRuns,
    ThreadPath,
)
from assent.api.dialects.native import NATIVE
from assent.api.event_query import TheReading
from assent.api.idempotency import TheKey
from assent.api.langgraph_shapes import (
    HistoryRequest,
    StateChange,
    ThreadChange,
    ThreadRequest,
    state_view,
    thread_view,
    written_view,
)
from assent.api.narrowing import narrowed
from assent.api.outcomes import (
    after_start,
    cancelled_response,
    carried_out,
    decided_response,
    run_headers,
    sees_thread,
)
from assent.api.paths import url
from assent.api.responses import json_response, page_response
from assent.api.routing import router_of
from assent.api.schemas import CancelRequest, CheckpointId, ForkRequest
from assent.api.shapes.approvals import OutcomeView
from assent.api.shapes.common import EventsPage
from assent.api.shapes.runs import CancelledRuns
from assent.api.shapes.threads import StateAsks, StateView, ThreadsPage, ThreadView, WrittenState
from assent.api.streams.reading import events_response
from assent.api.streams.transport import Transport
from assent.api.thread_views import history_response, state_at, whole_thread_view
from assent.api.views import question_view
from assent.approvals.decide import Verdict
from assent.core.access import Right
from assent.core.audit import Actor
from assent.core.errors import Conflict, ThreadBusy
from assent.core.rows import Thread, ThreadStatus
from assent.core.titles import is_called
from assent.runs.follow import wait_for_run
from assent.runs.service import Runs

router = router_of("threads")

ThreadOrder = Literal["newest", "used"]


@router.get("/threads")
@may(Right.READ, Thing.LIST, langgraph=("threads", "search"))
@answers(ThreadsPage)
async def list_threads(
    runs: TheRuns,
    by: TheActor,
    status: ThreadStatus | None = None,
    agent: Annotated[
        Text, Query(description="Those of this agent, and those that are of none yet")
    ] = None,
    q: Annotated[
        Text, Query(description="Those whose title has these words, or whose id begins with them")
    ] = None,
    sort: Annotated[
        ThreadOrder, Query(description="What comes first: what was made last, or used last")
    ] = "newest",
    limit: PageLimit = 100,
    cursor: str | None = None,
) -> Response:
    """Threads, newest first, without their values. `next` is the cursor of the next page, or null.
    With `q` a page may have fewer than `limit`, and there may still be others behind it."""
    read = partial(
        runs.storage.threads,
        status=status,
        agent=agent,
        by="created_at" if sort == "newest" else "updated_at",
        limit=limit,
    )
    if q is None:
        page = await read(cursor=cursor)
    else:
        page = await narrowed(read, cursor, partial(is_called, words=q))
    return page_response("threads", page, thread_view)


@router.post("/threads")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create"))
@answers(ThreadView)
@refuses(404, 409)
async def create_thread(runs: TheRuns, by: TheActor, body: ThreadRequest | None = None) -> Response:
    """A new thread. One that exists is a 409, or is returned as it is with `"if_exists":
    "do_nothing"`."""
    body = body or ThreadRequest()
    try:
        thread = await runs.create_thread(body.thread_id, owner=by.owner, metadata=body.metadata)
    except Conflict:
        if body.if_exists == "raise" or body.thread_id is None:
            raise Conflict(f"There is a thread '{body.thread_id}' already.") from None
        return await _thread_response(runs, await runs.thread(body.thread_id))
    return await _thread_response(runs, thread)


@router.get("/threads/{id}")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(ThreadView)
async def get_thread(id: ThreadPath, runs: TheRuns, by: TheActor) -> Response:
    """A thread, with the values of its state and what it waits for. It has no values if the server
    does not have its agent, and neither if something of it was tampered with."""
    return await _thread_response(runs, await runs.thread(id))


async def _thread_response(
    runs: Runs, thread: Thread, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    view = await whole_thread_view(runs, thread)
    return json_response(view, status=status, headers=headers)


@router.patch("/threads/{id}")
@may(Right.RUN, Thing.THREAD, langgraph=("threads", "update"))
@answers(ThreadView)
@refuses(409)
async def change_thread(
    id: ThreadPath, body: ThreadChange, runs: TheRuns, by: TheActor
) -> Response:
    """Change fields of the thread's metadata, or its title, whatever goes on there. The other
    fields stay, and those that are null are taken off."""
    changed = await runs.change_thread(id, body.metadata, title=body.title)
    return await _thread_response(runs, changed)


@router.delete("/threads/{id}", status_code=204)
@may(Right.STOP, Thing.THREAD, langgraph=("threads", "delete"))
@answers(None, 204, description="It is gone")
@refuses(409)
async def delete_thread(id: ThreadPath, runs: TheRuns, by: TheActor) -> Response:
    """Remove a thread with its state, events, runs and approvals. A thread with an active run is a
    409, unless the run is of an agent that this server does not have."""
    await runs.delete(id, by)
    return Response(status_code=204)


@router.get("/threads/{id}/state")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(StateView)
async def get_state(
    id: ThreadPath,
    runs: TheRuns,
    by: TheActor,
    checkpoint_id: Annotated[CheckpointId | None, Query()] = None,
    subgraphs: bool = False,
) -> Response:
    """The state at the thread's head, or at a checkpoint. With `subgraphs`, tasks have the states
    of the graphs that they are."""
    thread = await runs.thread(id)
    if checkpoint_id:
        return json_response(await state_at(runs, thread, checkpoint_id, subgraphs=subgraphs))
    pending = await runs.approvals.pending(thread)
    state = await runs.state(thread, subgraphs=subgraphs, is_shown=True)
    return json_response(state_view(state, pending, runs.approvals.people))


@router.post("/threads/{id}/state")
@may(Right.RUN, Thing.THREAD, langgraph=("threads", "update"))
@answers(WrittenState)
@refuses(409)
async def write_state(
    id: ThreadPath, body: StateChange, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """Write to the thread's state. What that then waits for is asked, also if it was approved
    before. On a paused thread, only dropping what it waits for is possible."""
    thread = await runs.thread(id)
    if body.drops:
        await _drop_pause(runs, thread, by)
        return await _written_response(runs, id)
    values = body.values or {}
    if thread.agent is not None and thread.agent in runs.agents:
        # Clients of LangGraph write what they have of a state, with fields of their own.
        values = runs.shape_of(thread.agent).known(values)
    started = await runs.update_state(
        id,
        values,
        as_node=body.as_node,
        checkpoint_id=body.place,
        by=by,
        key=key,
    )
    run = await carried_out(runs, started, "The state could not be written")
    with after_start(run):
        return await _written_response(runs, id)


async def _drop_pause(runs: Runs, thread: Thread, by: Actor) -> None:
    """Drop what the thread waits for, if it waits. What is queued behind it goes on. Raises
    `ThreadBusy`."""
    if thread.status is ThreadStatus.BUSY:
        raise ThreadBusy(
            f"A run is active on the thread '{thread.thread_id}', and waits for nobody. To stop "
            f"it, use POST /threads/{thread.thread_id}/cancel."
        )
    if thread.status is ThreadStatus.INTERRUPTED and thread.run_id is not None:
        dropped = await runs.cancel_run(thread.run_id, by)
        await wait_for_run(runs.storage, dropped)


async def _written_response(runs: Runs, thread_id: str) -> Response:
    thread = await runs.thread(thread_id)
    pending = await runs.approvals.pending(thread)
    view = written_view(thread, await runs.state(thread), pending, runs.approvals.people)
    return json_response(view)


@router.get("/threads/{id}/state/{checkpoint_id}")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(StateView)
async def get_state_at(
    id: ThreadPath,
    checkpoint_id: Annotated[CheckpointId, Path()],
    runs: TheRuns,
    by: TheActor,
    subgraphs: bool = False,
) -> Response:
    """The thread's state at a checkpoint."""
    thread = await runs.thread(id)
    return json_response(await state_at(runs, thread, checkpoint_id, subgraphs=subgraphs))


@router.get("/threads/{id}/state/{checkpoint_id}/asks")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(StateAsks)
async def get_asks(
    id: ThreadPath, checkpoint_id: Annotated[CheckpointId, Path()], runs: TheRuns, by: TheActor
) -> Response:
    """What a fork from this state would do, and what it would ask anew. Nothing is changed."""
    thread = await runs.thread(id)
    thread.check_trusted()
    standing, asked = await runs.asked_at(thread, checkpoint_id)
    return json_response(
        {
            "thread_id": id,
            "checkpoint_id": checkpoint_id,
            "standing": standing,
            "asks": [question_view(each) for each in asked],
        }
    )


@router.get("/threads/{id}/history")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(list[StateView])
async def get_history(
    id: ThreadPath,
    runs: TheRuns,
    by: TheActor,
    limit: PageLimit = 10,
    before: str | None = None,
) -> Response:
    """The states that the thread has been in, newest first; `before` is a checkpoint id. A page
    ends behind 4 MiB: then `X-Pagination-Next` is what to go on `before`."""
    thread = await runs.thread(id)
    states = await runs.history(thread, limit=limit, before=before, is_shown=True)
    return await history_response(runs, thread, states)


@router.post("/threads/{id}/history")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(list[StateView])
async def search_history(
    id: ThreadPath, runs: TheRuns, by: TheActor, body: HistoryRequest | None = None
) -> Response:
    """The states that the thread has been in, newest first. A page ends behind 4 MiB: then
    `X-Pagination-Next` is what to go on `before`."""
    body = body or HistoryRequest()
    thread = await runs.thread(id)
    states = await runs.history(
        thread,
        limit=body.limit,
        before=body.before_id,
        metadata=body.metadata,
        is_shown=True,
    )
    return await history_response(runs, thread, states)


@router.get("/threads/{id}/events")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"), ticket=Transport.SSE)
@streams_events
@answers(EventsPage)
@refuses(410)
async def get_events(
    id: ThreadPath,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: AdmittedUnlessPage,
    reading: TheReading,
) -> Response:
    """The thread's events past `after` (or `Last-Event-ID`), replayed and then live, across runs;
    or a page of them as JSON, if you accept `application/json`: `{"events": [...], "next": <the
    number to go on after>, "more": <true if there are others already>}`. With a `timeout`, a page
    that would be empty waits for an event. Events past `after` that were removed are a 410."""
    await runs.thread(id)
    return await events_response(request, runs.storage, id, reading, NATIVE)


@router.post("/threads/{id}/resume", status_code=202)
@may(Right.DECIDE, Thing.THREAD, langgraph=("threads", "create_run"))
@streams_events
@answers(OutcomeView, 202, location=True)
@refuses(409, 410)
async def resume(
    id: ThreadPath,
    body: ThreadAnswer,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: AdmittedIfStreaming,
    key: TheKey,
) -> Response:
    """Decide what the thread waits for. The decisions are durable when this answers, and the run
    goes on once none is left to take.

    An answer that is of no known form, or that what is pending does not take, is a 422, and nothing
    was decided. With `Accept: text/event-stream` the answer is the resumed run's events.
    """
    is_seen = await sees_thread(request, runs, id)
    verdict = Verdict(decisions=body.choices, by=by, key=key)
    outcome = await runs.approvals.decide(id, verdict)
    return decided_response(request, runs, outcome, sees_thread=is_seen)


@router.post("/threads/{id}/cancel", status_code=202)
@may(Right.STOP, Thing.THREAD, langgraph=("threads", "update"))
@answers(CancelledRuns, description="All of the runs have ended")
@answers(CancelledRuns, 202)
@refuses(409)
async def cancel(
    id: ThreadPath,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    body: CancelRequest | None = None,
) -> Response:
    """Stop what runs on the thread, what it waits for a person to decide, and what waits its turn;
    runs that are to start later are left.

    `runs` are those that were stopped, none if there was nothing. The thread takes new input when
    they have ended; 200 says they have.
    """
    body = body or CancelRequest()
    stopped = await runs.cancel_thread(id, by, body.mode)
    return await cancelled_response(request, runs, stopped, body, {"thread_id": id})


@router.post("/threads/{id}/fork", status_code=201)
@may(Right.RUN, Thing.THREAD, langgraph=("threads", "create"))
@answers(ThreadView, 201, location=True)
@refuses(409)
async def fork(
    id: ThreadPath,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    key: TheKey,
    body: ForkRequest | None = None,
) -> Response:
    """Begin a new thread with the state of this one at a checkpoint.

    What that state waits for is asked anew, whatever was decided here: the new thread has approvals
    of its own.
    """
    body = body or ForkRequest()
    started = await runs.fork(
        id, body.checkpoint_id, target=body.thread_id, by=by, metadata=body.metadata, key=key
    )
    run = await carried_out(runs, started, "The state could not be taken over")
    with after_start(run):
        headers = {**run_headers(run), "Location": url(request, f"/threads/{run.thread_id}")}
        thread = await runs.thread(run.thread_id)
        return await _thread_response(runs, thread, status=201, headers=headers)
