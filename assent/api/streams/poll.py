"""Pages of a log as JSON. With a timeout, one that would be empty waits for an event: long
polling."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import aclosing
from functools import partial
from typing import Literal

from fastapi import Request, Response

from assent.api.access.identity import signed_out
from assent.api.context import served
from assent.api.deps import admit
from assent.api.dialects.base import Dialect
from assent.api.streams.encoder import ws_text
from assent.api.streams.sending import connection_of
from assent.api.streams.transport import Transport
from assent.api.waiting import unless_gone
from assent.core.json import encode_json
from assent.runs.follow import Following
from assent.storage.base import LogEntry, Storage


async def page_of(
    request: Request,
    following: Following,
    *,
    dialect: Dialect,
    limit: int,
    timeout: float | None = None,
    run_id: str | None = None,
) -> Response:
    """The next events, of all or of one run: `{"events": [...], "next": <the number to go on
    after>, "more": <whether there are others already>}`. If there are none, wait for some until the
    timeout; then the page is empty."""
    storage, log_id = following.storage, following.log_id
    read = partial(storage.read_log, log_id, types=following.types, run_id=run_id)
    entries = await read(following.after, limit=limit)
    if not entries and timeout:
        entries = await _wait(request, following, dialect, timeout)
    entries = entries[:limit]
    # Where none is of the types, the cursor moves with the log all the same.
    after = entries[-1].seq if entries else following.after
    more = bool(entries) and bool(await read(after, limit=1))
    return _page(request, dialect, log_id, entries, next=after, more=more)


async def page_before(
    request: Request,
    storage: Storage,
    log_id: str,
    before: int | Literal["end"],
    *,
    types: Collection[str] | None,
    dialect: Dialect,
    limit: int,
    run_id: str | None = None,
) -> Response:
    """The newest events below the number, or of all, the oldest of them first. `next` is the number
    to go on before, `more` says whether there are older ones, and `last` is the number behind which
    the page at the end has nothing yet."""
    # Before the events: what comes in between is on the page.
    last = await storage.last_seq(log_id)
    read = partial(storage.read_log_back, log_id, types=types, run_id=run_id)
    entries = await read(None if before == "end" else before, limit=limit)
    if entries:
        first, last = entries[0].seq, max(last, entries[-1].seq)
    else:
        first = last + 1 if before == "end" else before
    more = bool(entries) and bool(await read(first, limit=1))
    return _page(request, dialect, log_id, entries, next=first, more=more, last=last)


def _page(
    request: Request,
    dialect: Dialect,
    log_id: str,
    entries: Sequence[LogEntry],
    **numbers: int,
) -> Response:
    encoder = served(request).encoders.of(dialect, ws_text)
    events = b",".join(encoder.messages(log_id, entries))
    rest = encode_json(numbers)
    return Response(b'{"events":[%s],%s' % (events, rest[1:]), media_type="application/json")


async def _wait(
    request: Request, following: Following, dialect: Dialect, timeout: float
) -> tuple[LogEntry, ...]:
    """The next events; none if the timeout is over, the client has gone or the server stops."""
    admit(request)
    connections = served(request).connections
    connection = connection_of(request, following, Transport.POLL, dialect, ws_text)
    with connections.opened(connection):
        entries = await unless_gone(request, _first(following), timeout) or ()
    if connection.is_signed_out:
        raise signed_out()
    return entries


async def _first(following: Following) -> tuple[LogEntry, ...]:
    async with aclosing(following.batches()) as batches:
        async for entries in batches:
            if entries:
                return entries
    return ()
