"""The URLs in answers are those that the client can ask for, wherever the server stands in another
app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from langchain_core.tools import tool
from starlette.types import ASGIApp

from assent import Assent, build_hitl_agent
from tests.support.models import ScriptedModel, call, say
from tests.support.server import expect, problem

Json = Any
Place = Callable[[Assent], ASGIApp]


@tool
async def pay(amount: int) -> str:
    """Pay an amount."""
    return f"paid {amount}"


def at_the_root(assent: Assent) -> ASGIApp:
    return assent.app


def mounted(assent: Assent) -> FastAPI:
    host = FastAPI()
    host.mount("/ai", assent.app)
    return host


def mounted_twice(assent: Assent) -> FastAPI:
    host = FastAPI()
    host.mount("/team a", mounted(assent))
    return host


def included(assent: Assent) -> FastAPI:
    host = FastAPI()
    host.include_router(assent.router, prefix="/ai")
    return host


def behind_a_proxy(assent: Assent) -> FastAPI:
    """The proxy takes its prefix off, and the host is told which."""
    host = included(assent)
    host.root_path = "/shop"
    return host


PLACES: Mapping[str, tuple[Place, str, str]] = {
    "root": (at_the_root, "", ""),
    "mount": (mounted, "/ai", "/ai"),
    "mount in a mount": (mounted_twice, "/team%20a/ai", "/team%20a/ai"),
    "router": (included, "/ai", "/ai"),
    "router behind a proxy": (behind_a_proxy, "/ai", "/shop/ai"),
}


@pytest.fixture(params=PLACES.values(), ids=PLACES)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client that asks under the server's prefix, and the prefix that answers should name."""
    put, asked, named = request.param
    model = ScriptedModel(script=[call("pay", amount=3), say("Paid."), say("Hello.")])
    agent = build_hitl_agent(model, [pay], approve=["pay"])
    async with Assent(agent, database=str(tmp_path / "a.db")) as assent:
        transport = httpx.ASGITransport(put(assent))
        base_url = f"http://localhost{asked}"
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
            yield client, named


async def test_every_url_in_an_answer_has_the_prefix(place: tuple[httpx.AsyncClient, str]) -> None:
    client, prefix = place

    def has_prefix(url: str, path: str) -> bool:
        return url.startswith(prefix + path)

    started = await client.post("/agent/runs", json={"message": "Pay 3.", "thread_id": "t"})
    run = (await expect(started, 202)).json()
    assert has_prefix(started.headers["location"], f"/runs/{run['run_id']}")
    assert has_prefix(run["events"], f"/runs/{run['run_id']}/stream")

    await client.get(f"/runs/{run['run_id']}/wait")
    read = (await client.get(f"/runs/{run['run_id']}")).json()
    listed = (await client.get("/runs?thread_id=t")).json()["runs"]
    assert [each["events"] for each in (read, *listed)] == [run["events"]] * 2

    decided = await client.post("/threads/t/resume", json={"type": "approve"})
    outcome = (await expect(decided, 202)).json()
    assert has_prefix(outcome["events"], "/threads/t/events?after=")
    assert decided.headers["location"] == outcome["events"]
    await client.get(f"/runs/{outcome['run_id']}/wait")

    forked = await expect(await client.post("/threads/t/fork", json={}), 201)
    assert has_prefix(forked.headers["location"], "/threads/")

    plan = {"message": "Hi.", "cron": "0 0 1 1 *"}
    schedule = await expect(await client.post("/schedules", json=plan), 201)
    assert has_prefix(schedule.headers["location"], "/schedules/")

    limits = {"bounds": {"amount": {"any": True}}, "uses": 1, "until": "2999-01-01T00:00:00Z"}
    body = {"agent": "agent", "tool": "pay", "thread_id": "t", **limits}
    grant = await expect(await client.post("/grants", json=body), 201)
    assert has_prefix(grant.headers["location"], "/grants/")


async def test_a_repeated_request_is_answered_as_before(
    place: tuple[httpx.AsyncClient, str],
) -> None:
    client, _ = place
    headers = {"idempotency-key": "k"}
    answers = [
        await client.post("/agent/runs", json={"message": "Pay 3."}, headers=headers)
        for _ in range(2)
    ]
    assert len({answer.json()["run_id"] for answer in answers}) == 1


async def test_errors_are_problem_documents(place: tuple[httpx.AsyncClient, str]) -> None:
    client, _ = place
    await problem(await client.get("/threads/nobody"), 404)
    await problem(await client.post("/agent/invoke", json={"massage": "Hi."}), 422)
    client.headers["content-type"] = "application/json"
    await problem(await client.post("/agent/invoke", content=b"{"), 400)
    await problem(await client.get("/agents?colour=red"), 422)
    too_long = b'{"message": "%s"}' % (b"x" * (1 << 20))
    await problem(await client.post("/agent/invoke", content=too_long), 413)
