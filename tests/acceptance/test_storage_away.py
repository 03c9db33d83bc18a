"""While the storage is away, whatever was acknowledged waits for it: the file is locked by another
program, or the disk is full, in the midst of a run, a decision and a recovery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent.runs.follow import POLL_SECONDS, STALL_SECONDS
from assent.storage.sqlite.database import BUSY_SECONDS
from tests.support.disk import files_at_most, locked
from tests.support.server import Api, Json, Server, problem, scripted_agents, serving
from tests.support.waiting import PATIENCE, until

ROOM = 32_768
"""Less than the database, and more than the log and the traces."""

DRAIN_SECONDS = 1
SLACK = 15
"""Seconds that a busy machine may take to end a process."""

Trouble = Callable[[Server], AbstractContextManager[None]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    environment = {"ASSENT_LOG_FORMAT": "json", "ASSENT_DRAIN_SECONDS": str(DRAIN_SECONDS)}
    with serving(tmp_path, scripted_agents(tmp_path, "agent", "waiting"), **environment) as server:
        yield server


def lock(server: Server) -> AbstractContextManager[None]:
    """Another program holds the file."""
    return locked(server.folder / "assent.db")


def full(server: Server) -> AbstractContextManager[None]:
    """The disk is full."""
    return files_at_most(ROOM, server.pid)


async def until_away(api: Api) -> None:
    """Wait until the server knows that it cannot store anything. A disk that has just become full
    may have some last room."""

    async def is_away() -> bool:
        await api.http.post("/threads", json={})
        return (await api.http.get("/health/ready")).status_code == 503

    await until(is_away)


async def until_ready(api: Api) -> None:
    """Wait until the server takes changes."""

    async def is_ready() -> bool:
        return (await api.http.get("/health/ready")).status_code == 200

    await until(is_ready, every=0.05)


async def a_run_that_waits(server: Server, api: Api, thread_id: str) -> str:
    """A decision was committed, and its run has begun and not acted yet; the run's id."""
    await api.paused("Go.", thread_id=thread_id, agent="waiting")
    answered = await api.decided(thread_id, type="respond", message="yes")
    await server.until_traced("waits")
    return str(answered["run_id"])


async def refused_at_once(request: Awaitable[httpx.Response]) -> Json:
    """The problem document of a request that is refused sooner than the file is waited for."""
    begun = time.monotonic()
    response = await request
    assert time.monotonic() - begun < BUSY_SECONDS
    assert int(response.headers["retry-after"]) > 0
    return await problem(response, 503)


async def nothing_changes(api: Api, thread_id: str) -> None:
    """What is asked of a server while its storage is away, and what it answers. The thread waits
    for an answer."""
    for path in ("/agent/invoke", "/agent/stream", "/agent/runs", "/threads"):
        body = {} if path == "/threads" else {"message": "look 1"}
        refusal = await refused_at_once(api.http.post(path, json=body))
        assert "assent.db cannot serve" in refusal["detail"]
    await refused_at_once(api.resume(thread_id, type="respond", message="no"))
    assert (await api.get(f"/threads/{thread_id}"))["status"] == "interrupted"
    assert (await api.get("/health"))["status"] == "healthy"


def logged(server: Server, what: str) -> int:
    return sum(f'"event": "{what}"' in line for line in server.output.splitlines())


@pytest.mark.parametrize("trouble", [lock, full])
async def test_a_decision_that_was_acknowledged_happens_when_the_storage_is_back(
    server: Server, api: Api, trouble: Trouble
) -> None:
    await api.paused("Go.", thread_id="u", agent="waiting")
    decided = await a_run_that_waits(server, api, "t")
    held = await api.run("v", "hold 7", agent="agent")
    await server.until_traced("hold 7")
    with trouble(server):
        await until_away(api)
        server.let_go(1, 7)
        await server.until_traced("held 7")
        await nothing_changes(api, "u")
        assert server.traces("acts") == []
        await until(lambda: logged(server, "storage away"))
    await until_ready(api)
    for run_id in (decided, held["run_id"]):
        ended = await api.ended(run_id)
        # They have waited, and were not begun again.
        assert (ended["status"], ended["attempt"]) == ("success", 1)
    assert server.traces() == ["waits", "hold 7", "held 7", "acts"]
    assert "held 7" in await api.last_words("v")
    await api.decided("u", type="respond", message="yes")
    await server.until_traced("acts", times=2)
    await until(lambda: logged(server, "storage back"))
    assert logged(server, "storage away") == 1
    assert "Traceback" not in server.output


async def test_whoever_waits_for_a_run_is_told_that_the_storage_is_away(
    server: Server, api: Api
) -> None:
    body = {"message": "hold 7", "thread_id": "t", "agent": "agent"}
    invoked = asyncio.create_task(api.http.post("/agent/invoke", json=body))
    await server.until_traced("hold 7")
    with full(server):
        await until_away(api)
        server.let_go(7)
        async with asyncio.timeout(STALL_SECONDS + POLL_SECONDS + PATIENCE):
            response = await invoked
        told = await problem(response, 503)
        # It was taken, so it must not be sent again.
        assert "retry-after" not in response.headers
        assert "The run is kept" in told["detail"]
    await until_ready(api)
    assert (await api.ended(told["run_id"]))["status"] == "success"
    assert server.traces() == ["hold 7", "held 7"]


@pytest.mark.parametrize("end", [Server.kill, Server.terminate])
async def test_a_server_that_ends_while_its_storage_is_away_leaves_its_runs_to_the_next(
    server: Server, api: Api, end: Callable[[Server], Any]
) -> None:
    decided = await a_run_that_waits(server, api, "t")
    with full(server):
        await until_away(api)
        server.let_go(1)
        begun = time.monotonic()
        end(server)
        assert time.monotonic() - begun < DRAIN_SECONDS + SLACK
    server.start()
    assert (await api.ended(decided))["status"] == "success"
    assert server.traces("acts") == ["acts"]
    assert "Traceback" not in server.output


async def test_a_request_that_still_waits_when_the_server_ends_is_told_so(
    server: Server, api: Api
) -> None:
    with lock(server):
        asked = asyncio.create_task(api.http.post("/threads", json={}))
        # Whatever was sent before is read before.
        await api.http.get("/health")
        await asyncio.to_thread(server.terminate)
        response = await asked
    told = await problem(response, 503)
    assert "stops before it could answer" in told["detail"]
    # It may have been done, so nobody should repeat it blindly.
    assert "retry-after" not in response.headers
    assert "Traceback" not in server.output
