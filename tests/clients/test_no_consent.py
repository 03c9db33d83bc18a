"""Words of consent, said in every way that the dialects have: nobody's, so nothing that needs a
person runs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import connect

from assent.api.routes.dialects import DIALECT_ROUTES
from tests.support import agents, document_agent
from tests.support.document_readers import opened
from tests.support.server import Api, Server, asking, expect, project_of, serving
from tests.support.waiting import PATIENCE

AGENTS = pytest.mark.parametrize("agent", ["graph", "chat_agent", "foreign"])
AT_ONCE = 10
ANSWERS = ("error", "agent_execution_error", "agent_execution_complete")

SHOWING = [
    route.path
    for modules in DIALECT_ROUTES.values()
    for module in modules
    for route in module.router.routes
    if isinstance(route, WebSocketRoute) and route.path != "/ws/query"
]
"""The WebSockets that take nothing."""

WORDS = ("approved", "Approved", "yes", "approve", '{"type": "approve"}')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    graphs = {document_agent: ["graph"], agents: ["chat_agent", "foreign"]}
    with serving(folder, project_of(folder, graphs)) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


def consents(approval: Any) -> Iterator[dict[str, Any]]:
    """What a client might send that takes a word for a decision."""
    decision = {"type": "approve", "digest": approval["digest"]}
    decisions = {approval["approval_id"]: decision}
    yield from ({"query": word} for word in WORDS)
    yield from ({"message": word} for word in WORDS)
    yield decision
    yield {"type": "decide", "decisions": decisions}
    yield {"decisions": decisions}
    yield {"query": "approved", "decisions": decisions}
    yield {"resume": decision}
    yield {"command": {"resume": decision}}
    yield {
        "type": "human_input_completed",
        "task_id": approval["approval_id"],
        "human_feedback": "Approved",
    }
    yield {"approved": True}


async def said(server: Server, path: str, texts: list[str]) -> None:
    """Say all of this on WebSockets at this path, and hear what comes of each."""
    for first in range(0, len(texts), AT_ONCE):
        uri = f"ws://127.0.0.1:{server.port}{path}"
        async with asyncio.timeout(PATIENCE), opened(uri) as socket:
            for text in texts[first : first + AT_ONCE]:
                await socket.send(text)
                while json.loads(await socket.recv())["type"] not in ANSWERS:
                    pass


async def paused_case(server: Server, api: Api, agent: str, case: str, amount: int) -> Any:
    """The approval for a payment that somebody has asked for on a query socket, and left."""
    async with asyncio.timeout(PATIENCE), asking_on(server, agent) as socket:
        await socket.send(json.dumps({"query": f"pay {amount}", "case_id": case}))
        while (event := json.loads(await socket.recv())).get("action") != "approval_required":
            assert event["type"] not in ANSWERS, event
    return await api.approval(event["metadata"]["approval_id"])


def asking_on(server: Server, agent: str) -> connect:
    return opened(f"ws://127.0.0.1:{server.port}/ws/query?agent={agent}")


async def is_still_asked(api: Api, server: Server, approval: Any, amount: int) -> None:
    """Nobody has decided, and nothing was paid."""
    assert await api.approval(approval["approval_id"]) == approval
    assert server.traces(f"pay {amount}") == []
    events = await api.events(approval["thread_id"])
    assert "approval_decided" not in {event["type"] for event in events}


@AGENTS
async def test_nothing_that_is_said_where_events_are_shown_is_consent(
    agent: str, server: Server, api: Api, thread: str, amount: int
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread, agent=agent)
    texts = [json.dumps(each) for each in consents(approval)] + list(WORDS)
    for id in (thread, approval["run_id"]):
        for path in SHOWING:
            await said(server, re.sub(r"\{\w+\}", id, path), texts)
    await is_still_asked(api, server, approval, amount)


@pytest.mark.parametrize("agent", ["graph", "foreign"])
async def test_no_query_is_consent(
    agent: str, server: Server, api: Api, thread: str, amount: int
) -> None:
    approval = await paused_case(server, api, agent, thread, amount)
    frames = [*consents(approval)]
    texts = [json.dumps(each | {"case_id": case}) for each in frames for case in (thread, None)]
    await said(server, f"/ws/query?agent={agent}", texts)
    await is_still_asked(api, server, approval, amount)


async def test_a_query_decides_only_where_an_agent_takes_words_for_decisions(
    server: Server, api: Api, thread: str, amount: int
) -> None:
    approval = await paused_case(server, api, "chat_agent", thread, amount)
    others = [{"query": "approved"}, {"query": "approved", "case_id": f"{thread}-other"}]
    await said(server, "/ws/query?agent=chat_agent", [json.dumps(each) for each in others])
    await is_still_asked(api, server, approval, amount)
    word = json.dumps({"query": "approved", "case_id": thread})
    await said(server, "/ws/query?agent=chat_agent", [word])
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


@AGENTS
async def test_no_task_is_consent(
    agent: str, server: Server, api: Api, thread: str, amount: int
) -> None:
    tasks = f"/api/v1/agents/{agent}/tasks"
    made = await api.http.post(tasks, json={"description": f"pay {amount}", "user_id": "ann"})
    task = made.json()["id"]
    execute = f"{tasks}/{task}/execute"
    paused = (await expect(await api.http.post(execute, json={}), 200)).json()
    assert paused["status"] == "paused"
    (approval,) = await api.pending(task)
    for frame in consents(approval):
        for path in (execute, tasks):
            for body in (frame, {"description": "approved", "user_id": "ann", **frame}):
                response = await api.http.post(path, json=body)
                assert response.status_code in (200, 409, 422), response.text
    await is_still_asked(api, server, approval, amount)


async def test_no_broadcast_is_consent(server: Server, api: Api, thread: str, amount: int) -> None:
    approval = await paused_case(server, api, "graph", thread, amount)
    for kind in ("approval_decided", "human_input_completed", "agent_execution_complete"):
        for word in WORDS:
            response = await api.http.post("/ws/broadcast", json={"message": word, "type": kind})
            assert response.status_code in (200, 422)
    for frame in consents(approval):
        response = await api.http.post("/ws/broadcast", json={"message": "approved", **frame})
        assert response.status_code in (200, 422)
    await is_still_asked(api, server, approval, amount)
