"""Decisions over HTTP: what came of them, and the same answer again to whoever asks again under the
same key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
from fastapi import Header, Request, Response

from assent.api.deps import wants
from assent.api.responses import json_response
from assent.api.sse import EventStream
from assent.api.views import decided_view
from assent.approvals.decide import Along, Decided
from assent.core.digest import call_digest
from assent.core.errors import AssentError, Conflict, InvalidRequest
from assent.core.rows import Answer
from assent.runs.follow import follow_run
from assent.runs.service import Runs
from assent.storage.base import Change, LogEntry, Storage

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A text of your choosing. For a day, the same request with the same key gets the same answer, and is not done again",
    ),
]

Decide = Callable[[Along | None], Awaitable[Decided]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A client's key: the id under which its answer is stored, whose it is, and a digest of the
    request that it was sent with."""

    answer_id: str
    owner: str
    asked: str

    def of(self, part: str) -> Key:
        """The key of a part of the request."""
        return replace(self, answer_id=call_digest("answer", {"of": self.answer_id, "part": part}))


async def key_of(request: Request, who: str, given: str | None) -> Key | None:
    """The key that came with the request, if one did."""
    if given is None:
        return None
    answer_id = call_digest("answer", {"owner": who, "key": given})
    return Key(
        answer_id=answer_id, owner=who, asked=call_digest(request.url.path, await request.json())
    )


async def decided_once(
    request: Request, runs: Runs, thread_id: str, who: str, key: str | None, decide: Decide
) -> Response:
    """Decide, and answer: 202 with what came of it, or the events that follow. What was decided
    under this key of this client already is answered as it was then; another request under it is a
    422."""
    answer = await once(runs, thread_id, await key_of(request, who, key), decide)
    return _response(request, runs.storage, answer)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a decision: what is answered, the number of the first event that tells of it,
    and how many do."""

    view: Mapping[str, Any]
    first_seq: int
    events: int


async def once(runs: Runs, thread_id: str, key: Key | None, decide: Decide) -> Outcome:
    """Decide; or, if that was done under this key, say what came of it then. Raises
    `InvalidRequest` if the key was another request's."""
    if key is None:
        return _outcome(await decide(None), thread_id)
    if (known := await _known(runs.storage, key)) is not None:
        return known

    def along(decided: Decided) -> Change:
        made = _outcome(decided, thread_id)
        return Change(rows=(_answer(key, runs, thread_id, made.first_seq, made.view),))

    try:
        return _outcome(await decide(along), thread_id)
    except AssentError:
        # Whoever sent the same a moment before has decided it.
        if (known := await _known(runs.storage, key)) is not None:
            return known
        raise


async def claim(runs: Runs, key: Key) -> None:
    """Have the key stand for this request, whose parts are decided each for itself, and for no
    other. Raises `InvalidRequest`."""
    if await _known(runs.storage, key) is None:
        try:
            await runs.storage.commit(Change(rows=(_answer(key, runs, "", 0, {"decisions": {}}),)))
        except Conflict:
            await _known(runs.storage, key)


def _answer(
    key: Key, runs: Runs, thread_id: str, first_seq: int, body: Mapping[str, Any]
) -> Answer:
    return Answer(
        answer_id=key.answer_id,
        owner=key.owner,
        thread_id=thread_id,
        asked=key.asked,
        created_at=runs.now(),
        first_seq=first_seq,
        body=body,
    )


def _outcome(decided: Decided, thread_id: str) -> Outcome:
    # As it will be read again where it is stored, so that the two answers are alike to the last
    # character.
    return Outcome(
        msgspec.to_builtins(decided_view(decided, thread_id)), decided.first_seq, decided.events
    )


async def _known(storage: Storage, key: Key) -> Outcome | None:
    known = await storage.answer(key.answer_id)
    if known is None:
        return None
    if known.asked != key.asked:
        raise InvalidRequest(
            "This Idempotency-Key was sent with another request before. Send a new one, or that request again."
        )
    return Outcome(known.body, known.first_seq, len(known.body["decisions"]))


def _response(request: Request, storage: Storage, outcome: Outcome) -> Response:
    view = outcome.view
    thread_id, run_id = view["thread_id"], view["run_id"]
    headers = {"X-Thread-Id": thread_id, **({"X-Run-Id": run_id} if run_id else {})}
    after = outcome.first_seq - 1
    if not wants(request, "text/event-stream"):
        return json_response(view, status=202, headers={**headers, "Location": view["events"]})
    if run_id is not None:
        return EventStream(follow_run(storage, thread_id, run_id, after), headers=headers)
    return EventStream(_only(storage, thread_id, after, outcome.events), headers=headers)


async def _only(
    storage: Storage, thread_id: str, after: int, count: int
) -> AsyncGenerator[tuple[LogEntry, ...], None]:
    """The events of decisions that leave others to take: nothing runs yet, so the stream ends with
    them."""
    if count:
        yield await storage.read_log(thread_id, after, limit=count)
