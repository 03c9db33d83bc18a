"""The clients of human input events, as their document prints them: each is told what people are
asked, and what became of it."""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from assent.api.streams.websocket import OVER
from tests.support import document_agent
from tests.support.command import REPOSITORY
from tests.support.keys import NEW_SECRET
from tests.support.receiver import Receiver, receiving
from tests.support.server import Api, Server, asking, expect, problem, serving
from tests.support.waiting import PATIENCE, until

KEY = "your-api-key"
CLIENTS = ("websocket", "sse", "polling")

Client = Callable[..., Awaitable[None]]


@pytest.fixture(scope="module", params=[None, KEY], ids=["without a key", "with a key"])
def key(request: pytest.FixtureRequest) -> str | None:
    given: str | None = request.param
    return given


with_key = pytest.mark.parametrize("key", [KEY], ids=["with a key"], indirect=True)
"""For what is the same without one."""


@pytest.fixture(scope="module")
def server(key: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"ASSENT_HEARTBEAT": "1s"}
    if key is not None:
        settings |= {"ASSENT_API_KEYS": f"ann:{key}", "ASSENT_ALLOW_QUERY_TOKEN": "true"}
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, f"{document_agent.__file__}:graph", **settings) as server:
        yield server


@pytest.fixture
async def api(server: Server, key: str | None) -> AsyncIterator[Api]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with asking(server, **headers) as api:
        yield api


def client_of(name: str, server: Server, told: list[str]) -> Client:
    """The document's client of this name, which asks this server; what it prints is told."""
    source = (REPOSITORY / "examples" / "human_input" / f"{name}.py").read_text()
    for written, here in (
        ("localhost:8000", f"127.0.0.1:{server.port}"),
        ("asyncio.sleep(2)", "asyncio.sleep(0.05)"),
    ):
        source = source.replace(written, here)
    names: dict[str, Any] = {"__name__": name, "print": told.append}
    exec(source, names)
    client: Client = names[f"{name}_client"]
    return client


class Told:
    """What the clients of one execution have printed so far, by their names."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {name: [] for name in CLIENTS}
        self.running: dict[str, asyncio.Task[None]] = {}

    @property
    def received(self) -> list[dict[str, Any]]:
        """The events that the client of Server-Sent Events has got. That of polling has got the
        same ones."""
        sse, polled = (
            [ast.literal_eval(line.removeprefix("Received: ")) for line in self.lines[name]]
            for name in ("sse", "polling")
        )
        assert sse == polled
        return sse

    async def until(self, count: int) -> list[dict[str, Any]]:
        """The events, once there are so many, of which each client has been told."""

        def have_all() -> bool:
            for client in self.running.values():
                assert not client.done() or client.exception() is None
            told = {name: len(lines) for name, lines in self.lines.items()}
            # That of WebSockets has two lines about what is asked.
            asked = sum(line.startswith("Human") for line in self.lines["websocket"])
            return min(told["websocket"] - asked, told["sse"], told["polling"]) >= count

        await until(have_all)
        return self.received


@asynccontextmanager
async def following(server: Server, execution_id: str, key: str | None) -> AsyncIterator[Told]:
    """The three clients, each following the thread or the run with this id."""
    told = Told()
    for name in CLIENTS:
        client = client_of(name, server, told.lines[name])
        running = client(execution_id, key) if key else client(execution_id)
        told.running[name] = asyncio.ensure_future(running)
    try:
        yield told
    finally:
        for client in told.running.values():
            client.cancel()
        await asyncio.gather(*told.running.values(), return_exceptions=True)


async def test_the_documents_clients_are_told_what_is_asked_and_what_became_of_it(
    server: Server, api: Api, key: str | None, thread: str
) -> None:
    approvals = await api.paused("ask Which one? then pay 5", thread_id=thread)
    (run,) = await api.runs(thread)
    async with (
        asyncio.timeout(PATIENCE),
        following(server, thread, key) as by_thread,
        following(server, run["run_id"], key) as by_run,
    ):
        (asked,) = await by_run.until(1)
        assert asked == {
            "type": "human_input_required",
            "execution_id": run["run_id"],
            "crew_id": "clerk",
            "task_id": approvals[0]["approval_id"],
            "agent_id": approvals[0]["node"],
            "prompt": "Which one?",
            "context": "The file is old.",
            "timestamp": asked["timestamp"],
            "event_id": str(UUID(asked["event_id"])),
            "reason_flags": {"ambiguity": True, "missing_field": False},
        }
        await api.decided(thread, type="respond", message="The old one.")
        answered, call = (await by_run.until(3))[1:]
        assert answered == {
            "type": "human_input_completed",
            "execution_id": run["run_id"],
            "crew_id": "clerk",
            "task_id": asked["task_id"],
            "agent_id": asked["agent_id"],
            "event_id": answered["event_id"],
            "human_feedback": "Answered: The old one.",
            "timestamp": answered["timestamp"],
        }
        assert call["prompt"] == 'May pay run with {"amount": 5}?'
        assert call["reason_flags"] == {"ambiguity": False, "missing_field": False}

        await api.at_rest(thread)
        await api.decided(thread, type="edit", args={"amount": 6})
        events = await by_run.until(4)
        assert events[-1]["human_feedback"] == 'Approved with changes: {"amount": 6}'
        assert by_run.lines["websocket"] == [
            "Human input needed: Which one?",
            "Context: The file is old.",
            "Input completed: Answered: The old one.",
            'Human input needed: May pay run with {"amount": 5}?',
            "Context: ",
            'Input completed: Approved with changes: {"amount": 6}',
        ]
        # The execution ends, and so do those who follow it; the thread goes on.
        await asyncio.wait({by_run.running["websocket"], by_run.running["sse"]})
        assert not by_run.running["sse"].exception()
        assert not by_run.running["websocket"].exception()
        of_thread = await by_thread.until(4)
        assert of_thread == [{**event, "execution_id": thread} for event in events]
        await api.paused("pay 7", thread_id=thread)
        await by_thread.until(5)
        assert len(by_run.received) == 4

    # Whoever comes back, by any of the three, gets what is behind the last that they have.
    params = {} if key is None else {"token": key}
    for at, event in enumerate(events):
        behind = {**params, "last_event_id": event["event_id"]}
        page = await api.get(f"/poll/human-input/{run['run_id']}", **behind)
        assert page == {"events": events[at + 1 :]}
        query = str(httpx.QueryParams(behind))
        uri = f"ws://127.0.0.1:{server.port}/ws/human-input/{run['run_id']}?{query}"
        async with asyncio.timeout(PATIENCE), connect(uri) as socket:
            assert [json.loads(text) async for text in socket] == events[at + 1 :]
            assert socket.close_code == OVER
        headers = {"last-event-id": event["event_id"]}
        stream = await api.http.get(f"/events/human-input/{run['run_id']}", headers=headers)
        assert data_in(stream.text) == events[at + 1 :]
        assert stream.status_code == (200 if at < 3 else 204)
        assert at == 3 or stream.text.endswith("\n\n: end done\n\n")


def data_in(text: str) -> list[Any]:
    """The events in a stream, as the document's client reads them, without signs of life."""
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    return [event for event in events if event["type"] != "heartbeat"]


