"""A log as clients ask for it: as a stream, or as pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from fastapi import Request, Response

from assent.api.access.identity import signed_out
from assent.api.context import served
from assent.api.deps import admit, wants_page
from assent.api.dialects.base import Dialect, Frame, Past
from assent.api.dialects.positions import Position
from assent.api.event_query import Reading
from assent.api.executions import Found
from assent.api.problems import Asked
from assent.api.streams.connections import Connection
from assent.api.streams.encoder import ws_text
from assent.api.streams.handshake import check_handshake
from assent.api.streams.poll import page_before, page_of
from assent.api.streams.sending import connection_of
from assent.api.streams.speech import ErrorFrame, Listening
from assent.api.streams.sse import EventStream
from assent.api.streams.transport import Transport
from assent.api.streams.websocket import SocketStream
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
    if reading.before is not None:
        if not wants_page(request):
            raise InvalidRequest("before is for JSON pages: accept application/json.")
        return await page_before(
            request,
            storage,
            log_id,
            reading.before,
            types=reading.types,
            dialect=dialect,
            limit=reading.limit,
        )
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


# ── threads and executions in a dialect ───────────────────────────────────────────────────────────


class Followed(NamedTuple):
    """A thread, or an execution, as somebody follows it: in this dialect, and behind the position
    that they have come to."""

    found: Found
    dialect: Dialect
    position: Position

    @property
    def rest(self) -> Dialect:
        """The dialect, without what they have."""
        return Past(self.dialect, self.position)

    @property
    def after(self) -> int:
        """The number behind which a thread is read for them."""
        return 0 if self.dialect.has_state else self.position.seq - bool(self.position.part)


async def execution_response(
    request: Request, storage: Storage, followed: Followed, *, named: bool = False
) -> Response:
    """What is followed as Server-Sent Events: a thread without an end, an execution to its own.
    With a `Last-Event-ID` behind which nothing will come it is a 204: browsers ask no more then.
    Raises `Gone` as `following_of` does."""
    following = await following_of(storage, followed)
    if "last-event-id" in request.headers and await has_all(storage, followed):
        return Response(status_code=204)
    batches = _batches(following, followed)
    return EventStream(request, following, batches, dialect=followed.rest, named=named)


async def execution_socket(
    request: Request, storage: Storage, followed: Followed, error_frame: ErrorFrame
) -> Response:
    """The same over the WebSocket whose handshake the request is. Its client is only told things,
    and whatever it says is answered with an error."""
    check_handshake(request)
    following = await following_of(storage, followed)
    now = served(request).connections.clock.now
    speech = Listening(followed.dialect, error_frame, now, Asked.by(request))
    batches = _batches(following, followed)
    return SocketStream(request, following, speech, dialect=followed.rest, batches=batches)


async def execution_page(
    request: Request,
    storage: Storage,
    followed: Followed,
    *,
    limit: int,
    timeout: float | None = None,
) -> Response:
    """The frames behind the position as `{"events": [...]}`, at most `limit`. If there are none,
    wait for some until the timeout. Raises `Gone` as `following_of` does."""
    frames = await frames_so_far(storage, followed, limit=limit)
    events: Sequence[bytes] = [ws_text(frame) for frame in frames]
    if not events and timeout:
        following = await following_of(storage, followed)
        events = (await _wait(request, following, followed, timeout))[:limit]
    body = b'{"events":[%s]}' % b",".join(events)
    return Response(body, media_type="application/json")


async def _wait(
    request: Request, following: Following, followed: Followed, timeout: float
) -> Sequence[bytes]:
    """The next frames; none if the timeout is over, the client has gone or the server stops."""
    admit(request)
    connection = connection_of(request, following, Transport.POLL, followed.rest, ws_text)
    with served(request).connections.opened(connection):
        first = _first_messages(_batches(following, followed), connection)
        messages = await unless_gone(request, first, timeout) or ()
    if connection.is_signed_out:
        raise signed_out()
    return messages


async def _first_messages(batches: Batches, connection: Connection) -> Sequence[bytes]:
    async with aclosing(batches):
        async for entries in batches:
            if messages := connection.encoder.messages(connection.log_id, entries):
                return messages
    return ()


def _batches(following: Following, followed: Followed) -> Batches:
    root = followed.found.root
    return follow_execution(following, Execution(root)) if root else following.batches()


async def following_of(storage: Storage, followed: Followed) -> Following:
    """The log, from where it is read for what is followed. Raises `Gone` if events behind the
    position were removed, or if there is no such position.

    An execution is read from its first event on, as is whatever is read in a dialect with a state;
    or from the first event that is left.
    """
    found, dialect, position = followed
    await storage.check_cursor(found.log_id, position.seq)
    after, types = await _range_of(storage, found, dialect.types, followed.after)
    await check_readable(storage, found.log_id, after)
    return Following(storage, found.log_id, after, types=types)


async def has_all(storage: Storage, followed: Followed) -> bool:
    """True if the execution is over, and the reader has the last frame of it."""
    found = followed.found
    if not found.root:
        return False
    so_far = await execution_so_far(storage, found.log_id, found.root)
    return so_far.ends_with is not None and not await frames_so_far(storage, followed, limit=1)


async def frames_so_far(storage: Storage, followed: Followed, *, limit: int) -> list[Frame]:
    """The first `limit` frames behind the position, of those that there are. Raises `Gone` as
    `following_of` does."""
    found, dialect, position = followed
    await storage.check_cursor(found.log_id, position.seq)
    fold = followed.rest.fold()
    frames: list[Frame] = []
    so_far = entries_so_far(storage, found, dialect.types, followed.after)
    async with aclosing(so_far) as entries:
        async for entry in entries:
            frames += fold(entry)
            if len(frames) >= limit:
                break
    return frames[:limit]


async def entries_so_far(
    storage: Storage, found: Found, types: frozenset[str] | None, after: int = 0
) -> AsyncGenerator[LogEntry, None]:
    """The entries that there are of what was found: of a thread those above `after`, of an
    execution all. They are of these types, or of those that an execution is known by."""
    after, types = await _range_of(storage, found, types, after)
    execution = Execution(found.root) if found.root else None
    while execution is None or execution.ends_with is None:
        entries = await storage.read_log(found.log_id, after, types=types)
        if not entries:
            return
        after = entries[-1].seq
        for entry in entries:
            if execution is None or execution.takes(entry):
                yield entry


async def _range_of(
    storage: Storage, found: Found, types: frozenset[str] | None, after: int
) -> tuple[int, frozenset[str] | None]:
    """The number behind which to read what was found, and the types of the entries to read."""
    if not found.root:
        return after, types
    first = await first_of(storage, found.log_id, found.root)
    return first - 1, None if types is None else types | EXECUTION_TYPES
