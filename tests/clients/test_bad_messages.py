"""Messages that are malformed, too large or of another dialect, on each socket of a document, and
places that are none, on each of its routes: an error in the document's own form, and the
connection stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from assent.api.dialects.positions import event_id
from tests.support import document_agent
from tests.support.document_readers import opened
from tests.support.server import Api, Server, asking, expect, problem, project_of, serving
from tests.support.waiting import PATIENCE

AGENT = "graph"
STORY = "ask Which year? then search courts"
MOST_BYTES = 1 << 20
MOST_WRONG = 20
LONGEST = 500
"""Characters of a sentence that repeats little of what was wrong."""

T = TypeVar("T")

DECISION = {"type": "decide", "decisions": {"a": {"type": "approve"}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    agents = project_of(folder, {document_agent: [AGENT]})
    with serving(folder, agents, ASSENT_HEARTBEAT="0.2s") as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


# ── sockets ───────────────────────────────────────────────────────────────────────────────────────


def is_iso(text: Any) -> bool:
    """True for a time as the documents write it."""
    return isinstance(text, str) and datetime.fromisoformat(text).tzinfo is not None


def of_human_input(frame: Any) -> str:
    """The sentence in an error of 000, "" if it is none."""
    if frame["type"] != "error":
        return ""
    assert frame.keys() == {"type", "message", "timestamp"} and is_iso(frame["timestamp"]), frame
    return str(frame["message"])


def of_progress(frame: Any) -> str:
    """The sentence in an error of 001, "" if it is none."""
    if frame["type"] != "error":
        return ""
    assert frame.keys() == {"type", "error", "timestamp"} and is_iso(frame["timestamp"]), frame
    return str(frame["error"])


def of_query(frame: Any) -> str:
    """The sentence in an error of 004, "" if it is none."""
    if frame["type"] != "agent_execution_error":
        return ""
    assert isinstance(frame["timestamp"], float), frame
    assert frame["metadata"].keys() >= {"query", "case_id"}, frame
    return str(frame["error"])


SOCKETS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "000": ("/ws/human-input/{thread}", of_human_input),
    "001": ("/progress/{thread}/ws", of_progress),
    "004": ("/ws/query", of_query),
}


class Wrong(NamedTuple):
    """A text that is a frame of text, or bytes that are one of bytes."""

    data: str | bytes
    is_text: bool = True


def nested(depth: int) -> str:
    return '{"query": "x", "case_id": ' + "[" * depth + "]" * depth + "}"


MESSAGES = {
    "nothing": Wrong(""),
    "no JSON": Wrong("{"),
    "words": Wrong("approved"),
    "no object": Wrong('["query"]'),
    "a name twice": Wrong('{"query": "x", "query": "y"}'),
    "no number": Wrong('{"query": "x", "case_id": NaN}'),
    "a number that is too large": Wrong('{"query": "x", "case_id": 1e999}'),
    "too deep": Wrong(nested(64)),
    "far too deep": Wrong(nested(100_000)),
    "half of a character": Wrong('{"query": "\\ud800"}'),
    "no query": Wrong('{"case_id": 1}'),
    "a query of nothing": Wrong('{"query": ""}'),
    "a query that is a number": Wrong('{"query": 3}'),
    "a query that is too long": Wrong(json.dumps({"query": "x" * 100_001})),
    "a case that is a list": Wrong('{"query": "x", "case_id": [1]}'),
    "a case that is half": Wrong('{"query": "x", "case_id": 1.5}'),
    "a case that is true": Wrong('{"query": "x", "case_id": true}'),
    "a case that is too long": Wrong(json.dumps({"query": "x", "case_id": "1" * 201})),
    "thinking that is a word": Wrong('{"query": "x", "stream_thinking": "yes"}'),
    "a field of nobody": Wrong('{"query": "x", "user_id": "ann"}'),
    "a command of ours": Wrong(json.dumps(DECISION)),
    "a subscription": Wrong('{"type": "subscribe", "channel": "approvals"}'),
    "bytes": Wrong(b'{"query": "x"}', is_text=False),
    "just under the limit": Wrong("x" * (MOST_BYTES - 1)),
}


@asynccontextmanager
async def socket_of(server: Server, path: str) -> AsyncIterator[ClientConnection]:
    """A WebSocket."""
    async with asyncio.timeout(PATIENCE), opened(f"ws://127.0.0.1:{server.port}{path}") as socket:
        yield socket


async def until_said(socket: ClientConnection, says: Callable[[Any], T]) -> T:
    """What is made of the first frame of which anything is."""
    while True:
        if made := says(json.loads(await socket.recv())):
            return made


async def closed(socket: ClientConnection) -> int:
    """The code with which the server closes it."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as error:
        assert error.rcvd is not None, "The connection was lost without a code."
        return error.rcvd.code


