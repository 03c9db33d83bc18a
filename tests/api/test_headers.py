"""The headers of every response, by which a browser makes nothing of it that it is not; and the
pages, which have all that they need from this server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI

from assent import Assent, build_hitl_agent
from tests.support.models import ScriptedModel
from tests.support.server import Api, expect, problem

ORIGIN = "http://localhost:5173"


def check(headers: Mapping[str, str]) -> None:
    """Hold the headers of a response to what each has."""
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] in ("no-referrer", "same-origin")
    assert headers["cross-origin-opener-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'unsafe" not in policy


async def test_every_kind_of_response_has_them(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    upload = await expect(await api.http.post("/files", content=b"<html>"), 201)
    asked: list[tuple[str, str, dict[str, Any], int]] = [
        ("GET", "/threads", {}, 200),
        ("GET", "/health", {}, 200),
        ("HEAD", "/threads", {}, 200),
        ("GET", "/docs", {}, 200),
        ("GET", "/openapi.json", {}, 200),
        ("GET", f"/files/{upload.json()['file_id']}/content", {}, 200),
        ("GET", "/links/page.css", {}, 200),
        ("GET", "/links/none", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("GET", "/threads/nobody", {}, 404),
        ("PUT", "/threads", {}, 405),
        ("POST", "/agent/invoke", {"content": b"{"}, 415),
        ("POST", "/agent/invoke", {"json": {}}, 422),
        ("GET", "/threads", {"headers": {"host": "evil.example"}}, 421),
        ("GET", "/threads", {"headers": {"host": "a/?"}}, 400),
        ("OPTIONS", "/threads", {"headers": preflight()}, 200),
    ]
    for method, path, given, status in asked:
        response = await expect(await api.http.request(method, path, **given), status)
        check(response.headers)
        # Nothing is said of TLS where there is none.
        assert "strict-transport-security" not in response.headers
    async with api.http.stream("GET", f"/threads/{thread}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        check(stream.headers)


def preflight() -> dict[str, str]:
    return {"origin": ORIGIN, "access-control-request-method": "GET"}


async def test_a_file_of_somebody_is_no_page_either(api: Api) -> None:
    upload = await expect(await api.http.post("/files", content=b"<script>1</script>"), 201)
    response = await api.http.get(f"/files/{upload.json()['file_id']}/content")
    assert response.headers["content-security-policy"].endswith("; sandbox")
    assert response.headers["content-disposition"].startswith("attachment")


# ── pages ──


@pytest.mark.parametrize("path", ["/docs", "/links/none"])
async def test_a_page_has_all_that_it_needs_from_here(api: Api, path: str) -> None:
    response = await api.http.get(path)
    await follow(api.http, path, response.text)


async def follow(http: httpx.AsyncClient, path: str, html: str) -> None:
    """Hold the page to have nothing inline, and get all that it names."""
    assert "<style" not in html and " style=" not in html
    assert not re.search(r"<script(?! src=\"[^\"]+\"></script>)", html)
    assert not re.search(r"\son\w+=|javascript:|https?:|//", html)
    named = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert named
    for each in named:
        got = await expect(await http.get(urljoin(path, each)), 200)
        assert got.content
        kinds = {"js": "text/javascript", "css": "text/css", "png": "image/png"}
        assert got.headers["content-type"].startswith(kinds[each.rpartition(".")[2]])


async def test_the_page_of_all_routes_asks_nobody_else(api: Api) -> None:
    script = (await api.http.get("/docs/docs.js")).text
    assert 'url: "openapi.json"' in script
    assert "validatorUrl: null" in script
    policy = (await api.http.get("/docs")).headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "connect-src 'self';" in policy
    for path in (
        "/docs/redoc.standalone.js",
        "/docs/..%2fcore.py",
        "/redoc",
        "/docs/oauth2-redirect",
    ):
        await problem(await api.http.get(path), 404)


# ── in an app ──


@asynccontextmanager
async def in_process(
    folder: Path, *, base: str = "http://127.0.0.1", prefix: str = "", **settings: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Assent]]:
    """A client of a server in this process, mounted under the prefix."""
    agent = build_hitl_agent(ScriptedModel(script=[]), [], approve=[])
    assent = Assent(agent, database=str(folder / "a.db"), settings=settings)
    app: Any = assent.app
    if prefix:
        app = FastAPI()
        app.mount(prefix, assent.app)
    async with assent:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url=base) as http:
            yield http, assent


async def test_behind_tls_a_browser_comes_by_tls_for_a_year(tmp_path: Path) -> None:
    async with in_process(tmp_path, base="https://127.0.0.1") as (http, _):
        for path in ("/threads", "/nowhere"):
            secured = (await http.get(path)).headers["strict-transport-security"]
            assert secured == "max-age=31536000"


async def test_so_it_does_where_a_proxy_has_the_certificate(tmp_path: Path) -> None:
    async with in_process(tmp_path, public_url="https://assent.example") as (http, _):
        assert "strict-transport-security" in (await http.get("/threads")).headers


async def test_where_it_is_mounted_the_page_finds_its_document(tmp_path: Path) -> None:
    async with in_process(tmp_path, prefix="/ai") as (http, _):
        await follow(http, "/ai/docs", (await http.get("/ai/docs")).text)
        document = (await expect(await http.get("/ai/openapi.json"), 200)).json()
        assert document["servers"] == [{"url": "/ai"}]
        detail = (await problem(await http.get("/ai/nowhere"), 404))["detail"]
        assert detail.endswith("/ai/docs lists what there is.")


async def test_the_pages_can_be_switched_off(tmp_path: Path) -> None:
    async with in_process(tmp_path, docs=False) as (http, _):
        for path in ("/docs", "/docs/docs.js", "/openapi.json", "/redoc"):
            await problem(await http.get(path), 404)
        assert "lists" not in (await problem(await http.get("/nowhere"), 404))["detail"]


async def test_an_app_around_has_its_own_pages_and_our_headers(tmp_path: Path) -> None:
    async with in_process(tmp_path) as (_, assent):
        app = FastAPI()
        app.include_router(assent.router)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            check((await http.get("/threads")).headers)
            check((await http.get("/threads/none")).headers)
            assert "cdn" in (await http.get("/docs")).text
            assert (await http.get("/docs/docs.js")).status_code == 404
