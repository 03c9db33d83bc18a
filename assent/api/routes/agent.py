"""Messages to an agent."""

from __future__ import annotations

from fastapi import Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_events
from assent.api.deps import Admitted, TheActor, TheRuns
from assent.api.dialects.native import NATIVE
from assent.api.idempotency import TheKey
from assent.api.outcomes import (
    after_start,
    due_after,
    outcome_response,
    run_headers,
    started_response,
)
from assent.api.routing import router_of
from assent.api.schemas import AgentRequest, RunRequest
from assent.api.shapes.runs import RunResultView, RunView
from assent.api.streams.sse import EventStream
from assent.core.access import Right
from assent.runs.follow import Following, follow_run

router = router_of("agent")


@router.post("/agent/stream", status_code=200, response_class=EventStream)
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"))
@streams_events
@refuses(404, 409)
async def stream(
    body: AgentRequest,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
    key: TheKey,
) -> Response:
    """Send a message, and receive the run's Server-Sent Events until `done`, `error`, `run_paused`
    or `run_cancelled`. If standing grants answer a pause, the events of the run that goes on
    follow.

    A client that disconnects does not stop the run: `GET /threads/{id}/events` continues after the
    last id that you have.
    """
    started = await runs.submit(body.submission(by, body.thread_id, key=key))
    run = started.run
    following = Following(runs.storage, run.thread_id, started.first_seq - 1)
    batches = follow_run(following, run.run_id)
    return EventStream(request, following, batches, dialect=NATIVE, headers=run_headers(run))


@router.post("/agent/invoke")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"))
@answers(RunResultView)
@answers(RunView, 202, description="The run as it is, because the server stops")
@refuses(404, 409)
async def invoke(
    body: AgentRequest, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """Send a message, and wait until it is answered or somebody is asked.

    The response has the run's `status` and `error`, the thread's `values`, the agent's last message
    as `output`, and the `approvals` that are pending now.
    """
    started = await runs.submit(body.submission(by, body.thread_id, key=key))
    with after_start(started.run):
        return await outcome_response(request, runs, started.run)


@router.post("/agent/runs", status_code=202)
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"))
@answers(RunView, 202, location=True)
@refuses(404, 409)
async def start(
    body: RunRequest, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """Start a run in the background, now or in `after_seconds`.

    The run is durable when this responds; `events` is the URL of its events.
    """
    due_at = due_after(runs, body.after_seconds)
    submission = body.submission(by, body.thread_id, due_at=due_at, key=key)
    started = await runs.submit(submission)
    return started_response(request, runs, started.run)
