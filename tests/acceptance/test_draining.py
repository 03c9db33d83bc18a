"""SIGTERM: the step that a run is at comes to its end, or is cut off in time, and the next process
goes on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_client

from tests.support.server import Api, Json, Server, asking, scripted_agents, serving, types_of
from tests.support.waiting import until

DRAIN_SECONDS = 3
SLACK = 15
"""Seconds that a busy machine may take to end a process. A tool that is not cut off goes on for
ever."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(
        tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_DRAIN_SECONDS=str(DRAIN_SECONDS)
    ) as server:
        yield server


async def approved(api: Api, message: str) -> Json:
    """A run whose gated call has begun."""
    await api.paused(message, thread_id="t")
    decided = await api.decided("t", type="approve")
    await api.until("t", "tool_start", after=int(decided["events"].rpartition("=")[2]))
    return decided


async def test_the_step_comes_to_its_end_and_the_next_process_goes_on_from_there(
    server: Server,
) -> None:
    async with asking(server) as api:
        decided = await approved(api, "slow 5 then look 3 then tell 2")
        told: list[Json] = []

        async def follow() -> None:
            async with api.following("t") as events:
                told.extend([event async for event in events])

        following = asyncio.create_task(follow())
        await api.until_streams(1)
        stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
        await until(lambda: not server.is_listening())
        assert not stopping.done()
        server.let_go(5)
        assert await stopping in (0, -signal.SIGTERM)
        # The stream was ended in order, behind what the step had to tell.
        await following
        assert "node_end" in types_of(told)[-2:]
        server.start()
        assert (await api.ended(decided["run_id"]))["status"] == "success"
        assert await api.last_words("t") == "word0 word1"
        events = [event for event in await api.events("t") if event["run_id"] == decided["run_id"]]
        (recovered,) = (event for event in events if event["type"] == "run_recovered")
        assert (recovered["attempt"], recovered.get("message_ids", [])) == (2, [])
    assert server.traces() == ["slow 5", "look 3"]


async def test_what_does_not_come_to_its_end_is_cut_off_in_time(server: Server) -> None:
    async with asking(server) as api:
        await approved(api, "slow 5")
        began = time.monotonic()
        await asyncio.to_thread(server.terminate)
        assert time.monotonic() - began < DRAIN_SECONDS + SLACK
        server.start()
        await api.at_rest("t")
        (approval,) = await api.pending("t")
        assert (approval["kind"], approval["tool"]) == ("unknown_outcome", "slow")
    assert server.traces() == ["slow 5"]


async def test_a_tool_that_cannot_be_cut_off_keeps_no_process_alive(server: Server) -> None:
    async with asking(server) as api:
        await api.run("t", "hold 5")
        await server.until_traced("hold 5")
        began = time.monotonic()
        await asyncio.to_thread(server.terminate)
        assert time.monotonic() - began < DRAIN_SECONDS + SLACK
        server.let_go(5)
        server.start()
        await api.at_rest("t")
        (approval,) = await api.pending("t")
        assert (approval["kind"], approval["tool"]) == ("unknown_outcome", "hold")


async def test_what_waits_its_turn_waits_for_the_next_process(server: Server) -> None:
    async with asking(server) as api:
        await approved(api, "slow 5")
        queued = await api.run("t", "look 3", on_busy="enqueue")
        stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
        await until(lambda: not server.is_listening())
        server.let_go(5)
        await stopping
        assert server.traces() == ["slow 5"]
        server.start()
        assert (await api.ended(queued["run_id"]))["status"] == "success"
    assert server.traces() == ["slow 5", "look 3"]


async def test_who_waits_for_a_run_can_tell_the_servers_end_from_the_runs(server: Server) -> None:
    """An answer of LangGraph's that takes long has sent its status by then."""
    command: Any = {"resume": {"decisions": [{"type": "approve"}]}}
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(asking(server))
        sdk = await stack.enter_async_context(get_client(url=server.url))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url))
        await api.paused("slow 5 then tell 2", thread_id="t")
        with pytest.warns(UserWarning, match="attempting reconnect to Location"):
            waiting = asyncio.create_task(sdk.runs.wait("t", "agent", command=command))
            await server.until_traced("slow 5")
            path = f"/threads/t/runs/{(await api.runs('t'))[0]['run_id']}/join"
            joining = await stack.enter_async_context(http.stream("GET", path))
            stopping = asyncio.create_task(asyncio.to_thread(server.terminate))
            await until(lambda: not server.is_listening())
            server.let_go(5)
            await stopping
            with pytest.raises(httpx.RemoteProtocolError):
                await joining.aread()
            assert (joining.status_code, joining.headers["location"]) == (200, path)
            server.start()
            values: Any = await waiting
        assert values["messages"][-1]["content"] == "word0 word1"
        assert await api.get(path) == values
    assert server.traces() == ["slow 5"]
