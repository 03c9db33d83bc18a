"""The routes of dialects: served if they are switched on, and asking who sends a request as all
others do. Those that only read take a key in the URL where that is allowed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from structlog.testing import capture_logs

from assent import Approve, Assent, build_hitl_agent
from assent.api.access.rules import Thing, may
from assent.api.deps import AdmittedReader, TheActor, TheRuns
from assent.api.dialects.base import Fold, Foreign, Frame
from assent.api.dialects.positions import positions_of, read_position
from assent.api.event_query import LastEventId
from assent.api.executions import find
from assent.api.responses import json_response
from assent.api.routes.dialects import DIALECT_ROUTES
from assent.api.routing import JsonRoute, router_of
from assent.api.streams.connections import Connections
from assent.api.streams.encoder import named_sse
from assent.api.streams.handshake import Handshake
from assent.api.streams.reading import Followed, execution_response, execution_socket
from assent.api.streams.requests import HANDSHAKE
from assent.api.streams.websocket import MOST_WRONG
from assent.config.settings import DIALECTS
from assent.core.access import Right
from assent.storage.base import LogEntry
from tests.support.models import ScriptedModel, call, say
from tests.support.server import BEGIN, problem
from tests.support.waiting import PATIENCE, until

KEYS = {"ann": "secret-of-ann", "bob": "secret-of-bob"}
HOST = "http://shop.example"


# ── a dialect of its own ──────────────────────────────────────────────────────────────────────────


class Loud(Foreign):
    """Each event by its name, once in a named frame and once more without."""

    name = "loud"
    has_state = False
    types = frozenset({"run_start", "run_paused", "run_resumed", "done"})

    def fold(self) -> Fold:
        def fold(entry: LogEntry) -> Sequence[Frame]:
            if entry.type not in self.types:
                return ()
            first, last = map(str, positions_of(entry.seq, 2))
            data = json.dumps({"is": entry.type}).encode()
            return (Frame(first, entry.type.upper(), data), Frame(last, "", data))

        return fold

    def heartbeat(self, now: datetime) -> Frame | None:
        return Frame("", "heartbeat", json.dumps({"at": now.isoformat()}).encode())

    def end(self, reason: str) -> Frame | None:
        return Frame("", "", b"[DONE]") if reason == "done" else None


def _loudly(sentence: str, now: datetime) -> bytes:
    return json.dumps({"WRONG": sentence, "year": now.year}).encode()


router = router_of("loud")


@router.get("/loud/{id}/name")
@may(Right.READ, Thing.EXECUTION, token=True)
async def say_name(id: str, request: Request, by: TheActor) -> Response:
    """The sender, and what the scope has of the query."""
    left = request.scope["query_string"].decode()
    return json_response({"name": by.name, "query": left})


@router.get("/loud/{id}")
@may(Right.READ, Thing.EXECUTION, token=True)
async def follow(
    id: str,
    request: Request,
    runs: TheRuns,
    admitted: AdmittedReader,
    last_event_id: LastEventId,
) -> Response:
    """What has this id, loudly."""
    found = await find(runs, id)
    followed = Followed(found, Loud(), read_position(last_event_id, found.log_id))
    if request.scope.get(HANDSHAKE):
        return await execution_socket(request, runs.storage, followed, _loudly)
    return await execution_response(request, runs.storage, followed, named=True)


router.routes.append(WebSocketRoute("/loud/{id}", Handshake()))

LOUD = ModuleType("loud")
vars(LOUD)["router"] = router


class Spoken(Assent):
    """A server that speaks it, where `progress` is switched on."""

    _dialects = {**DIALECT_ROUTES, "progress": (*DIALECT_ROUTES.get("progress", ()), LOUD)}


# ── a server ──────────────────────────────────────────────────────────────────────────────────────


async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def spoken(folder: Path, **options: Any) -> Spoken:
    agent = build_hitl_agent(
        ScriptedModel(script=[call("pay", amount=3), say("Paid.")]), [pay], approve=["pay"]
    )
    return Spoken(agent, database=str(folder / "a.db"), **options)


@asynccontextmanager
async def asked(
    folder: Path, base_url: str = "http://localhost", **options: Any
) -> AsyncIterator[tuple[Spoken, httpx.AsyncClient]]:
    """A server, and a client of it."""
    async with spoken(folder, **options) as assent:
        transport = httpx.ASGITransport(assent.app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
            yield assent, client


# ── switches ──────────────────────────────────────────────────────────────────────────────────────


def routes_of(name: str) -> Iterator[APIRoute | WebSocketRoute]:
    for module in Spoken._dialects.get(name, ()):
        for route in module.router.routes:
            assert isinstance(route, APIRoute | WebSocketRoute), route
            yield route


OPEN = {"/info", "/ok"}
"""The paths that need no key: LangGraph's clients ask them before they know one."""


