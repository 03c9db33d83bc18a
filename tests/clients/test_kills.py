"""The clients of documents, whose connections break and whose server is killed: each hears all of it
once and in order, as it counts.

make crash CLIENT_KILLS=20 CLIENT_SEED=7
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent.storage.sqlite.checkup import Level, check_up
from tests.support import document_agent
from tests.support.cutting_proxy import CuttingProxy, cuts_at_random, cutting
from tests.support.document_readers import (
    Follower,
    human_input_poll,
    human_input_socket,
    human_input_sse,
    progress_socket,
    progress_sse,
    query_socket,
    task_sse,
    undisturbed,
)
from tests.support.server import Api, Server, asking, project_of, serving
from tests.support.waiting import until

KILLS = int(os.environ.get("CLIENT_KILLS", "2"))
SEED = int(os.environ.get("CLIENT_SEED", random.randrange(1_000_000)))

KILLS_A_ROUND = 2
"""A run that is killed thrice at one step is given up."""

AGENT = "slow_graph"
STORY = (
    "search courts then ask Which year? then pay 5 then ask Whose? then cite courts then tell 30"
)

HEARD = 150
"""So many things at least all clients together hear of a round."""

BETWEEN_LOOKS = 0.05

FEWEST, MOST = 200, 200_000
"""Bytes of an answer after which a connection is cut. Some clients begin anew on each, so that some
have to last."""


@pytest.mark.timeout(240 + 60 * KILLS)
async def test_every_client_hears_all_of_it_once_whatever_breaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(SEED)
    agents = project_of(tmp_path, {document_agent: [AGENT]})
    with serving(tmp_path, agents, ASSENT_HEARTBEAT="1s") as server:
        async with asking(server) as api:
            cuts = cuts_at_random(draw, FEWEST, MOST)
            async with cutting(server.port, cuts, holds=True) as proxy:
                for number in range(-(-KILLS // KILLS_A_ROUND)):
                    kills = min(KILLS_A_ROUND, KILLS - number * KILLS_A_ROUND)
                    heard = await one_round(server, api, proxy, draw, number, kills)
    with capfd.disabled():
        print(  # noqa: T201  (what `make crash` is run for)
            f"\nseed {SEED}: {heard} heard over {proxy.connections:,} connections; {KILLS} kills"
        )
    assert proxy.connections > 2 * len(heard), "Nothing was cut."
    found = check_up(tmp_path / "assent.db")
    assert [each for each in found if each.level is Level.WRONG] == []


async def one_round(
    server: Server, api: Api, proxy: CuttingProxy, draw: random.Random, number: int, kills: int
) -> dict[str, int]:
    """Have a run, a task and a query that ask people things, which all clients hear amid kills.
    Returns the number of things that each has heard."""
    over = asyncio.Event()
    id = (await api.run(f"thread-{number}", STORY, agent=AGENT))["run_id"]
    tasks = f"/api/v1/agents/{AGENT}/tasks"
    task = (await asked(api, tasks, {"description": STORY, "user_id": "ann"}))["id"]
    await asked(api, f"{tasks}/{task}/execute", {"enable_streaming": True})
    query = {"query": STORY, "case_id": number, "query_id": f"query-{number}"}
    clients = {
        "000 over SSE": Follower(human_input_sse(id)),
        "000 over a WebSocket": Follower(human_input_socket(id)),
        "000 by polling": Follower(human_input_poll(id, over)),
        "001 over SSE": Follower(progress_sse(id)),
        "001 over a WebSocket": Follower(progress_socket(id), begins_anew=True),
        "003": Follower(task_sse(AGENT, task)),
        "004": Follower(query_socket(AGENT, **query), begins_anew=True),
    }
    async with people(api), asyncio.TaskGroup() as group:
        following = {
            name: group.create_task(client.follow(proxy.port)) for name, client in clients.items()
        }
        await killing(server, clients, draw, kills)
        polling = following.pop("000 by polling")
        await asyncio.gather(*following.values())
        over.set()
        await polling
    for name, client in clients.items():
        assert client.told == await undisturbed(client.hear, server.port), name
    return {name: len(client.told) for name, client in clients.items()}


async def killing(
    server: Server, clients: dict[str, Follower], draw: random.Random, kills: int
) -> None:
    """Kill the server at random points of what the clients hear."""
    for at in sorted(draw.randrange(HEARD) for _ in range(kills)):
        await until(lambda at=at: sum(len(each.told) for each in clients.values()) >= at)
        await asyncio.to_thread(server.restart)


@asynccontextmanager
async def people(api: Api) -> AsyncIterator[None]:
    """People who decide whatever is asked."""

    async def decide() -> None:
        while True:
            # What was decided by an answer that was lost, is refused.
            with suppress(httpx.TransportError):
                listed = await api.http.get("/approvals", params={"status": "pending"})
                for approval in listed.json()["approvals"]:
                    decided = {"decisions": {approval["approval_id"]: decision_on(approval)}}
                    await api.resume(approval["thread_id"], **decided)
            await asyncio.sleep(BETWEEN_LOOKS)

    task = asyncio.create_task(decide())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert task.cancelled(), task.exception()


def decision_on(approval: Any) -> Any:
    """What they say to it."""
    if "approve" in approval["allowed"]:
        return {"type": "approve"}
    return {"type": "respond", "message": "1986"}


async def asked(api: Api, path: str, body: Any) -> Any:
    """What the server answers to this body."""
    response = await api.http.post(path, json=body)
    assert response.is_success, response.text
    return response.json()
