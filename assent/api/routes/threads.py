"""Threads: their state, their events, and deciding on what they wait for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from assent.api.context import url
from assent.api.decision_bodies import ThreadAnswer
from assent.api.deps import TheActor, TheRuns, wants_page
from assent.api.event_query import MOST_ON_A_PAGE, After, Named, OnAPage, Types, event_page
from assent.api.idempotency import TheKey, decided_response
from assent.api.json_body import JsonRoute
from assent.api.openapi import ENDED_RESPONSE, SSE_RESPONSE
from assent.api.outcomes import after_start, cancelled_response
from assent.api.query import only_known
from assent.api.responses import PageLimit, json_response, page_response
from assent.api.schemas import THREAD_ID, CancelRequest, ForkRequest, ThreadRequest
from assent.api.sse import EventStream
from assent.api.views import state_view, thread_view
from assent.approvals.decide import Verdict
from assent.core.errors import Conflict, Tampered
from assent.core.rows import ThreadStatus
from assent.runs.follow import follow, wait_for_run

router = APIRouter(tags=["threads"], route_class=JsonRoute, dependencies=[Depends(only_known)])

ThreadId = Annotated[str, Path(alias="id", pattern=THREAD_ID)]


@router.get("/threads")
async def list_threads(
    runs: TheRuns,
    by: TheActor,
    status: ThreadStatus | None = None,
    limit: PageLimit = 100,
    cursor: str | None = None,
) -> Response:
    """Threads, newest first, without their values. `next` is the cursor of the next page, or
    null."""
    page = await runs.storage.threads(status=status, limit=limit, cursor=cursor)
    return page_response("threads", page, thread_view)


@router.post("/threads", status_code=201)
async def create_thread(runs: TheRuns, by: TheActor, body: ThreadRequest | None = None) -> Response:
    """A new thread. One that exists is a 409, or is returned as it is with `"if_exists":
    "do_nothing"`."""
    body = body or ThreadRequest()
    try:
        thread = await runs.create_thread(body.thread_id, owner=by.name, metadata=body.metadata)
    except Conflict:
        if body.if_exists == "raise" or body.thread_id is None:
            raise Conflict(f"There is a thread '{body.thread_id}' already.") from None
        return json_response(thread_view(await runs.thread(body.thread_id)))
    return json_response(thread_view(thread), status=201)


@router.get("/threads/{id}")
async def get_thread(id: ThreadId, runs: TheRuns, by: TheActor) -> Response:
    """A thread, with the values of its state and what it waits for; without them, if something of
    it was tampered with, or if the server does not have its agent."""
    thread = await runs.thread(id)
    if thread.tampered is None and (thread.agent is None or thread.agent in runs.agents):
        try:
            values = (await runs.state(thread)).values
            pending = await runs.approvals.pending(thread)
            return json_response(thread_view(thread, pending, values, runs.approvals.people))
        except Tampered as error:
            await runs.distrust(id, error)
            thread = await runs.thread(id)
    return json_response(thread_view(thread))


@router.delete("/threads/{id}", status_code=204)
async def delete_thread(id: ThreadId, runs: TheRuns, by: TheActor) -> Response:
    """Remove a thread with its state, events, runs and approvals. A thread with an active run is a
    409, unless the run is of an agent that this server does not have."""
    await runs.delete(await runs.thread(id), by)
    return Response(status_code=204)


@router.get("/threads/{id}/state")
async def get_state(
    id: ThreadId,
    runs: TheRuns,
    by: TheActor,
    checkpoint_id: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
) -> Response:
    """The state at the thread's head, or at a checkpoint."""
    thread = await runs.thread(id)
    if checkpoint_id is not None:
        return json_response(state_view(await runs.state(thread, checkpoint_id)))
    pending = await runs.approvals.pending(thread)
    return json_response(state_view(await runs.state(thread), pending, runs.approvals.people))


@router.get("/threads/{id}/history")
async def get_history(
    id: ThreadId,
    runs: TheRuns,
    by: TheActor,
    limit: PageLimit = 10,
    before: str | None = None,
) -> Response:
    """The states that the thread has been in, newest first; `before` is a checkpoint id."""
    thread = await runs.thread(id)
    states = await runs.history(thread, limit=limit, before=before)
    return json_response(list(map(state_view, states)))


@router.get("/threads/{id}/events", responses=SSE_RESPONSE)
async def get_events(
    id: ThreadId,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    after: After,
    types: Types,
    named: Named = False,
    limit: OnAPage = MOST_ON_A_PAGE,
) -> Response:
    """The thread's events past `after` (or `Last-Event-ID`), replayed and then live, across runs;
    or a page of them as JSON, if you accept `application/json`: `{"events": [...], "next": <the
    number to go on after>}`. Events past `after` that were removed are a 410."""
    await runs.thread(id)
    await runs.storage.check_cursor(id, after)
    if wants_page(request):
        return event_page(await runs.storage.read_log(id, after, limit=limit, types=types), after)
    # While the status can still be a 410, or a 500 for an event that was tampered with.
    await runs.storage.read_log(id, after, limit=1)
    return EventStream(follow(runs.storage, id, after, types=types), named=named)


@router.post("/threads/{id}/resume", status_code=202, responses=SSE_RESPONSE)
async def resume(
    id: ThreadId,
    body: ThreadAnswer,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    key: TheKey,
) -> Response:
    """Decide what the thread waits for. The decisions are durable when this answers, and the run
    goes on once none is left to take.

    An answer that is of no known form, or that what is pending does not take, is a 422, and nothing
    was decided. With `Accept: text/event-stream` the answer is the resumed run's events.
    """
    verdict = Verdict(decisions=body.choices, by=by, key=key)
    outcome = await runs.approvals.decide(id, verdict)
    return decided_response(request, runs, outcome)


@router.post("/threads/{id}/cancel", status_code=202, responses=ENDED_RESPONSE)
async def cancel(
    id: ThreadId,
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
async def fork(
    id: ThreadId,
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
    with after_start(started.run):
        run = await wait_for_run(runs.storage, started.run)
        if run.error is not None:
            raise Conflict(
                f"The state could not be taken over: {run.error.get('message')}",
                thread_id=run.thread_id,
                run_id=run.run_id,
            )
        thread = await runs.thread(run.thread_id)
        pending, values = await runs.approvals.pending(thread), (await runs.state(thread)).values
    view = thread_view(thread, pending, values, runs.approvals.people)
    location = url(request, f"/threads/{thread.thread_id}")
    return json_response(view, status=201, headers={"Location": location})
