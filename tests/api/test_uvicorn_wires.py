"""uvicorn's protocols tell us the transports of their connections, whatever its version names
them."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import struct
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakSet

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from assent import Assent, build_hitl_agent
from assent.api.streams.connections import Heartbeat, cut
from assent.api.streams.requests import HANDSHAKE
from assent.api.streams.sending import wire_of
from assent.api.streams.speech import TICK
from assent.api.streams.sse import PING
from assent.api.streams.uvicorn_wires import (
    LOGGER,
    MOST_FIELDS,
    MOST_HEAD_BYTES,
    HttpProtocol,
    WebSocketProtocol,
)
from assent.config.logging import TALKATIVE
from assent.core.access import Owner
from tests.support import readers
from tests.support.models import ScriptedModel
from tests.support.server import BEGIN
from tests.support.waiting import PATIENCE, until

SECRET = "swordfish-4711"
HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
FRAME = b"\x81\x82" + bytes(4) + b"{}"
"""A text, with a mask that changes nothing."""


@asynccontextmanager
async def served(
    app: ASGIApp, http: type[HttpProtocol] = HttpProtocol, **options: Any
) -> AsyncIterator[tuple[int, ServerState]]:
    """The app on a port, and what uvicorn knows of its connections."""
    options |= {"log_config": None, "access_log": False}
    config = uvicorn.Config(app, http=http, ws=WebSocketProtocol, **options)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: http(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        async with server, asyncio.timeout(PATIENCE):
            yield server.sockets[0].getsockname()[1], state
    finally:
        # uvicorn has silenced the logger itself, which the next test may listen to.
        logging.getLogger("uvicorn.access").propagate = True


async def test_a_reader_that_takes_nothing_is_cut_off_and_nobody_calls_it_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = asyncio.Event()
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        wire = wire_of(scope)
        assert wire is not None
        gone = asyncio.create_task(until_gone(receive))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            body = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
            await send(body)
        assert wire.get_write_buffer_size() == 0
        ended.set()

    async def until_gone(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with caplog.at_level(logging.INFO):
        async with served(app) as (port, state):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(HELLO)
            await until(lambda: scopes)
            wire = wire_of(scopes[0])
            assert wire is not None
            await until(lambda: wire.get_write_buffer_size() > 0)
            cut(wire)
            await ended.wait()
            await until(lambda: not state.connections)
            with pytest.raises(ConnectionResetError):
                while await reader.read(1 << 20):
                    pass
            writer.close()
    assert caplog.text == ""


@pytest.mark.parametrize("is_ours", [True, False])
async def test_only_our_sockets_close_by_themselves_when_the_server_stops(
    is_ours: bool, caplog: pytest.LogCaptureFixture
) -> None:
    closing = asyncio.Event()
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        if is_ours:
            scope[HANDSHAKE] = True
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        await closing.wait()
        await send({"type": "websocket.send", "text": "bye"})
        await send({"type": "websocket.close", "code": 1012})

    # As the server's log is set, at its lowest level.
    assert LOGGER in TALKATIVE
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.WARNING, LOGGER):
        async with served(app) as (port, state):
            url = f"ws://127.0.0.1:{port}/?key={SECRET}"
            async with connect(url, proxy=None, logger=silent()) as socket:
                assert await socket.recv() == "hello"
                wire: Any = wire_of(scopes[0])
                assert wire.get_write_buffer_size() == 0
                for protocol in list(state.connections):
                    protocol.shutdown()
                closing.set()
                if is_ours:
                    assert await socket.recv() == "bye"
                with pytest.raises(ConnectionClosed) as caught:
                    await socket.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1012
            await until(lambda: not state.connections)
    # Neither the query nor a frame is in the log, whatever its level.
    assert SECRET not in caplog.text
    assert "hello" not in caplog.text


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost:", HELLO + b"GET / HTTP/1.1\r\nHost:"]
)
async def test_a_connection_whose_requests_head_does_not_end_is_closed(sent: bytes) -> None:
    async with served(says_hello, Hasty) as (port, state):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert (await reader.read()).count(b"hello") == sent.count(HELLO)
        await until(lambda: not state.connections)
        writer.close()


async def test_a_connection_whose_answer_takes_longer_than_a_head_may_is_kept() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(2 * Hasty.head_seconds)
        await says_hello(scope, receive, send)

    async with served(app, Hasty) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(HELLO)
            await reader.readuntil(b"hello")
        writer.close()


async def test_an_answer_behind_which_another_request_waits_is_told_that_the_client_is_gone() -> (
    None
):
    asked = asyncio.Event()
    told = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async with served(app) as (port, state):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HELLO + HELLO)
        await asked.wait()
        for protocol in list(state.connections):
            protocol.transport.abort()
        await told.wait()
        writer.close()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_client_that_does_not_wait_for_its_handshake_is_hung_up_on(
    at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        assert (await receive())["type"] == "websocket.disconnect"
        left.set()
        await send({"type": "websocket.accept"})

    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.WARNING, LOGGER):
        async with served(app) as (port, state):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            if at_once:
                writer.write(readers.handshake("/") + FRAME)
            else:
                writer.write(readers.handshake("/"))
                await asked.wait()
                writer.write(FRAME)
            assert await reader.read() == b""
            await left.wait()
            await until(lambda: not state.connections)
            writer.close()
    assert caplog.text == ""


async def test_a_client_that_has_just_left_its_handshake_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        wire: Any = wire_of(scope)
        # As when the client closes: the server is told of it a moment later.
        wire.close()
        left.set()
        await send({"type": "websocket.accept"})
        raise AssertionError("It was accepted.")

    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.WARNING, LOGGER):
        async with served(app) as (port, state):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(readers.handshake("/"))
            assert await reader.read() == b""
            await until(lambda: left.is_set() and not state.connections)
            writer.close()
    assert caplog.text == ""


async def test_a_client_that_answers_no_ping_is_closed_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"

    pings: Any = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.05}
    async with served(app, **pings) as (port, state):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(readers.handshake("/"))
        await reader.readuntil(b"\r\n\r\n")
        frames = await reader.read()
        assert frames.startswith(b"\x89\x04")
        assert frames[6:].startswith(b"\x88" + bytes([len(frames) - 8]) + struct.pack("!H", 1011))
        await until(lambda: not state.connections)
        writer.close()
    assert caplog.text == ""


async def test_what_has_become_a_websocket_needs_no_garbage_collector() -> None:
    seen = WeakSet[HttpProtocol]()

    class Seen(HttpProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            seen.add(self)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    gc.disable()
    try:
        async with served(app, Seen) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: seen)
            writer.write(readers.handshake("/"))
            await reader.readuntil(b"\r\n\r\n")
            await until(lambda: not seen)
            writer.close()
    finally:
        gc.enable()


@pytest.mark.parametrize("heartbeat", [PING, TICK], ids=["SSE", "WebSocket"])
async def test_a_heartbeat_on_the_wire_is_what_the_server_makes_of_its_frame(
    heartbeat: Heartbeat,
) -> None:
    beaten = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": heartbeat.frame.decode()})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            part = {"type": "http.response.body", "body": heartbeat.frame, "more_body": True}
            await send(part)
        wire = wire_of(scope)
        assert wire is not None
        wire.write(heartbeat.wired)
        await beaten.wait()

    async with served(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HELLO if heartbeat is PING else readers.handshake("/"))
        await reader.readuntil(b"\r\n\r\n")
        twice = await reader.readexactly(2 * len(heartbeat.wired))
        assert twice == heartbeat.wired * 2
        beaten.set()
        writer.close()


def packed(app: ASGIApp) -> ASGIApp:
    """The app behind a host's middleware, which compresses all that is sent."""

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        packer = zlib.compressobj(wbits=31)

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"content-encoding", b"gzip")]
                message = {**message, "headers": headers}
            else:
                body = packer.compress(message["body"]) + packer.flush(zlib.Z_SYNC_FLUSH)
                message = {**message, "body": body}
            await send(message)

        await app(scope, receive, sent)

    return around


