"""Runs that LangGraph's clients delete: gone from the lists, and nothing that they did is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.support.server import Api, Server, expect, problem


@pytest.fixture
async def sdk(server: Server) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=server.url) as client:
        yield client


async def refused(api: Api, thread: str, run_id: str) -> str:
    """The sentence by which the deletion is refused."""
    answer = await api.http.delete(f"/threads/{thread}/runs/{run_id}")
    return str((await problem(answer, 409))["detail"])


async def test_a_run_that_has_ended_goes_from_the_lists_and_nothing_else_does(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    (asked,) = await api.paused(f"pay {amount}", thread_id=thread)
    await api.decided(thread, type="approve")
    await api.at_rest(thread)
    first, second = (run["run_id"] for run in reversed(await api.runs(thread)))
    state, events = await sdk.threads.get_state(thread), await api.events(thread)

    await sdk.runs.delete(thread, second)
    await sdk.runs.delete(thread, first)
    server.restart()
    assert await sdk.runs.list(thread) == []
    for run_id in (first, second):
        with pytest.raises(NotFoundError):
            await sdk.runs.get(thread, run_id)
        with pytest.raises(NotFoundError):
            await sdk.runs.delete(thread, run_id)
        await problem(await api.http.get(f"/runs/{run_id}"), 404)
        await problem(await api.http.get(f"/threads/{thread}/runs/{run_id}/stream"), 404)
    assert await sdk.threads.get_state(thread) == state
    assert await api.events(thread) == events
    assert (await api.approval(asked["approval_id"]))["status"] == "approved"
    records = (await api.get("/audit", thread_id=thread))["audit"]
    assert [each["run_id"] for each in records if each["action"] == "erased"] == [second, first]

    # The thread goes on, and what was done is not done again.
    values: Any = await sdk.runs.wait(
        thread, "agent", input={"messages": [{"role": "user", "content": "tell 1"}]}
    )
    assert values["messages"][-1]["content"] == "word0"
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_what_was_started_under_a_key_is_not_started_again_once_it_was_deleted(
    sdk: LangGraphClient, api: Api, thread: str
) -> None:
    body = {"assistant_id": "agent", "input": {"messages": "tell 1"}, "if_not_exists": "create"}
    path, key = f"/threads/{thread}/runs", {"Idempotency-Key": thread}
    run = (await expect(await api.http.post(path, json=body, headers=key), 200)).json()
    await api.ended(run["run_id"])
    await sdk.runs.delete(thread, run["run_id"])
    await problem(await api.http.post(path, json=body, headers=key), 404)
    assert await sdk.runs.list(thread) == []


async def test_a_run_that_asks_a_person_is_not_deleted_until_that_was_decided_and_has_run(
    sdk: LangGraphClient, api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"slow {amount}", thread_id=thread)
    (paused,) = await api.runs(thread)
    assert "waits for a person" in await refused(api, thread, paused["run_id"])
    assert (await sdk.runs.get(thread, paused["run_id"]))["status"] == "success"

    await api.decided(thread, type="approve")
    # What goes on has the budgets of the run that asked.
    assert "goes on from what was decided" in await refused(api, thread, paused["run_id"])
    going_on = (await api.runs(thread))[0]["run_id"]
    assert "is 'running'" in await refused(api, thread, going_on)
    later = await sdk.runs.create(thread, "agent", input={"messages": "tell 1"}, after_seconds=3600)
    assert "is 'pending'" in await refused(api, thread, later["run_id"])
    server.let_go(amount)
    await api.ended(going_on)
    await sdk.runs.delete(thread, paused["run_id"])
    await sdk.runs.cancel(thread, later["run_id"], wait=True)
    await sdk.runs.delete(thread, later["run_id"])
    assert [run["run_id"] for run in await sdk.runs.list(thread)] == [going_on]
    # Nor is one of another thread.
    with pytest.raises(NotFoundError):
        await sdk.runs.delete("elsewhere", going_on)
