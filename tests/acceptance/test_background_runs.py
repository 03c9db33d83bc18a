"""Runs that nobody waits for: taken at once, found and followed later, delayed, and in the order of
their priority."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.server import (
    Api,
    Server,
    asking,
    events_of,
    expect,
    problem,
    scripted_agents,
    serving,
)
from tests.support.waiting import PATIENCE

AGENTS = ("agent", "slow_agent")
SLACK = 20.0
"""Seconds by which a busy machine may be late. A run that no timer starts comes later."""


async def all_are_heard(api: Api, run_id: str) -> None:
    """Wait until the server has what was sent to it before: it has let a later request wait."""
    late = await api.http.get(f"/runs/{run_id}/wait", params={"timeout": 0.3})
    await expect(late, 202)


# ── started and found ─────────────────────────────────────────────────────────────────────────────


async def test_it_is_taken_at_once_and_found(server: Server, api: Api) -> None:
    response = await api.http.post(
        "/agent/runs",
        json={
            "message": "hold 5",
            "thread_id": "t",
            "metadata": {"from": "a test"},
            "priority": 3,
        },
    )
    run = (await expect(response, 202)).json()
    assert response.headers["location"] == f"/runs/{run['run_id']}"
    assert (response.headers["x-run-id"], response.headers["x-thread-id"]) == (run["run_id"], "t")
    assert (run["thread_id"], run["agent"], run["kind"]) == ("t", "agent", "input")
    assert (run["status"], run["attempt"], run["priority"], run["metadata"]) == (
        "running",
        1,
        3,
        {"from": "a test"},
    )
    assert (run["ended_at"], run["error"], run["due_at"]) == (None, None, None)
    assert run["created_at"] <= run["started_at"]
    assert await api.get(response.headers["location"]) == run
    assert await api.get("/runs", thread_id="t") == {"runs": [run], "next": None}
    server.let_go(5)
    ended = await api.ended(run["run_id"])
    assert ended["status"] == "success"
    assert ended["ended_at"] > run["started_at"]
    assert ended["usage"]["steps"] >= 3
    assert ended.keys() == run.keys()


async def test_runs_are_listed_newest_first_in_pages_and_by_status(
    server: Server, api: Api
) -> None:
    ids = [
        (await api.run("t", f"look {number}", on_busy="enqueue"))["run_id"]
        for number in range(1, 6)
    ]
    await api.run("other", "tell 1")
    for run_id in ids:
        await api.ended(run_id)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await api.get("/runs", thread_id="t", limit=2, **cursor)
        seen += [run["run_id"] for run in page["runs"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == ids[::-1]
    later = await api.run("t", "look 9", after_seconds=600)
    waiting = await api.runs("t", status="pending")
    assert [run["run_id"] for run in waiting] == [later["run_id"]]
    assert len(await api.runs("t", status="success")) == 5
    everywhere = (await api.get("/runs"))["runs"]
    assert {run["thread_id"] for run in everywhere} == {"t", "other"}
    for wrong in ({"limit": 0}, {"status": "open"}, {"cursor": "nonsense"}):
        await problem(await api.http.get("/runs", params=wrong), 422)


async def test_what_there_is_not_is_a_404(api: Api) -> None:
    for path in (
        "/runs/nobody",
        "/runs/nobody/wait",
        "/runs/nobody/stream",
        "/threads/nobody/runs",
    ):
        await problem(await api.http.get(path), 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": ""},
        {"message": "x", "after_seconds": -1},
        {"message": "x", "after_seconds": 366 * 24 * 3600},
        {"message": "x", "after_seconds": "soon"},
        {"message": "x", "after_seconds": 5, "on_busy": "interrupt"},
        {"message": "x", "priority": 101},
        {"message": "x", "priority": -101},
        {"message": "x", "priority": 0.5},
        {"message": "x", "thread_id": "u v"},
        {"message": "x", "checkpoint_id": ""},
        {"message": "x", "if_paused": "ignore"},
    ],
)
async def test_a_bad_body_starts_nothing(api: Api, body: dict[str, object]) -> None:
    await problem(await api.http.post("/agent/runs", json={"thread_id": "t", **body}), 422)
    await problem(await api.http.get("/threads/t"), 404)


async def test_only_runs_in_the_background_may_be_delayed(api: Api) -> None:
    for path in ("/agent/stream", "/agent/invoke"):
        await problem(
            await api.http.post(path, json={"message": "tell 1", "after_seconds": 1}), 422
        )


# ── waited for and followed ───────────────────────────────────────────────────────────────────────


async def test_to_wait_is_to_invoke(api: Api) -> None:
    for thread, message, status in (
        ("a", "tell 2", "success"),
        ("b", "pay 1", "interrupted"),
        ("c", "boom", "error"),
    ):
        run = await api.run(thread, message)
        waited = await api.get(f"/runs/{run['run_id']}/wait")
        invoked = (
            await api.http.post(
                "/agent/invoke", json={"message": message, "thread_id": f"{thread}-invoked"}
            )
        ).json()
        assert waited.keys() == invoked.keys()
        assert (waited["status"], waited["run_id"], waited["thread_id"]) == (
            status,
            run["run_id"],
            thread,
        )
        assert (waited["status"], waited["output"]) == (invoked["status"], invoked["output"])
        assert len(waited["approvals"]) == len(invoked["approvals"])
        # However often one asks, and however short one waits.
        assert await api.get(f"/runs/{run['run_id']}/wait") == waited
        assert await api.get(f"/runs/{run['run_id']}/wait", timeout=0) == waited


async def test_a_wait_may_be_short(server: Server, api: Api) -> None:
    run = await api.run("t", "hold 5")
    for seconds in (0, 0.3):
        asked_at = time.monotonic()
        response = await expect(
            await api.http.get(f"/runs/{run['run_id']}/wait", params={"timeout": seconds}), 202
        )
        assert seconds <= time.monotonic() - asked_at < seconds + SLACK
        assert (response.json()["run_id"], response.json()["status"]) == (run["run_id"], "running")
    waiting = [
        asyncio.create_task(api.get(f"/runs/{run['run_id']}/wait", timeout=PATIENCE))
        for _ in range(20)
    ]
    await all_are_heard(api, run["run_id"])
    server.let_go(5)
    assert {answer["output"] for answer in await asyncio.gather(*waiting)} == {"Results: held 5"}
    for wrong in ("-1", "nan", "inf", "soon", "4000"):
        await problem(
            await api.http.get(f"/runs/{run['run_id']}/wait", params={"timeout": wrong}), 422
        )


async def test_who_waits_is_told_when_the_thread_is_removed(api: Api) -> None:
    run = await api.run("t", "tell 1", after_seconds=600)
    waiting = asyncio.create_task(api.http.get(f"/runs/{run['run_id']}/wait"))
    await all_are_heard(api, run["run_id"])
    await expect(await api.http.delete("/threads/t"), 204)
    await problem(await waiting, 404)


async def test_who_waits_is_told_when_the_server_stops(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, *AGENTS), ASSENT_DRAIN_SECONDS="1") as server:
        async with asking(server) as api:
            run = await api.run("t", "tell 100", agent="slow_agent")
            waiting = asyncio.create_task(api.http.get(f"/runs/{run['run_id']}/wait"))
            await api.until("t", "token")
            await asyncio.to_thread(server.terminate)
            body = await problem(await waiting, 503)
            assert body["run_id"] == run["run_id"]
            server.start()
            assert (await api.ended(run["run_id"]))["status"] == "success"


async def test_a_run_is_followed_from_anywhere(api: Api) -> None:
    """Its own events alone, whether it is to come, goes on, or has ended."""
    await api.stream("tell 3", thread_id="t")
    running = await api.run("t", "tell 40")
    queued = await api.run("t", "tell 5", on_busy="enqueue")
    followed = await asyncio.gather(*(_stream(api, run["events"]) for run in (running, queued)))
    events = await api.events("t")
    for run, seen in zip((running, queued), followed, strict=True):
        mine = [event for event in events if event["run_id"] == run["run_id"]]
        assert seen == mine
        assert (seen[0]["type"], seen[-1]["type"]) == ("run_start", "done")
        assert await _stream(api, run["events"]) == mine
        assert await _stream(api, run["events"], last=mine[2]["seq"]) == mine[3:]
        ended = {"Last-Event-ID": str(mine[-1]["seq"])}
        await expect(await api.http.get(run["events"], headers=ended), 204)
    for last, status in (("1000000000", 410), ("x", 422)):
        refused = await api.http.get(running["events"], headers={"Last-Event-ID": last})
        await problem(refused, status)


async def _stream(api: Api, path: str, last: int | None = None) -> list[dict[str, object]]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with asyncio.timeout(PATIENCE), api.http.stream("GET", path, headers=headers) as response:
        await expect(response, 200)
        return [event async for event in events_of(response)]


# ── later ─────────────────────────────────────────────────────────────────────────────────────────


def lateness(run: dict[str, str]) -> timedelta:
    return datetime.fromisoformat(run["started_at"]) - datetime.fromisoformat(run["due_at"])


async def test_a_delayed_run_is_never_early(server: Server, api: Api) -> None:
    runs = [
        await api.run(f"t{number}", f"look {number}", after_seconds=number / 4)
        for number in range(1, 9)
    ]
    for number, run in enumerate(runs, 1):
        assert run["status"] == "pending"
        delay = datetime.fromisoformat(run["due_at"]) - datetime.fromisoformat(run["created_at"])
        assert timedelta(seconds=number / 4 - 5) < delay <= timedelta(seconds=number / 4)
    for run in runs:
        ended = await api.ended(run["run_id"])
        assert ended["status"] == "success"
        assert timedelta(0) <= lateness(ended) < timedelta(seconds=SLACK)
    assert server.traces() == [f"look {number}" for number in range(1, 9)]


async def test_a_thread_takes_input_while_a_run_is_to_start_later(server: Server, api: Api) -> None:
    later = await api.run("t", "look 9", after_seconds=3)
    assert (await api.stream("look 1", thread_id="t"))[-1]["type"] == "done"
    # Its time comes while another runs, so it waits its turn.
    await api.run("t", "hold 5")
    afterwards = await api.run("other", "look 2", after_seconds=3.2)
    await api.ended(afterwards["run_id"])
    assert (await api.get(f"/runs/{later['run_id']}"))["status"] == "pending"
    server.let_go(5)
    assert (await api.ended(later["run_id"]))["status"] == "success"
    assert server.traces() == ["look 1", "hold 5", "look 2", "held 5", "look 9"]


async def test_a_delayed_run_outlives_the_process(server: Server, api: Api) -> None:
    early = await api.run("early", "look 1", after_seconds=0.5)
    late = await api.run("late", "look 2", after_seconds=8)
    server.kill()
    await asyncio.sleep(0.6)
    server.start()
    ended = await api.ended(early["run_id"])
    assert ended["status"] == "success"
    assert (await api.get(f"/runs/{late['run_id']}"))["status"] == "pending"
    ended = await api.ended(late["run_id"])
    assert timedelta(0) <= lateness(ended) < timedelta(seconds=SLACK)
    assert server.traces() == ["look 1", "look 2"]


# ── more than may run at once ─────────────────────────────────────────────────────────────────────


async def test_those_of_a_higher_priority_go_first(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), ASSENT_MAX_RUNS="1") as server:
        async with asking(server) as api:
            first = await api.run("first", "hold 5")
            await server.until_traced("hold 5")
            priorities = [0, -100, 5, 100, 5, 0]
            runs = [
                await api.run(f"t{number}", f"look {number}", priority=priority)
                for number, priority in enumerate(priorities)
            ]
            assert [run["status"] for run in runs] == ["pending"] * 6
            # It takes its turn among the others, though somebody waits for its answer.
            answer = asyncio.create_task(
                api.http.post(
                    "/agent/invoke", json={"message": "look 6", "thread_id": "t6", "priority": 50}
                )
            )
            await api.until_there("t6")
            # One whose turn has not come is cancelled, and its thread is free at once.
            assert [run["status"] for run in await api.cancel("/threads/t4")] == ["cancelled"]
            assert (await api.get("/threads/t4"))["status"] == "idle"
            server.let_go(5)
            assert (await api.ended(first["run_id"]))["status"] == "success"
            assert (await answer).json()["status"] == "success"
            for number in (0, 1, 2, 3, 5):
                assert (await api.ended(runs[number]["run_id"]))["status"] == "success"
            assert server.traces("look") == [
                "look 3",
                "look 6",
                "look 2",
                "look 0",
                "look 5",
                "look 1",
            ]
