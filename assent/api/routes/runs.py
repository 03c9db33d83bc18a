"""Runs: list, follow, wait for and cancel them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_events
from assent.api.deps import Admitted, OfThread, PageLimit, Text, TheActor, TheRuns
from assent.api.dialects.native import NATIVE
from assent.api.event_query import (
    MOST_ON_A_PAGE,
    After,
    Before,
    Named,
    OnAPage,
    Types,
    check_one_way,
)
from assent.api.outcomes import cancelled_response, outcome_response, run_headers
from assent.api.paths import prefix_of
from assent.api.responses import json_response, page_response
from assent.api.routing import router_of
from assent.api.schemas import CancelRequest, Moment
from assent.api.shapes.common import EventsPage
from assent.api.shapes.runs import CancelledRuns, RunResultView, RunsPage, RunView
from assent.api.streams.poll import page_before, page_of
from assent.api.streams.reading import check_readable
from assent.api.streams.sse import EventStream
from assent.api.streams.transport import Transport
from assent.api.views import run_view
from assent.api.waiting import Wait
from assent.core.access import Right
from assent.core.rows import RunStatus
from assent.runs.follow import Following, is_over, replay_run

router = router_of("runs")


@router.get("/runs")
@may(Right.READ, Thing.LIST, langgraph=("threads", "search"))
@answers(RunsPage)
async def list_runs(
    request: Request,
    runs: TheRuns,
    by: TheActor,
    thread_id: OfThread = None,
    status: RunStatus | None = None,
    agent: Text = None,
    owner: Annotated[Text, Query(description="Runs that this person started")] = None,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    limit: PageLimit = 100,
    cursor: str | None = None,
) -> Response:
    """Runs, of all threads or of one, newest first: those that were submitted at `since` or later,
    and not behind `until`. `next` is the cursor of the next page, or null."""
    page = await runs.storage.latest_runs(
        thread_id=thread_id,
        status=None if status is None else (status,),
        agent=agent,
        owner=owner,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
    prefix = prefix_of(request)
    return page_response("runs", page, lambda run: run_view(run, runs.agents, prefix))


@router.get("/runs/{id}")
@may(Right.READ, Thing.RUN, langgraph=("threads", "read"))
@answers(RunView)
async def get_run(id: str, request: Request, runs: TheRuns, by: TheActor) -> Response:
    """One run. `reason` says why it does not go on, if this server does not have its agent."""
    view = run_view(await runs.run(id), runs.agents, prefix_of(request))
    return json_response(view)


@router.get("/runs/{id}/wait")
@may(Right.READ, Thing.RUN, langgraph=("threads", "read"))
@answers(RunResultView)
@answers(RunView, 202, description="The run as it is, because it did not end in time")
async def wait(
    id: str,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    timeout: Wait = None,
) -> Response:
    """Wait until the run has ended or somebody is asked. The response is that of `POST
    /agent/invoke`."""
    return await outcome_response(request, runs, await runs.run(id), timeout)


@router.get("/runs/{id}/stream")
@may(Right.READ, Thing.RUN, langgraph=("threads", "read"), ticket=Transport.SSE)
@streams_events
@answers(None, 204, description="You have the last event")
@refuses(410)
async def stream_run(
    id: str,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
    after: After,
    named: Named = False,
) -> Response:
    """The run's events after `after` (or `Last-Event-ID`), replayed and then live, until `done`,
    `error`, `run_paused` or `run_cancelled`. If standing grants answer a pause, the events of the
    run that goes on follow.

    If events after `after` were removed, or it is above the thread's last, the response is a 410.
    With a `Last-Event-ID` behind which nothing will come it is a 204: browsers ask no more then.
    """
    run = await runs.run(id)
    await check_readable(runs.storage, run.thread_id, after)
    headers = run_headers(run)
    if "last-event-id" in request.headers and await is_over(runs.storage, run, after):
        return Response(status_code=204, headers=headers)
    following = Following(runs.storage, run.thread_id, after)
    batches = replay_run(following, run)
    return EventStream(request, following, batches, dialect=NATIVE, named=named, headers=headers)


@router.get("/runs/{id}/events")
@may(Right.READ, Thing.RUN, langgraph=("threads", "read"))
@answers(EventsPage)
@refuses(410)
async def get_run_events(
    id: str,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    after: After,
    types: Types,
    before: Before = None,
    limit: OnAPage = MOST_ON_A_PAGE,
) -> Response:
    """A page of the run's events as JSON: those past `after`, or, going back from the end or from a
    number, those before `before`. Numbers are the thread's. Events past `after` that were removed
    are a 410."""
    check_one_way(after, before)
    run = await runs.run(id)
    storage, log_id = runs.storage, run.thread_id
    if before is not None:
        return await page_before(
            request,
            storage,
            log_id,
            before,
            types=types,
            run_id=id,
            dialect=NATIVE,
            limit=limit,
        )
    await storage.check_cursor(log_id, after)
    following = Following(storage, log_id, after, types=types)
    return await page_of(request, following, dialect=NATIVE, limit=limit, run_id=id)


@router.post("/runs/{id}/cancel", status_code=202)
@may(Right.STOP, Thing.RUN, langgraph=("threads", "update"))
@answers(CancelledRuns, description="The run has ended")
@answers(CancelledRuns, 202)
@refuses(409)
async def cancel_run(
    id: str, request: Request, runs: TheRuns, by: TheActor, body: CancelRequest | None = None
) -> Response:
    """Cancel the run. It is `cancelling` until what it does has really ended (202), and then
    `cancelled` (200).

    Cancelling is idempotent. A run that has ended otherwise is a 409.
    """
    body = body or CancelRequest()
    run = await runs.cancel_run(id, by, body.mode)
    return await cancelled_response(request, runs, [run], body, {"thread_id": run.thread_id})
