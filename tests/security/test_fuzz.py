"""Whatever comes from outside is refused or taken, by sentences and in no time: a tenth of a second
of the processor for an input at most. `make crash` tries for longer; FUZZ_SECONDS says for how
long.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message
from uvicorn.server import ServerState

from assent import Assent, build_hitl_agent
from assent.api.dialects.positions import read_position
from assent.api.json_body import read_json, read_json_text
from assent.api.streams.uvicorn_wires import HttpProtocol, WebSocketProtocol
from assent.core.errors import AssentError
from assent.core.keys import is_secret, key_id_in
from assent.core.redaction import redacting
from assent.storage.sqlite import paging
from tests.support.models import ScriptedModel
from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.waiting import PATIENCE

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
EXAMPLES = settings(max_examples=10_000 if SECONDS else 80, derandomize=not SECONDS)
MOST_SECONDS = 0.1


def cost(function: Callable[[], Any]) -> float:
    """The seconds of the processor that it takes, the best of three times: another process may
    have made one of them slow."""
    best = MOST_SECONDS
    for _ in range(3):
        begun = time.process_time()
        function()
        best = min(best, time.process_time() - begun)
        if best < MOST_SECONDS:
            break
    return best


# ── what is parsed ────────────────────────────────────────────────────────────────────────────────

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
DEEP = st.integers(1, 200_000).map(lambda depth: b"[" * depth + b"]" * depth)
LONG = st.integers(1, 100_000).map(lambda digits: b"9" * digits)
CUT = st.tuples(VALUES, st.integers(0, 200)).map(lambda cut: json.dumps(cut[0])[: cut[1]].encode())
BODIES = st.binary() | st.text().map(str.encode) | VALUES.map(json.dumps).map(str.encode) | CUT

TEXTS = st.text() | st.text("0123456789-.eE", max_size=60) | st.from_regex(r"[\w+/=-]{0,900}")


def refused_or(function: Callable[[Any], Any], given: Any) -> None:
    with suppress(AssentError, HTTPException):
        function(given)


@EXAMPLES
@given(BODIES | DEEP | LONG)
@example(b'{"a":' * 100_000)
@example(b'{"a": "\\ud800"}')
@example(b"\xff\xfe")
@example(b"-")
def test_a_body_is_read_or_refused(body: bytes) -> None:
    assert cost(lambda: refused_or(read_json, body)) < MOST_SECONDS


@EXAMPLES
@given(VALUES)
def test_a_body_that_is_read_is_what_was_sent(value: Any) -> None:
    written = json.dumps(value)
    with suppress(HTTPException):
        read = read_json_text(written, "frame")
        assert json.loads(json.dumps(read)) == json.loads(written)


@EXAMPLES
@given(TEXTS)
@example("ask_" + "0" * 100_000)
@example("eyJ" + "e" * 100_000 + "." * 100_000)
@example("Bearer " * 10_000)
@example("token=" * 10_000)
@example("9" * 5000)
def test_a_text_that_names_something_is_read_or_refused(text: str) -> None:
    readers: list[Callable[[str], Any]] = [
        paging.position,
        paging.number,
        key_id_in,
        lambda given: is_secret(given, "ses"),
        lambda given: read_position(given, "t"),
        redacting(["hush"]),
    ]
    for read in readers:
        assert cost(lambda read=read: refused_or(read, text)) < MOST_SECONDS  # type: ignore[misc]


# ── requests ──────────────────────────────────────────────────────────────────────────────────────

PATHS = [
    *("/threads/{}", "/threads/{}/events", "/threads/{}/state/{}", "/runs/{}", "/approvals/{}"),
    *("/links/{}", "/files/{}", "/files/{}/content", "/schedules/{}", "/grants/{}", "/keys/{}"),
    *("/threads?cursor={}", "/audit?cursor={}", "/approvals?status={}", "/agents/{}/events"),
    *("/users/{}/events", "/poll/human-input/{}", "/progress/{}/summary", "/me", "/session", "/{}"),
]
SENT = ["/agent/runs", "/threads", "/files?name={}", "/approvals/{}/decide", "/session", "/keys"]
HEADERS = [
    *("authorization", "x-api-key", "cookie", "host", "last-event-id", "idempotency-key"),
    *("content-type", "content-encoding", "content-length", "accept", "origin", "x-forwarded-for"),
    *("sec-fetch-site", "expect", "transfer-encoding", "traceparent"),
]
PIECES = [
    *(
        "",
        "a",
        "..",
        "/",
        "\0",
        "\r\n",
        "'",
        '"',
        "%",
        "%2f",
        "%00",
        ";--",
        "{}",
        "\ud7ff",
        "é",
        "☃",
    ),
    *("9" * 40, "-1", "NaN", "null", "ask_" + "0" * 59, "ses_" + "0" * 43, "Bearer ", "Basic "),
    *(
        "x" * 5000,
        "a=b; assent_session=",
        "application/json",
        "gzip",
        "bytes=0-",
        "=",
        ",",
        ".",
        "  ",
    ),
]


def word(dice: random.Random) -> str:
    return "".join(dice.choice(PIECES) for _ in range(dice.randint(0, 3)))


def rounds(dice: random.Random, most: int) -> Iterator[random.Random]:
    """As many rounds as there are; or those that fit into the time that was asked for."""
    end = time.monotonic() + SECONDS
    number = 0
    while number < most or time.monotonic() < end:
        number += 1
        yield dice


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ASGIApp]:
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    keys = dict(part.split(":") for part in keys_of("ann").split(","))
    options = {
        "api_keys": keys,
        "public_url": "https://assent.example",
        "rate_limit": "1000000/minute",
    }
    async with Assent(agent, database=str(tmp_path / "a.db"), settings=options) as assent:
        yield assent.app


async def status_of(app: ASGIApp, scope: dict[str, Any], body: bytes) -> int:
    """The status of the answer to the request, whose client goes away behind it."""
    statuses: list[int] = []
    parts: list[Message] = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return parts.pop(0) if len(parts) > 1 else parts[0]

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    return statuses[0]


async def test_no_request_is_more_than_the_server_can_answer(app: ASGIApp) -> None:
    slow: list[Any] = []
    statuses: Counter[int] = Counter()
    for dice in rounds(random.Random(14), 400):
        method = dice.choice(["GET", "GET", "POST", "DELETE", "PATCH", "PUT", "OPTIONS", "HEAD"])
        template = dice.choice(SENT if method == "POST" else PATHS)
        path, _, query = template.replace("{}", word(dice)).partition("?")
        usual = {"host": "127.0.0.1", "content-type": "application/json", **bearer("ann")}
        strange = dice.sample(HEADERS, dice.choice([0, 0, 1, 1, 2]))
        sent = usual | {name: word(dice) for name in strange}
        headers = [(name.encode(), text.encode("utf-8", "replace")) for name, text in sent.items()]
        body = dice.choice([b"", word(dice).encode("utf-8", "replace"), b'{"message": "hi"}'])
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("utf-8", "replace"),
            "query_string": query.encode("utf-8", "replace"),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        begun = time.process_time()
        status = await status_of(app, {**scope}, body)
        assert status < 500, (status, scope, body)
        statuses[status] += 1
        if time.process_time() - begun > MOST_SECONDS:
            slow.append((scope, body))
    # They have not all been refused for one reason, before anything was looked at.
    assert {200, 400, 401, 404, 405, 422} <= statuses.keys(), statuses
    for scope, body in slow:
        # Once more: the runs of requests before it, or the collector, may have taken the time.
        begun = time.process_time()
        await status_of(app, {**scope}, body)
        assert time.process_time() - begun < MOST_SECONDS, scope


# ── bytes on a connection ─────────────────────────────────────────────────────────────────────────

HEAD = (
    b"GET /threads/t/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Authorization: Bearer " + secret_of("ann").encode() + b"\r\n\r\n"
)
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def frame(dice: random.Random) -> bytes:
    """A frame, mostly as it should be but for one thing or another."""
    payload = dice.choice(
        [
            b"",
            b"{}",
            b"[]",
            b"\xff\xfe",
            b'{"type": "resume"}',
            b'{"type": "message", "text": 5}',
            b"x" * 200,
        ]
    )
    first = dice.choice(
        [0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8A, 0xC1, 0xF1, dice.randrange(256)]
    )
    masked = 0x80 if dice.random() < 0.9 else 0
    length = len(payload) if dice.random() < 0.8 else dice.randrange(126)
    mask = bytes(4) if masked else b""
    return (
        bytes([first, masked | length & 0x7F]) + mask + payload
        if len(payload) < 126
        else (bytes([first, masked | 126]) + len(payload).to_bytes(2, "big") + mask + payload)
    )


def head(dice: random.Random) -> bytes:
    """A request's head with bytes put in, left out, doubled or changed."""
    data = bytearray(dice.choice([HEAD, HEALTH, HEALTH + HEALTH]))
    for _ in range(dice.randint(1, 4)):
        at, kind = dice.randrange(len(data)), dice.randrange(4)
        if kind == 0:
            data[at:at] = dice.choice(PIECES).encode("utf-8", "replace")
        elif kind == 1:
            del data[at : at + dice.randint(1, 10)]
            data = data or bytearray(b"G")
        elif kind == 2:
            data[at:at] = data[at : at + dice.randint(1, 40)]
        else:
            data[at] = dice.randrange(256)
    return bytes(data)


async def test_no_bytes_end_the_server_or_hold_it_up(
    app: ASGIApp, caplog: pytest.LogCaptureFixture
) -> None:
    config = uvicorn.Config(
        app, ws=WebSocketProtocol, log_config=None, access_log=False, lifespan="off"
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: HttpProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]

    async def told(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            writer.write(data)
            writer.write_eof()
        answer = b""
        with suppress(ConnectionError):
            answer = await reader.read()
        writer.close()
        return answer

    async with server, asyncio.timeout(PATIENCE + 2 * SECONDS):
        for dice in rounds(random.Random(41), 200):
            is_socket = dice.random() < 0.5
            data = HEAD + b"".join(frame(dice) for _ in range(4)) if is_socket else head(dice)
            await asyncio.wait_for(told(data), PATIENCE)
        assert (await told(HEALTH)).startswith(b"HTTP/1.1 200")
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []
