"""Turns the entries of a log into bytes, once for all readers that get the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from assent.api.dialects.base import Dialect, Frame
from assent.storage.base import LogEntry

PIECE_BYTES = 64 << 10
"""The most bytes that are sent at once: as much as asyncio lets wait for the network anyway."""

ENCODED_BYTES = 8 << 20
"""The most bytes of frames that an encoder keeps for other readers."""

Framing = Callable[[Frame], bytes]
"""The bytes of a frame on a transport."""

Piece = bytes | memoryview

P = TypeVar("P", bytes, Piece)

_Place = tuple[str, int, int]
"""A log, and the numbers of the first and the last entry."""

Shared = Callable[[str], bool]
"""True for a log that several read."""


class Encoder:
    """The bytes of entries in a dialect and a framing. What was made for a log that is `shared` is
    kept for its other readers."""

    def __init__(self, dialect: Dialect, framing: Framing, *, shared: Shared) -> None:
        self.dialect = dialect
        self._fold = dialect.fold()
        self._framing = framing
        self._shared = shared
        self._messages: _Kept[bytes] = _Kept()
        self._pieces: _Kept[Piece] = _Kept()

    def pieces(self, log_id: str, entries: Sequence[LogEntry]) -> Sequence[Piece]:
        """The frames of the entries, joined and cut to pieces of at most `PIECE_BYTES`."""
        place = self._place(log_id, entries)
        if place is None:
            return _joined(self._made(entries))
        found = self._pieces.get(place)
        return found or self._pieces.keep(place, _joined(self._made(entries)))

    def messages(self, log_id: str, entries: Sequence[LogEntry]) -> Sequence[bytes]:
        """The frames of the entries, each by itself."""
        place = self._place(log_id, entries)
        if place is None:
            return self._made(entries)
        return self._messages.get(place) or self._messages.keep(place, self._made(entries))

    def framed(self, frame: Frame) -> bytes:
        """The bytes of a frame that is of no entry."""
        return self._framing(frame)

    def _made(self, entries: Iterable[LogEntry]) -> list[bytes]:
        fold, framing = self._fold, self._framing
        return [framing(frame) for entry in entries for frame in fold(entry)]

    def _place(self, log_id: str, entries: Sequence[LogEntry]) -> _Place | None:
        """The place of the entries in a log that others read, if these are all that are there."""
        if not entries or not self._shared(log_id):
            return None
        first, last = entries[0].seq, entries[-1].seq
        # Between the same two numbers, readers of other types or of one run have other entries.
        is_whole = first > 0 and last - first + 1 == len(entries)
        return (log_id, first, last) if is_whole else None


class _Kept(dict[_Place, Sequence[P]]):
    """What was made last, up to `ENCODED_BYTES`."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def keep(self, place: _Place, made: Sequence[P]) -> Sequence[P]:
        """Keep this until there is too much, and return it."""
        size = sum(map(len, made))
        # Everything goes at once: readers that wait together need only what came last.
        if self._size + size > ENCODED_BYTES:
            self.clear()
            self._size = 0
        self[place] = made
        self._size += size
        return made


class Encoders:
    """One encoder for each dialect and framing, by their names, where the dialect is shared."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._encoders: dict[tuple[str, str], Encoder] = {}

    def of(self, dialect: Dialect, framing: Framing) -> Encoder:
        """The encoder that all readers of this dialect and framing share; or one for a single
        reader, if nobody may share the dialect."""
        if not dialect.is_shared:
            return Encoder(dialect, framing, shared=_by_nobody)
        names = (dialect.name, framing.__name__)
        if names not in self._encoders:
            self._encoders[names] = Encoder(dialect, framing, shared=self._shared)
        return self._encoders[names]


def _by_nobody(log_id: str) -> bool:
    return False


def _joined(messages: Sequence[bytes]) -> list[Piece]:
    if len(messages) == 1 and len(messages[0]) <= PIECE_BYTES:
        return [messages[0]]
    pieces: list[Piece] = []
    waiting: list[bytes] = []
    size = 0
    for message in messages:
        if waiting and size + len(message) > PIECE_BYTES:
            pieces.append(b"".join(waiting))
            waiting, size = [], 0
        if len(message) > PIECE_BYTES:
            pieces += _cut(message)
        else:
            waiting.append(message)
            size += len(message)
    if waiting:
        pieces.append(b"".join(waiting))
    return pieces


def _cut(message: bytes) -> list[memoryview]:
    """The message as pieces, none of them copied."""
    view = memoryview(message)
    return [view[start : start + PIECE_BYTES] for start in range(0, len(message), PIECE_BYTES)]


# ── framings ──────────────────────────────────────────────────────────────────────────────────────


def sse(frame: Frame) -> bytes:
    """The frame as a Server-Sent Event of the type that browsers call `message`."""
    return b"%sdata: %s\n\n" % (_id_line(frame), _one_line(frame.data))


def named_sse(frame: Frame) -> bytes:
    """The frame as a Server-Sent Event of its own type, if it has one."""
    if not frame.event:
        return sse(frame)
    event = _word("event", frame.event)
    return b"%sevent: %s\ndata: %s\n\n" % (_id_line(frame), event, _one_line(frame.data))


def ws_text(frame: Frame) -> bytes:
    """The frame as the text of a WebSocket's message."""
    return _one_line(frame.data)


def _id_line(frame: Frame) -> bytes:
    return b"id: %s\n" % _word("id", frame.id) if frame.id else b""


def _word(field: str, value: str) -> bytes:
    """The value of a line. Raises `ValueError` if it would not stay on it."""
    if not value.isprintable():
        raise ValueError(f"The {field} of a frame has a character that no line can have: {value!r}")
    return value.encode()


def _one_line(data: bytes) -> bytes:
    """The JSON with what Unicode counts as the end of a line escaped. Some clients, such as httpx's
    `aiter_lines`, split there too, although a line of a stream ends only in CR or LF. Raises
    `ValueError` for those two: JSON is on one line."""
    if b"\n" in data or b"\r" in data:
        raise ValueError("The data of a frame is on more than one line.")
    if data.isascii():
        return data
    for char, escape in _LINE_ENDS:
        data = data.replace(char, escape)
    return data


_LINE_ENDS = (
    ("\u0085".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
