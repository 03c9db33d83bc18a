"""Looks after the open streams: shows readers that the server is there, cuts off those that take
nothing, and after many have gone gives their memory back.

A reader's connection is reset, and not closed, since that would wait until it has taken what is
held for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from assent.api.streams import malloc
from assent.api.streams.connections import Connection, Connections, cut
from assent.core.background import background

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0

TURNS = 5
NEARLY = 0.9
"""The keeper has so many turns between two heartbeats, and counts nearly a time as that time, since
a sleep is not exact."""

BEATS_AT_ONCE = 100
"""Heartbeats between which others have the event loop: 100 take 2 ms."""

MOST_BEHIND = 1 << 20
"""A reader that has taken nothing for a second, while more than this came for it, is cut at
once."""

STOPPING_SECONDS = 2.0
"""A server that stops waits so long for a reader that does not take the end."""

MUCH_BYTES = 8 << 20
MANY_CLOSED = 200
TIDY_SECONDS = 10.0
"""After so much was cut, or so many were closed, free memory is given back, at most once in this
time."""


@asynccontextmanager
async def keeping(
    connections: Connections, *, heartbeat: float, whole_process: bool
) -> AsyncIterator[None]:
    """While the context is entered, readers to whom nothing was sent get a heartbeat after so many
    seconds, and slow ones are cut off. The memory of a process that is somebody else's is left
    alone."""
    keeper = Keeper(connections, heartbeat, malloc.give_back_free if whole_process else None)
    async with background(keeper.run(), name="keeping"):
        yield


class Keeper:
    """Sends readers of `connections` a sign of life every `heartbeat` seconds, and cuts off those
    that take nothing; `tidy` gives the memory back of those that are gone."""

    def __init__(
        self, connections: Connections, heartbeat: float, tidy: Callable[[], None] | None
    ) -> None:
        self._connections = connections
        self._pause = min(heartbeat / TURNS, LOOK_SECONDS)
        self._silence = heartbeat * NEARLY
        self._tidy = tidy
        self._looked_at = float("-inf")
        self._tidied_at = float("-inf")
        self._closed = 0
        self._freed = 0

    async def run(self) -> None:
        """Look after them for ever."""
        while True:
            await asyncio.sleep(self._pause)
            await self.turn(time.monotonic())

    async def turn(self, now: float) -> None:
        """Send heartbeats that are due, and about once in `LOOK_SECONDS` look who takes nothing."""
        if now - self._looked_at >= LOOK_SECONDS * NEARLY:
            self._looked_at = now
            self.look(now)
        await self.beat(now)

    def look(self, now: float) -> None:
        """Tidy up after those that are gone, and cut off whoever takes nothing."""
        self._tidy_up(now)
        for connection in self._connections:
            try:
                age = _oldest_unsent(connection, now)
                if age > 0 and self._is_too_slow(connection, age):
                    self._freed += _cut(connection, age)
                    self._connections.cut += 1
            except Exception as error:
                _left_alone(connection, error)

    async def beat(self, now: float) -> None:
        """Show readers that the server is there to whom nothing was sent of late."""
        beaten = 0
        for connection in self._connections:
            if now - connection.sent_at < self._silence:
                continue
            try:
                beaten += connection.beat(now)
            except Exception as error:
                _left_alone(connection, error)
            if beaten == BEATS_AT_ONCE:
                beaten = 0
                await asyncio.sleep(0)

    def _tidy_up(self, now: float) -> None:
        closed = self._connections.closed
        is_much = self._freed >= MUCH_BYTES or closed - self._closed >= MANY_CLOSED
        if self._tidy is None or not is_much or now - self._tidied_at < TIDY_SECONDS:
            return
        self._tidied_at, self._freed, self._closed = now, 0, closed
        self._tidy()

    def _is_too_slow(self, connection: Connection, age: float) -> bool:
        following = connection.following
        if following.ended == "stopping" and age >= STOPPING_SECONDS:
            return True
        if age >= LOOK_SECONDS and following.behind > MOST_BEHIND:
            return True
        return age >= self._connections.stalled


def _left_alone(connection: Connection, error: Exception) -> None:
    """Log a failure over one connection. It keeps no other from its turn."""
    log.error(
        "a reader is not looked after", connection_id=connection.connection_id, exc_info=error
    )


def _oldest_unsent(connection: Connection, now: float) -> float:
    """The seconds for which the oldest byte has waited in the transport, 0 if none does."""
    wire = connection.wire
    left = wire.get_write_buffer_size() if wire is not None else 0
    if not left:
        connection.unsent = None
        return 0.0
    marks = connection.unsent
    if marks is None:
        marks = connection.unsent = deque()
    if not marks or marks[-1][0] < connection.written:
        marks.append((connection.written, now))
    # The marks of what has left the transport since.
    out = connection.written - left
    while marks and marks[0][0] <= out:
        marks.popleft()
    return now - marks[0][1] if marks else 0.0


def _cut(connection: Connection, age: float) -> int:
    assert connection.wire is not None
    waited = connection.wire.get_write_buffer_size()
    log.info(
        "reader cut",
        transport=connection.transport.value,
        thread_id=connection.log_id,
        connection_id=connection.connection_id,
        seconds=round(age, 1),
    )
    cut(connection.wire)
    return waited + connection.following.behind
