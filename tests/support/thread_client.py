"""A client of LangGraph's thread protocol, over HTTP and over a WebSocket, as the SDK for
JavaScript is one: it opens a stream for what it wants, and takes each event once, by its id."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from itertools import count
from typing import Any

import httpx
from langchain_protocol.protocol import Event as ProtocolEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect

from tests.support.server import expect
from tests.support.waiting import PATIENCE

Event = dict[str, Any]
Json = Any

ALL = [
    *("values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks"),
    "custom",
]

_DOCUMENT: TypeAdapter[Any] = TypeAdapter(ProtocolEvent)


def check(event: Event) -> Event:
    """The event, if it is one of the protocol. `input.answered` is newer than what the package for
    Python has."""
    assert event["event_id"] == str(event["seq"])
    if event["method"] != "input.answered":
        _DOCUMENT.validate_python(event)
    return event


def is_end(event: Event) -> bool:
    """True for the event with which a run has ended, or waits for somebody."""
    if event["method"] != "lifecycle" or event["params"]["namespace"]:
        return False
    return event["params"]["data"]["event"] in ("completed", "failed", "interrupted")


def data_of(events: list[Event], method: str) -> list[Json]:
    """What the events of this method say."""
    return [event["params"]["data"] for event in events if event["method"] == method]


_ids = count(1)


def command(method: str, **params: Json) -> Json:
    """A command."""
    return {"id": next(_ids), "method": method, "params": params}


# ── over HTTP ─────────────────────────────────────────────────────────────────────────────────────


async def sent(http: httpx.AsyncClient, thread: str, method: str, **params: Json) -> Json:
    """Send a command; what answers it."""
    asked = command(method, **params)
    response = await http.post(f"/threads/{thread}/commands", json=asked)
    answer = (await expect(response, 200)).json()
    assert answer["id"] == asked["id"]
    return answer


async def done(http: httpx.AsyncClient, thread: str, method: str, **params: Json) -> Json:
    """Send a command that is carried out; its result."""
    answer = await sent(http, thread, method, **params)
    assert answer["type"] == "success", answer
    return answer["result"]


async def streamed(
    http: httpx.AsyncClient, thread: str, **asked: Json
) -> AsyncGenerator[Event, None]:
    """The events of the thread, as they come."""
    body = {"channels": ALL, **asked}
    headers = {"accept": "text/event-stream"}
    path = f"/threads/{thread}/stream/events"
    async with http.stream("POST", path, json=body, headers=headers) as response:
        await expect(response, 200)
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                yield check(json.loads(line.removeprefix("data: ")))


async def until_end(
    http: httpx.AsyncClient,
    thread: str,
    is_last: Callable[[Event], bool] = is_end,
    **asked: Json,
) -> list[Event]:
    """The events of the thread, up to the first one that is the last of a run."""
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE), aclosing(streamed(http, thread, **asked)) as stream:
        async for event in stream:
            events.append(event)
            if is_last(event):
                return events
    raise AssertionError("The stream ended.")


# ── over a WebSocket ──────────────────────────────────────────────────────────────────────────────


class ThreadSocket:
    """A socket of a thread. `events` are those that came so far, each once."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: dict[str, Event] = {}
        self.again = 0

    async def next(self) -> Json:
        """What comes next."""
        async with asyncio.timeout(PATIENCE):
            text = await self.connection.recv()
        assert isinstance(text, str)
        said = json.loads(text)
        if said["type"] == "event":
            self.again += said["event_id"] in self.events
            self.events[said["event_id"]] = check(said)
        return said

    async def ask(self, method: str, **params: Json) -> Json:
        """Send a command; what answers it."""
        asked = command(method, **params)
        await self.connection.send(json.dumps(asked))
        while (said := await self.next())["type"] == "event":
            pass
        assert said["id"] == asked["id"], said
        return said

    async def done(self, method: str, **params: Json) -> Json:
        """Send a command that is carried out; its result."""
        answer = await self.ask(method, **params)
        assert answer["type"] == "success", answer
        return answer["result"]

    async def until(self, is_last: Callable[[Event], bool] = is_end) -> Event:
        """The next event that is such a one."""
        while True:
            said = await self.next()
            if said["type"] == "event" and is_last(said):
                return said


@asynccontextmanager
async def thread_socket(
    port: int, thread: str, headers: Mapping[str, str] = {}
) -> AsyncIterator[ThreadSocket]:
    """A socket of the thread."""
    url = f"ws://127.0.0.1:{port}/threads/{thread}/stream/events"
    opening = connect(url, additional_headers=headers, proxy=None, open_timeout=PATIENCE)
    async with opening as connection:
        yield ThreadSocket(connection)