def operations(routes: Iterable[APIRoute]) -> set[tuple[str, str]]:
    """The paths and methods of these routes."""
    return {(route.path, method) for route in routes for method in route.methods}


SERVED = [(name, route) for name in DIALECTS for route in routes_of(name)]


def test_no_dialect_has_routes_without_a_switch() -> None:
    assert set(DIALECT_ROUTES) <= set(DIALECTS)


@pytest.mark.parametrize("name", DIALECTS)
async def test_a_dialect_that_is_switched_on_has_its_routes_and_no_other_has_any(
    tmp_path: Path, name: str
) -> None:
    routes = [(its, route) for its, route in SERVED if isinstance(route, APIRoute)]
    paths = operations(route for _, route in routes)
    own = operations(route for its, route in routes if its == name)
    async with asked(tmp_path, settings={"dialects": [name]}) as (assent, client):
        host = FastAPI()
        host.include_router(assent.router)
        for listed in (host.openapi(), (await client.get("/openapi.json")).json()):
            there = {
                (path, method.upper())
                for path, methods in listed["paths"].items()
                for method in methods
            }
            assert paths & there == own
        for path, method in paths - own:
            # The path may be another route's too.
            assert (await client.request(method, path)).status_code in (404, 405)


# ── who asks ──────────────────────────────────────────────────────────────────────────────────────


def by_header(x_user: str | None = Header(None)) -> str | None:
    return x_user


async def test_an_app_that_knows_people_is_asked_by_every_route(tmp_path: Path) -> None:
    host = FastAPI()
    async with spoken(tmp_path, auth=by_header) as assent:
        host.mount("/ai", assent.app)
        host.include_router(assent.router, prefix="/in")
        client = TestClient(host, base_url=HOST)
        transport = httpx.ASGITransport(host)
        async with httpx.AsyncClient(transport=transport, base_url=HOST) as known:
            for prefix, (_, route) in product(("/ai", "/in"), SERVED):
                if route.path in OPEN:
                    continue
                path = prefix + route.path
                assert await asyncio.to_thread(_refusals, client, path, route) == {401}, path
                if isinstance(route, WebSocketRoute):
                    continue
                # The app is believed: whatever is wrong then, it is not who somebody is.
                for method in route.methods:
                    response = await known.request(method, path, headers={"x-user": "ann"})
                    assert response.status_code != 401, path


async def test_pages_open_no_socket_and_change_nothing_unless_they_are_named(
    tmp_path: Path,
) -> None:
    host = FastAPI()
    settings = {"cors_origins": ["https://admin.example"]}
    async with spoken(tmp_path, auth=lambda: "ann", settings=settings) as assent:
        host.mount("/ai", assent.app)
        client = TestClient(host, base_url=HOST)
        foreign, named = ({"origin": f"https://{name}.example"} for name in ("evil", "admin"))
        for _, route in SERVED:
            path = f"/ai{route.path}"
            if isinstance(route, WebSocketRoute):
                assert await asyncio.to_thread(_denied, client, path, foreign) == 403
                continue
            for method in route.methods:
                if method != "GET":
                    changed = await asyncio.to_thread(client.request, method, path, headers=foreign)
                    assert changed.status_code == 403
                asks = {"access-control-request-method": method}
                for origin, is_let_in in ((named, True), (foreign, False)):
                    preflight = await asyncio.to_thread(
                        client.options, path, headers={**origin, **asks}
                    )
                    allowed = preflight.headers.get("access-control-allow-origin")
                    assert (allowed == origin["origin"]) is is_let_in


