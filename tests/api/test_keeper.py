"""Who is cut off, and when: readers that take nothing, and nobody else. And who is shown that the
server is there: those to whom nothing else goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from assent.api.dialects.native import NATIVE
from assent.api.streams.connections import Connection, Connections, Reader, Transport
from assent.api.streams.encoder import Encoder, sse, ws_text
from assent.api.streams.keeper import BEATS_AT_ONCE, Keeper
from assent.api.streams.sse import PING
from assent.core.access import Owner
from assent.core.clock import Clock
from assent.core.errors import StreamsFull
from assent.core.events import Broadcast
from assent.runs.follow import Following
from tests.support.failing_log import NO_STORAGE

SSE = Encoder(NATIVE, sse, shared=lambda _: False)
WEBSOCKET = Encoder(NATIVE, ws_text, shared=lambda _: False)
HEARTBEAT = 5.0


@dataclass
class FakeWire:
    """A transport in whose buffer so many bytes wait."""

    waiting: int = 0
    is_cut: bool = False
    is_closed: bool = False
    written: list[bytes] = field(default_factory=list)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.is_closed

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> Any:
        return None

    def abort(self) -> None:
        self.is_cut = True


class Log(Following):
    """A log that nobody follows, with a backlog that a test sets."""

    backlog = 0
    rings = 0
    waits = True

    @property
    def is_waiting(self) -> bool:
        return self.waits

    @property
    def behind(self) -> int:
        return self.backlog

    def ring(self) -> None:
        self.rings += 1


@dataclass
class Room:
    """Streams that are open, and whoever looks after them, at a time that a test sets."""

    connections: Connections
    now: float = 0.0
    tidied: list[float] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.keeper = Keeper(self.connections, HEARTBEAT, lambda: self.tidied.append(self.now))

    def open(self, log_id: str = "t", client: str = "ann", **fields: Any) -> Connection:
        connection = Connection(
            connection_id=Clock().new_id(),
            log_id=log_id,
            reader=Reader(Owner(client), "127.0.0.1", Owner(client)),
            since=Clock().now(),
            following=Log(NO_STORAGE, log_id),
            **{
                "transport": Transport.SSE,
                "encoder": SSE,
                "wire": FakeWire(),
                "heartbeat": PING,
                **fields,
            },
        )
        self.stack.enter_context(self.connections.opened(connection))
        return connection

    def pass_second(self) -> None:
        self.now += 1.0
        self.keeper.look(self.now)

    async def beats_in(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            await self.keeper.beat(self.now)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room(Connections(Clock(), most=4, most_per_client=3, stalled=30.0))
    with room.stack:
        yield room
    assert list(room.connections) == []


def wire_of(connection: Connection) -> FakeWire:
    assert isinstance(connection.wire, FakeWire)
    return connection.wire


# ── slow readers ──


def test_a_reader_that_takes_nothing_is_cut_when_its_oldest_byte_is_30_s_old(room: Room) -> None:
    connection = room.open()
    connection.written = wire_of(connection).waiting = 100_000
    for _ in range(30):
        room.pass_second()
        # More comes, which makes the oldest no younger.
        connection.written += 10
        wire_of(connection).waiting += 10
    assert not wire_of(connection).is_cut
    with capture_logs() as lines:
        room.pass_second()
    assert wire_of(connection).is_cut
    (line,) = lines
    assert (line["event"], line["transport"], line["thread_id"]) == ("reader cut", "sse", "t")
    assert line["seconds"] == 30.0


def test_a_reader_of_a_byte_a_second_is_cut_too(room: Room) -> None:
    connection = room.open()
    connection.written = wire_of(connection).waiting = 100_000
    seconds = 0
    while not wire_of(connection).is_cut:
        room.pass_second()
        wire_of(connection).waiting -= 1
        seconds += 1
    assert seconds == 31


def test_a_slow_reader_that_goes_on_is_not_cut(room: Room) -> None:
    """The buffer is never empty, but no byte in it is 30 s old."""
    connection = room.open()
    for _ in range(120):
        connection.written += 5_000
        wire_of(connection).waiting = min(connection.written, 100_000)
        room.pass_second()
    assert not wire_of(connection).is_cut
    wire_of(connection).waiting = 0
    room.pass_second()
    assert connection.unsent is None


def test_a_reader_that_falls_behind_a_busy_thread_is_cut_at_once(room: Room) -> None:
    stuck, quick = room.open(), room.open()
    for connection in (stuck, quick):
        assert isinstance(connection.following, Log)
        connection.following.backlog = (1 << 20) + 1
    stuck.written = wire_of(stuck).waiting = 1000
    room.pass_second()
    assert not wire_of(stuck).is_cut
    room.pass_second()
    assert wire_of(stuck).is_cut
    assert not wire_of(quick).is_cut


async def test_readers_are_looked_at_once_a_second_however_often_they_get_heartbeats() -> None:
    room = Room(Connections(Clock(), most=4, most_per_client=3, stalled=30.0))
    room.keeper = Keeper(room.connections, 0.1, None)
    with room.stack:
        connection = room.open()
        for _ in range(150):
            room.now += 0.02
            connection.written += 10
            wire_of(connection).waiting += 10
            await room.keeper.turn(room.now)
        assert connection.unsent is not None
        assert len(connection.unsent) in (3, 4)


class BrokenWire(FakeWire):
    """A transport that fails at whatever is asked of it."""

    def get_write_buffer_size(self) -> int:
        raise RuntimeError("The handle is gone.")


async def test_a_connection_that_fails_keeps_no_other_from_its_turn(room: Room) -> None:
    broken, stuck, idle = room.open(wire=BrokenWire()), room.open(), room.open()
    stuck.written = wire_of(stuck).waiting = 1000
    with capture_logs() as lines:
        for _ in range(31):
            room.pass_second()
        await room.keeper.beat(room.now)
    assert wire_of(stuck).is_cut
    assert wire_of(idle).written == [PING.wired]
    told = [line for line in lines if line["event"] == "a reader is not looked after"]
    assert {line["connection_id"] for line in told} == {broken.connection_id}


def test_a_server_that_stops_does_not_wait_long_for_anybody(room: Room) -> None:
    connection = room.open()
    connection.written = wire_of(connection).waiting = 1000
    connection.following.ended = "stopping"
    cut = []
    for _ in range(3):
        room.pass_second()
        cut.append(wire_of(connection).is_cut)
    assert cut == [False, False, True]


def test_a_stream_whose_transport_is_unknown_is_left_alone(room: Room) -> None:
    connection = room.open(wire=None)
    connection.written = 1000
    for _ in range(60):
        room.pass_second()
    assert connection.unsent is None


# ── signs of life ──


async def test_a_reader_to_whom_nothing_goes_gets_a_heartbeat(room: Room) -> None:
    connection = room.open()
    written = wire_of(connection).written
    await room.beats_in(4)
    assert written == []
    await room.beats_in(1)
    assert written == [PING.wired]
    assert connection.written == len(PING.wired)
    await room.beats_in(10)
    assert written == [PING.wired] * 3
    connection.sent_at = room.now
    await room.beats_in(4)
    assert written == [PING.wired] * 3
    await room.beats_in(1)
    assert written == [PING.wired] * 4


@pytest.mark.parametrize(
    "busy",
    [
        # It may be amid an event: one that is large is sent in pieces.
        {"waits": False},
        {"waiting": 1},
        {"is_closed": True},
        {"aside": True},
        {"heartbeat": None},
    ],
    ids=str,
)
async def test_no_heartbeat_gets_between_what_is_sent(room: Room, busy: dict[str, Any]) -> None:
    connection = room.open(**{name: busy[name] for name in busy if name == "heartbeat"})
    wire, following = wire_of(connection), connection.following
    assert isinstance(following, Log)
    following.waits = busy.get("waits", True)
    wire.waiting, wire.is_closed = busy.get("waiting", 0), busy.get("is_closed", False)
    if "aside" in busy:
        connection.put_aside([b"a frame"])
    await room.beats_in(20)
    assert wire.written == []


async def test_where_the_wire_is_unknown_the_stream_itself_sends_it(room: Room) -> None:
    connection = room.open(wire=None)
    await room.beats_in(20)
    # It was woken for the first, and has not sent it yet.
    assert connection.aside is not None
    assert list(connection.aside) == [PING.frame]
    assert isinstance(connection.following, Log)
    assert connection.following.rings == 1


async def test_heartbeats_of_many_leave_room_for_others(room: Room) -> None:
    room.connections = Connections(Clock(), most=1000, most_per_client=1000, stalled=30.0)
    room.__post_init__()
    wires = [wire_of(room.open()) for _ in range(BEATS_AT_ONCE * 2 + 1)]
    room.now = HEARTBEAT
    beating = asyncio.create_task(room.beats_in(1))
    beaten = []
    while not beating.done():
        await asyncio.sleep(0)
        beaten.append(sum(len(wire.written) for wire in wires))
    assert beaten[:3] == [BEATS_AT_ONCE, 2 * BEATS_AT_ONCE, 2 * BEATS_AT_ONCE + 1]


# ── the memory of those who are gone ──


def test_free_memory_is_given_back_after_much_was_cut_but_not_all_the_time(room: Room) -> None:
    for _ in range(3):
        connection = room.open()
        connection.written = wire_of(connection).waiting = 100_000
        assert isinstance(connection.following, Log)
        connection.following.backlog = 8 << 20
        room.pass_second()
        room.pass_second()
        assert wire_of(connection).is_cut
        # As the transport of a connection that was reset.
        wire_of(connection).waiting = 0
    assert room.tidied == [3.0]
    for _ in range(10):
        room.pass_second()
    assert room.tidied == [3.0, 13.0]


def test_free_memory_is_given_back_after_many_have_gone(room: Room) -> None:
    for _ in range(199):
        room.open()
    room.stack.close()
    room.pass_second()
    assert room.tidied == []
    room.open()
    room.stack.close()
    room.pass_second()
    assert room.tidied == [2.0]


# ── limits ──


def test_nobody_opens_more_than_they_may(room: Room) -> None:
    room.connections.admit(Owner("ann"))
    for _ in range(3):
        room.open()
    with pytest.raises(StreamsFull, match="You have 3 open streams"):
        room.connections.admit(Owner("ann"))
    room.connections.admit(Owner("bob"))
    room.open(client="bob")
    with pytest.raises(StreamsFull, match="server has 4 open streams"):
        room.connections.admit(Owner("cleo"))
    assert room.connections.on("t") == 4
    room.stack.close()
    room.connections.admit(Owner("ann"))
    assert room.connections.on("t") == 0


# ── telling everybody ──


def test_what_is_told_to_all_reaches_each_stream_ahead_of_what_follows(room: Room) -> None:
    stream = room.open()
    socket = room.open(transport=Transport.WEBSOCKET, encoder=WEBSOCKET)
    poll = room.open(transport=Transport.POLL)
    assert room.connections.tell(Broadcast(message="Hello", by="ann")) == 2
    assert socket.aside is not None
    assert stream.aside is not None
    (text,) = socket.aside
    assert b'"message":"Hello"' in text
    assert list(stream.aside) == [b"data: %s\n\n" % text]
    assert poll.aside is None
    for connection in (stream, socket):
        assert isinstance(connection.following, Log)
        assert connection.following.rings == 1
    for number in range(100):
        room.connections.tell(Broadcast(message=f"{number}"))
    assert len(socket.aside) == 16
    assert b'"message":"84"' in socket.aside[0]
