"""Responses to clients that wait for a run, or have decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from fastapi import Request, Response
from langchain_core.messages import AIMessage
from langgraph.types import StateSnapshot

from assent.api.deps import wants_stream
from assent.api.dialects.native import NATIVE
from assent.api.paths import prefix_of, url
from assent.api.responses import json_response
from assent.api.schemas import CancelRequest
from assent.api.streams.sse import EventStream
from assent.api.views import approval_view, outcome_view, run_view, state_json
from assent.api.waiting import unless_gone
from assent.core.approval import Approval, Outcome
from assent.core.errors import Conflict, Forbidden, Unavailable
from assent.core.json import Json, JsonObject, valid_text
from assent.core.rows import UNFINISHED, Run, RunStatus, Thread
from assent.runs.follow import Batches, Following, follow_run, wait_for_rest, wait_for_run
from assent.runs.service import Runs, Started
from assent.storage.base import Storage

T = TypeVar("T")


@contextmanager
def after_start(run: Run) -> Iterator[None]:
    """While the context is entered, the error of an unavailable storage says that the run was
    started, so that nobody starts another."""
    try:
        yield
    except Unavailable as error:
        if "run_id" in error.details:
            raise
        raise Unavailable(
            f"The run '{run.run_id}' was started, and what became of it cannot be read now: "
            f"{error.message} Ask for GET /runs/{run.run_id}/wait in a while.",
            **{**error.details, "thread_id": run.thread_id, "run_id": run.run_id},
        ) from error


async def carried_out(runs: Runs, started: Started, failed: str) -> Run:
    """The run, once it has done what it was started for. Raises `Conflict` if it has failed."""
    with after_start(started.run):
        run = await wait_for_run(runs.storage, started.run)
    if run.error is not None:
        raise Conflict(
            f"{failed}: {run.error.get('message')}", thread_id=run.thread_id, run_id=run.run_id
        )
    return run


async def outcome_response(
    request: Request, runs: Runs, run: Run, timeout: float | None = None
) -> Response:
    """The outcome of the run, once it has ended or somebody is asked: 200. After `timeout` seconds,
    the run as it is: 202."""
    last = await unless_gone(request, wait_for_rest(runs.storage, run), timeout)
    return await _response(request, runs, run, last)


def due_after(runs: Runs, seconds: float) -> datetime | None:
    """The time when a run with this delay is due; None without one."""
    return runs.clock.now() + timedelta(seconds=seconds) if seconds else None


def started_response(request: Request, runs: Runs, run: Run) -> Response:
    """A run in the background: 202, and the URL of the run as `Location`."""
    headers = {**run_headers(run), "Location": url(request, f"/runs/{run.run_id}")}
    view = run_view(run, runs.agents, prefix_of(request))
    return json_response(view, status=202, headers=headers)


async def cancelled_response(
    request: Request,
    runs: Runs,
    cancelled: Sequence[Run],
    body: CancelRequest,
    members: JsonObject,
) -> Response:
    """The cancelled runs: 200 if all of them have ended, else 202."""
    if body.wait:
        ended = await unless_gone(request, _all_ended(runs.storage, cancelled))
        cancelled = ended or cancelled
    status = 200 if all(run.ended_at for run in cancelled) else 202
    prefix = prefix_of(request)
    views = [run_view(run, runs.agents, prefix) for run in cancelled]
    return json_response({**members, "runs": views}, status=status)


async def sees_thread(request: Request, runs: Runs, thread_id: str) -> bool:
    """True if whoever decides sees the thread too, and not only what it asks. Raises `Forbidden` if
    they do not, and want its events."""
    if await runs.storage.thread(thread_id) is not None:
        return True
    asked = await runs.storage.approvals(thread_id=thread_id, limit=1)
    if asked.rows and wants_stream(request):
        raise Forbidden(
            f"You may decide what the thread '{thread_id}' asks, and its events are not yours to "
            "read. Nothing was changed: leave out 'Accept: text/event-stream'."
        )
    return False


def decided_response(
    request: Request, runs: Runs, outcome: Outcome, *, sees_thread: bool
) -> Response:
    """202 with the outcome; or, with `Accept: text/event-stream`, the events that follow."""
    prefix = prefix_of(request)
    view = outcome_view(outcome, runs.approvals.people, prefix, sees_thread=sees_thread)
    thread_id, run_id = outcome.thread_id, outcome.run_id
    headers = {"X-Thread-Id": thread_id}
    if run_id is not None:
        headers["X-Run-Id"] = run_id
    if not wants_stream(request):
        decided = next((each.approval_id for each in outcome.approvals), "")
        headers["Location"] = view["events"] or f"{prefix}/approvals/{decided}"
        return json_response(view, status=202, headers=headers)
    following = Following(runs.storage, thread_id, outcome.first_seq - 1)
    if run_id is not None:
        batches = follow_run(following, run_id)
    else:
        batches = _read(following, outcome.events)
    return EventStream(request, following, batches, dialect=NATIVE, headers=headers)


async def _read(following: Following, count: int) -> Batches:
    """The events of decisions after which others are still pending: nothing runs yet, so the stream
    ends with them."""
    while count:
        entries = (await following.read())[:count]
        yield entries
        count -= len(entries)


def run_headers(run: Run) -> dict[str, str]:
    """The headers that name the run."""
    return {"X-Thread-Id": run.thread_id, "X-Run-Id": run.run_id}


async def _response(request: Request, runs: Runs, asked: Run, last: Run | None) -> Response:
    headers = run_headers(asked)
    # A very short timeout is over before the run was read.
    run = last or await runs.run(asked.run_id)
    if run.status in UNFINISHED:
        view = run_view(run, runs.agents, prefix_of(request))
        return json_response(view, status=202, headers=headers)

    result = await result_of(runs, run)
    people = runs.approvals.people
    body = {
        "thread_id": result.thread_id,
        "run_id": result.run_id,
        "status": result.status,
        "error": result.error,
        "output": result.output,
        "approvals": [approval_view(approval, people) for approval in result.approvals],
        "values": state_json(result.values),
    }
    return json_response(body, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The end of a run, or its pause.

    `output` is the agent's last message, `values` the thread's state, and `approvals` are what
    waits for people now. `error` says why the run failed, if it has.
    """

    thread_id: str
    run_id: str
    status: RunStatus
    output: str
    values: Any
    approvals: tuple[Approval, ...]
    error: Mapping[str, Json] | None