def _denied(client: TestClient, path: str, headers: dict[str, str]) -> int:
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect(path, headers=headers),
    ):
        pass
    return denied.value.status_code


def _refusals(client: TestClient, path: str, route: APIRoute | WebSocketRoute) -> set[int]:
    if isinstance(route, APIRoute):
        return {client.request(method, path).status_code for method in route.methods}
    return {_denied(client, path, {})}


@pytest.mark.parametrize(
    "route",
    [route for _, route in SERVED],
    ids=[f"{type(route).__name__} {route.path}" for _, route in SERVED],
)
def test_a_route_asks_who_it_is_and_takes_keys_in_urls_only_to_read(
    route: APIRoute | WebSocketRoute,
) -> None:
    if isinstance(route, WebSocketRoute):
        # Its handshake is the GET of the same path.
        assert isinstance(route.endpoint, Handshake)
        beside = [each for _, each in SERVED if isinstance(each, APIRoute)]
        (route,) = (each for each in beside if each.path == route.path and "GET" in each.methods)
    assert isinstance(route, JsonRoute)
    assert (route.rule.right is None) is (route.path in OPEN)
    assert route.methods == {"GET"} or not route.rule.token


# ── keys in URLs ──────────────────────────────────────────────────────────────────────────────────


NAME = "/loud/x/name"


async def test_a_key_in_the_url_does_where_that_is_allowed(tmp_path: Path) -> None:
    settings = {"api_keys": KEYS, "allow_query_token": True}
    async with asked(tmp_path, settings=settings) as (_, client):
        told = await client.get(f"{NAME}?token={KEYS['bob']}")
        assert told.json() == {"name": "bob", "query": ""}
        # The header goes first, also a wrong one.
        ann = {"authorization": f"Bearer {KEYS['ann']}"}
        told = await client.get(f"{NAME}?token={KEYS['bob']}", headers=ann)
        assert told.json()["name"] == "ann"
        wrong = {"authorization": "Bearer wrong"}
        await problem(await client.get(f"{NAME}?token={KEYS['bob']}", headers=wrong), 401)
        for query in ("token=", "token=wrong", f"token={KEYS['bob']}&token={KEYS['bob']}"):
            refused = await problem(await client.get(f"{NAME}?{query}"), 401)
            assert "secret-of" not in json.dumps(refused)
        assert (await client.get(NAME)).status_code == 401
        # A route that does not say so takes none, nor one that changes anything.
        for method, path in (("GET", "/threads"), ("POST", "/threads"), ("POST", "/agent/runs")):
            refused = await client.request(method, f"{path}?token={KEYS['ann']}")
            assert refused.status_code in (401, 422)
            assert "secret-of" not in refused.text


async def test_otherwise_it_does_not_and_is_told_how_to_send_one(tmp_path: Path) -> None:
    async with asked(tmp_path, settings={"api_keys": KEYS}) as (_, client):
        refused = await problem(await client.get(f"{NAME}?token={KEYS['bob']}"), 401)
        assert refused["detail"] == (
            "This server takes no key in a URL: send 'Authorization: Bearer <secret>', or set "
            "ASSENT_ALLOW_QUERY_TOKEN."
        )


async def test_a_server_that_knows_nobody_or_whose_app_knows_people_goes_by_none(
    tmp_path: Path,
) -> None:
    async with asked(tmp_path, settings={"allow_query_token": True}) as (_, client):
        told = await client.get(f"{NAME}?token=whatever")
        assert told.json() == {"name": "local", "query": ""}
    options = {"auth": lambda: "cy", "settings": {"allow_query_token": True}}
    async with asked(tmp_path, **options) as (_, client):
        told = await client.get(f"{NAME}?token={KEYS['bob']}&x=1")
        assert told.status_code == 422
        assert (await client.get(f"{NAME}?token=x")).json()["name"] == "cy"


