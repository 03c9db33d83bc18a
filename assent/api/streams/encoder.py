"""Turns the frames of a dialect into bytes, once for all readers of a log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assent.api.dialects.base import Dialect, Frame
from assent.storage.base import LogEntry

Framing = Callable[[Frame], bytes]
"""The bytes of a frame on a transport."""

PIECE_BYTES = 64 << 10
"""The most bytes that are sent at once: as much as asyncio lets wait for the network anyway."""


class Encoder:
    """The bytes of entries in a dialect and a framing. What was made for a log that is `shared` is
    kept for its other readers."""

    def __init__(
        self, dialect: Dialect, framing: Framing, *, shared: Callable[[str], bool]
    ) -> None:
        self.dialect = dialect
        self.framing = framing
        self.shared = shared

    def pieces(self, log_id: str, entries: Sequence[LogEntry]) -> list[bytes]:
        """The frames of the entries, joined to pieces of at most `PIECE_BYTES`."""
        raise NotImplementedError

    def messages(self, log_id: str, entries: Sequence[LogEntry]) -> list[bytes]:
        """The frames of the entries, each by itself."""
        raise NotImplementedError
