"""A client that read up to event n and comes back gets n+1 onwards, once each: at once, while more
come, and after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import (
    Api,
    Event,
    Server,
    asking,
    events_of,
    only,
    scripted_agents,
    serving,
    types_of,
)
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, scripted_agents(tmp_path, "agent", "slow_agent")) as server:
        yield server


async def test_the_rest_of_a_log_comes_once_from_any_event_on(server: Server) -> None:
    async with asking(server) as api:
        await api.paused("look 1; pay 2", thread_id="t")
        whole = await api.events("t")
        for _ in range(2):
            for last in (0, 1, len(whole) // 2, len(whole) - 1):
                assert await _read(api, "t", last, len(whole) - last) == whole[last:]
            server.restart()
        # What comes next follows on the last number, for readers that wait for it too.
        async with api.following("t", len(whole)) as events:
            await api.decided("t", type="approve")
            async with asyncio.timeout(PATIENCE):
                first = await anext(events)
        assert (first["type"], first["seq"]) == ("approval_decided", len(whole) + 1)


async def test_readers_that_come_back_while_events_are_made_miss_none_and_get_none_twice(
    server: Server,
) -> None:
    async with asking(server) as api:
        running = asyncio.create_task(api.stream("tell 80", agent="slow_agent", thread_id="t"))
        await api.until_there("t")
        # The first hangs up after each event, the second after every seventh.
        by_ones, by_sevens = await asyncio.gather(_in_pieces(api, "t", 1), _in_pieces(api, "t", 7))
        sent = await running
        assert by_ones == by_sevens == sent == await api.events("t")


async def test_a_reader_that_reconnects_across_restarts_sees_one_log(server: Server) -> None:
    async with asking(server) as api:
        seen: list[Event] = []
        reader = asyncio.create_task(_across_restarts(api, "t", seen))
        talking = asyncio.create_task(_ignoring_the_end(api, "tell 50; pay 3"))
        for _ in range(2):
            # Amid the model's words.
            enough = len(seen) + 5
            await until(lambda enough=enough: len(seen) >= enough)
            await asyncio.to_thread(server.restart)
        await talking
        await api.until("t", "run_paused")
        await asyncio.to_thread(server.restart)
        await api.decided("t", type="approve")
        await reader
        assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
        assert seen == await api.events("t")
        assert types_of(seen).count("run_recovered") >= 1
        assert only(seen, "done")["seq"] == len(seen)


async def test_a_client_that_goes_away_does_not_stop_the_run(server: Server) -> None:
    async with asking(server) as api:
        async with api.http.stream(
            "POST",
            "/agent/stream",
            json={"message": "tell 30", "agent": "slow_agent", "thread_id": "t"},
        ) as response:
            async for _ in response.aiter_raw():
                break
        assert (await api.get("/threads/t"))["status"] == "busy"
        events = await api.until("t", "done", "error", "run_cancelled")
        assert events[-1]["type"] == "done"
        assert len([event for event in events if event["type"] == "token"]) == 30


# ── readers ───────────────────────────────────────────────────────────────────────────────────────


async def _read(api: Api, thread: str, last: int, count: int) -> list[Event]:
    """So many events after the one numbered `last`."""
    seen = []
    async with asyncio.timeout(PATIENCE), api.following(thread, last) as events:
        async for event in events:
            seen.append(event)
            if len(seen) == count:
                break
    return seen


async def _in_pieces(api: Api, thread: str, size: int) -> list[Event]:
    """The thread's events up to its end, with a new connection for every `size` of them."""
    seen: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        while not seen or seen[-1]["type"] != "done":
            async with api.following(thread, seen[-1]["seq"] if seen else 0) as events:
                for _ in range(size):
                    seen.append(await anext(events))
                    if seen[-1]["type"] == "done":
                        break
    return seen


async def _across_restarts(api: Api, thread: str, seen: list[Event]) -> None:
    """Put the thread's events up to its end into `seen`, by a client that connects again whenever
    it is cut off, as an EventSource does."""
    async with asyncio.timeout(2 * PATIENCE):
        while not seen or seen[-1]["type"] != "done":
            try:
                async with api.http.stream(
                    "GET", f"/threads/{thread}/events", headers={"Last-Event-ID": str(len(seen))}
                ) as response:
                    if response.status_code == 200:
                        await _collect(response, seen)
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def _collect(response: httpx.Response, seen: list[Event]) -> None:
    async for event in events_of(response):
        seen.append(event)
        if event["type"] == "done":
            return


async def _ignoring_the_end(api: Api, message: str) -> None:
    """Say something to the slow agent; the connection may be cut."""
    try:
        await api.stream(message, agent="slow_agent", thread_id="t")
    except (httpx.TransportError, AssertionError):
        return
