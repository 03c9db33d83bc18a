"""The server dies as it stores a query: just before the commit, or after it and before anything is
told of it. The client, which cannot know, asks again, and one run answers it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from assent.storage.sqlite.checkup import Level, check_up
from tests.support import document_agent
from tests.support.document_readers import opened
from tests.support.server import Api, Server, asking, project_of, serving
from tests.support.waiting import PATIENCE

AGENT = "graph"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(
        folder,
        project_of(folder, {document_agent: [AGENT]}),
        BEFORE_SERVING="tests.support.dying:install",
        DIES=str(folder / "dies"),
    ) as server:
        yield server
        server.kill()
        found = check_up(folder / "assent.db")
        assert [each for each in found if each.level is Level.WRONG] == []


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


def dies(server: Server, moment: str) -> None:
    """Let it die of the next run that is begun."""
    Path(server.environment["DIES"]).write_text(f"{moment} RunStart")


async def revived(server: Server) -> None:
    """Wait until it has died, and start it again."""
    await asyncio.to_thread(server.wait_for_death)
    await asyncio.to_thread(server.restart)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("has_id", [False, True])
async def test_a_query_is_answered_once_whenever_the_server_dies(
    server: Server, api: Api, thread: str, amount: int, moment: str, has_id: bool
) -> None:
    query = {"query": f"fail {amount} then ask Which year?", "case_id": thread}
    if has_id:
        query["query_id"] = thread
    dies(server, moment)
    with suppress(ConnectionClosed):
        await asked(server, query)
    await revived(server)
    # It waits for a person, so whoever asks again joins it.
    first, second = [await asked(server, query) for _ in range(2)]
    assert first == second
    (run,) = await api.runs(first[0]["metadata"]["thread_id"])
    assert run["status"] == "interrupted"
    assert server.traces(f"fail {amount}") == [f"fail {amount}"]


async def asked(server: Server, query: dict[str, Any]) -> list[Any]:
    """What is told of the query's execution up to where it asks a person."""
    told = []
    async with (
        asyncio.timeout(PATIENCE),
        opened(f"ws://127.0.0.1:{server.port}/ws/query") as socket,
    ):
        await socket.send(json.dumps(query))
        while True:
            event = json.loads(await socket.recv())
            assert event["type"] != "agent_execution_error", event
            if "event_id" in event.get("metadata", {}):
                event.pop("session_id")
                told.append(event)
            if event.get("action") == "approval_required":
                return told
