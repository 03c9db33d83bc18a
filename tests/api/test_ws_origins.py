"""WebSockets of a server that is a part of an app of somebody's own: the app says who opens one and
who decides on it, no page of another site does, and what the app has in front of its routes is
asked too."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from langchain_core.tools import tool
from starlette.middleware.base import RequestResponseEndpoint
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from assent import Assent, build_hitl_agent
from tests.support.models import ScriptedModel, call, say

SESSIONS = {"cookie-of-ann": "ann", "cookie-of-vera": "vera"}
ROLES = {"ann": ["operator", "approver"], "vera": ["operator", "approver", "auditor"]}
COOKIE = {"cookie": "session=cookie-of-ann"}
PAGE = {**COOKIE, "accept": "application/json"}
HOST = "http://shop.example"
SHOP = "ws://shop.example"

Place = Callable[[FastAPI, Assent], None]


def by_session(request: Request) -> dict[str, Any] | None:
    """Whom the shop knows by the cookie of a request: a dependency of no WebSocket of FastAPI's.
    Vera may look at everything, and change nothing."""
    name = SESSIONS.get(request.cookies.get("session", ""))
    if name is None:
        return None
    if name == "vera" and request.method != "GET":
        raise HTTPException(403, "You may only look.")
    return {"identity": name, "assent_roles": ROLES[name]}


def mounted(host: FastAPI, assent: Assent) -> None:
    host.mount("/ai", assent.app)


def included(host: FastAPI, assent: Assent) -> None:
    host.include_router(assent.router, prefix="/ai")


def deeply_mounted(host: FastAPI, assent: Assent) -> None:
    inner = FastAPI()
    inner.include_router(assent.router, prefix="/ai")
    host.mount("/inner", inner)


def is_open(request: Request) -> None:
    """The shop's own condition."""
    if "x-open" not in request.headers:
        raise HTTPException(423, "The shop is closed.")


def guarded(host: FastAPI, assent: Assent) -> None:
    host.include_router(assent.router, prefix="/ai", dependencies=[Depends(is_open)])


PREFIXES = {mounted: "/ai", included: "/ai", deeply_mounted: "/inner/ai", guarded: "/ai"}

everywhere = pytest.mark.parametrize("put", [mounted, included, deeply_mounted])


def payments(ledger: list[int]) -> Any:
    @tool
    def pay(amount: int) -> str:
        """Pay an amount."""
        ledger.append(amount)
        return "paid"

    script = [call("pay", amount=3), say("Paid.")]
    return build_hitl_agent(ScriptedModel(script=script), [pay], approve=["pay"])


@contextmanager
def hosted(
    tmp_path: Path,
    put: Place,
    host: FastAPI | None = None,
    ledger: list[int] | None = None,
    auth: Callable[..., Any] = by_session,
) -> Iterator[TestClient]:
    """A client of a shop that knows people by their cookies, unless it has another `auth`."""
    agent = payments([] if ledger is None else ledger)
    settings = {"cors_origins": ["https://admin.example"]}
    database = str(tmp_path / "a.db")
    assent = Assent(agent, database=database, auth=auth, settings=settings)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with assent:
            yield

    host = host or FastAPI()
    host.router.lifespan_context = lifespan
    put(host, assent)
    with TestClient(host, base_url=HOST) as client:
        headers = {**COOKIE, "x-open": "yes"}
        made = client.post(f"{PREFIXES[put]}/threads", json={"thread_id": "t"}, headers=headers)
        assert made.status_code == 200, made.text
        yield client


def refused(client: TestClient, path: str, **headers: str) -> int:
    """The status with which a handshake is denied."""
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect(path, headers=headers),
    ):
        pass
    problem = denied.value.json()
    assert problem["detail"].endswith((".", "?")), problem
    return denied.value.status_code


def until(socket: WebSocketTestSession, kind: str) -> Any:
    while True:
        frame = json.loads(socket.receive_text())
        if frame["type"] == kind:
            return frame


@everywhere
def test_the_app_says_who_opens_one(tmp_path: Path, put: Place) -> None:
    ledger: list[int] = []
    prefix = PREFIXES[put]
    with hosted(tmp_path, put, ledger=ledger) as client:
        path = f"{SHOP}{prefix}/threads/t/ws"
        assert refused(client, path) == 401
        assert refused(client, path, cookie="session=of-nobody") == 401
        assert refused(client, f"{SHOP}{prefix}/threads/u/ws", **COOKIE) == 404
        with client.websocket_connect(path, headers=COOKIE) as socket:
            until(socket, "ready")
            socket.send_text('{"type": "message", "message": "Pay 3."}')
            body = until(socket, "answer")["body"]
            assert (body["requested_by"], body["thread_id"]) == (["ann"], "t")
            assert body["events"].startswith(f"{prefix}/runs/")
            approval = until(socket, "approval_required")
            until(socket, "run_paused")
            assert ledger == []
            decision = {"type": "approve", "digest": approval["digest"]}
            decisions = {approval["approval_id"]: decision}
            socket.send_text(json.dumps({"type": "decide", "decisions": decisions}))
            (decided,) = until(socket, "answer")["body"]["decisions"].values()
            assert decided["decided_by"] == "ann"
            until(socket, "done")
        assert ledger == [3]


