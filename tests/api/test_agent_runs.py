"""Runs that are started in the background by `POST /agent/runs`, and listed by `GET /runs`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.server import Api, Server, expect, problem

AGENTS = ("agent", "slow_agent")


async def test_a_run_without_a_thread_begins_one(api: Api) -> None:
    response = await expect(await api.http.post("/agent/runs", json={"message": "tell 1"}), 202)
    run = response.json()
    assert response.headers["location"] == f"/runs/{run['run_id']}"
    assert response.headers["x-thread-id"] == run["thread_id"]
    assert (await api.ended(run["run_id"]))["status"] == "success"
    assert await api.last_words(run["thread_id"]) == "word0"


async def test_a_delayed_run_begins_a_thread_that_is_free_until_then(api: Api, thread: str) -> None:
    run = await api.run(thread, "tell 1", after_seconds=3600)
    due_at, created_at = (datetime.fromisoformat(run[name]) for name in ("due_at", "created_at"))
    assert timedelta(minutes=59) < due_at - created_at <= timedelta(hours=1)
    assert (await api.stream("tell 2", thread_id=thread))[-1]["type"] == "done"
    assert [each["status"] for each in await api.runs(thread)] == ["success", "pending"]


async def test_runs_are_listed_of_one_thread_or_of_all(api: Api, thread: str) -> None:
    other = f"{thread}-other"
    first, second = await api.run(thread, "tell 1"), await api.run(other, "tell 1")
    ids = [run["run_id"] for run in (first, second)]
    for run_id in ids:
        await api.ended(run_id)
    assert [run["run_id"] for run in await api.runs(thread)] == ids[:1]
    newest = (await api.get("/runs", limit=2))["runs"]
    assert [run["run_id"] for run in newest] == ids[::-1]
    assert (await api.get("/runs", thread_id="nobody")) == {"runs": [], "next": None}
    for wrong in ({"thread_id": "a b"}, {"status": "open"}, {"thread": thread}):
        await problem(await api.http.get("/runs", params=wrong), 422)


async def test_runs_are_listed_by_agent_owner_and_time(api: Api, thread: str, amount: int) -> None:
    other = f"{thread}-other"
    first = await api.run(thread, "tell 1")
    await api.ended(first["run_id"])
    await api.paused(f"pay {amount}", thread_id=other, agent="slow_agent")
    await api.decided(other, type="reject")
    await api.at_rest(other)
    resumed, paused = (await api.get("/runs", thread_id=other))["runs"]
    assert (resumed["paused_run"], resumed["checkpoint_id"]) == (paused["run_id"], None)
    assert paused["paused_run"] is None
    assert {run["owner"] for run in (first, paused, resumed)} == {"local"}

    async def found(**params: Any) -> list[str]:
        page = await api.get("/runs", limit=1000, **params)
        ids = (first["run_id"], paused["run_id"], resumed["run_id"])
        return [run["run_id"] for run in page["runs"] if run["run_id"] in ids]

    everything = [resumed["run_id"], paused["run_id"], first["run_id"]]
    assert await found(owner="local") == everything
    assert await found(owner="nobody") == []
    assert await found(agent="slow_agent") == everything[:2]
    assert await found(agent="slow_agent", status="interrupted") == everything[1:2]
    assert await found(since=paused["created_at"]) == everything[:2]
    assert await found(until=paused["created_at"]) == everything[1:]
    times = {"since": paused["created_at"], "until": paused["created_at"]}
    assert await found(agent="slow_agent", **times) == everything[1:2]
    assert await found(thread_id=thread, since=paused["created_at"]) == []
    assert await found(since="2999-01-01T00:00:00Z") == []
    await problem(await api.http.get("/runs", params={"since": "2026-01-01T00:00:00"}), 422)


@pytest.mark.parametrize(
    "body",
    [
        {"message": "x", "checkpoint_id": "c"},
        {"message": "x", "after_seconds": 1, "on_busy": "reject"},
        {"message": "x", "assistant_id": "agent"},
    ],
)
async def test_what_fits_no_run_starts_none(api: Api, server: Server, body: dict[str, Any]) -> None:
    before = await api.get("/runs")
    await problem(await api.http.post("/agent/runs", json=body), 422)
    assert await api.get("/runs") == before