async def readable_state(
    runs: Runs, thread: Thread, *, is_shown: bool = False
) -> StateSnapshot | None:
    """The thread's state, as `Runs.state` returns it. Only its agent can read it, so it is None if
    the server does not have that any more."""
    # A thread without an agent is read as the first one's.
    is_readable = (thread.agent or next(iter(runs.agents), "")) in runs.agents
    return await runs.state(thread, is_shown=is_shown) if is_readable else None


async def result_of(runs: Runs, run: Run) -> RunResult:
    """The result of a run that has ended or paused."""
    thread = await runs.thread(run.thread_id)
    state = await readable_state(runs, thread)
    values = state.values if state is not None else None
    return RunResult(
        thread_id=run.thread_id,
        run_id=run.run_id,
        status=run.status,
        output=_last_words(values),
        values=values,
        approvals=tuple(await runs.approvals.pending(thread)),
        error=run.error,
    )


async def _all_ended(storage: Storage, runs: Sequence[Run]) -> Sequence[Run]:
    return [await wait_for_run(storage, run) for run in runs]


def _last_words(values: Json) -> str:
    """The agent's last message. If the run failed, the last message may be the user's or a
    tool's."""
    messages = values.get("messages") if isinstance(values, dict) else None
    if not messages or not isinstance(messages[-1], AIMessage):
        return ""
    return valid_text(str(messages[-1].text))
