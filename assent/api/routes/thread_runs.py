"""The runs of a thread, as LangGraph's server shows them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.deps import (
    PageLimit,
    TheActor,
    TheRuns,
    TheRunsBy,
    ThreadPath,
)
from assent.api.idempotency import TheKey
from assent.api.langgraph_runs import begin, run_of
from assent.api.langgraph_shapes import (
    LangGraphStatus,
    ThreadRunRequest,
    langgraph_run_view,
    statuses_of,
)
from assent.api.outcomes import run_headers
from assent.api.paths import url
from assent.api.responses import Filling, json_response
from assent.api.routing import router_of
from assent.api.shapes.runs import ThreadRunView
from assent.core.access import Right
from assent.core.rows import Run, RunStatus
from assent.storage.base import Storage

router = router_of("threads")

MOST_LEFT_OUT = 10_000
"""The most runs that a list may leave out: they are read all the same. `GET /runs` has pages."""


@router.post("/threads/{id}/runs")
@may(Right.RUN, Thing.THREAD, langgraph=("threads", "create_run"), deciding=True)
@answers(ThreadRunView, location=True)
@refuses(409, 410)
async def start_run(
    id: ThreadPath,
    body: ThreadRunRequest,
    request: Request,
    runs_by: TheRunsBy,
    by: TheActor,
    key: TheKey,
) -> Response:
    """Start a run in the background with the graph's own `input`, now or in `after_seconds`. `POST
    /agent/runs` takes messages, and more options.

    Or decide what the thread waits for, with a `command`: the run is the one that goes on, or the
    paused one while others must agree. The run is durable when this responds.
    """
    run = (await begin(runs_by, id, body, by, key)).run
    place = url(request, f"/threads/{id}/runs/{run.run_id}")
    # A client of LangGraph's does not read the body of a 202.
    headers = {**run_headers(run), "Location": place, "Content-Location": place}
    return json_response(langgraph_run_view(run), headers=headers)


@router.get("/threads/{id}/runs")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(list[ThreadRunView])
async def list_runs(
    id: ThreadPath,
    runs: TheRuns,
    by: TheActor,
    limit: PageLimit = 10,
    offset: Annotated[int, Query(ge=0, le=MOST_LEFT_OUT)] = 0,
    status: LangGraphStatus | None = None,
) -> Response:
    """The thread's runs, newest first. If there are more, as behind 4 MiB, the header
    `X-Pagination-Next` is the `offset` of those."""
    await runs.thread(id)
    wanted = None if status is None else statuses_of(status)
    page, headers, number, end = Filling(), dict[str, str](), 0, offset + limit
    async with aclosing(_newest(runs.storage, id, wanted, end + 1)) as newest:
        async for run in newest:
            if number == end or (number >= offset and not page.takes(langgraph_run_view(run))):
                headers["X-Pagination-Next"] = str(number)
                break
            number += 1
    return json_response(page.views, headers=headers)


async def _newest(
    storage: Storage, thread_id: str, status: tuple[RunStatus, ...] | None, count: int
) -> AsyncGenerator[Run, None]:
    """The newest of the runs, of which a page is read when it is asked for."""
    cursor: str | None = None
    while count > 0:
        page = await storage.latest_runs(
            thread_id=thread_id, status=status, limit=min(count, 1000), cursor=cursor
        )
        for run in page.rows:
            yield run
        count -= len(page.rows)
        cursor = page.next
        if cursor is None:
            break


@router.get("/threads/{id}/runs/{run_id}")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(ThreadRunView)
async def get_run(id: ThreadPath, run_id: str, runs: TheRuns, by: TheActor) -> Response:
    """One run of the thread. `GET /runs/{id}` says more of it."""
    return json_response(langgraph_run_view(await run_of(runs, id, run_id)))


@router.delete("/threads/{id}/runs/{run_id}", status_code=204)
@may(Right.STOP, Thing.THREAD, langgraph=("threads", "delete"))
@answers(None, 204, description="It is gone")
@refuses(409)
async def delete_run(id: ThreadPath, run_id: str, runs: TheRuns, by: TheActor) -> Response:
    """Delete a run that has ended: it is in no list any more. What it said and did stays on the
    thread, and so does what it has used. One that has not ended, or that waits for a person, is a
    409: cancel it first."""
    run = await run_of(runs, id, run_id)
    await runs.delete_run(run.run_id, by)
    return Response(status_code=204)
