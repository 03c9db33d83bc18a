"""410: events that were asked for and have been removed, or are not there yet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from assent.api.dialects.langgraph.channels import PLACES_OF_ENTRY
from assent.api.dialects.positions import event_id
from assent.client import Client
from assent.client.calls import Transport
from assent.core.errors import Gone, NotFound
from tests.support.server import (
    Api,
    Server,
    asking,
    expect,
    problem,
    scripted_agents,
    serving,
    without_ends,
)
from tests.support.sockets import socket_of
from tests.support.waiting import until

SSE = {"accept": "text/event-stream"}
JSON = {"accept": "application/json"}


async def asked(api: Api, thread: str, after: int, headers: dict[str, str]) -> Any:
    return await problem(
        await api.http.get(f"/threads/{thread}/events", params={"after": after}, headers=headers),
        410,
    )


async def test_a_thread_that_was_deleted_and_begun_anew(api: Api, thread: str) -> None:
    last = (await api.stream("tell 5", thread_id=thread))[-1]["seq"]
    await expect(await api.http.delete(f"/threads/{thread}"), 204)
    anew = await api.stream("tell 5", thread_id=thread)
    for headers in (SSE, JSON, {**SSE, "last-event-id": "1"}):
        told = await asked(api, thread, 1, headers)
        assert (told["title"], told["first"]) == ("Gone", last + 1)
        assert f"Begin after {last}, or after 0" in told["detail"]
    assert await api.events(thread, limit=1000) == await api.events(thread, after=last) == anew
    assert anew[0]["seq"] == last + 1


async def test_langgraphs_clients_are_told_by_a_409_which_they_do_not_ask_again_for(
    api: Api, thread: str
) -> None:
    last = (await api.stream("tell 5", thread_id=thread))[-1]["seq"]
    await expect(await api.http.delete(f"/threads/{thread}"), 204)
    anew = (await api.stream("tell 5", thread_id=thread))[-1]
    paths = (f"/threads/{thread}/stream", f"/threads/{thread}/runs/{anew['run_id']}/stream")
    for path in paths:
        for id in ("1", event_id("another", anew["seq"])):
            response = await api.http.get(path, headers={"last-event-id": id})
            told = await problem(response, 409)
            assert "Ask without Last-Event-ID" in told["detail"]
        # Whoever has had the last of what was removed misses nothing.
        async with api.http.stream("GET", path, headers={"last-event-id": str(last)}) as response:
            await expect(response, 200)
    body = {"channels": ["values"], "since": last * PLACES_OF_ENTRY}
    path = f"/threads/{thread}/stream/events"
    async with api.http.stream("POST", path, json=body) as response:
        await expect(response, 200)


async def test_whoever_follows_a_thread_that_is_deleted_is_told(
    server: Server, api: Api, thread: str
) -> None:
    last = (await api.stream("tell 5", thread_id=thread))[-1]["seq"]
    path = f"/threads/{thread}/events"
    async with asking(server) as reader, socket_of(server, thread, after=last) as socket:
        stream = asyncio.create_task(reader.http.get(path, params={"after": last}, headers=SSE))
        wanted = {"after": last, "timeout": 60}
        poll = asyncio.create_task(reader.http.get(path, params=wanted, headers=JSON))
        await api.until_streams(3, thread_id=thread)
        await expect(await api.http.delete(f"/threads/{thread}"), 204)
        assert without_ends((await stream).content) == (b"", "gone")
        told = await problem(await poll, 410)
        assert (told["first"], "has been erased" in told["detail"]) == (last + 1, True)
        told = await socket.until("problem")
        assert (told["status"], told["first"], told["id"]) == (410, last + 1, None)
        assert await socket.closed() == 1008
    for headers in (SSE, JSON):
        await problem(await api.http.get(path, headers=headers), 404)


async def test_our_client_says_so_over_each_transport(
    server: Server, api: Api, thread: str
) -> None:
    last = (await api.stream("tell 5", thread_id=thread))[-1]["seq"]
    async with Client(server.url, trust_env=False) as client:

        async def watch(transport: Transport) -> None:
            async for _ in client.watch(thread_id=thread, after=last, transport=transport):
                pass

        watching = [asyncio.create_task(watch(each)) for each in ("sse", "websocket", "poll")]
        await api.until_streams(3, thread_id=thread)
        await expect(await api.http.delete(f"/threads/{thread}"), 204)
        ended = await asyncio.gather(*watching, return_exceptions=True)
    assert [type(each) for each in ended] == [NotFound, Gone, Gone]


async def test_a_number_above_the_last(api: Api, thread: str) -> None:
    """As of a reader whose thread was on a server that was put back to an older backup."""
    events = await api.stream("tell 5", thread_id=thread)
    last, run = events[-1]["seq"], events[-1]["run_id"]
    for path in (f"/threads/{thread}/events", f"/runs/{run}/stream"):
        for headers in (SSE, {**SSE, "last-event-id": str(last + 1)}):
            after = 0 if "last-event-id" in headers else last + 1
            response = await api.http.get(path, params={"after": after}, headers=headers)
            told = await problem(response, 410)
            assert (told["title"], told["first"]) == ("Gone", last + 1)
            assert f"its last is {last}. " in told["detail"]
    assert (await asked(api, thread, last + 1, JSON))["first"] == last + 1
    await problem(await api.http.get("/approvals/stream", params={"after": 10**9}), 410)
    # Whoever has the last event waits for the next.
    assert await api.events(thread, after=last) == []
    async with api.following(thread, last) as following:
        await api.run(thread, "tell 1")
        assert (await anext(following))["seq"] == last + 1


async def test_events_older_than_they_may_be(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_EVENTS_TTL="1s") as server:
        async with asking(server) as api:
            ended = await api.stream("tell 5", thread_id="ended")
            await api.paused("pay 5", thread_id="paused")
            waiting = await api.events("paused")
            await asyncio.sleep(1.1)
            # The sweep comes once a minute, and at the start.
            server.restart()

            async def is_swept() -> bool:
                return not await api.events("ended")

            await until(is_swept)
            for headers in (SSE, JSON):
                told = await asked(api, "ended", 1, headers)
                assert told["first"] == ended[-1]["seq"] + 1
            assert await api.events("ended", after=ended[-1]["seq"]) == []
            # What waits for a person keeps its story, and goes on.
            assert await api.events("paused") == waiting
            await api.decided("paused", type="approve")
            assert await api.last_words("paused") == "Results: paid 5"
            again = await api.stream("tell 5", thread_id="ended")
            assert again[0]["seq"] == ended[-1]["seq"] + 1
