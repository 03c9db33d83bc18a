"""Idempotency keys over HTTP: whoever asks again under the same key gets the same answer. And the
answer to decisions: their outcome, or the events that follow."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request, Response

from assent.api.context import own_path_of, prefix_of
from assent.api.deps import TheActor, wants_stream
from assent.api.responses import json_response
from assent.api.sse import EventStream
from assent.api.views import outcome_view
from assent.approvals.idempotency import Key
from assent.core.approval import Outcome
from assent.runs.follow import Batches, follow_run
from assent.runs.service import Runs
from assent.storage.base import Storage


async def _key(
    request: Request,
    by: TheActor,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="A text of your choosing. For a day, the same request with the same key "
            "gets the same answer, and is not done again",
        ),
    ] = None,
) -> Key | None:
    if idempotency_key is None:
        return None
    request.state.has_key = True
    return Key.given(idempotency_key, by.name, own_path_of(request), await request.json())


TheKey = Annotated[Key | None, Depends(_key)]
"""The key that came with the request, if one did."""


def has_key(request: Request) -> bool:
    """True if the request came with a key, on a route that takes one."""
    return getattr(request.state, "has_key", False)


def decided_response(request: Request, runs: Runs, outcome: Outcome) -> Response:
    """202 with the outcome; or, with `Accept: text/event-stream`, the events that follow."""
    view = outcome_view(outcome, runs.approvals.people, prefix_of(request))
    thread_id, run_id = outcome.thread_id, outcome.run_id
    headers = {"X-Thread-Id": thread_id}
    if run_id is not None:
        headers["X-Run-Id"] = run_id
    after = outcome.first_seq - 1
    if not wants_stream(request):
        return json_response(view, status=202, headers={**headers, "Location": view["events"]})
    if run_id is not None:
        return EventStream(follow_run(runs.storage, thread_id, run_id, after), headers=headers)
    return EventStream(_read(runs.storage, thread_id, after, outcome.events), headers=headers)


async def _read(storage: Storage, thread_id: str, after: int, count: int) -> Batches:
    """The events of decisions after which others are still pending: nothing runs yet, so the stream
    ends with them."""
    while count:
        entries = await storage.read_log(thread_id, after, limit=count)
        yield entries
        after, count = entries[-1].seq, count - len(entries)
