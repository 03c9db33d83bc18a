"""Readers of the dialects as their documents' clients count: what each hears on one connection, by
the ids that it sends back. They share no code with the server.

    follower = Follower(human_input_sse(run_id))
    await follower.follow(proxy.port)
    assert follower.told == await undisturbed(human_input_sse(run_id), server.port)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.support import readers
from tests.support.readers import Cut, Refused
from tests.support.waiting import PATIENCE

BETWEEN_TRIES = 0.05

BROKEN = (OSError, EOFError, Cut, ConnectionClosed, InvalidHandshake, InvalidMessage)
"""What a connection that breaks, or a server that is away, raises in these readers."""


class Told(NamedTuple):
    """What a client heard: the id that it sends back, the name of the frame if it has one, and the
    object in it."""

    id: str
    name: str
    data: Any


Hear = Callable[[int, str], AsyncGenerator[Told]]
"""One connection to this port, for what is behind the id. It returns where the server says that
there is no more, and raises what is in `BROKEN` if it is cut before."""


@dataclass
class Follower:
    """A client that comes back with the last id that it has, until it has heard the end. If what it
    hears `begins_anew` each time, it knows by the ids what it has."""

    hear: Hear
    begins_anew: bool = False
    told: list[Told] = field(default_factory=list)

    async def follow(self, port: int) -> None:
        """Hear all of it, over one connection after another."""
        while True:
            last = "" if self.begins_anew or not self.told else self.told[-1].id
            with suppress(*BROKEN):
                async with aclosing(self.hear(port, last)) as heard:
                    async for each in heard:
                        self._take(each)
                return
            await asyncio.sleep(BETWEEN_TRIES)

    def _take(self, heard: Told) -> None:
        known = [each for each in self.told if each.id == heard.id]
        assert known == ([heard] if known and self.begins_anew else []), f"{heard}, and {known}"
        if not known:
            self.told.append(heard)


async def undisturbed(hear: Hear, port: int) -> list[Told]:
    """All that is heard on one connection."""
    async with asyncio.timeout(PATIENCE), aclosing(hear(port, "")) as heard:
        return [each async for each in heard]


# ── Server-Sent Events ────────────────────────────────────────────────────────────────────────────


class Frame(NamedTuple):
    """A frame of Server-Sent Events, as a browser reads it. `comment` is that of its lines that
    begin with a colon."""

    id: str
    name: str
    data: str | None
    comment: str


async def frames(
    port: int, path: str, last: str = "", **headers: str
) -> AsyncGenerator[Frame, None]:
    """The frames of one answer to its end. Raises `Refused`, and what is in `BROKEN`."""
    if last:
        headers["Last_Event_ID"] = last
    sent = readers.request(path, **headers)
    async with (
        readers.answer(port, sent) as reader,
        aclosing(readers.frames(reader)) as read,
        asyncio.timeout(None) as limit,
    ):
        while True:
            limit.reschedule(asyncio.get_running_loop().time() + PATIENCE)
            frame = await anext(read, None)
            if frame is None:
                return
            yield _frame_of(frame.decode())


def _frame_of(text: str) -> Frame:
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        assert colon and name not in fields, f"This is no frame: {text!r}"
        fields[name] = value.removeprefix(" ")
    unknown = fields.keys() - {"id", "event", "data", "retry", ""}
    assert not unknown, f"This is no frame: {text!r}"
    return Frame(
        fields.get("id", ""), fields.get("event", ""), fields.get("data"), fields.get("", "")
    )


def _sse(path: str, is_end: Callable[[Frame], bool]) -> Hear:
    async def hear(port: int, last: str) -> AsyncGenerator[Told]:
        frame = None
        try:
            async with aclosing(frames(port, path, last)) as read:
                async for frame in read:
                    if frame.id:
                        yield Told(frame.id, frame.name, json.loads(frame.data or "null"))
        except Refused as error:
            # The end was heard already.
            if error.status != 204:
                raise
        else:
            assert frame is not None and is_end(frame), frame

    return hear


def human_input_sse(id: str) -> Hear:
    """000, as an execution."""
    return _sse(f"/events/human-input/{id}", lambda frame: frame.comment == "end done")


def progress_sse(id: str) -> Hear:
    """001, as an execution."""
    return _sse(f"/progress/{id}", lambda frame: frame.data == "[DONE]")


def task_sse(agent: str, task_id: str) -> Hear:
    """003, with both listeners of its page: those of names, and `onmessage`."""
    path = f"/api/v1/agents/{quote(agent)}/tasks/{task_id}/events/stream"
    return _sse(path, lambda frame: frame.comment == "end done")


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────


def human_input_poll(id: str, over: asyncio.Event) -> Hear:
    """000 by polling, until it is over and nothing new came."""

    async def hear(port: int, last: str) -> AsyncGenerator[Told]:
        url = f"http://127.0.0.1:{port}/poll/human-input/{id}"
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            while True:
                was_over = over.is_set()
                try:
                    response = await client.get(url, params={"last_event_id": last} if last else {})
                except httpx.TransportError as error:
                    raise Cut from error
                assert response.status_code == 200, response.text
                page = response.json()["events"]
                for event in page:
                    last = event["event_id"]
                    yield Told(last, "", event)
                if was_over and not page:
                    return
                await asyncio.sleep(BETWEEN_TRIES)

    return hear


# ── WebSockets ────────────────────────────────────────────────────────────────────────────────────


def human_input_socket(id: str) -> Hear:
    """000 on a WebSocket."""

    async def hear(port: int, last: str) -> AsyncGenerator[Told]:
        uri = f"ws://127.0.0.1:{port}/ws/human-input/{id}"
        async with opened(f"{uri}?last_event_id={last}" if last else uri) as socket:
            async for message in socket:
                event = json.loads(message)
                if event["type"] != "heartbeat":
                    yield Told(event["event_id"], "", event)

    return hear


def progress_socket(id: str) -> Hear:
    """001 on a WebSocket, whose messages have no ids: a client counts them."""

    async def hear(port: int, last: str) -> AsyncGenerator[Told]:
        async with opened(f"ws://127.0.0.1:{port}/progress/{id}/ws") as socket:
            number = 0
            async for message in socket:
                number += 1
                yield Told(str(number), "", json.loads(message))

    return hear


def query_socket(agent: str, **query: Any) -> Hear:
    """004: asks, and asks the same again on each connection."""

    async def hear(port: int, last: str) -> AsyncGenerator[Told]:
        async with opened(f"ws://127.0.0.1:{port}/ws/query?agent={quote(agent)}") as socket:
            await socket.send(json.dumps(query))
            async for message in socket:
                event = json.loads(message)
                id = event.get("metadata", {}).get("event_id")
                if id is not None:
                    # That of the connection.
                    event.pop("session_id")
                    yield Told(id, event["type"], event)
                if event["type"] in ("agent_execution_complete", "agent_execution_error"):
                    return
        raise Cut

    return hear


def opened(uri: str, **options: Any) -> connect:
    """A WebSocket, as the documents' clients open one."""
    return connect(uri, proxy=None, open_timeout=PATIENCE, **options)
