"""Talking to an agent."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Response

from assent.api.deps import TheRuns, Who, the_thread
from assent.api.json import json_response
from assent.api.openapi import SSE_RESPONSE
from assent.api.schemas import AgentRequest
from assent.api.sse import EventStream
from assent.api.views import approval_view, to_json
from assent.approvals.deciding import pending_of
from assent.runs.follow import follow_run
from assent.runs.service import Started
from assent.runs.transitions import Submission

router = APIRouter(tags=["agent"])


def _submission(body: AgentRequest, who: str) -> Submission:
    return Submission(
        message=body.message,
        owner=who,
        agent=body.agent,
        thread_id=body.thread_id,
        metadata=body.metadata,
        if_paused=body.if_paused,
    )


def _ids(started: Started) -> dict[str, str]:
    return {"X-Thread-Id": started.run.thread_id, "X-Run-Id": started.run.run_id}


@router.post("/agent/stream", status_code=200, responses=SSE_RESPONSE, response_class=EventStream)
async def stream(body: AgentRequest, runs: TheRuns, who: Who) -> Response:
    """Send a message, and follow the run as Server-Sent Events to its `done`, `error`, `run_paused` or `run_cancelled`.

    A client that goes away does not stop the run: follow it again with `GET /threads/{id}/events` and the last id that you have.
    """
    started = await runs.submit(_submission(body, who))
    return EventStream(follow_run(runs.storage, started.run.thread_id, started.run.run_id, started.first_seq - 1), headers=_ids(started))


@router.post("/agent/invoke")
async def invoke(body: AgentRequest, runs: TheRuns, who: Who) -> Response:
    """Send a message, wait for the end of the run, and get what it came to.

    That is its `status` and `error`, the thread's `values`, the text of the last message as `output`, and the `approvals` that wait now.
    """
    started = await runs.submit(_submission(body, who))
    async with aclosing(follow_run(runs.storage, started.run.thread_id, started.run.run_id, started.first_seq - 1)) as batches:
        async for _ in batches:
            pass
    run = await runs.storage.run(started.run.run_id)
    thread = await the_thread(runs.storage, started.run.thread_id)
    snapshot = await runs.state(thread)
    return json_response(
        {
            "thread_id": thread.thread_id,
            "run_id": started.run.run_id,
            "status": run.status if run else None,
            "error": run.error if run else None,
            "output": _last_text(snapshot.values),
            "approvals": [approval_view(approval) for approval in await pending_of(runs.storage, thread)],
            "values": to_json(snapshot.values),
        },
        headers=_ids(started),
    )


def _last_text(values: Any) -> str:
    messages = values.get("messages") if isinstance(values, dict) else None
    return str(getattr(messages[-1], "text", "")) if messages else ""
