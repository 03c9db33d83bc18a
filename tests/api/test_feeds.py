"""The feeds of agents and people over HTTP: replayed, followed, and without any content."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from assent import Assent, build_hitl_agent
from tests.support.models import ScriptedModel, say
from tests.support.server import (
    JSON,
    Api,
    Event,
    Server,
    asking,
    events_of,
    expect,
    problem,
    types_of,
)
from tests.support.waiting import PATIENCE

STORY = [
    *("run_start", "approval_required", "run_paused"),
    *("approval_decided", "run_resumed", "done"),
]


async def end_of(api: Api, path: str) -> int:
    """The number of the feed's last event."""
    after = 0
    while (found := await api.page(path, after=after))["events"]:
        after = found["next"]
    return after


async def told(api: Api, path: str, after: int, thread_id: str) -> list[Event]:
    """The feed's events past a number that are about a thread."""
    events = (await api.page(path, after=after))["events"]
    return [event for event in events if event["thread_id"] == thread_id]


@pytest.fixture
async def own(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


@pytest.mark.parametrize("path", ["/agents/agent/events", "/users/local/events"])
async def test_a_feed_has_the_lives_of_runs_and_nothing_that_was_said(
    api: Api, thread: str, amount: int, path: str
) -> None:
    after = await end_of(api, path)
    canary = uuid4().hex
    await api.paused(f"pay {amount}", thread_id=thread, metadata={"note": canary})
    await api.decided(thread, type="reject", message=canary)
    await api.until(thread, "done")
    events = await told(api, path, after, thread)
    assert types_of(events) == STORY
    numbers = [event["seq"] for event in events]
    assert numbers == sorted(set(numbers))
    assert all(event["agent"] == "agent" for event in events if "approval" not in event["type"])
    text = json.dumps(events)
    assert canary not in text
    assert f"pay {amount}" not in text
    assert not any({"message", "args", "input", "about"} & event.keys() for event in events)


async def test_a_feed_is_replayed_and_then_followed(api: Api, own: Api, thread: str) -> None:
    path = "/agents/agent/events"
    after = await end_of(api, path)
    await api.stream("tell 1", thread_id=thread)
    async with (
        asyncio.timeout(PATIENCE),
        own.http.stream("GET", path, params={"after": after, "types": "done"}) as response,
    ):
        events = events_of(await expect(response, 200))
        replayed = await anext(events)
        assert (replayed["type"], replayed["thread_id"]) == ("done", thread)
        await api.stream("tell 1", thread_id=thread)
        assert (await anext(events))["seq"] > replayed["seq"]
        await events.aclose()


async def test_a_feed_waits_for_an_event(api: Api, own: Api, thread: str) -> None:
    path = "/agents/agent/events"
    after = await end_of(api, path)
    waiting = asyncio.create_task(own.page(path, after=after, timeout=PATIENCE, types="run_start"))
    await api.until_streams(1, transport="poll")
    await api.stream("tell 1", thread_id=thread)
    [event] = (await waiting)["events"]
    assert event["thread_id"] == thread


async def test_an_agent_has_a_feed_whatever_its_name(tmp_path: Path) -> None:
    agent = build_hitl_agent(ScriptedModel(script=[say("Hello.")]), [], approve=[])
    async with Assent({"desk/clerk": agent}, database=str(tmp_path / "a.db")) as assent:
        await assent.invoke("Hi.", thread_id="t", user="ann")
        transport = httpx.ASGITransport(assent.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            path = "/agents/desk%2Fclerk/events"
            page = (await expect(await http.get(path, headers=JSON), 200)).json()
            assert types_of(page["events"]) == ["run_start", "done"]
            told = await problem(await http.get(path, params={"after": 9}), 410)
            assert told["detail"].startswith("The feed 'agent/desk%2Fclerk' has no event number 9")


async def test_a_feed_of_nobody_is_empty_and_one_of_no_agent_is_missing(api: Api) -> None:
    assert (await api.page("/users/nobody%2Fhere%20☃/events"))["events"] == []
    body = await problem(await api.http.get("/agents/nobody/events", headers=JSON), 404)
    assert "'nobody'" in body["detail"]
    await problem(await api.http.get("/agents/agent/events", params={"after": 10**9}), 410)
