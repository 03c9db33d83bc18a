"""The streams that are open in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from assent.core.clock import Clock
from assent.core.events import Broadcast
from assent.runs.follow import Following


class Transport(StrEnum):
    SSE = "sse"
    WEBSOCKET = "websocket"
    POLL = "poll"


class Wire(Protocol):
    """The part of `asyncio.WriteTransport` that is needed of a connection."""

    def get_write_buffer_size(self) -> int: ...

    def abort(self) -> None: ...


@dataclass(slots=True, eq=False)
class Connection:
    """An open stream.

    `written` counts the bytes that it was given, and `unsent` are marks of it and a monotonic time
    that have not left the transport's buffer. `active_at` is the monotonic time of the last send or
    message, `acked` the number that the client says it has. `aside` are frames without a number
    that go before the next ones.
    """

    connection_id: str
    transport: Transport
    log_id: str
    dialect: str
    user: str
    client: str
    since: datetime
    following: Following
    wire: Wire | None
    written: int = 0
    active_at: float = 0.0
    acked: int | None = None
    unsent: deque[tuple[int, float]] | None = None
    aside: deque[bytes] | None = None


class Connections:
    """All streams that are open, and the limits to them."""

    def __init__(self, clock: Clock, *, most: int, most_per_client: int, stalled: float) -> None:
        self._clock = clock
        self._most = most
        self._most_per_client = most_per_client
        self.stalled = stalled

    def admit(self, client: str) -> None:
        """Raise `StreamsFull` if the client may open no more. Call it before anything is
        changed."""
        raise NotImplementedError

    @contextmanager
    def opened(self, connection: Connection) -> Iterator[None]:
        """The connection is open for as long as the context is entered."""
        raise NotImplementedError
        yield

    def on(self, log_id: str) -> int:
        """How many read the log."""
        raise NotImplementedError

    def tell(self, event: Broadcast) -> int:
        """Put the event aside for every connection, and return how many there are."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Connection]:
        raise NotImplementedError
