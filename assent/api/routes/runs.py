"""Runs: in the background, one after another on a thread, looked at, waited for and cancelled."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from assent.api.deps import How, TheRuns, Who, the_thread
from assent.api.event_query import After, Named
from assent.api.openapi import ENDED_RESPONSE, SSE_RESPONSE
from assent.api.outcomes import cancelled_response, outcome_response, run_headers, started_response
from assent.api.responses import json_response
from assent.api.routes.threads import ThreadId
from assent.api.schemas import CancelRequest, RunRequest
from assent.api.sse import EventStream
from assent.api.views import run_view
from assent.core.rows import RunStatus
from assent.runs.follow import replay_run

router = APIRouter(tags=["runs"])

MAX_WAIT_SECONDS = 3600


@router.post("/threads/{id}/runs", status_code=202)
async def start_run(id: ThreadId, body: RunRequest, runs: TheRuns, who: Who, how: How) -> Response:
    """Start a run in the background, now or in `after_seconds`. It is durable when this answers;
    `events` is where to follow it.

    The thread is made if it is new.
    """
    due_at = runs.now() + timedelta(seconds=body.after_seconds) if body.after_seconds else None
    return started_response((await runs.submit(body.submission(who, id, how, due_at=due_at))).run)


@router.get("/threads/{id}/runs")
async def list_runs(
    id: ThreadId,
    runs: TheRuns,
    who: Who,
    status: RunStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> Response:
    """The thread's runs, newest first. `next` is the cursor of the next page, or null."""
    await the_thread(runs.storage, id)
    wanted = None if status is None else (status,)
    page = await runs.storage.latest_runs(thread_id=id, status=wanted, limit=limit, cursor=cursor)
    return json_response({"runs": [run_view(run) for run in page.rows], "next": page.next})


@router.get("/runs/{id}")
async def get_run(id: str, runs: TheRuns, who: Who) -> Response:
    """One run."""
    return json_response(run_view(await runs.run(id)))


@router.get(
    "/runs/{id}/wait",
    responses={202: {"description": "The run as it is, if it had not ended in time"}},
)
async def wait(
    id: str,
    request: Request,
    runs: TheRuns,
    who: Who,
    timeout: Annotated[
        float | None, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False, description="Seconds")
    ] = None,
) -> Response:
    """Wait until the run has ended or paused; the answer is that of `POST /agent/invoke`."""
    return await outcome_response(request, runs, await runs.run(id), timeout)


@router.get("/runs/{id}/stream", responses=SSE_RESPONSE)
async def stream_run(
    id: str,
    runs: TheRuns,
    who: Who,
    after: After,
    named: Named = False,
) -> Response:
    """The run's events past `after` (or `Last-Event-ID`), replayed and then live, to its `done`,
    `error`, `run_paused` or `run_cancelled`.

    Events past `after` that were removed are a 410.
    """
    run = await runs.run(id)
    # What was removed must be told as a status, so it is asked for before the response begins.
    await runs.storage.read_log(run.thread_id, after, limit=1)
    return EventStream(replay_run(runs.storage, run, after), named=named, headers=run_headers(run))


@router.post("/runs/{id}/cancel", status_code=202, responses=ENDED_RESPONSE)
async def cancel_run(
    id: str, request: Request, runs: TheRuns, who: Who, how: How, body: CancelRequest | None = None
) -> Response:
    """Stop the run. It is `cancelling` until what it does has really ended, and `cancelled` then:
    200 says it is.

    One that was cancelled already stays as it is; one that has ended otherwise is a 409.
    """
    body = body or CancelRequest()
    run = await runs.cancel_run(id, by=who, mode=body.mode, authentication=how)
    return await cancelled_response(request, runs, [run], body, {"thread_id": run.thread_id})