@everywhere
def test_whoever_may_send_no_request_sends_no_command(tmp_path: Path, put: Place) -> None:
    ledger: list[int] = []
    with hosted(tmp_path, put, ledger=ledger) as client:
        path = f"{SHOP}{PREFIXES[put]}/threads/t/ws"
        vera = {"cookie": "session=cookie-of-vera"}
        with (
            client.websocket_connect(path, headers=COOKIE) as ann,
            client.websocket_connect(path, headers=vera) as socket,
        ):
            ann.send_text('{"type": "message", "message": "Pay 3."}')
            asked = until(socket, "approval_required")
            until(socket, "run_paused")
            decisions = {asked["approval_id"]: {"type": "approve", "digest": asked["digest"]}}
            for frame in (
                {"type": "decide", "decisions": decisions},
                {"type": "message", "message": "Pay 4.", "if_paused": "cancel"},
                {"type": "cancel"},
            ):
                socket.send_text(json.dumps({**frame, "id": "c"}))
                problem = until(socket, "problem")
                assert (problem["id"], problem["status"]) == ("c", 403)
                assert problem["detail"] == "You may only look."
            events = client.get(f"{PREFIXES[put]}/threads/t/events", headers=PAGE).json()["events"]
            assert events[-1]["type"] == "run_paused"
    assert ledger == []


def test_who_is_known_no_more_decides_no_more(tmp_path: Path) -> None:
    known = ["ann"]

    async def auth() -> str | None:
        return known[0] if known else None

    with (
        hosted(tmp_path, mounted, auth=auth) as client,
        client.websocket_connect(f"{SHOP}/ai/threads/t/ws") as socket,
    ):
        until(socket, "ready")
        known.clear()
        socket.send_text('{"type": "message", "message": "Pay 3."}')
        assert until(socket, "problem")["status"] == 401


@everywhere
def test_a_page_of_another_site_opens_none_by_the_user_s_cookie(tmp_path: Path, put: Place) -> None:
    with hosted(tmp_path, put) as client:
        path = f"{SHOP}{PREFIXES[put]}/threads/t/ws"
        for origin in ("https://evil.example", "https://blog.shop.example", "null", "http://["):
            assert refused(client, path, origin=origin, **COOKIE) == 403
        site = {"sec-fetch-site": "cross-site"}
        assert refused(client, path, origin="https://evil.example", **COOKIE, **site) == 403
        for headers in ({}, {"origin": HOST}, {"origin": "https://admin.example"}):
            with client.websocket_connect(path, headers={**COOKIE, **headers}) as socket:
                until(socket, "ready")


def test_what_an_app_asks_of_its_requests_it_asks_of_a_router_s_websockets(tmp_path: Path) -> None:
    path = f"{SHOP}/ai/threads/t/ws"
    with hosted(tmp_path, guarded) as client:
        closed = pytest.raises(WebSocketDenialResponse)
        with closed as denied, client.websocket_connect(path, headers=COOKIE):
            pass
        assert denied.value.status_code == 423
        with client.websocket_connect(path, headers={**COOKIE, "x-open": "yes"}) as socket:
            until(socket, "ready")


def test_middleware_in_front_of_a_router_sees_the_handshake(tmp_path: Path) -> None:
    host = FastAPI()
    seen: list[int] = []
    at_night: list[bool] = []

    @host.middleware("http")
    async def gate(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if "x-late" in request.headers:
            return Response('{"detail": "The shop is closed."}', status_code=423)
        if at_night and request.method == "POST":
            return Response("Good night.", status_code=423)
        response = await call_next(request)
        if request.url.path.endswith("/ws"):
            seen.append(response.status_code)
        return response

    with hosted(tmp_path, included, host) as client:
        assert refused(client, f"{SHOP}/ai/threads/t/ws", **COOKIE, **{"x-late": "1"}) == 423
        with client.websocket_connect(f"{SHOP}/ai/threads/t/ws", headers=COOKIE) as socket:
            until(socket, "ready")
            assert seen == [101]
            at_night.append(True)
            socket.send_text('{"type": "message", "message": "Pay 3."}')
            problem = until(socket, "problem")
            assert (problem["status"], problem["title"]) == (423, "Locked")
            assert problem["detail"].endswith("423 Locked.")
        assert client.get("/ai/threads/t/ws", headers=COOKIE).status_code == 426


def test_a_server_that_cannot_deny_closes(tmp_path: Path) -> None:
    host = FastAPI()
    with hosted(tmp_path, mounted, host) as client:

        async def without(scope: Any, receive: Any, send: Any) -> None:
            await host({**scope, "extensions": {}}, receive, send)

        plain = TestClient(without)
        plain.portal = client.portal
        closed = pytest.raises(WebSocketDisconnect)
        with closed as refusal, plain.websocket_connect(f"{SHOP}/ai/threads/t/ws"):
            pass
        assert refusal.value.code == 1008