@with_key
async def test_a_poll_waits_if_it_is_told_to(api: Api, thread: str) -> None:
    await api.paused("pay 1", thread_id=thread)
    path = f"/poll/human-input/{thread}"
    (asked,) = (await api.get(path))["events"]
    behind = {"last_event_id": asked["event_id"]}
    assert await api.get(path, **behind, timeout=0) == {"events": []}
    waiting = asyncio.create_task(api.get(path, **behind, timeout=60))
    await api.until_streams(1, transport="poll")
    await api.decided(thread, type="reject", message="No.")
    (rejected,) = (await waiting)["events"]
    assert rejected["human_feedback"] == "Rejected: No."
    await problem(await api.http.get(path, params={"last_event_id": "x"}), 422)
    elsewhere = f"{thread}-2"
    await api.paused("pay 1", thread_id=elsewhere)
    await problem(await api.http.get(f"/poll/human-input/{elsewhere}", params=behind), 410)
    await problem(await api.http.get("/poll/human-input/nobody"), 404)


@with_key
async def test_signs_of_life_are_events_that_clients_leave_out(
    server: Server, api: Api, key: str, thread: str
) -> None:
    await expect(await api.http.post("/threads", json={"thread_id": thread}), 200)
    async with asyncio.timeout(PATIENCE):
        uri = f"ws://127.0.0.1:{server.port}/ws/human-input/{thread}?token={key}"
        async with connect(uri) as socket:
            told = json.loads(await socket.recv())
            assert told == {"type": "heartbeat", "timestamp": told["timestamp"]}
            await socket.send('{"type": "approve"}')
            while (told := json.loads(await socket.recv()))["type"] == "heartbeat":
                pass
            assert told == {
                "type": "error",
                "message": "This connection shows events, and takes nothing.",
                "timestamp": told["timestamp"],
            }
            while json.loads(await socket.recv())["type"] != "heartbeat":
                pass
        async with api.http.stream("GET", f"/events/human-input/{thread}") as response:
            async for line in response.aiter_lines():
                assert not line.startswith(("id:", "event:"))
                if line.startswith("data: "):
                    break
            assert json.loads(line.removeprefix("data: "))["type"] == "heartbeat"


async def test_a_key_is_needed_where_there_are_some(server: Server, key: str | None) -> None:
    async with asking(server) as api:
        health = await api.get("/health")
        assert health["status"] == "healthy" and "timestamp" in health
        status = 404 if key is None else 401
        for path in ("/events/human-input/x", "/poll/human-input/x"):
            for headers in ({}, {"authorization": "Bearer wrong"}):
                await problem(await api.http.get(path, headers=headers), status)
            await problem(await api.http.get(path, params={"token": "wrong"}), status)
    for query in ("", "?token=wrong"):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{server.port}/ws/human-input/x{query}"):
                pass
        assert refused.value.response.status_code == status


async def test_webhooks_are_sent_beside(tmp_path: Path, thread: str) -> None:
    async with receiving(Receiver()) as receiver:
        config = tmp_path / "assent.toml"
        url = f"http://127.0.0.1:{receiver.port}/in"
        config.write_text(
            f'[notify.hook]\nurl = "{url}"\nsecrets = ["{NEW_SECRET}"]\nallow_http = true\n'
        )
        target = f"{document_agent.__file__}:graph"
        with serving(tmp_path, target, ASSENT_CONFIG=str(config)) as server:
            async with asking(server) as api:
                await api.paused("pay 5", thread_id=thread)
                async with following(server, thread, None) as told:
                    (asked,) = await told.until(1)
                (sent,) = await receiver.until(1)
                assert sent.json["type"] == "approval_required"
                assert asked["task_id"] in sent.body.decode()
