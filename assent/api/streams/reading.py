"""A log as clients ask for it: as a stream, or as pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from fastapi import Request, Response

from assent.api.context import served
from assent.api.deps import admit, wants_page
from assent.api.dialects.base import Dialect, Frame, Past, past
from assent.api.dialects.positions import Position
from assent.api.event_query import Reading
from assent.api.executions import Found
from assent.api.streams.connections import Connection, Transport
from assent.api.streams.encoder import ws_text
from assent.api.streams.poll import page_of
from assent.api.streams.sending import connection_of
from assent.api.streams.sse import EventStream
from assent.api.waiting import unless_gone
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
from assent.storage.base import LogEntry, Storage


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
    if "last-event-id" in request.headers and await has_all(storage, found, dialect, position):
        return Response(status_code=204)
    return EventStream(
        request, replay.following, replay.batches, dialect=replay.dialect, named=named
    )


async def execution_page(
    request: Request,
    storage: Storage,
    found: Found,
    dialect: Dialect,
    position: Position,
    *,
    limit: int,
    timeout: float | None = None,
) -> Response:
    """The frames behind the position as `{"events": [...]}`, at most `limit`. If there are none,
    wait for some until the timeout. Raises `Gone` as `replay_of` does."""
    frames = await frames_so_far(storage, found, dialect, position, limit=limit)
    events: Sequence[bytes] = [ws_text(frame) for frame in frames]
    if not events and timeout:
        replay = await replay_of(storage, found, dialect, position)
        events = (await _wait(request, replay, timeout))[:limit]
    body = b'{"events":[%s]}' % b",".join(events)
    return Response(body, media_type="application/json")


async def _wait(request: Request, replay: Replay, timeout: float) -> Sequence[bytes]:
    """The next frames; none if the timeout is over, the client has gone or the server stops."""
    admit(request)
    connection = connection_of(request, replay.following, Transport.POLL, replay.dialect, ws_text)
    with served(request).connections.opened(connection):
        first = _first_messages(replay.batches, connection)
        return await unless_gone(request, first, timeout) or ()


async def _first_messages(batches: Batches, connection: Connection) -> Sequence[bytes]:
    async with aclosing(batches):
        async for entries in batches:
            if messages := connection.encoder.messages(connection.log_id, entries):
                return messages
    return ()


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
    after, types = await _beginning(storage, found, dialect, position)
    following = Following(storage, log_id, after, types=types)
    batches = following.batches()
    if found.root:
        batches = follow_execution(following, Execution(found.root))
    await check_readable(storage, log_id, after)
    return Replay(following, batches, Past(dialect, position))


async def frames_so_far(
    storage: Storage, found: Found, dialect: Dialect, position: Position, *, limit: int
) -> list[Frame]:
    """The first `limit` frames behind the position, of those that there are. Raises `Gone` as
    `replay_of` does."""
    await storage.check_cursor(found.log_id, position.seq)
    fold = past(dialect.fold(), position)
    frames: list[Frame] = []
    async with aclosing(entries_so_far(storage, found, dialect, position)) as entries:
        async for entry in entries:
            frames += fold(entry)
            if len(frames) >= limit:
                break
    return frames[:limit]


async def entries_so_far(
    storage: Storage, found: Found, dialect: Dialect, position: Position
) -> AsyncGenerator[LogEntry, None]:
    """The entries of what was found that a reader at the position needs, of those that there
    are."""
    after, types = await _beginning(storage, found, dialect, position)
    execution = Execution(found.root) if found.root else None
    while entries := await storage.read_log(found.log_id, after, types=types):
        after = entries[-1].seq
        for entry in entries:
            if execution is None or execution.takes(entry):
                yield entry


async def _beginning(
    storage: Storage, found: Found, dialect: Dialect, position: Position
) -> tuple[int, frozenset[str] | None]:
    """The number of the entry behind which to read for a reader at the position, and the types of
    the entries."""
    if found.root:
        after = await first_of(storage, found.log_id, found.root) - 1
        return after, None if dialect.types is None else dialect.types | EXECUTION_TYPES
    return 0 if dialect.has_state else position.seq - bool(position.part), dialect.types


async def has_all(storage: Storage, found: Found, dialect: Dialect, position: Position) -> bool:
    """True if the execution is over, and the reader has the last frame of it."""
    if not found.root:
        return False
    so_far = await execution_so_far(storage, found.log_id, found.root)
    if so_far.ends_with is None:
        return False
    return not await frames_so_far(storage, found, dialect, position, limit=1)
