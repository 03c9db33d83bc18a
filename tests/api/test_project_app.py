"""The app that a langgraph.json names stands behind the server's routes, and lives as long."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from assent import Assent
from assent.core.errors import AgentLoadError, ConfigurationError
from tests.support.server import expect, problem

SHOP = """
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from langgraph.graph import START, MessagesState, StateGraph

graph = StateGraph(MessagesState).add_node("hello", lambda state: {})
graph.add_edge(START, "hello")

@asynccontextmanager
async def lifespan(app):
    app.state.stock = ["tea"]
    yield
    Path(__file__).with_name("closed").touch()

app = FastAPI(lifespan=lifespan)

@app.get("/stock")
async def stock(request: Request):
    return request.app.state.stock

@app.websocket("/news/threads/t/ws")
async def news(socket: WebSocket):
    await socket.accept()
    await socket.send_text("fresh tea")

@app.get("/threads")
async def never():
    return "The server's own route goes before this one."
"""

KEYS = {"api_keys": "ann:secret-of-ann"}
KEY = {"authorization": "Bearer secret-of-ann"}


@asynccontextmanager
async def serving(
    folder: Path, settings: dict[str, Any], **http: Any
) -> AsyncIterator[httpx.AsyncClient]:
    (folder / "shop.py").write_text(SHOP)
    file = folder / "langgraph.json"
    project = {"graphs": {"hello": "./shop.py:graph"}, "http": {"app": "./shop.py:app", **http}}
    file.write_text(json.dumps(project))
    assent = Assent(str(file), database=str(folder / "a.db"), settings=settings)
    async with assent:
        transport = httpx.ASGITransport(assent.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


async def test_its_routes_are_behind_ours_and_its_lifespan_is_entered(tmp_path: Path) -> None:
    async with serving(tmp_path, KEYS) as client:
        assert (await client.get("/stock")).json() == ["tea"]
        await problem(await client.get("/threads"), 401)
        assert (await client.get("/threads", headers=KEY)).json()["threads"] == []
        assert (await client.get("/nowhere")).status_code == 404
        assert not (tmp_path / "closed").exists()
    assert (tmp_path / "closed").exists()


async def test_without_keys_it_too_answers_only_this_machine(tmp_path: Path) -> None:
    async with serving(tmp_path, {}) as client:
        await expect(await client.get("/stock"), 200)
        await problem(await client.get("/stock", headers={"host": "shop.example"}), 421)
        await problem(await client.get("/stock", headers={"origin": "https://evil.example"}), 403)


async def test_its_routes_take_a_key_if_they_should(tmp_path: Path) -> None:
    async with serving(tmp_path, KEYS, enable_custom_route_auth=True) as client:
        await problem(await client.get("/stock"), 401)
        assert (await client.get("/stock", headers=KEY)).json() == ["tea"]


async def test_everything_is_under_the_project_s_prefix_too(tmp_path: Path) -> None:
    async with serving(tmp_path, {}, mount_prefix="/team/api") as client:
        await expect(await client.get("/health"), 200)
        assert (await client.get("/team/api/stock")).json() == ["tea"]
        started = await client.post("/team/api/agent/runs", json={"message": "Hi."})
        assert started.headers["location"].startswith("/team/api/runs/")
        await client.get(f"{started.headers['location']}/wait")


async def test_what_is_no_app_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(AgentLoadError, match="and not an app of FastAPI or Starlette"):
        async with serving(tmp_path, {}, app="./shop.py:stock"):
            pass


async def test_an_app_s_own_auth_does_not_hold_for_its_routes(tmp_path: Path) -> None:
    async with serving(tmp_path, {}, enable_custom_route_auth=True):
        pass
    file = str(tmp_path / "langgraph.json")
    assent = Assent(file, database=str(tmp_path / "b.db"), auth=lambda: "ann")
    with pytest.raises(ConfigurationError, match="protect those routes in their own app"):
        async with assent:
            pass


def test_its_own_websockets_are_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    file = tmp_path / "langgraph.json"
    http = {"app": "./shop.py:app", "mount_prefix": "/shop"}
    file.write_text(json.dumps({"graphs": {"hello": "./shop.py:graph"}, "http": http}))
    assent = Assent(str(file), database=str(tmp_path / "a.db"))
    with TestClient(assent.app, base_url="http://localhost") as client:
        client.post("/shop/threads", json={"thread_id": "t"})
        for prefix in ("", "/shop"):
            url = f"ws://localhost{prefix}"
            with client.websocket_connect(f"{url}/news/threads/t/ws") as socket:
                assert socket.receive_text() == "fresh tea"
            with client.websocket_connect(f"{url}/threads/t/ws") as socket:
                assert json.loads(socket.receive_text())["type"] == "ready"