async def test_a_heartbeat_does_not_get_around_what_stands_around_the_app(tmp_path: Path) -> None:
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    settings = {"heartbeat": "0.1s"}
    async with (
        Assent(agent, database=str(tmp_path / "a.db"), settings=settings) as assent,
        served(packed(assent.app)) as (port, _),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        await assent.runs.create_thread("t", owner=Owner("ann"), metadata={})
        async with http.stream("GET", "/threads/t/events") as response:
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if body.count(PING.frame) == 3:
                    break
    assert body == BEGIN + PING.frame * 3


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
    ],
    ids=["many headers", "a long header", "trailers"],
)
async def test_a_head_without_end_is_held_to_its_largest_size(begin: bytes) -> None:
    async with served(says_hello_at_the_end) as (port, state):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begin)
        with suppress(ConnectionError):
            for _ in range(64):
                writer.write(b"a:b\r\n" * 13_000 if begin.endswith(b"\n") else b"a" * 65_000)
                await writer.drain()
        with suppress(ConnectionError):
            assert b"hello" not in await reader.read()
        await until(lambda: not state.connections)
        writer.close()


async def test_large_bodies_of_requests_that_follow_each_other_are_no_heads() -> None:
    body = b"1\r\nx\r\n" * 6_000 + b"10000\r\n" + b"y" * 0x10000 + b"\r\n0\r\n\r\n"
    post = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    async with served(says_hello_at_the_end) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post * 3)
        for _ in range(3):
            await reader.readuntil(b"hello")
        writer.close()


