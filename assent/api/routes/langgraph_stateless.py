"""Runs that name no thread, which LangGraph's clients call stateless, and the end of several runs.

Each has a new thread, which is erased some time after the run has ended, unless `on_completion` is
`keep`. What it asks a person is decided, and done, before.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_frames
from assent.api.deps import Admitted, TheActor, TheRuns
from assent.api.idempotency import TheKey
from assent.api.langgraph_again import Begun
from assent.api.langgraph_runs import begin, run_of, submission_of
from assent.api.langgraph_shapes import (
    NewThreadRunRequest,
    StoppedRunsRequest,
    langgraph_run_view,
)
from assent.api.outcomes import run_headers
from assent.api.paths import url
from assent.api.responses import json_response
from assent.api.routes.langgraph_runs import AFTER_RUN, stream_of, wait_for
from assent.api.routing import router_of
from assent.api.shapes.runs import ThreadRunView, ValuesAfter
from assent.approvals.idempotency import Key
from assent.core.access import Right
from assent.core.audit import Actor
from assent.core.errors import Conflict, NotFound
from assent.core.rows import CancelMode
from assent.runs.service import Runs
from assent.storage.base import all_pages

router = router_of("runs")

MOST_AT_ONCE = 100
"""The most runs of a batch."""


async def _begun(runs: Runs, body: NewThreadRunRequest, by: Actor, key: Key | None) -> Begun:
    # There is no thread yet, whatever is to be done if there is none.
    body = body.model_copy(update={"if_not_exists": "create"})
    return await begin(lambda right: runs, runs.clock.new_id(), body, by, key)


@router.post("/runs")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"))
@answers(ThreadRunView, location=True)
@refuses(404, 409)
async def start_run(
    body: NewThreadRunRequest, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """Start a run in the background on a new thread, as `POST /threads/{id}/runs` does."""
    run = (await _begun(runs, body, by, key)).run
    place = url(request, f"/threads/{run.thread_id}/runs/{run.run_id}")
    headers = {**run_headers(run), "Location": place, "Content-Location": place}
    return json_response(langgraph_run_view(run), headers=headers)


@router.post("/runs/stream")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"))
@streams_frames
@refuses(404, 409)
async def stream_run(
    body: NewThreadRunRequest,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
    key: TheKey,
) -> Response:
    """What `POST /runs` does, and the run's events, as those of `POST
    /threads/{id}/runs/stream`."""
    return await stream_of(request, await _begun(runs, body, by, key), body, by)


@router.post("/runs/wait")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"))
@answers(ValuesAfter, description=AFTER_RUN, location=True)
@refuses(404, 409)
async def wait_for_run(
    body: NewThreadRunRequest,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
    key: TheKey,
) -> Response:
    """What `POST /runs` does, and the values after the run, as those of `POST
    /threads/{id}/runs/wait`."""
    return wait_for(request, await _begun(runs, body, by, key), body, by)


@router.post("/runs/batch")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"))
@answers(list[ThreadRunView])
@refuses(404, 409)
async def start_runs(
    body: Annotated[list[NewThreadRunRequest], Body(min_length=1, max_length=MOST_AT_ONCE)],
    runs: TheRuns,
    by: TheActor,
) -> Response:
    """Start several runs, each on a new thread. If one of them is refused for what it asks, none is
    started; if the queue is full, those before it are."""
    for each in body:
        submission = await submission_of(runs, each, by, "")
        await runs.check_input(submission, runs.agent_for(submission, None))
    begun = [await _begun(runs, each, by, None) for each in body]
    return json_response([langgraph_run_view(each.run) for each in begun])


@router.post("/runs/cancel", status_code=204)
@may(Right.STOP, Thing.BODY, langgraph=("threads", "update"))
@answers(None, 204, description="They stop, or have stopped")
@refuses(404)
async def cancel_runs(
    body: StoppedRunsRequest,
    runs: TheRuns,
    by: TheActor,
    action: CancelMode = CancelMode.INTERRUPT,
) -> Response:
    """Cancel several runs: those with these ids, or all of a status. Those that have ended are left
    as they are."""
    storage, thread_id = runs.storage, body.thread_id
    found: list[str] = []
    if body.run_ids is None:
        # Their ids alone: what each was given may have a mebibyte.
        async for page in all_pages(storage.latest_runs, thread_id=thread_id, status=body.statuses):
            found += [run.run_id for run in page]
    for run_id in body.run_ids or ():
        run = await (runs.run(run_id) if thread_id is None else run_of(runs, thread_id, run_id))
        found.append(run.run_id)
    for run_id in found:
        try:
            await runs.cancel_run(run_id, by, action)
        except (Conflict, NotFound):
            # It has ended by itself, or was removed.
            continue
    return Response(status_code=204)
