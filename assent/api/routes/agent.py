"""Talking to an agent."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from assent.api.deps import How, TheRuns, Who
from assent.api.openapi import SSE_RESPONSE
from assent.api.outcomes import invoked_response, run_headers
from assent.api.schemas import AgentRequest
from assent.api.sse import EventStream
from assent.runs.follow import follow_run

router = APIRouter(tags=["agent"])


@router.post("/agent/stream", status_code=200, responses=SSE_RESPONSE, response_class=EventStream)
async def stream(body: AgentRequest, runs: TheRuns, who: Who, how: How) -> Response:
    """Send a message, and follow the run as Server-Sent Events to its `done`, `error`, `run_paused`
    or `run_cancelled`.

    A client that goes away does not stop the run: follow it again with `GET /threads/{id}/events`
    and the last id that you have.
    """
    started = await runs.submit(body.submission(who, body.thread_id, how))
    run = started.run
    return EventStream(
        follow_run(runs.storage, run.thread_id, run.run_id, started.first_seq - 1),
        headers=run_headers(run),
    )


@router.post("/agent/invoke")
async def invoke(
    body: AgentRequest, request: Request, runs: TheRuns, who: Who, how: How
) -> Response:
    """Send a message, wait until it is answered or somebody is asked, and get what it came to.

    That is its `status` and `error`, the thread's `values`, what the agent said last as `output`,
    and the `approvals` that wait now.
    """
    started = await runs.submit(body.submission(who, body.thread_id, how))
    return await invoked_response(request, runs, started.run)