@pytest.mark.parametrize("document", SOCKETS)
async def test_whatever_is_wrong_is_said_in_the_documents_own_form_and_the_socket_stays(
    document: str, server: Server, api: Api, thread: str
) -> None:
    path, error_in = SOCKETS[document]
    await api.paused(STORY, thread_id=thread)
    logged = await api.events(thread)
    # The server goes away from whoever is wrong so often in a row.
    messages = list(MESSAGES.items())
    for first in range(0, len(messages), MOST_WRONG - 1):
        async with socket_of(server, path.format(thread=thread)) as socket:
            for name, (data, is_text) in messages[first : first + MOST_WRONG - 1]:
                await socket.send(data, text=is_text)
                said = await until_said(socket, error_in)
                assert said.endswith((".", "?")), (name, said)
                assert len(said) < LONGEST, (name, said)
            await is_well(document, socket, api, thread)
    assert (await api.events(thread))[: len(logged)] == logged


async def is_well(document: str, socket: ClientConnection, api: Api, thread: str) -> None:
    """The socket does what it is there for."""
    if document == "004":
        await socket.send(json.dumps({"query": "Hello."}))
        answer = await until_said(socket, lambda frame: frame.get("output_data", {}).get("answer"))
        assert answer == "You said: Hello."
    else:
        (approval,) = await api.pending(thread)
        said = {"type": "respond", "message": "1986"}
        await api.decided(thread, decisions={approval["approval_id"]: said})
        await until_said(
            socket, lambda frame: frame["type"] in ("human_input_completed", "progress")
        )
        await api.at_rest(thread)
        await api.paused(STORY, thread_id=thread)


@pytest.mark.parametrize("document", SOCKETS)
async def test_whoever_is_wrong_again_and_again_is_left(
    document: str, server: Server, api: Api, thread: str
) -> None:
    path, _ = SOCKETS[document]
    await api.stream("Hello.", thread_id=thread)
    for sent, code in (
        ([Wrong("approved")] * MOST_WRONG, 1008),
        ([Wrong(b"\xff")], 1007),
        ([Wrong("x" * (MOST_BYTES + 1))], 1009),
    ):
        async with socket_of(server, path.format(thread=thread)) as socket:
            with suppress(ConnectionClosed):
                for data, is_text in sent:
                    await socket.send(data, text=is_text)
            assert await closed(socket) == code


# ── places ────────────────────────────────────────────────────────────────────────────────────────


PLACES = {
    "-1": 422,
    "1.5": 422,
    "x": 422,
    "12-0": 422,
    "1" + "0" * 30: 422,
    "9999999": 410,
    event_id("another thread", 1): 410,
    "00000000-0000-4000-8000-000000000000": 422,
    "\u00bd": 422,
}
"""Ids that are none, or none of this log, and the status of each."""

READING = ("/events/human-input/{id}", "/poll/human-input/{id}", "/progress/{id}")
TASKS = f"/api/v1/agents/{AGENT}/tasks"


@pytest.mark.parametrize("route", READING)
async def test_a_place_that_there_is_not_is_a_problem(
    route: str, server: Server, api: Api, thread: str
) -> None:
    events = await api.stream("Hello.", thread_id=thread)
    for id in (thread, events[0]["run_id"]):
        await has_no_other_places(api, route.format(id=id))
    await problem(await api.http.get(route.format(id="nobody")), 404)


async def test_a_task_has_no_other_places_either(server: Server, api: Api) -> None:
    task = await made(api)
    await has_no_other_places(api, f"{TASKS}/{task}/events/stream")
    await has_no_other_places(api, f"{TASKS}/{task}/get_events")
    await problem(await api.http.get(f"{TASKS}/nobody/events/stream"), 404)


async def has_no_other_places(api: Api, path: str) -> None:
    """The route refuses whatever is no place of its log."""
    for place, status in PLACES.items():
        await problem(await api.http.get(path, params={"last_event_id": place}), status)
    await problem(await api.http.get(path, params={"query": "x"}), 422)


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────


BODIES = {
    "no JSON": (b"{", 400),
    "words": (b"approved", 400),
    "no text": (b'{"query": "\xff"}', 400),
    "no object": (b'["query"]', 422),
    "a name twice": (b'{"query": "x", "query": "y"}', 400),
    "no number": (b'{"query": NaN}', 400),
    "too deep": (b'{"query": ' + b"[" * 64 + b"]" * 64 + b"}", 400),
    "wrong types": (b'{"query": 3, "description": 3, "message": 3}', 422),
    "a field of nobody": (b'{"approved": true}', 422),
    "a command of ours": (json.dumps(DECISION).encode(), 422),
    "too large": (json.dumps({"query": "x" * MOST_BYTES}).encode(), 413),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_none_is_a_problem_and_changes_nothing(
    name: str, server: Server, api: Api
) -> None:
    body, status = BODIES[name]
    task = await made(api)
    for path in (TASKS, f"{TASKS}/{task}/execute", "/ws/broadcast"):
        headers = {"content-type": "application/json"}
        await problem(await api.http.post(path, content=body, headers=headers), status)
    assert (await api.get(f"{TASKS}/{task}"))["status"] == "created"


async def made(api: Api) -> str:
    """A task."""
    response = await api.http.post(TASKS, json={"description": "Hello.", "user_id": "ann"})
    return str((await expect(response, 200)).json()["id"])
