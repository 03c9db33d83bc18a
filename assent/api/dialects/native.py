"""The native dialect: each event as it is stored, under its own number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assent.api.dialects.base import Fold, Frame
from assent.storage.base import LogEntry


@dataclass(frozen=True, slots=True)
class Native:
    """Each event as it is stored. Of its text, only what some readers take for the end of a line is
    escaped."""

    name: str = "native"
    is_stateless: bool = True

    def fold(self) -> Fold:
        return _frames


NATIVE = Native()


def _frames(entry: LogEntry) -> Sequence[Frame]:
    return (Frame(str(entry.seq), entry.type, on_one_line(entry.body)),)


def on_one_line(body: bytes) -> bytes:
    """The JSON with what Unicode counts as the end of a line escaped. Some clients, such as httpx's
    `aiter_lines`, split there too, although a line of a stream ends only in CR or LF."""
    if body.isascii():
        return body
    for char, escape in _LINE_ENDS:
        body = body.replace(char, escape)
    return body


_LINE_ENDS = (
    ("\u0085".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
