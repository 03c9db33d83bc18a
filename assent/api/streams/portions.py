"""What has come over a connection, read a little at a time.

A chunk of a body, a frame and a request cost the server about the same however small they are. A
system hands over megabytes at once, so one connection that sends nothing but the smallest ones
would keep everybody else waiting for half a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MOST_PARTS = 256
"""After so many parts, the rest of what has come waits for the next turn."""

TURN_SECONDS = 0.02


class Portions:
    """The bytes that have come and were not read. Whoever reads them counts the `parts` that they
    find, and then `rest` says when to go on."""

    __slots__ = ("_holds_back", "_turn", "held", "parts")

    def __init__(self) -> None:
        self.held = bytearray()
        self.parts = 0
        self._turn: asyncio.Handle | None = None
        self._holds_back = False

    @property
    def is_their_turn(self) -> bool:
        """True while there is something to read, and not too much of it was read already."""
        return bool(self.held) and self.parts < MOST_PARTS and self._turn is None

    def add(self, data: bytes) -> None:
        """Hold these bytes, which have just come."""
        self.held += data
        if self._turn is None:
            self.parts = 0

    def rest(self, loop: asyncio.AbstractEventLoop, read: Callable[[], None]) -> None:
        """Have `read` called when it may go on: soon, or where this was much, at the next turn."""
        if self._turn is None:
            pause = TURN_SECONDS if self.parts >= MOST_PARTS else 0.0
            self._turn = loop.call_later(pause, self._begin, read)

    def hold_back(self, transport: asyncio.Transport) -> None:
        """Let nothing more come."""
        if not transport.is_closing():
            self._holds_back = True
            transport.pause_reading()

    def let_in(self, transport: asyncio.Transport) -> None:
        """Let more come, if it was held back."""
        if self._holds_back and not transport.is_closing():
            self._holds_back = False
            transport.resume_reading()

    def drop(self) -> None:
        """Forget what was not read."""
        self.held.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _begin(self, read: Callable[[], None]) -> None:
        self._turn = None
        self.parts = 0
        read()
