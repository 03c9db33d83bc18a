"""Tickets, and keys among the subprotocols of a handshake: what a page can send with a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent import Assent, build_hitl_agent
from assent.api.access.tickets import ByTicket
from assent.api.app import ROUTES
from assent.api.routes.dialects import DIALECT_ROUTES
from assent.api.routing import JsonRoute
from assent.core.access import Owner
from assent.core.audit import LOCAL, Actor
from assent.core.clock import Clock
from tests.support.handshakes import handshake, protocol
from tests.support.models import ScriptedModel, say
from tests.support.secrets import bearer, keys_of
from tests.support.server import problem

EVENTS = "/threads/t/events"
PAGE = {"accept": "application/json"}


@dataclass
class Site:
    assent: Assent
    client: httpx.AsyncClient

    @property
    def tickets(self) -> ByTicket:
        assert self.assent._served is not None and self.assent._served.sign_ins is not None
        return self.assent._served.sign_ins.tickets

    async def ticket(self, path: str = EVENTS, transport: str = "sse", **headers: str) -> str:
        body = {"path": path, "transport": transport}
        made = await self.client.post(
            "/stream-tickets", json=body, headers=headers or bearer("ann")
        )
        assert made.status_code == 201, made.text
        assert made.headers["cache-control"] == "no-store"
        return str(made.json()["ticket"])

    async def open(self, ticket: str, path: str = EVENTS) -> httpx.Response:
        return await self.client.get(path, params={"ticket": ticket}, headers=PAGE)


@asynccontextmanager
async def site(folder: Path, **settings: Any) -> AsyncIterator[Site]:
    agent = build_hitl_agent(ScriptedModel(script=[say("Hello.")]), [], approve=[])
    options = {"api_keys": keys_of("ann", "bob"), "failed_keys": "none", **settings}
    async with Assent(agent, database=str(folder / "a.db"), settings=options) as assent:
        transport = httpx.ASGITransport(assent.app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.post("/threads", json={"thread_id": "t"}, headers=bearer("ann"))
            yield Site(assent, client)


async def test_a_ticket_opens_its_stream_once(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        ticket = await there.ticket()
        answers = await asyncio.gather(*(there.open(ticket) for _ in range(100)))
        assert sorted(each.status_code for each in answers) == [200] + [401] * 99
        await problem(await there.open(ticket), 401)


async def test_it_is_for_one_path_and_one_transport_and_one_server(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        body = {"thread_id": "u"}
        await there.client.post("/threads", json=body, headers=bearer("ann"))
        of_socket = await there.ticket(EVENTS, "websocket")
        for ticket, path in (
            (await there.ticket(), "/threads/u/events"),
            (of_socket, EVENTS),
            ("tkt_" + "0" * 43, EVENTS),
            ("secret-of-ann", EVENTS),
            ("", EVENTS),
        ):
            await problem(await there.open(ticket, path), 401)
        # What takes no ticket does not know the parameter.
        refused = await there.client.get("/threads/t", params={"ticket": await there.ticket()})
        assert refused.status_code == 401
        twice = [("ticket", await there.ticket()), ("ticket", await there.ticket())]
        await problem(await there.client.get(EVENTS, params=twice, headers=PAGE), 401)


async def test_it_lasts_for_half_a_minute_and_nobody_can_add_to_it(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        tickets = there.tickets
        storage = there.assent.runs.storage
        ticket = await there.ticket()
        row = await storage.ticket(tickets.pepper.mac("ticket", ticket))
        assert row is not None and ticket not in repr(row)
        later = Clock(now=lambda: row.expires_at)
        used = replace(tickets, clock=later)._used
        assert await used(ticket, EVENTS, "sse") is None
        in_time = Clock(now=lambda: row.expires_at - timedelta(milliseconds=1))
        assert await replace(tickets, clock=in_time)._used(ticket, EVENTS, "sse") == row


async def test_it_gives_no_more_than_whoever_took_it_has_and_nothing_once_they_are_gone(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as there:
        # Another's thread is none.
        await problem(await there.open(await there.ticket(**bearer("bob"))), 404)

        keys = there.assent._served.sign_ins.stored.keys  # type: ignore[union-attr]
        made = await keys.make(Owner("ann"), ["viewer"], Actor(LOCAL))
        key = {"authorization": f"Bearer {made.text}"}
        ticket, spare = [await there.ticket(**key) for _ in range(2)]
        assert (await there.open(ticket)).status_code == 200
        revoked = await there.client.delete(f"/keys/{made.row.key_id}", headers=bearer("ann"))
        assert revoked.status_code == 200
        await problem(await there.open(spare), 401)


async def test_where_nobody_is_known_none_is_needed_and_none_is_looked_at(tmp_path: Path) -> None:
    async with site(tmp_path, api_keys={}) as there:
        await there.client.post("/threads", json={"thread_id": "t"})
        body = {"path": EVENTS, "transport": "sse"}
        await problem(await there.client.post("/stream-tickets", json=body), 409)
        assert (await there.open("whatever")).status_code == 200


# ── WebSockets ──


async def test_a_socket_takes_a_key_among_its_subprotocols_and_tells_nobody(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as there:
        app, path = there.assent.app, "/threads/t/ws"
        ann = protocol("secret-of-ann")
        for offered, status, chosen in (
            (f"assent, {ann}", 101, "assent"),
            (ann, 101, None),
            ("assent", 401, None),
            (f"assent, {protocol('secret-of-bob')}", 404, None),
            (f"assent, {protocol('wrong')}", 401, None),
            ("assent, assent.key.%%%", 401, None),
            (f"assent, {ann}, {protocol('secret-of-bob')}", 401, None),
        ):
            given = {"sec-websocket-protocol": offered}
            found, subprotocol, scope = await handshake(app, path, given)
            assert (found, subprotocol) == (status, chosen), offered
            assert "assent.key" not in json.dumps(scope["subprotocols"])
            assert b"assent.key" not in b"".join(value for _, value in scope["headers"])
        # A GET is no handshake, and no other route takes a key so.
        headers = {"sec-websocket-protocol": f"assent, {ann}"}
        await problem(await there.client.get("/threads/t", headers=headers), 401)


async def test_a_socket_takes_a_ticket_and_what_it_asks_is_asked_as_that_person(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as there:
        ticket = await there.ticket("/threads/t/ws", "websocket")
        app = there.assent.app
        status, _, scope = await handshake(app, "/threads/t/ws", {}, f"ticket={ticket}&after=0")
        assert (status, scope["query_string"]) == (101, b"after=0")
        status, _, _ = await handshake(app, "/threads/t/ws", {}, f"ticket={ticket}")
        assert status == 401
        # One for server-sent events, or of another thread, opens no socket.
        of_events = await there.ticket("/threads/t/ws", "sse")
        of_another = await there.ticket("/threads/u/ws", "websocket")
        for other in (of_events, of_another, await there.ticket()):
            status, _, _ = await handshake(app, "/threads/t/ws", {}, f"ticket={other}")
            assert status == 401
        with pytest.raises(AssertionError):
            await there.ticket("no path", "websocket")


def test_no_query_of_a_stream_that_takes_a_ticket_names_what_it_is_of() -> None:
    """A ticket is for a path, with any query."""
    modules = (*ROUTES, *chain.from_iterable(DIALECT_ROUTES.values()))
    routes = [route for module in modules for route in module.router.routes]
    streams = [each for each in routes if isinstance(each, JsonRoute) and each.rule.ticket]
    assert len(streams) > 10
    said = {name for each in streams for name in queries_of(each.dependant)}
    # They say from where, and in which form; and which agent is asked, as whoever may ask any. A
    # ticket stops no run.
    assert said <= {
        *("after", "before", "last_event_id", "limit", "timeout", "types", "named"),
        "include_history",
        *("agent", "stream_mode", "stream_subgraphs", "checkpoint_id", "cancel_on_disconnect"),
    }


def queries_of(dependant: Any) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from queries_of(each)