def test_the_key_is_cut_out_of_the_url_before_anything_else_has_it(tmp_path: Path) -> None:
    settings = {"api_keys": KEYS, "allow_query_token": True}
    secret = KEYS["bob"]
    assent = spoken(tmp_path, settings=settings)
    scopes: list[Any] = []

    async def kept(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await assent.app(scope, receive, send)

    with capture_logs() as lines, TestClient(kept, base_url="http://localhost") as client:
        scopes.clear()
        # However it is written.
        told = client.get(f"/loud/x/name?t%6fken=%73{secret[1:]}")
        assert told.json() == {"name": "bob", "query": ""}
        client.get(f"/loud/x?token={secret}&last_event_id=1")
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect(f"/loud/x?last_event_id=&token={secret}"),
        ):
            pass
        assert denied.value.status_code == 404
        queries = [scope["query_string"] for scope in scopes]
        assert queries == [b"", b"last_event_id=1", b"last_event_id="]
    assert "secret-of" not in json.dumps(lines, default=str)


# ── executions over HTTP ──────────────────────────────────────────────────────────────────────────


def frames_in(body: bytes) -> list[bytes]:
    """The frames of a stream, without its beginning and its signs of life."""
    assert body.startswith(BEGIN)
    parts = body.removeprefix(BEGIN).split(b"\n\n")
    return [part for part in parts if part and not part.startswith(b"event: heartbeat\n")]


async def test_an_execution_is_streamed_over_a_pause_to_its_own_end(tmp_path: Path) -> None:
    settings = {
        "heartbeat": "0.1s",
        "api_keys": KEYS,
        "allow_query_token": True,
        "default_roles": ["operator", "approver", "auditor"],
    }
    async with asyncio.timeout(PATIENCE), asked(tmp_path, settings=settings) as (assent, client):
        run = await assent.invoke("Pay 3.", user="ann", thread_id="t")
        path, key = f"/loud/{run.run_id}", {"token": KEYS["bob"]}
        reading = asyncio.create_task(client.get(path, params=key))
        connections = await _connections(client)
        assert [each["user"] for each in connections] == ["bob"]
        assert {each["dialect"] for each in connections} == {"loud"}
        await until(lambda: _is_beaten(assent))
        await assent.resume("t", Approve(), user="ann")
        body = (await reading).content
        assert b'event: heartbeat\ndata: {"at": "' in body
        frames = frames_in(body)
        log = list(await assent.runs.storage.read_log("t", types=Loud.types))
        expected = []
        for entry in log:
            data = b'data: {"is": "%s"}' % entry.type.encode()
            expected.append(
                b"id: %d-1\nevent: %s\n%s" % (entry.seq, entry.type.upper().encode(), data)
            )
            expected.append(b"id: %d\n%s" % (entry.seq, data))
        assert frames == [*expected, b": end\ndata: [DONE]"]
        assert len(expected) == 8

        # Whoever comes back, with any of them, gets what is behind it, and at the end a 204.
        for at, frame in enumerate(expected):
            id = frame.split(b"\n")[0].removeprefix(b"id: ").decode()
            again = await client.get(path, params=key, headers={"last-event-id": id})
            if at < len(expected) - 1:
                assert frames_in(again.content) == frames[at + 1 :]
            else:
                assert (again.status_code, again.content) == (204, b"")
            assert (
                frames_in((await client.get(path, params={**key, "last_event_id": id})).content)
                == frames[at + 1 :]
            )
        for wrong, status in (("x", 422), ("9999", 410), ("-1", 422), ("1-0", 422)):
            refused = await client.get(path, params={**key, "last_event_id": wrong})
            assert refused.status_code == status
        await problem(await client.get("/loud/nobody", params=key), 404)


