"""The streams that are open in this process."""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from assent.api.access.identity import Identity
from assent.api.streams.encoder import Encoder
from assent.api.streams.transport import Transport
from assent.core.access import Owner
from assent.core.clock import Clock
from assent.core.errors import StreamsFull
from assent.core.events import Broadcast, encode
from assent.core.json import Json
from assent.runs.follow import Following
from assent.storage.base import LogEntry

K = TypeVar("K", bound=Hashable)

MOST_ASIDE = 16
"""The most frames without a number that wait for a reader. Beyond that the oldest go."""


AT_ONCE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""SO_LINGER: on, for no time."""

READER = "assent_reader"
PLACE = "assent_place"
"""Where the scope of a request has the `Reader` whom it was admitted for, and the `Place` of the
stream that it is about to open."""


class Wire(Protocol):
    """The part of `asyncio.WriteTransport` that is needed of a connection."""

    def get_write_buffer_size(self) -> int: ...

    def is_closing(self) -> bool: ...

    def write(self, data: bytes) -> None: ...

    def get_extra_info(self, name: str) -> Any: ...

    def abort(self) -> None: ...


def cut(wire: Wire) -> None:
    """Reset the connection. To close it, or only to abort it, would keep what waits in the system
    until the reader has taken it."""
    sock = wire.get_extra_info("socket")
    if sock is not None:
        # The system may have let go of it already.
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    wire.abort()


class Heartbeat(NamedTuple):
    """What shows a reader that the server is there: the `frame`, as it is sent, and the `bytes`
    that the server makes of it on the wire."""

    frame: bytes
    wired: bytes


Beating = Callable[[], Heartbeat | None]
"""Makes a heartbeat for the moment at which it is sent."""


class Reader(NamedTuple):
    """Somebody who asks for a stream, and their `address`. Streams are counted by `client`: the
    owner, or the address where nobody is known."""

    owner: Owner
    address: str
    client: Owner


class AsReader(Protocol):
    """Makes requests as the reader, to the app that the server is a part of."""

    async def get(self, path: str) -> tuple[int, Json]:
        """The status and the body, as JSON, of the response to a GET."""


class Place:
    """Room for a stream of the client that is about to open, until it does or is given up."""

    __slots__ = ("_kept_by",)

    def __init__(self, kept_by: Counter[Owner], client: Owner) -> None:
        kept_by[client] += 1
        self._kept_by: tuple[Counter[Owner], Owner] | None = (kept_by, client)

    def give_back(self) -> None:
        """Count it no more."""
        if self._kept_by is not None:
            _one_less(*self._kept_by)
            self._kept_by = None


@dataclass(slots=True, eq=False)
class Connection:
    """An open stream.

    `written` counts the bytes that it was given, and `unsent` are marks of it and a monotonic time
    that have not left the transport's buffer. `sent_at` and `heard_at` are the monotonic times of
    the last send and of the last message, `acked` the number that the client says it has. `aside`
    are frames without a number that go before the next ones. Once it is open, it is counted in
    place of its `place`. It is its `identity` who reads, until that `is_signed_out`; where only an
    app around the server can say whether they still are, `requests` ask it.
    """

    connection_id: str
    transport: Transport
    log_id: str
    encoder: Encoder
    reader: Reader
    since: datetime
    following: Following
    wire: Wire | None
    heartbeat: Heartbeat | Beating | None = None
    written: int = 0
    sent_at: float = 0.0
    heard_at: float = 0.0
    acked: int | None = None
    unsent: deque[tuple[int, float]] | None = None
    aside: deque[bytes] | None = None
    place: Place | None = None
    identity: Identity | None = None
    requests: AsReader | None = None
    is_signed_out: bool = False

    def sign_out(self) -> None:
        """End the stream, since its reader may not read it any more."""
        self.is_signed_out = True
        self.following.stop()

    @property
    def lag(self) -> float:
        """The seconds for which its oldest unsent byte has waited."""
        return time.monotonic() - self.unsent[0][1] if self.unsent else 0.0

    def put_aside(self, frames: Sequence[bytes]) -> None:
        """Send the frames before whatever comes next, and at once if the reader waits."""
        if self.aside is None:
            self.aside = deque(maxlen=MOST_ASIDE)
        self.aside.extend(frames)
        self.following.ring()

    def beat(self, now: float) -> bool:
        """Send the heartbeat, if nothing else is on its way to the reader.

        Where the wire is known, it is written there: to wake the stream's loop for it, and to send
        it through that, was most of the cost of readers that only wait.
        """
        wire, heartbeat = self.wire, self.heartbeat
        if heartbeat is None or self.aside or not self.following.is_waiting:
            return False
        if not isinstance(heartbeat, Heartbeat) and (heartbeat := heartbeat()) is None:
            return False
        if wire is None:
            self.put_aside([heartbeat.frame])
        elif wire.get_write_buffer_size() or wire.is_closing():
            return False
        else:
            wire.write(heartbeat.wired)
            self.written += len(heartbeat.wired)
            self.sent_at = now
        return True


class Connections:
    """All streams that are open, and the limits to them. A reader that takes nothing for `stalled`
    seconds is cut off. `closed` counts those that were open, and `cut` those that were cut off."""

    def __init__(
        self,
        clock: Clock,
        *,
        most: int,
        most_per_client: int,
        most_per_tenant: int | None = None,
        stalled: float,
    ) -> None:
        self.clock = clock
        self.stalled = stalled
        self.closed = 0
        self.cut = 0
        self._most = most
        self._most_per_client = most_per_client
        self._most_per_tenant = most_per_tenant
        # In the order in which they were opened.
        self._open: dict[Connection, None] = {}
        self._by_client: Counter[Owner] = Counter()
        self._by_tenant: Counter[str | None] = Counter()
        self._by_log: Counter[str] = Counter()
        self._kept: Counter[Owner] = Counter()

    def keep_place(self, client: Owner) -> Place:
        """Room for another stream of the client. Raises `StreamsFull`, as `admit` does."""
        self.admit(client)
        return Place(self._kept, client)

    def admit(self, client: Owner) -> None:
        """Raise `StreamsFull` if the client may open no more. Call it before anything is
        changed."""
        if self._by_client[client] + self._kept[client] >= self._most_per_client:
            raise StreamsFull(
                f"You have {self._most_per_client:,} open streams, and may have no more. "
                "Close some, or try again later."
            )
        if self._most_per_tenant is not None and self._of(client.tenant) >= self._most_per_tenant:
            raise StreamsFull(
                f"The people of your tenant have {self._most_per_tenant:,} open streams, and may "
                "have no more. Try again later."
            )
        if len(self._open) + self._kept.total() >= self._most:
            raise StreamsFull(
                f"The server has {self._most:,} open streams, and takes no more. Try again later."
            )

    def _of(self, tenant: str | None) -> int:
        """The streams of the tenant's people, and the places kept for others."""
        kept = sum(places for owner, places in self._kept.items() if owner.tenant == tenant)
        return self._by_tenant[tenant] + kept

    @contextmanager
    def opened(self, connection: Connection) -> Iterator[None]:
        """The connection is open for as long as the context is entered."""
        if connection.place is not None:
            connection.place.give_back()
        self._open[connection] = None
        self._by_client[connection.reader.client] += 1
        self._by_tenant[connection.reader.client.tenant] += 1
        self._by_log[connection.log_id] += 1
        try:
            yield
        finally:
            del self._open[connection]
            self.closed += 1
            _one_less(self._by_client, connection.reader.client)
            _one_less(self._by_tenant, connection.reader.client.tenant)
            _one_less(self._by_log, connection.log_id)

    def on(self, log_id: str) -> int:
        """How many read the log."""
        return self._by_log[log_id]

    def tell(self, event: Broadcast, tenant: str | None = None) -> int:
        """Send the event to every open stream of the tenant's people, ahead of what follows there,
        and return how many there are. It has no number, so no reader's cursor moves. A poll has no
        place for it."""
        entry = LogEntry(0, "broadcast", "", encode(event))
        told: dict[Encoder, Sequence[bytes]] = {}
        reached = 0
        for connection in self:
            if not _is_reachable(connection, tenant):
                continue
            encoder = connection.encoder
            if encoder not in told:
                told[encoder] = encoder.messages(connection.log_id, [entry])
            connection.put_aside(told[encoder])
            reached += 1
        return reached

    def reachable(self, tenant: str | None) -> int:
        """The number of streams that `tell` reaches."""
        return sum(_is_reachable(each, tenant) for each in self)

    def last_activity(self, connection: Connection) -> datetime:
        """The time when something last went to the reader, or came from there."""
        idle = time.monotonic() - max(connection.sent_at, connection.heard_at)
        return max(connection.since, self.clock.now() - timedelta(seconds=idle))

    def __iter__(self) -> Iterator[Connection]:
        """Those that are open now, the oldest first."""
        return iter(tuple(self._open))


def _is_reachable(connection: Connection, tenant: str | None) -> bool:
    is_theirs = connection.reader.owner.tenant == tenant
    return is_theirs and connection.transport is not Transport.POLL


def _one_less(counts: Counter[K], key: K) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