async def test_trailers_are_no_headers() -> None:
    headers: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await says_hello_at_the_end(scope, receive, send)
        headers.extend(scope["headers"])

    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        await reader.readuntil(b"hello")
        writer.close()
    assert dict(headers).keys() == {b"host", b"transfer-encoding"}


async def test_a_client_that_takes_no_pongs_gets_no_more_of_them() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive()) == {"type": "websocket.receive", "text": "{}"}
        await receive()

    pings = (b"\x89\xfd" + bytes(4) + b"x" * 125) * 1000
    async with served(app) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(readers.handshake("/"))
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(40):
            writer.write(pings)
            await writer.drain()
        wire = wire_of(scopes[0])
        assert wire is not None and wire.get_write_buffer_size() < 1 << 20
        # Whoever takes them gets some again.
        writer.write(b"\x89\x84" + bytes(4) + b"last")
        reading = asyncio.create_task(reader.readuntil(b"last"))
        while not reading.done():
            writer.write(b"\x89\x84" + bytes(4) + b"last")
            await asyncio.sleep(0.05)
        writer.close()


async def test_a_message_in_empty_fragments_is_held_as_one() -> None:
    heard = asyncio.Queue[Any]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        heard.put_nowait(await receive())

    async with served(app) as (port, state):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(readers.handshake("/"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x01\x81" + bytes(4) + b"a" + (b"\x00\x80" + bytes(4)) * 2500)
        writer.write(b"\x89\x80" + bytes(4))
        await reader.readexactly(2)
        (protocol,) = state.connections
        assert len(vars(protocol)["frames"]) < 1100
        writer.write(b"\x80\x81" + bytes(4) + b"b")
        assert await heard.get() == {"type": "websocket.receive", "text": "ab"}
        writer.close()


# ── heads ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("behind", [b"", FRAME], ids=["alone", "with a frame behind it"])
@pytest.mark.parametrize("step", [1, 1 << 20])
async def test_a_handshake_comes_in_pieces_of_any_size(step: int, behind: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        heard = await receive()
        if heard["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": heard["text"]})

    sent = readers.handshake("/") + behind
    async with served(app) as (port, state), connected(port) as (reader, writer):
        # As the system would give it, where a proxy sends byte by byte.
        feed(await wire_in(state), sent, step)
        if behind:
            assert await reader.read() == b""
        else:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            writer.write(FRAME)
            assert await reader.readexactly(4) == b"\x81\x02{}"


@pytest.mark.parametrize("size", [MOST_HEAD_BYTES, MOST_HEAD_BYTES + 1])
@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
async def test_a_head_may_have_so_many_bytes_and_not_one_more(size: int, step: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
    head += b"x" * (size - len(head) - 4) + b"\r\n\r\n"
    async with served(says_hello) as (port, state), connected(port) as (reader, _):
        feed(await wire_in(state), head, step)
        assert await status(reader) == (200 if size == MOST_HEAD_BYTES else 431)


@pytest.mark.parametrize("fields", [MOST_FIELDS, MOST_FIELDS + 1])
async def test_a_head_may_have_so_many_fields_and_not_one_more(fields: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * (fields - 1) + b"\r\n"
    async with served(says_hello) as (port, _), connected(port) as (reader, writer):
        writer.write(head)
        assert await status(reader) == (200 if fields == MOST_FIELDS else 431)


async def test_what_refuses_a_head_is_a_problem_document() -> None:
    async with served(says_hello) as (port, _), connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nno field\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json")
    assert json.loads(body) == {
        "type": "urn:assent:problem:bad-request",
        "title": "Bad Request",
        "status": 400,
        "detail": "This is no request of HTTP/1.1.",
    }


@pytest.mark.parametrize("begin", [b"GET / HTTP/2.0", b"GET /", b"GET / HTTP/0.9"])
async def test_what_is_of_another_version_is_no_request(begin: bytes) -> None:
    async with served(says_hello) as (port, _), connected(port) as (reader, writer):
        writer.write(begin + b"\r\nHost: x\r\n\r\n")
        assert await status(reader) == 400


async def test_a_head_that_does_not_end_in_time_is_told_so_and_nobody_who_asks_nothing() -> None:
    async with served(says_hello, Hasty) as (port, _):
        async with connected(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
            assert await status(reader) == 408
        async with connected(port) as (reader, _):
            assert await reader.read() == b""


async def test_a_head_has_its_time_from_its_first_byte_on() -> None:
    class Patient(HttpProtocol):
        head_seconds = 1.0

    async with served(says_hello, Patient) as (port, state), connected(port) as (reader, _):
        protocol = await wire_in(state)
        ends_at = vars(protocol)["_timer"].when()
        feed(protocol, HELLO[:1], 1)
        assert vars(protocol)["_timer"].when() > ends_at
        feed(protocol, HELLO[1:], 1)
        assert await status(reader) == 200


async def test_a_refusal_does_not_get_into_an_answer_that_is_under_way() -> None:
    goes_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await goes_on.wait()

    async with served(app) as (port, _), connected(port) as (reader, writer):
        writer.write(HELLO)
        await reader.readuntil(b"hello\r\n")
        writer.write(b"no head\r\n\r\n")
        assert await reader.read() == b""
        goes_on.set()


async def test_the_rest_of_a_body_that_was_answered_does_not_hold_the_connection() -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx"
    async with served(says_hello, Hasty) as (port, _), connected(port) as (reader, writer):
        writer.write(post)
        await reader.readuntil(b"hello")
        # uvicorn lets whoever goes on have the connection for ever.
        writer.write(b"x")
        assert await reader.read() == b""


async def test_a_connection_is_kept_whose_body_came_behind_its_answer() -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    async with served(says_hello, Hasty) as (port, state), connected(port) as (reader, writer):
        writer.write(post)
        await reader.readuntil(b"hello")
        (protocol,) = state.connections
        feed(protocol, b"x", 1)
        # As long as any other that is idle, and not for ever.
        keep_alive = vars(protocol)["timeout_keep_alive_task"]
        assert keep_alive is not None and vars(protocol)["_timer"] is None
        writer.write(HELLO)
        await reader.readuntil(b"hello")


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"X: " + b"x" * 9000])
async def test_a_handshake_that_is_none_is_refused_and_not_held(field: bytes) -> None:
    sent = readers.handshake("/").replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n")
    async with served(says_hello) as (port, state), connected(port) as (reader, writer):
        writer.write(sent)
        assert await status(reader) == 400
        await reader.read()
        await until(lambda: not state.connections)


async def test_who_asks_for_another_protocol_is_answered_in_this_one() -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with served(says_hello) as (port, _), connected(port) as (reader, writer):
        writer.write(upgrade + HELLO)
        for _ in range(2):
            await reader.readuntil(b"hello")


async def test_a_head_without_end_costs_no_more_than_its_limit() -> None:
    """httptools needs 3 s for a field of 4 MiB that comes in pieces of 64 KiB."""
    async with served(says_hello) as (port, state), connected(port) as (reader, _):
        protocol = await wire_in(state)
        sent = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * (4 << 20)
        began = time.process_time()
        feed(protocol, sent, 1 << 16)
        assert time.process_time() - began < 0.1
        assert await status(reader) == 431


# ── many small parts ──────────────────────────────────────────────────────────────────────────────

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
AT_ONCE = 1 << 18
"""The bytes that an event loop hands over at once."""

SMALL = {
    "requests": (b"", b"GET / HTTP/1.1\r\n\r\n"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "pings": (readers.handshake("/"), b"\x89\x80" + bytes(4)),
    "pongs": (readers.handshake("/"), b"\x8a\x80" + bytes(4)),
    "texts": (readers.handshake("/"), b"\x81\x80" + bytes(4)),
    "fragments": (readers.handshake("/"), b"\x00\x80" + bytes(4)),
}


@pytest.mark.parametrize("kind", SMALL)
async def test_of_the_smallest_parts_no_more_are_read_at_once_than_others_can_wait_for(
    kind: str,
) -> None:
    """All of them take the server a second, and a system may hand over thirty times as many."""
    begin, part = SMALL[kind]
    parts = part * (AT_ONCE // len(part))
    if kind == "fragments":
        parts = b"\x01" + parts[1:]
    async with served(takes_nothing) as (port, state), connected(port) as (reader, writer):
        if kind in ("requests", "chunks"):
            writer.write(begin)
            await wire_in(state)
        else:
            writer.write(begin)
            await reader.readuntil(b"\r\n\r\n")
        (protocol,) = state.connections
        began = time.process_time()
        feed(protocol, parts, len(parts))
        assert time.process_time() - began < 0.1
        wire: Any = vars(protocol)["transport"]
        assert not wire.is_reading()
        # What waits there is bounded by that.
        assert len(vars(protocol)["_portions"].held) < AT_ONCE


async def test_all_of_many_small_parts_is_read_in_its_order() -> None:
    heard = asyncio.Queue[Any]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await says_how_much(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            heard.put_nowait(message["text"])

    chunks = CHUNKED + b"1\r\nx\r\n" * 2000 + b"0\r\n\r\n"
    async with served(app) as (port, _):
        async with connected(port) as (reader, writer):
            writer.write(HELLO * 500 + chunks + HELLO)
            for size in (*[0] * 500, 2000, 0):
                head = await reader.readuntil(b"\r\n\r\n")
                assert f"x-size: {size}\r\n".encode() in head
        async with connected(port) as (reader, writer):
            writer.write(readers.handshake("/"))
            await reader.readuntil(b"\r\n\r\n")
            pings = b"".join(b"\x89\x84" + bytes(4) + struct.pack("!I", n) for n in range(600))
            texts = b"".join(b"\x81\x83" + bytes(4) + b"%03d" % n for n in range(600))
            writer.write(pings + texts)
            pongs = await reader.readexactly(600 * 6)
            assert pongs == b"".join(b"\x8a\x04" + struct.pack("!I", n) for n in range(600))
            assert [await heard.get() for _ in range(600)] == [f"{n:03}" for n in range(600)]


async def test_a_handshake_behind_a_request_is_made_when_that_is_answered() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await says_hello(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        heard = await receive()
        await send({"type": "websocket.send", "text": heard["text"]})

    async with served(app) as (port, _), connected(port) as (reader, writer):
        writer.write(HELLO * 3 + b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 5000 + b"\r\n")
        writer.write(readers.handshake("/").partition(b"\r\n")[2])
        for _ in range(3):
            await reader.readuntil(b"hello")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(FRAME)
        assert await reader.readexactly(4) == b"\x81\x02{}"


# ── helpers ───────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def wire_in(state: ServerState) -> HttpProtocol:
    """The server's side of the only connection."""
    await until(lambda: state.connections)
    (protocol,) = state.connections
    assert isinstance(protocol, HttpProtocol)
    return protocol


def feed(protocol: Any, data: bytes, step: int) -> None:
    """Give the server this in pieces of one size, until it takes no more."""
    for at in range(0, len(data), step):
        wire = protocol.transport
        if wire.is_closing():
            break
        wire.get_protocol().data_received(data[at : at + step])


async def status(reader: asyncio.StreamReader) -> int:
    """The status of the answer that comes next."""
    return int((await reader.readuntil(b"\r\n")).split()[1])


async def says_hello(scope: Scope, receive: Receive, send: Send) -> None:
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    await send(head)
    await send({"type": "http.response.body", "body": b"hello"})


async def takes_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


async def says_how_much(scope: Scope, receive: Receive, send: Send) -> None:
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    headers = [(b"x-size", b"%d" % size), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def says_hello_at_the_end(scope: Scope, receive: Receive, send: Send) -> None:
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.request":
        await says_hello(scope, receive, send)


class Hasty(HttpProtocol):
    head_seconds = 0.1


def silent() -> logging.Logger:
    logger = logging.getLogger("tests.client")
    logger.setLevel(logging.CRITICAL)
    return logger
