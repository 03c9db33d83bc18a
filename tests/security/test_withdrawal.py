"""Withdrawn is withdrawn: whoever is known no longer, or may do less, has their open streams
ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Header

from assent import Assent, build_hitl_agent
from assent.api.access.identity import RENEWED_AFTER, Access, Credential, Found, Identity, Roles
from assent.api.access.sources import KeysOfSettings
from assent.api.context import Served
from assent.api.streams.connections import Connection
from assent.api.streams.renewing import KEPT_SECONDS, Renewer
from assent.approvals.people import People
from assent.core.audit import Authentication
from assent.core.errors import Unavailable
from tests.support.handshakes import scope_of
from tests.support.models import ScriptedModel, say
from tests.support.server import problem
from tests.support.waiting import PATIENCE, until

HOST = "http://shop.example"


def talker(on_turn: Callable[[], None]) -> Any:
    def turn(messages: list[Any]) -> Any:
        on_turn()
        return say("Hello.")

    return build_hitl_agent(ScriptedModel(script=turn), [], approve=[])


@dataclass
class Shop:
    """An app that knows its customers by a header, until it does not."""

    assent: Assent
    client: httpx.AsyncClient
    app: FastAPI
    customers: dict[str, tuple[str, ...]]
    is_down: bool = False
    on_turn: Callable[[], None] = lambda: None

    @property
    def served(self) -> Served:
        assert self.assent._served is not None
        return self.assent._served

    @property
    def streams(self) -> list[Connection]:
        return list(self.served.connections)

    async def renew(self) -> None:
        await Renewer(self.served.connections, self.served.access).turn()


@asynccontextmanager
async def shop(folder: Path, *, router: bool) -> AsyncIterator[Shop]:
    customers: dict[str, tuple[str, ...]] = {"ann": ("operator",), "bob": ("operator",)}

    async def by_header(x_user: str = Header("")) -> str | None:
        if found.is_down:
            raise RuntimeError("The shop's own database is away.")
        return x_user if x_user in customers else None

    app = FastAPI()
    agent = talker(lambda: found.on_turn())
    limits = {"rate_limit": "5/hour"}
    async with Assent(
        agent, settings=limits, database=str(folder / "a.db"), auth=by_header
    ) as assent:
        if router:
            app.include_router(assent.router, prefix="/ai")
        else:
            app.mount("/ai", assent.app)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"{HOST}/ai") as client:
            found = Shop(assent, client, app, customers)
            yield found


def as_user(name: str) -> dict[str, str]:
    return {"x-user": name}


@pytest.mark.parametrize("router", [False, True], ids=["mounted", "included"])
async def test_a_stream_of_somebody_whom_the_app_knows_no_longer_ends_and_says_so(
    tmp_path: Path, router: bool
) -> None:
    async with asyncio.timeout(PATIENCE), shop(tmp_path, router=router) as place:
        for name in ("ann", "bob"):
            body = {"thread_id": f"of-{name}"}
            made = await place.client.post("/threads", json=body, headers=as_user(name))
            assert made.status_code == 200
        streams = {
            name: asyncio.create_task(
                place.client.get(f"/threads/of-{name}/events", headers=as_user(name))
            )
            for name in ("ann", "bob")
        }
        polling = asyncio.create_task(
            place.client.get(
                "/threads/of-ann/events?timeout=60",
                headers={**as_user("ann"), "accept": "application/json"},
            )
        )
        await until(lambda: len(place.streams) == 3)

        for _ in range(2):
            await place.renew()
        assert not any(each.is_signed_out for each in place.streams)
        # What the server itself asks counts against no limit of theirs.
        assert (await place.client.get("/me", headers=as_user("ann"))).status_code == 200

        # Nobody can say anything: not at once.
        place.is_down = True
        await place.renew()
        assert len(place.streams) == 3
        place.is_down = False

        del place.customers["ann"]
        await place.renew()
        ended = (await streams["ann"]).text
        assert ended.endswith(': end\nevent: end\ndata: {"reason": "signed-out"}\n\n')
        await problem(await polling, 401)
        assert [each.reader.owner.name for each in place.streams] == ["bob"]
        await place.assent.drain()
        assert '"signed-out"' not in (await streams["bob"]).text


async def test_whoever_waits_for_a_run_is_asked_for_again_before_they_have_its_answer(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(PATIENCE), shop(tmp_path, router=True) as place:

        async def invoked(message: str) -> httpx.Response:
            body = {"message": message, "thread_id": message}
            return await place.client.post("/agent/invoke", json=body, headers=as_user("ann"))

        assert (await invoked("a")).status_code == 200
        place.on_turn = place.served.access.withdrawn
        assert (await invoked("b")).status_code == 200

        def is_fired() -> None:
            place.served.access.withdrawn()
            del place.customers["ann"]

        place.on_turn = is_fired
        await problem(await invoked("c"), 401)


async def websocket(
    app: Any, path: str, headers: Mapping[str, str], to_client: asyncio.Queue[Any]
) -> tuple[asyncio.Task[None], asyncio.Queue[Any]]:
    """A WebSocket to the app, as a server would open it."""
    to_server: asyncio.Queue[Any] = asyncio.Queue()
    to_server.put_nowait({"type": "websocket.connect"})
    scope = scope_of(path, headers)
    return asyncio.create_task(app(scope, to_server.get, to_client.put)), to_server


async def test_a_socket_is_closed_and_what_it_asks_meanwhile_is_refused(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), shop(tmp_path, router=False) as place:
        await place.client.post("/threads", json={"thread_id": "t"}, headers=as_user("ann"))
        sent: asyncio.Queue[Any] = asyncio.Queue()
        headers = {"host": "shop.example", **as_user("ann")}
        socket, heard = await websocket(place.app, "/ai/threads/t/ws", headers, sent)
        assert (await sent.get())["type"] == "websocket.accept"
        assert json.loads((await sent.get())["text"])["type"] == "ready"
        del place.customers["ann"]
        command = {"type": "message", "message": "Hello", "id": "1"}
        heard.put_nowait({"type": "websocket.receive", "text": json.dumps(command)})
        refused = json.loads((await sent.get())["text"])
        assert (refused["type"], refused["status"]) == ("problem", 401)
        await place.renew()
        assert await sent.get() == {"type": "websocket.close", "code": 1008}
        await socket
        assert (await place.assent.runs.storage.runs(thread_id="t")) == ()


# ── without an app ──


@dataclass
class Register:
    """A source that a test writes: people by the secret that they send."""

    people: dict[str, tuple[str, ...]]
    is_away: bool = False
    asked: int = 0
    kind: Any = "session"
    found: list[str] = field(default_factory=list)

    async def find(self, given: Any, request: Any) -> Found | None:
        raise AssertionError("Nobody is looked for here.")

    async def renew(self, identity: Identity) -> Found | None:
        self.asked += 1
        if self.is_away:
            raise Unavailable("The disk is away.")
        name = identity.owner.name
        return found(name, self.people[name]) if name in self.people else None


def found(name: str, roles: tuple[str, ...]) -> Found:
    return Found(name, Authentication.SESSION, Credential("session", name), roles=roles)


class Streams:
    """Open streams, as far as they are renewed."""

    def __init__(self, *identities: Identity) -> None:
        self.all = [Stream(each) for each in identities]

    def __iter__(self) -> Any:
        return iter(self.all)


@dataclass
class Stream:
    identity: Identity
    requests: Any = None
    is_signed_out: bool = False

    def sign_out(self) -> None:
        self.is_signed_out = True


class Times:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """Streams of ann and bob, two each, and whoever renews them."""

    times: Times = field(default_factory=Times)
    register: Register = field(
        default_factory=lambda: Register({"ann": ("operator",), "bob": ("operator", "auditor")})
    )

    def __post_init__(self) -> None:
        roles = Roles(People(default=("operator",)))
        sources = [KeysOfSettings({"cleo": "secret-of-cleo"}), self.register]
        self.access = Access(sources, roles, allows_query_token=False, now=self.times)
        self.ann, self.bob = (
            self.access.identity_of(found(name, self.register.people[name]))
            for name in ("ann", "bob")
        )
        self.streams = Streams(self.ann, self.bob, self.ann, self.bob)

    async def turn(self, seconds: float = 20) -> list[bool]:
        self.times.now += seconds
        await Renewer(self.streams, self.access, self.times).turn()  # type: ignore[arg-type]
        return [each.is_signed_out for each in self.streams]


async def test_each_person_is_asked_for_once_and_whose_rights_change_is_signed_out() -> None:
    desk = Desk()
    assert await desk.turn() == [False] * 4
    assert desk.register.asked == 2
    desk.register.people["bob"] = ("operator",)
    assert await desk.turn() == [False, True, False, True]
    del desk.register.people["ann"]
    assert await desk.turn() == [True] * 4


@dataclass
class Mute:
    """An app that never says who reads its streams."""

    asked: int = 0

    async def get(self, path: str) -> tuple[int, Any]:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


async def test_an_app_that_never_answers_keeps_nobodys_stream_open() -> None:
    desk, app = Desk(), Mute()
    del desk.register.people["bob"]
    desk.streams.all[0].requests = desk.streams.all[2].requests = app

    async def turn() -> list[bool]:
        renewer = Renewer(desk.streams, desk.access, desk.times, patience=0.01)  # type: ignore[arg-type]
        await renewer.turn()
        return [each.is_signed_out for each in desk.streams]

    async with asyncio.timeout(PATIENCE):
        desk.times.now += KEPT_SECONDS - 1
        assert await turn() == [False, True, False, True]
        assert app.asked == 2
        desk.times.now += 1
        assert await turn() == [True] * 4


async def test_nobody_is_signed_out_while_the_storage_is_away_for_a_moment() -> None:
    desk = Desk()
    desk.register.is_away = True
    assert await desk.turn(KEPT_SECONDS - 1) == [False] * 4
    assert await desk.turn(1) == [True] * 4


async def test_a_request_over_an_open_socket_asks_again_after_ten_seconds() -> None:
    desk = Desk()
    del desk.register.people["ann"]
    desk.times.now += RENEWED_AFTER - 1
    assert await desk.access.still(desk.ann) is desk.ann
    desk.times.now += 1
    with pytest.raises(Exception, match="signed out") as refused:
        await desk.access.still(desk.ann)
    assert getattr(refused.value, "status_code", 0) == 401
    assert await desk.access.still(desk.bob) is desk.bob
