"""A log as clients ask for it: as a stream, or as pages."""

from __future__ import annotations

from fastapi import Request, Response

from assent.api.deps import wants_page
from assent.api.dialects.base import Dialect
from assent.api.event_query import Reading
from assent.api.streams.poll import page_of
from assent.api.streams.sse import EventStream
from assent.core.errors import InvalidRequest
from assent.runs.follow import Following
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
