"""Pages of other origins: which of them a browser lets use the server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent import Assent, build_hitl_agent
from tests.support.models import ScriptedModel, say
from tests.support.server import problem

LISTED = "https://app.example"
EVIL = "https://evil.example"
NEIGHBOUR = "http://localhost:5173"

KEYS = {"api_keys": "ann:secret-of-ann"}
LIST = {"cors_origins": LISTED}


def agent() -> Any:
    return build_hitl_agent(ScriptedModel(script=[say("Hello.")]), [], approve=[])


@asynccontextmanager
async def serving(
    tmp_path: Path, settings: Mapping[str, Any], agents: Any = None
) -> AsyncIterator[httpx.AsyncClient]:
    database = str(tmp_path / "a.db")
    async with Assent(agents or agent(), database=database, settings=settings) as assent:
        transport = httpx.ASGITransport(assent.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
            yield http


async def preflight(http: httpx.AsyncClient, origin: str, method: str = "POST") -> httpx.Response:
    asked = {"access-control-request-method": method, "origin": origin}
    headers = {**asked, "access-control-request-headers": "authorization, content-type"}
    return await http.options("/agent/stream", headers=headers)


def allowed(response: httpx.Response) -> str | None:
    return response.headers.get("access-control-allow-origin")


@pytest.mark.parametrize(
    ("settings", "pages"),
    [
        ({}, [NEIGHBOUR, "http://127.0.0.1", "https://[::1]:9"]),
        (KEYS, []),
        (LIST, [NEIGHBOUR, LISTED]),
        ({**KEYS, **LIST}, [LISTED]),
    ],
    ids=["nothing", "keys", "list", "keys and list"],
)
async def test_which_pages_may(tmp_path: Path, settings: dict[str, Any], pages: list[str]) -> None:
    others = {
        *(NEIGHBOUR, LISTED, EVIL, "null", "http://localhost.evil.example"),
        *(f"{LISTED}:444", "http://app.example", f"{LISTED}.evil.example", "https://xapp.example"),
    }
    async with serving(tmp_path, settings) as http:
        for page in {*pages, *others}:
            asked = await preflight(http, page)
            got = await http.get("/threads", headers={"origin": page})
            expected = page if page in pages else None
            assert (allowed(asked), allowed(got)) == (expected, expected), page
            assert asked.is_success is (page in pages)
            assert "cookie" not in str(asked.headers).lower()
            assert "access-control-allow-credentials" not in asked.headers


async def test_a_preflight_needs_no_key_and_says_what_a_page_may_send(tmp_path: Path) -> None:
    async with serving(tmp_path, {**KEYS, **LIST}) as http:
        asked = await preflight(http, LISTED, "PATCH")
        assert asked.status_code == 200
        assert asked.headers["access-control-max-age"] == "600"
        sent = asked.headers["access-control-allow-headers"].lower()
        for name in ("authorization", "idempotency-key", "last-event-id", "x-api-key"):
            assert name in sent
        assert not (await preflight(http, LISTED, "TRACE")).is_success


async def test_errors_are_read_by_pages_too(tmp_path: Path) -> None:
    async with serving(tmp_path, {**KEYS, **LIST}) as http:
        http.headers["origin"] = LISTED
        key = {"authorization": "Bearer secret-of-ann"}
        for refused in (
            await http.get("/threads"),
            await http.get("/threads/nobody", headers=key),
            await http.get("/nowhere", headers=key),
            await http.post("/agent/invoke", headers=key, json={"massage": ""}),
        ):
            assert not refused.is_success
            assert allowed(refused) == LISTED
            assert "origin" in refused.headers["vary"].lower()


async def test_a_page_reads_the_headers_that_say_where_to_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path, LIST) as http:
        body = {"message": "Hi.", "thread_id": "t"}
        answer = await http.post("/agent/invoke", json=body, headers={"origin": LISTED})
        assert answer.is_success
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"X-Run-Id", "X-Thread-Id", "Location", "Retry-After", "X-Heartbeat", "Date"} <= {
            *exposed
        }
        assert answer.headers["x-thread-id"] == "t"


@pytest.mark.parametrize("settings", [{}, LIST])
async def test_without_keys_no_other_page_changes_anything(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with serving(tmp_path, settings) as http:
        await problem(await http.post("/threads", headers={"origin": EVIL}), 403)
        for broken in ("http://[", "://", "http://localhost:x@evil.example"):
            await problem(await http.post("/threads", headers={"origin": broken}), 403)
        rebound = {"host": "app.example", "origin": LISTED}
        await problem(await http.post("/threads", headers=rebound), 421)
        assert (await http.get("/threads")).json()["threads"] == []
        # One that sends no origin is no page.
        assert (await http.post("/threads")).is_success


def a_project(folder: Path, **cors: Any) -> str:
    (folder / "hello.py").write_text(
        "from langgraph.graph import START, MessagesState, StateGraph\n"
        "graph = StateGraph(MessagesState).add_node('hello', lambda state: {})\n"
        "graph.add_edge(START, 'hello')\n"
    )
    file = folder / "langgraph.json"
    file.write_text(json.dumps({"graphs": {"hello": "./hello.py:graph"}, "http": {"cors": cors}}))
    return str(file)


async def test_a_project_names_its_pages(tmp_path: Path) -> None:
    pattern = r"https://.*\.example"
    agents = a_project(tmp_path, allow_origins=["https://one.test"], allow_origin_regex=pattern)
    async with serving(tmp_path, KEYS, agents) as http:
        for page in ("https://one.test", LISTED):
            assert allowed(await preflight(http, page)) == page
        # The whole origin must match.
        for page in (f"{LISTED}.evil.test", f"http://x?{LISTED}", "https://two.test"):
            assert allowed(await preflight(http, page)) is None


async def test_the_setting_goes_before_the_project(tmp_path: Path) -> None:
    agents = a_project(tmp_path, allow_origins=["https://one.test"], allow_origin_regex=".*")
    async with serving(tmp_path, {**KEYS, **LIST}, agents) as http:
        assert allowed(await preflight(http, LISTED)) == LISTED
        for page in ("https://one.test", EVIL):
            assert allowed(await preflight(http, page)) is None
