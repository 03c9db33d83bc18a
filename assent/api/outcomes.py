"""What runs came to, for those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request, Response
from langchain_core.messages import AIMessage

from assent.api.deps import the_thread
from assent.api.responses import json_response
from assent.api.schemas import CancelRequest
from assent.api.views import approval_view, run_view, to_json
from assent.approvals.decide import pending_of
from assent.core.rows import UNFINISHED, Run, RunStatus
from assent.runs.follow import wait_for_run
from assent.runs.service import Runs
from assent.storage.base import Storage

T = TypeVar("T")


async def invoked_response(request: Request, runs: Runs, run: Run) -> Response:
    """What came of the message that began the run, once it is answered or somebody is asked. A
    pause that standing grants have answered in the same moment is neither: another run goes on."""
    return await _response(
        runs,
        run,
        await _while_asked(request, _answered(runs.storage, run), None)
        or await runs.run(run.run_id),
    )


async def outcome_response(
    request: Request, runs: Runs, run: Run, timeout: float | None = None
) -> Response:
    """What the run came to, once it has ended or paused: 200. If it has not within `timeout`
    seconds, the run as it is: 202."""
    # A very short timeout is over before anything was looked at.
    return await _response(
        runs,
        run,
        await _while_asked(request, wait_for_run(runs.storage, run), timeout)
        or await runs.run(run.run_id),
    )


async def _response(runs: Runs, run: Run, over: Run) -> Response:
    if over.status in UNFINISHED:
        return json_response(run_view(over), status=202, headers=run_headers(run))
    thread = await the_thread(runs.storage, over.thread_id)
    # What only an agent can read is left out where the server does not have it any more.
    values = (await runs.state(thread)).values if thread.agent in runs.agents else None
    body = {
        "thread_id": over.thread_id,
        "run_id": over.run_id,
        "status": over.status,
        "error": over.error,
        "output": _last_words(values),
        "approvals": [
            approval_view(approval) for approval in await pending_of(runs.storage, thread)
        ],
        "values": to_json(values),
    }
    return json_response(body, headers=run_headers(run))


def started_response(run: Run) -> Response:
    """A run that goes on by itself: 202, and where to look at it."""
    return json_response(
        run_view(run), status=202, headers={**run_headers(run), "Location": f"/runs/{run.run_id}"}
    )


async def cancelled_response(
    request: Request,
    runs: Runs,
    stopped: Sequence[Run],
    body: CancelRequest,
    members: dict[str, Any],
) -> Response:
    """The runs that were asked to stop: 202, or 200 if there is nothing left to wait for."""
    if body.wait:
        stopped = await _while_asked(request, _all_over(runs, stopped), None) or stopped
    view = {**members, "runs": [run_view(run) for run in stopped]}
    return json_response(
        view, status=200 if all(run.ended_at is not None for run in stopped) else 202
    )


def run_headers(run: Run) -> dict[str, str]:
    """Which run it is."""
    return {"X-Thread-Id": run.thread_id, "X-Run-Id": run.run_id}


async def _answered(storage: Storage, run: Run) -> Run:
    over = await wait_for_run(storage, run)
    while over.status is RunStatus.INTERRUPTED and (behind := await _run_behind(storage, over)):
        over = await wait_for_run(storage, behind)
    return over


async def _run_behind(storage: Storage, paused: Run) -> Run | None:
    """The run that has gone on from where this one paused, if one has."""
    newest = await storage.latest_runs(thread_id=paused.thread_id)
    return next((run for run in newest.rows if run.input.get("paused_run") == paused.run_id), None)


async def _all_over(runs: Runs, stopped: Sequence[Run]) -> Sequence[Run]:
    return [await wait_for_run(runs.storage, run) for run in stopped]


async def _while_asked(
    request: Request, coroutine: Coroutine[Any, Any, T], timeout: float | None
) -> T | None:
    """What it comes to; None if the time is over first, or the client has gone: nobody is to be
    waited for in vain, for a year perhaps."""
    asked = asyncio.create_task(coroutine)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({asked, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return asked.result() if asked.done() else None
    finally:
        asked.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _last_words(values: Any) -> str:
    """What the agent said last. A run that failed may have left what it was told, or what a tool
    returned, as the last message."""
    messages = values.get("messages") if isinstance(values, dict) else None
    return str(messages[-1].text) if messages and isinstance(messages[-1], AIMessage) else ""
