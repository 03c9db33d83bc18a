"""A page that was served from another port talks to a real server, and one of another site does
not. What a browser does here is done by hand: it asks first, and lets the page read only what it
is allowed to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import Server, asking, scripted_agents, serving

NEIGHBOUR = "http://localhost:5173"
EVIL = "https://evil.example"
LISTED = "https://app.example"
SECRET = "secret-of-ann"


class Blocked(Exception):
    """The browser does not let the page ask, or read."""


class Page:
    """A page of an origin, in a browser."""

    def __init__(self, http: httpx.AsyncClient, origin: str) -> None:
        self.http = http
        self.origin = origin

    async def fetch(
        self, method: str, path: str, json: Any = None, **headers: str
    ) -> httpx.Response:
        """What a page's `fetch` gets."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if json is not None:
            sent["content-type"] = "application/json"
        # Without these, a browser would send the request before it asks whether the page may.
        if sent or method not in ("GET", "HEAD", "POST"):
            await self._preflight(method, path, sent)
        answer = await self.http.request(
            method, path, json=json, headers={**sent, "origin": self.origin}
        )
        self._check(answer)
        return answer

    async def _preflight(self, method: str, path: str, headers: dict[str, str]) -> None:
        asks = {"access-control-request-method": method}
        if headers:
            asks["access-control-request-headers"] = ",".join(sorted(headers))
        answer = await self.http.options(path, headers={**asks, "origin": self.origin})
        self._check(answer)
        may = answer.headers["access-control-allow-headers"].lower().split(", ")
        if not answer.is_success or not {*headers} <= {*may}:
            raise Blocked(answer.text)
        if method not in answer.headers["access-control-allow-methods"].split(", "):
            raise Blocked(answer.text)

    def _check(self, answer: httpx.Response) -> None:
        if answer.headers.get("access-control-allow-origin") != self.origin:
            raise Blocked(answer.text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("origins")
    with serving(folder, scripted_agents(folder, "agent")) as server:
        yield server


async def test_without_keys_a_page_of_this_machine_talks_and_decides(server: Server) -> None:
    async with asking(server) as api:
        page = Page(api.http, NEIGHBOUR)
        body = {"message": "pay 5", "thread_id": "t"}
        answer = await page.fetch("POST", "/agent/invoke", body, idempotency_key="k")
        assert answer.json()["status"] == "interrupted"
        assert "X-Run-Id" in answer.headers["access-control-expose-headers"]
        await page.fetch("POST", "/threads/t/resume", {"type": "reject"})
        stream = await page.fetch(
            "GET", f"/runs/{answer.json()['run_id']}/stream", last_event_id="0"
        )
        assert "run_paused" in stream.text
        await api.at_rest("t")
        await page.fetch("DELETE", "/threads/t")
        with pytest.raises(Blocked):
            await page.fetch("PROPFIND", "/threads/t")
    assert server.traces() == []


async def test_without_keys_a_page_of_another_site_changes_and_reads_nothing(
    server: Server,
) -> None:
    async with asking(server) as api:
        (approval,) = await api.paused("pay 6", thread_id="u")
        page = Page(api.http, EVIL)
        for method, path, body in (
            ("POST", "/threads/u/resume", {"type": "approve"}),
            ("POST", "/threads/u/cancel", None),
            ("POST", f"/approvals/{approval['approval_id']}/withdraw", None),
            ("GET", "/approvals", None),
            ("DELETE", "/threads/u", None),
        ):
            with pytest.raises(Blocked):
                await page.fetch(method, path, body)
        # As a form sends it, which asks nobody before.
        headers = {"origin": EVIL, "content-type": "text/plain"}
        sent = await api.http.post(
            "/threads/u/resume", content=b'{"type": "approve"}', headers=headers
        )
        assert sent.status_code == 403
        assert await api.pending("u") == [approval]
    assert server.traces() == []


async def test_with_keys_only_listed_pages_talk_and_they_need_a_key(tmp_path: Path) -> None:
    target = scripted_agents(tmp_path, "agent")
    environment = {"ASSENT_API_KEYS": f"ann:{SECRET}", "ASSENT_CORS_ORIGINS": LISTED}
    with serving(tmp_path, target, **environment) as server:
        async with asking(server) as api:
            key = {"authorization": f"Bearer {SECRET}"}
            listed = Page(api.http, LISTED)
            assert (await listed.fetch("GET", "/threads", **key)).status_code == 200
            assert (await listed.fetch("GET", "/threads")).status_code == 401
            for origin in (EVIL, NEIGHBOUR, f"{LISTED}:8443"):
                with pytest.raises(Blocked):
                    await Page(api.http, origin).fetch("GET", "/threads", **key)
