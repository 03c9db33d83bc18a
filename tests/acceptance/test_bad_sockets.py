"""Connections as they are in the worst case: slow, half closed, cut amid a request, and texts that
look like the protocol. Spoken to by sockets, since no client library behaves so badly."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import aclosing, closing

import pytest

from tests.support import readers
from tests.support.readers import HOSTILE, Numbered
from tests.support.server import Api, Server, only, scripted_agents, serving, types_of
from tests.support.waiting import PATIENCE, until

REQUESTS = 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    agents = scripted_agents(folder, "agent")
    with serving(folder, agents, ASSENT_HEARTBEAT="0.2s") as server:
        yield server


async def test_a_request_that_comes_by_the_byte_is_read(
    server: Server, api: Api, thread: str
) -> None:
    with connected(server) as sock:
        send_by_the_byte(sock, said("Hello.", thread))
        answer = rest_of(sock)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert only(await api.events(thread), "run_start")["message"] == "Hello."


async def test_a_reader_that_closes_its_half_is_gone(server: Server, api: Api, thread: str) -> None:
    await api.stream("Hello.", thread_id=thread)
    with connected(server) as sock:
        sock.sendall(readers.request(f"/threads/{thread}/events"))
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        sock.shutdown(socket.SHUT_WR)
        # The thread goes on, so the server would not end the answer of itself.
        assert not rest_of(sock).endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("sent", [0.1, 0.5, 0.99])
async def test_a_request_that_is_cut_changes_nothing(
    sent: float, server: Server, api: Api, thread: str
) -> None:
    request = said("Hello.", thread)
    with connected(server) as sock:
        port = sock.getsockname()[1]
        sock.sendall(request[: int(len(request) * sent)])
        await until(lambda: port in server.peers())
        reset_on_close(sock)
    await until(lambda: port not in server.peers())
    assert (await api.http.get(f"/threads/{thread}")).status_code == 404


async def test_requests_that_do_not_wait_for_answers_are_answered_in_their_order(
    server: Server, api: Api, thread: str
) -> None:
    await api.stream("Hello.", thread_id=thread)
    paths = [f"/threads/{thread}/events?limit=1&after={after}" for after in range(REQUESTS)]
    requests = [readers.request(path, Accept="application/json") for path in paths]
    with connected(server) as sock:
        sock.sendall(b"".join([*requests[:-1], requests[-1].replace(b"\r\n\r\n", CLOSING)]))
        answers = rest_of(sock)
    assert answers.count(b"HTTP/1.1 200 ") == REQUESTS
    assert [int(seq) for seq in re.findall(rb'"next":(\d+)', answers)] == list(
        range(1, REQUESTS + 1)
    )


async def test_a_stream_whose_client_asks_on_is_ended_by_no_request(
    server: Server, api: Api, thread: str
) -> None:
    """A request behind a stream waits until that has ended."""
    await api.stream("Hello.", thread_id=thread)
    last = len(await api.events(thread))
    with connected(server) as sock:
        sock.sendall(readers.request(f"/threads/{thread}/events", last=last))
        sock.sendall(readers.request("/health", Connection="close"))
        await api.stream("And again.", thread_id=thread)
        answer = b""
        while b'"type":"done"' not in answer:
            answer += sock.recv(1 << 16)
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_frame_that_comes_by_the_byte_is_read(
    server: Server, api: Api, thread: str
) -> None:
    await api.stream("Hello.", thread_id=thread)
    with connected(server) as sock:
        send_by_the_byte(sock, handshake(thread))
        assert taken(sock).startswith(b"HTTP/1.1 101 ")
        message = {"type": "message", "id": "c1", "message": "By the byte."}
        send_by_the_byte(sock, text_frame(message))
        heard = b""
        while b'"type":"done"' not in heard.partition(b"By the byte.")[2]:
            heard += taken(sock)
    assert heard.count(b'"type":"answer"') == 1
    assert [event["type"] for event in await api.events(thread)].count("run_start") == 2


@pytest.mark.parametrize("pause", [None, 0.0, 0.001])
async def test_a_frame_before_the_answer_to_the_handshake_ends_the_connection(
    pause: float | None, server: Server, api: Api, thread: str
) -> None:
    """Or it is read, if the answer was quicker. Anybody may do that, so the log is silent."""
    await api.stream("Hello.", thread_id=thread)
    frame = text_frame({"type": "ping", "id": "early"})
    with connected(server) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if pause is None:
            sock.sendall(handshake(thread) + frame)
        else:
            sock.sendall(handshake(thread))
            await asyncio.sleep(pause)
            sock.sendall(frame)
        heard = b""
        while b'"id":"early"' not in heard and (piece := sock.recv(1 << 16)):
            heard += piece
        assert not heard or b'{"type":"pong","id":"early"}' in heard
    await api.until_streams(0)
    assert "[error" not in server.output and "Traceback" not in server.output


@pytest.mark.parametrize("reset", [True, False])
async def test_a_socket_that_ends_amid_a_frame_has_said_nothing(
    reset: bool, server: Server, api: Api, thread: str
) -> None:
    await api.stream("Hello.", thread_id=thread)
    before = await api.events(thread)
    frame = text_frame({"type": "message", "id": "c1", "message": "Half of it."})
    with connected(server) as sock:
        sock.sendall(handshake(thread))
        assert taken(sock).startswith(b"HTTP/1.1 101 ")
        sock.sendall(frame[:-1])
        if reset:
            reset_on_close(sock)
        else:
            sock.shutdown(socket.SHUT_WR)
            rest_of(sock)
    await api.until_streams(0, thread_id=thread)
    assert await api.events(thread) == before


async def test_whoever_leaves_by_any_way_is_counted_no_more(
    server: Server, api: Api, thread: str
) -> None:
    await api.stream("Hello.", thread_id=thread)
    last = len(await api.events(thread))
    stream = readers.request(f"/threads/{thread}/events")
    poll = readers.request(
        f"/threads/{thread}/events?after={last}&timeout=60", Accept="application/json"
    )
    for request in (stream, stream + stream, poll, handshake(thread)):
        for leave in (reset_on_close, lambda sock: sock.shutdown(socket.SHUT_WR), lambda _: None):
            with connected(server) as sock:
                sock.sendall(request)
                await api.until_streams(1, thread_id=thread)
                leave(sock)
            await api.until_streams(0, thread_id=thread)


@pytest.mark.parametrize("query", ["", "?named=true"])
async def test_no_words_are_frames(query: str, server: Server, api: Api, thread: str) -> None:
    said = {"messages": [{"role": "user", "content": HOSTILE, "name": "ann"}]}
    await api.stream(None, input=said, thread_id=thread, agent="agent", metadata={"note": HOSTILE})
    events = await api.events(thread)
    assert "done" in types_of(events)
    assert only(events, "run_start")["metadata"]["note"] == HOSTILE
    seen: list[Numbered] = []
    async with aclosing(readers.events(server.port, f"/threads/{thread}/events{query}")) as heard:
        async for event in heard:
            seen.append(event)
            if event.seq == len(events):
                break
    assert [event.seq for event in seen] == list(range(1, len(events) + 1))
    assert [json.loads(event.body) for event in seen] == events


# ── the sockets ───────────────────────────────────────────────────────────────────────────────────


CLOSING = b"\r\nConnection: close\r\n\r\n"


def connected(server: Server) -> closing[socket.socket]:
    """A connection, closed with the context."""
    return closing(socket.create_connection(("127.0.0.1", server.port), PATIENCE))


def said(message: str, thread: str) -> bytes:
    """The request that says something on the thread, and wants the connection closed."""
    body = json.dumps({"message": message, "thread_id": thread, "agent": "agent"}).encode()
    head = (
        "POST /agent/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send_by_the_byte(sock: socket.socket, sent: bytes) -> None:
    """Send this, each byte in a packet of its own."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in sent:
        sock.sendall(bytes([byte]))


def rest_of(sock: socket.socket) -> bytes:
    """All that comes until the server closes."""
    pieces = []
    while piece := sock.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


def reset_on_close(sock: socket.socket) -> None:
    """See to it that closing it is no end in order."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def taken(sock: socket.socket) -> bytes:
    """What comes next."""
    data = sock.recv(1 << 16)
    assert data, "The server has closed the connection."
    return data


def handshake(thread: str) -> bytes:
    """The request that opens a WebSocket on the thread."""
    return readers.handshake(f"/threads/{thread}/ws")


def text_frame(value: dict[str, str]) -> bytes:
    """A WebSocket's frame of a client, with a mask that changes nothing."""
    text = json.dumps(value).encode()
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text))) + bytes(4) + text
