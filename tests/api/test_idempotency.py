"""`Idempotency-Key` wherever a run is started: the same run again, and never a second."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import (
    Api,
    asking,
    events_of,
    expect,
    problem,
    scripted_agents,
    serving,
)

ROUTES = ["stream", "invoke", "background", "later", "schedule", "fork"]


async def request(api: Api, route: str, thread: str) -> tuple[str, Any]:
    """The path and body by which this route starts a run."""
    said = {"message": "tell 1", "thread_id": thread}
    match route:
        case "stream":
            return "/agent/stream", said
        case "invoke":
            # The server chooses the thread.
            return "/agent/invoke", {"message": "tell 1", "metadata": {"for": thread}}
        case "background":
            return "/agent/runs", {**said, "on_busy": "enqueue"}
        case "later":
            return "/agent/runs", {**said, "after_seconds": 3600}
        case "schedule":
            plan = {"cron": "0 0 29 2 *", "message": "tell 1", "thread_id": thread}
            schedule = (await expect(await api.http.post("/schedules", json=plan), 201)).json()
            return f"/schedules/{schedule['schedule_id']}/run", None
        case _:
            await api.stream("tell 1", thread_id=thread)
            return f"/threads/{thread}/fork", {}


async def sent(api: Api, path: str, body: Any, key: str) -> Any:
    """The request under the key; the run that it answers with."""
    response = await api.http.post(path, json=body, headers={"Idempotency-Key": key})
    assert response.is_success, response.text
    if "x-run-id" in response.headers:
        return response.headers["x-run-id"]
    return response.json()["run_id"]


@pytest.mark.parametrize("route", ROUTES)
async def test_the_same_request_gets_the_same_run(api: Api, thread: str, route: str) -> None:
    path, body = await request(api, route, thread)
    first = await sent(api, path, body, thread)
    assert await sent(api, path, body, thread) == first
    run = await api.get(f"/runs/{first}")
    if route != "fork":
        runs = await api.runs(run["thread_id"])
        assert [each["run_id"] for each in runs] == [first]
    assert await sent(api, path, body, f"{thread}-2") != first


@pytest.mark.parametrize("route", ROUTES)
async def test_of_the_same_requests_at_once_one_starts_a_run(
    api: Api, thread: str, route: str
) -> None:
    path, body = await request(api, route, thread)
    runs = await asyncio.gather(*(sent(api, path, body, thread) for _ in range(8)))
    assert len(set(runs)) == 1


async def test_another_request_with_the_key_is_refused(api: Api, thread: str) -> None:
    body = {"message": "tell 1", "thread_id": thread}
    await sent(api, "/agent/invoke", body, thread)
    for path, other in (
        ("/agent/invoke", {**body, "message": "tell 2"}),
        ("/agent/stream", body),
        ("/agent/runs", body),
    ):
        response = await api.http.post(path, json=other, headers={"Idempotency-Key": thread})
        assert "sent with another request" in (await problem(response, 422))["detail"]
    assert len(await api.runs(thread)) == 1


async def test_a_stream_is_told_again_from_its_beginning(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    body = {"message": "tell 3", "thread_id": thread}

    async def streamed() -> list[Any]:
        headers = {"Idempotency-Key": thread}
        async with api.http.stream("POST", "/agent/stream", json=body, headers=headers) as got:
            return [event async for event in events_of(got)]

    first = await streamed()
    assert (first[0]["type"], first[-1]["type"]) == ("run_start", "done")
    await api.stream("tell 1", thread_id=thread)
    assert await streamed() == first


async def test_a_refused_request_is_tried_again(api: Api, thread: str, amount: int) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    body = {"message": "tell 1", "thread_id": thread}
    for _ in range(2):
        response = await api.http.post(
            "/agent/invoke", json=body, headers={"Idempotency-Key": thread}
        )
        await problem(response, 409)
    await api.decided(thread, type="reject")
    await api.at_rest(thread)
    run = await sent(api, "/agent/invoke", body, thread)
    assert await sent(api, "/agent/invoke", body, thread) == run


async def test_a_message_that_decides_decides_once(api: Api, thread: str, amount: int) -> None:
    body = {"message": "No.", "thread_id": thread, "if_paused": "reject"}
    await api.paused(f"pay {amount}", thread_id=thread)
    run = await sent(api, "/agent/invoke", body, thread)
    # It would be taken as a message now.
    assert await sent(api, "/agent/invoke", body, thread) == run
    assert len(await api.runs(thread)) == 2


async def test_it_is_the_same_run_after_a_kill(tmp_path: Path) -> None:
    """Whether the kill came before the run, in the middle of it, or after it was answered."""
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        async with asking(server) as api:
            for moment in range(1, 4):
                body = {"message": f"look {moment}", "thread_id": "t"}
                running = asyncio.create_task(sent(api, "/agent/invoke", body, f"key-{moment}"))
                if moment == 2:
                    await server.until_traced("look 2")
                elif moment == 3:
                    await running
                server.restart()
                await asyncio.gather(running, return_exceptions=True)
                run = await sent(api, "/agent/invoke", body, f"key-{moment}")
                assert await sent(api, "/agent/invoke", body, f"key-{moment}") == run
            assert len(await api.runs("t")) == 3
            messages = (await api.get("/threads/t"))["values"]["messages"]
            said = [each["content"] for each in messages if each["type"] == "human"]
            assert said == ["look 1", "look 2", "look 3"]
