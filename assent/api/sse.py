"""Server-Sent Events: the transport, which does not look into the events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, suppress

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from assent.core.errors import Gone, Tampered, Unavailable
from assent.runs.follow import Batches
from assent.storage.base import LogEntry

PING_SECONDS = 15
CHUNK_BYTES = 64 << 10
"""The size from which frames are sent by themselves. The server holds a chunk as often as it has
readers, and 64 KiB is what asyncio lets wait for the network anyway."""

SEND_SECONDS = 30
"""A reader that takes nothing for this long is cut off; it can return with `Last-Event-ID`."""


class EventStream(EventSourceResponse):
    """Log entries as Server-Sent Events: `id: <seq>` and `data: {json}`, in lines that end in LF.
    `named` adds `event: <type>`."""

    def __init__(
        self, batches: Batches, *, named: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(
            _frames(batches, named),
            headers={"Cache-Control": "no-cache", **(headers or {})},
            sep="\n",
            ping=PING_SECONDS,
            ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
            send_timeout=SEND_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # An unfinished response closes the connection, and the client reconnects.
        with suppress(SendTimeoutError):
            await super().__call__(scope, receive, send)


async def _frames(batches: Batches, named: bool) -> AsyncIterator[bytes]:
    # The response has begun, so its status cannot change. A reader whose next event was removed,
    # tampered with or cannot be read now is cut off, and gets the 410, 500 or 503 when it
    # reconnects.
    with suppress(Gone, Tampered, Unavailable):
        async with aclosing(batches):
            async for entries in batches:
                for frames in _chunks(entries, named):
                    yield frames


def _chunks(entries: Iterable[LogEntry], named: bool) -> Iterator[bytes]:
    """The frames of the entries, many at a time, but never much more than `CHUNK_BYTES`."""
    frames: list[bytes] = []
    size = 0
    for entry in entries:
        if size + len(entry.body) > CHUNK_BYTES and frames:
            yield b"".join(frames)
            frames, size = [], 0
        frames.append(_frame(entry, named))
        size += len(entry.body)
    if frames:
        yield b"".join(frames)


def _frame(entry: LogEntry, named: bool) -> bytes:
    body = entry.body if entry.body.isascii() else _on_one_line(entry.body)
    if named:
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (entry.seq, entry.type.encode(), body)
    return b"id: %d\ndata: %s\n\n" % (entry.seq, body)


def _on_one_line(body: bytes) -> bytes:
    """The JSON with what Unicode counts as the end of a line escaped. Some clients, such as httpx's
    `aiter_lines`, split there too, although a line of a stream ends only in CR or LF."""
    for char, escape in _LINE_ENDS:
        body = body.replace(char, escape)
    return body


_LINE_ENDS = (
    ("\u0085".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
