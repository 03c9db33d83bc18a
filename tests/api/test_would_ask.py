"""What a fork from a state of a thread would ask, before it is made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.server import Api, expect, problem

AGENTS = ("agent", "asking", "stopping")


async def asks_of(api: Api, thread: str) -> dict[str, Any]:
    """What each state of the thread's past asks, by its checkpoint."""
    states = await api.get(f"/threads/{thread}/history", limit=100)
    ids = [state["checkpoint_id"] for state in states]
    return {id: await api.get(f"/threads/{thread}/state/{id}/asks") for id in ids}


async def test_a_call_that_was_decided_would_be_asked_anew(
    api: Api, thread: str, amount: int
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    await api.decided(thread, type="approve")
    await api.at_rest(thread)
    rows = (await api.get("/approvals", thread_id=thread))["approvals"]
    states = await api.get(f"/threads/{thread}/history", limit=100)
    asks = await asks_of(api, thread)
    assert asks == await asks_of(api, thread)
    # The state in which it was asked, and the one in which it was about to run.
    waiting = [each for each in asks.values() if each["standing"] == "waiting"]
    assert len(waiting) == 2
    for each in waiting:
        (question,) = each["asks"]
        same = ("node", "tool_call_id", "kind", "tool", "args", "digest", "allowed")
        for name in (*same, "risk", "roles", "names", "quorum", "four_eyes", "warnings"):
            assert question[name] == approval[name], name
    assert asks[states[0]["checkpoint_id"]]["standing"] == "at_rest"
    assert {each["standing"] for each in asks.values()} == {"waiting", "at_rest", "can_go_on"}
    # Nothing was changed by looking.
    assert (await api.get("/approvals", thread_id=thread))["approvals"] == rows
    assert await api.get(f"/threads/{thread}/history", limit=100) == states


@pytest.mark.parametrize("agent", AGENTS)
async def test_a_fork_asks_what_it_was_said_to(
    api: Api, thread: str, amount: int, agent: str
) -> None:
    said = {"agent": f"pay {amount}", "asking": "Which colour?", "stopping": "Publish it."}
    await api.paused(said[agent], thread_id=thread, agent=agent)
    for number, (id, asks) in enumerate((await asks_of(api, thread)).items()):
        body = {"checkpoint_id": id, "thread_id": f"{thread}-{number}"}
        await expect(await api.http.post(f"/threads/{thread}/fork", json=body), 201)
        await api.at_rest(body["thread_id"])
        asked = (await api.get("/approvals", thread_id=body["thread_id"]))["approvals"]
        found = [(each["kind"], each["args"], each["digest"]) for each in asked]
        assert found == [(each["kind"], each["args"], each["digest"]) for each in asks["asks"]]
        assert bool(asked) == (asks["standing"] == "waiting")


async def test_a_state_that_there_is_not_asks_nothing(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    for path in (f"/threads/{thread}/state/nonsense/asks", "/threads/nobody/state/x/asks"):
        await problem(await api.http.get(path), 404)
