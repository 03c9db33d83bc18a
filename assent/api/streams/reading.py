"""A log as clients ask for it: as a stream, or as pages."""

from __future__ import annotations

from typing import NamedTuple

from fastapi import Request, Response

from assent.api.deps import wants_page
from assent.api.dialects.base import Dialect, Past
from assent.api.dialects.positions import Position
from assent.api.event_query import Reading
from assent.api.executions import Found
from assent.api.streams.poll import page_of
from assent.api.streams.sse import EventStream
from assent.core.errors import InvalidRequest
from assent.runs.follow import (
    EXECUTION_TYPES,
    Batches,
    Execution,
    Following,
    execution_so_far,
    first_of,
    follow_execution,
)
from assent.storage.base import Storage


async def events_response(
    request: Request, storage: Storage, log_id: str, reading: Reading, dialect: Dialect
) -> Response:
    """The events of the log as Server-Sent Events; or a page of them, for a client that accepts
    JSON. Raises `Gone` if events past the cursor were removed."""
    following = Following(storage, log_id, reading.after, types=reading.types)
    if wants_page(request):
        await storage.check_cursor(log_id, reading.after)
        return await page_of(
            request, following, dialect=dialect, limit=reading.limit, timeout=reading.timeout
        )
    if reading.timeout is not None:
        raise InvalidRequest("timeout is for JSON pages: accept application/json.")
    await check_readable(storage, log_id, reading.after)
    return EventStream(request, following, dialect=dialect, named=reading.named)


async def check_readable(storage: Storage, log_id: str, after: int) -> None:
    """Raise what keeps a reader from the events past `after`, while the status of the response can
    still say it: `Gone`, or `Tampered`."""
    await storage.check_cursor(log_id, after)
    await storage.read_log(log_id, after, limit=1)


async def execution_response(
    request: Request,
    storage: Storage,
    found: Found,
    dialect: Dialect,
    position: Position,
    *,
    named: bool = False,
) -> Response:
    """What was found as Server-Sent Events behind the position: a thread without an end, an
    execution to its own. With a `Last-Event-ID` behind which nothing will come it is a 204:
    browsers ask no more then. Raises `Gone` as `replay_of` does."""
    replay = await replay_of(storage, found, dialect, position)
    if "last-event-id" in request.headers and await _has_all(storage, found, position):
        return Response(status_code=204)
    return EventStream(
        request, replay.following, replay.batches, dialect=replay.dialect, named=named
    )


class Replay(NamedTuple):
    """A thread, or an execution, for a reader who may have a part of it: what is followed for them,
    and the dialect that leaves out what they have."""

    following: Following
    batches: Batches
    dialect: Dialect


async def replay_of(storage: Storage, found: Found, dialect: Dialect, position: Position) -> Replay:
    """What was found from the position on, past and to come. Raises `Gone` if events behind the
    position were removed, or if there is no such position.

    An execution is read from its first event on, as is whatever is read in a dialect with a state;
    or from the first event that is left.
    """
    log_id = found.log_id
    await storage.check_cursor(log_id, position.seq)
    if found.root is None:
        after = 0 if dialect.has_state else position.seq - bool(position.part)
        following = Following(storage, log_id, after, types=dialect.types)
        batches = following.batches()
    else:
        after = await first_of(storage, log_id, found.root.run_id) - 1
        types = None if dialect.types is None else dialect.types | EXECUTION_TYPES
        following = Following(storage, log_id, after, types=types)
        batches = follow_execution(following, Execution(found.root.run_id))
    await check_readable(storage, log_id, after)
    return Replay(following, batches, Past(dialect, position))


async def _has_all(storage: Storage, found: Found, position: Position) -> bool:
    """True if the execution is over, and the reader has the last event of it."""
    if found.root is None:
        return False
    so_far = await execution_so_far(storage, found.log_id, found.root.run_id)
    end = so_far.ends_with
    return end is not None and (position.seq > end.seq or position == Position(end.seq))