async def _connections(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    async def look() -> list[dict[str, Any]] | None:
        headers = {"authorization": f"Bearer {KEYS['ann']}"}
        listed = (await client.get("/connections", headers=headers)).json()["connections"]
        return listed or None

    found = await until(look)
    assert found is not None
    return found


def _is_beaten(assent: Spoken) -> bool:
    """True once the reader has had several signs of life."""
    assert assent._served is not None
    connections: Connections = assent._served.connections
    (connection,) = connections
    heartbeat = connection.heartbeat
    assert callable(heartbeat)
    beat = heartbeat()
    assert beat is not None
    frame = Loud().heartbeat(connections.clock.now())
    assert frame is not None
    # On a wire of our own server's, it is a chunk.
    size, _, rest = beat.wired.partition(b"\r\n")
    assert (int(size, 16), rest) == (len(beat.frame), beat.frame + b"\r\n")
    assert len(beat.frame) == len(named_sse(frame))
    return connection.following.is_waiting and connection.written > len(BEGIN) + 600


# ── and over a WebSocket ──────────────────────────────────────────────────────────────────────────


async def test_a_socket_that_only_shows_events_refuses_what_it_is_told_and_stays(
    tmp_path: Path,
) -> None:
    options = {"settings": {"heartbeat": "0.1s"}}
    async with asyncio.timeout(PATIENCE), asked(tmp_path, **options) as (assent, _):
        run = await assent.invoke("Pay 3.", user="ann", thread_id="t")
        async with opened(assent, f"/loud/{run.run_id}") as (heard, said):
            assert (await next_of(said))["is"] == "run_start"
            for frame in ({"text": "not JSON"}, {"text": '{"type": "ping"}'}, {"bytes": b"\x00"}):
                heard.put_nowait({"type": "websocket.receive", **frame})
                while "WRONG" not in (told := await next_of(said)):
                    pass
                assert told["WRONG"] == "This connection shows events, and takes nothing."
            while "at" not in await next_of(said):
                pass
            await assent.resume("t", Approve(), user="ann")
            kinds = [told.get("is") for told in await until_closed(said, 1000)]
            assert kinds[-2:] == ["done", "done"] and "run_resumed" in kinds
        async with opened(assent, f"/loud/{run.run_id}", "last_event_id=1") as (heard, said):
            assert "run_start" not in [told.get("is") for told in await until_closed(said, 1000)]


async def test_a_socket_that_is_told_too_much_is_closed(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), asked(tmp_path) as (assent, _):
        await assent.invoke("Pay 3.", user="ann", thread_id="t")
        async with opened(assent, "/loud/t") as (heard, said):
            for _ in range(MOST_WRONG):
                heard.put_nowait({"type": "websocket.receive", "text": "yes"})
            told = await until_closed(said, 1008)
            assert sum("WRONG" in each for each in told) == MOST_WRONG


Said = asyncio.Queue[Any]


@asynccontextmanager
async def opened(assent: Assent, path: str, query: str = "") -> AsyncIterator[tuple[Said, Said]]:
    """A WebSocket without a network: what it hears, and what it says."""
    heard: Said = asyncio.Queue()
    said: Said = asyncio.Queue()
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost")],
        "scheme": "ws",
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 50_000),
        "subprotocols": [],
        "extensions": {},
    }
    heard.put_nowait({"type": "websocket.connect"})
    socket = asyncio.create_task(assent.app(scope, heard.get, said.put))  # type: ignore[arg-type]
    assert (await said.get())["type"] == "websocket.accept"
    try:
        yield heard, said
    finally:
        heard.put_nowait({"type": "websocket.disconnect"})
        await socket


async def next_of(said: Said) -> Any:
    """The next frame."""
    return json.loads((await said.get())["text"])


async def until_closed(said: Said, code: int) -> list[Any]:
    """The frames up to the close with this code."""
    frames = []
    while (message := await said.get())["type"] == "websocket.send":
        frames.append(json.loads(message["text"]))
    assert message == {"type": "websocket.close", "code": code}
    return frames
