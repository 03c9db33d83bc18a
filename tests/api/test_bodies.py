"""What is taken of a body: how much, how slowly, of which type, and which JSON."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from assent.api.embedding import Assent
from assent.api.json_body import MOST_FIELDS, MOST_VALUES, read_json
from assent.api.limits import ANY_BODY, FILE_BODY, FORM_BODY, JSON_BODY, BodyLimits, LimitedBody
from assent.api.schemas import Body, storable
from assent.core.json import MAX_DEPTH, Json
from tests.support.server import Api, problem

HASTY = BodyLimits(most=10, stalled=0.05)


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────


def lists(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def objects(count: int) -> bytes:
    """One object with so many fields and objects, itself among them."""
    return json.dumps({str(n): 0 for n in range(count - 1)}).encode()


TAKEN: dict[str, bytes] = {
    "as deep as can be": lists(MAX_DEPTH),
    "as many fields as can be": objects(MOST_FIELDS),
    "nearly as many values": b"[" + b"0," * (MOST_VALUES - 3) + b"0]",
    "the largest numbers": b"[%d, %d, 1.7e308]" % (2**63 - 1, -(2**63)),
    "a character of two halves": b'"\\ud83d\\ude00"',
    "a backslash before a zero": b'"\\\\u0000"',
    "other control characters": b'"\\u0001\\u007f"',
    "true and null": b"[true, false, null]",
}

REFUSED: dict[str, bytes] = {
    "too deep": lists(MAX_DEPTH + 1),
    "an object that is too deep": b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH,
    "far too deep": lists(100_000),
    "deep without an end": b"[" * 100_000,
    "too many fields": objects(MOST_FIELDS + 1),
    "too many values": b"[" + b"0," * MOST_VALUES + b"0]",
    "too many objects": b"[" + b"{}," * MOST_FIELDS + b"{}]",
    "a number too large": b"[[%d]]" % 2**63,
    "a number too small": b'{"a": %d}' % (-(2**63) - 1),
    "5,000 digits": b"9" * 5000,
    "a number that is infinite": b"1e999",
    "one that is infinite below": b"[-1e999]",
    "NaN": b"[NaN]",
    "Infinity": b'{"a": Infinity}',
    "a field twice": b'{"a": 1, "a": 1}',
    "half a character": b'"\\ud800"',
    "the other half": b'[{"a": "\\udFFF"}]',
    "half a character in a name": b'{"\\uD8ff": 1}',
    "NUL": b'["a\\u0000"]',
    "NUL in a name": b'{"\\u0000": 1}',
    "NUL as it is": b'"\x00"',
    "no UTF-8": b'"\xff"',
}


@pytest.mark.parametrize("name", TAKEN)
def test_json_that_every_program_reads_is_taken(name: str) -> None:
    value = read_json(TAKEN[name])
    assert value == json.loads(TAKEN[name])
    assert storable(value) == value


@pytest.mark.parametrize("name", ["too deep", "an object that is too deep"])
def test_what_is_too_deep_to_be_sent_is_too_deep_to_be_given(name: str) -> None:
    with pytest.raises(ValueError, match=f"deeper than {MAX_DEPTH} levels"):
        storable(json.loads(REFUSED[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_json_that_programs_read_differently_is_refused_at_little_cost(name: str) -> None:
    began = time.process_time()
    with pytest.raises(HTTPException) as raised:
        read_json(REFUSED[name])
    assert time.process_time() - began < 0.5
    assert raised.value.status_code == 400
    assert raised.value.detail.endswith(".")
    assert len(raised.value.detail) < 200


# ── bodies as they come ───────────────────────────────────────────────────────────────────────────


class Client:
    """Sends these pieces of a body, and then nothing, unless it ends there. Counts how often it was
    asked."""

    def __init__(self, *pieces: bytes, ends: bool = True, pause: float = 0.0) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._left = len(pieces)
        self._ends = ends
        self._pause = pause
        self.asked = 0

    async def __call__(self) -> Message:
        self.asked += 1
        await asyncio.sleep(self._pause)
        for piece in self._pieces:
            self._left -= 1
            more = self._left > 0 or not self._ends
            return {"type": "http.request", "body": piece, "more_body": more}
        await asyncio.Event().wait()
        raise AssertionError


async def received(client: Client, limits: BodyLimits, **headers: str) -> bytes:
    """The body that gets through."""
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    receive = LimitedBody({"type": "http", "headers": given}, client, limits)
    body, message = b"", await receive()
    body += message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    return body


async def refused(client: Client, limits: BodyLimits, **headers: str) -> int:
    """The status that refuses the body."""
    with pytest.raises(HTTPException) as raised:
        await received(client, limits, **headers)
    return raised.value.status_code


async def test_a_body_may_have_so_many_bytes_and_not_one_more() -> None:
    assert await received(Client(b"12345", b"67890"), HASTY) == b"1234567890"
    client = Client(b"12345", b"678901", b"2345")
    assert await refused(client, HASTY) == 413
    assert client.asked == 2


@pytest.mark.parametrize("length", ["11", "1" * 5000])
async def test_a_body_that_says_it_is_too_large_is_not_read(length: str) -> None:
    client = Client(b"1")
    assert await refused(client, HASTY, content_length=length) == 413
    assert client.asked == 0


async def test_a_body_that_stalls_is_refused() -> None:
    assert await refused(Client(ends=False), HASTY) == 408
    assert await refused(Client(b"1", ends=False), HASTY) == 408


async def test_a_body_that_drips_is_refused() -> None:
    within = BodyLimits(within=0.1)
    assert await refused(Client(*[b"1"] * 100, pause=0.01), within) == 408
    slow = BodyLimits(stalled=0.1, a_second=1024.0)
    assert await refused(Client(*[b"1"] * 100, pause=0.01), slow) == 408
    assert len(await received(Client(*[b"1" * 100] * 30, pause=0.01), slow)) == 3000


async def test_whoever_waits_until_the_client_leaves_waits_as_long_as_it_takes() -> None:
    receive = LimitedBody({"type": "http", "headers": []}, Client(b""), HASTY)
    await receive()
    leaving = asyncio.create_task(receive())  # type: ignore[arg-type]
    await asyncio.sleep(3 * HASTY.stalled)
    assert not leaving.done()
    leaving.cancel()


@pytest.mark.parametrize(
    ("limits", "given", "is_taken"),
    [
        (JSON_BODY, "application/json", True),
        (JSON_BODY, "Application/JSON; charset=utf-8", True),
        (JSON_BODY, "application/ld+json", True),
        (JSON_BODY, "", False),
        (JSON_BODY, "text/json", False),
        (JSON_BODY, "text/plain", False),
        (JSON_BODY, "application/jsonx", False),
        (JSON_BODY, "application/x-www-form-urlencoded", False),
        (FORM_BODY, "application/x-www-form-urlencoded", True),
        (FORM_BODY, "application/json", False),
        (FORM_BODY, "multipart/form-data; boundary=x", False),
        (FILE_BODY, "image/png", True),
        (ANY_BODY, "", True),
    ],
)
async def test_a_body_is_of_the_type_that_its_route_takes(
    limits: BodyLimits, given: str, is_taken: bool
) -> None:
    headers = {"content_type": given} if given else {}
    if is_taken:
        assert await received(Client(b"{}"), limits, content_length="2", **headers) == b"{}"
        return
    client = Client(b"{}")
    assert await refused(client, limits, content_length="2", **headers) == 415
    assert client.asked == 0
    # It may not say how long it is.
    assert await refused(Client(b"{}"), limits, **headers) == 415
    # Where there is no body there is no type.
    assert await received(Client(b""), limits, content_length="0", **headers) == b""


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "identity, gzip"])
async def test_a_compressed_body_is_taken_nowhere(coding: str) -> None:
    given = {"content_length": "2", "content_type": "application/json", "content_encoding": coding}
    for limits in (JSON_BODY, FILE_BODY, ANY_BODY):
        assert await refused(Client(b"{}"), limits, **given) == 415
    given["content_encoding"] = "Identity"
    assert await received(Client(b"{}"), JSON_BODY, **given) == b"{}"


# ── by a real server ──────────────────────────────────────────────────────────────────────────────


async def test_bodies_that_are_not_taken_change_nothing(api: Api) -> None:
    before = await api.get("/threads")
    sent: list[tuple[str, dict[str, Any], int]] = [
        ("/agent/invoke", {"content": b'{"message": "tell 1"}'}, 415),
        ("/agent/invoke", {"data": {"message": "tell 1"}}, 415),
        (
            "/agent/invoke",
            {"content": b"\x1f\x8b", "headers": {"content-encoding": "gzip"}},
            415,
        ),
        ("/files", {"content": b"\x1f\x8b", "headers": {"content-encoding": "gzip"}}, 415),
        ("/agent/invoke", {"json": nested(64)}, 400),
    ]
    for path, body, status in sent:
        await problem(await api.http.post(path, **body), status)
    assert await api.get("/threads") == before


# ── numbers and truth values ──────────────────────────────────────────────────────────────────────


def bodies(kind: type[Body] = Body) -> Iterator[type[Body]]:
    """All bodies of requests."""
    for below in kind.__subclasses__():
        yield below
        yield from bodies(below)


def taken_for_another(schema: object) -> bool:
    """True if part of the schema takes false for 0, or "1" for 1."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool") and not schema.get("strict"):
            return True
        return any(map(taken_for_another, schema.values()))
    return isinstance(schema, list | tuple) and any(map(taken_for_another, schema))


def test_no_body_takes_false_for_a_number_or_a_text_for_either() -> None:
    # `Assent` imports every route, and each its bodies.
    assert Assent
    loose = {body.__name__ for body in bodies() if taken_for_another(body.__pydantic_core_schema__)}
    assert len(list(bodies())) > 40 and not loose


def nested(depth: int) -> Json:
    value: Json = {"message": "tell 1"}
    for _ in range(depth):
        value = {"metadata": value}
    return value
