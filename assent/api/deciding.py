"""Decisions over HTTP: what came of them, and the same answer again to whoever asks again under the same key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from fastapi import Header, Request, Response

from assent.api.deps import wants
from assent.api.json import json_response
from assent.api.sse import EventStream
from assent.api.views import decided_view
from assent.approvals.deciding import Along, Decided
from assent.checkpoint.contracts import Answer, Change, LogEntry, Storage
from assent.digest import call_digest
from assent.errors import AssentError, InvalidRequest
from assent.runs.follow import follow_run
from assent.runs.service import Runs

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A text of your choosing. For a day, the same request with the same key gets the same answer, and is not done again",
    ),
]

Decide = Callable[[Along | None], Awaitable[Decided]]


async def decided_once(request: Request, runs: Runs, thread_id: str, who: str, key: str | None, decide: Decide) -> Response:
    """Decide, and answer: 202 with what came of it, or the events that follow. What was decided under this key of this client already is
    answered as it was then; another request under it is a 422."""
    if key is None:
        decided = await decide(None)
        return _response(request, runs.storage, decided_view(decided, thread_id), decided.first_seq, decided.events)
    answer_id = call_digest("answer", {"owner": who, "key": key})
    asked = call_digest(request.url.path, await request.json())

    def along(decided: Decided) -> Change:
        # As it will be read again, so that the two answers are alike to the last character.
        body = msgspec.to_builtins(decided_view(decided, thread_id))
        made = Answer(
            answer_id=answer_id,
            owner=who,
            thread_id=thread_id,
            asked=asked,
            created_at=runs.now(),
            first_seq=decided.first_seq,
            body=body,
        )
        return Change(rows=(made,))

    if (known := await runs.storage.answer(answer_id)) is not None:
        return _again(request, runs.storage, known, asked)
    try:
        decided = await decide(along)
    except AssentError:
        # Whoever sent the same a moment before has decided it.
        if (known := await runs.storage.answer(answer_id)) is not None:
            return _again(request, runs.storage, known, asked)
        raise
    body = msgspec.to_builtins(decided_view(decided, thread_id))
    return _response(request, runs.storage, body, decided.first_seq, decided.events)


def _again(request: Request, storage: Storage, known: Answer, asked: str) -> Response:
    if known.asked != asked:
        raise InvalidRequest("This Idempotency-Key was sent with another request before. Send a new one, or that request again.")
    return _response(request, storage, known.body, known.first_seq, len(known.body["decisions"]))


def _response(request: Request, storage: Storage, view: Mapping[str, Any], first_seq: int, events: int) -> Response:
    thread_id, run_id = view["thread_id"], view["run_id"]
    headers = {"X-Thread-Id": thread_id, **({"X-Run-Id": run_id} if run_id else {})}
    after = first_seq - 1
    if not wants(request, "text/event-stream"):
        return json_response(view, status=202, headers={**headers, "Location": view["events"]})
    if run_id is not None:
        return EventStream(follow_run(storage, thread_id, run_id, after), headers=headers)
    return EventStream(_only(storage, thread_id, after, events), headers=headers)


async def _only(storage: Storage, thread_id: str, after: int, count: int) -> AsyncGenerator[tuple[LogEntry, ...], None]:
    """The events of decisions that leave others to take: nothing runs yet, so the stream ends with them."""
    if count:
        yield await storage.read_log(thread_id, after, limit=count)
