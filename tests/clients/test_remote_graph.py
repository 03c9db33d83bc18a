"""LangGraph's `RemoteGraph`: the agent of a second server is a node of a graph on the first, and
what it asks is decided there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.secrets import bearer, keys_of
from tests.support.server import Api, Server, asking, expect, scripted_agents, serving

OUTER = """
import os
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteGraph

remote = RemoteGraph("agent", url=os.environ["REMOTE"], api_key=os.environ["REMOTE_KEY"], name="remote")
graph = StateGraph(MessagesState)
graph.add_node("remote", remote)
graph.add_edge(START, "remote")
outer = graph.compile(name="outer")
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """The first server, and the second."""
    near, far = tmp_path_factory.mktemp("near"), tmp_path_factory.mktemp("far")
    (near / "outer.py").write_text(OUTER)
    with ExitStack() as stack:
        second = stack.enter_context(
            serving(far, scripted_agents(far, "agent"), ASSENT_API_KEYS=keys_of("near"))
        )
        key = bearer("near")["authorization"].removeprefix("Bearer ")
        first = stack.enter_context(
            serving(near, f"{near}/outer.py:outer", REMOTE=second.url, REMOTE_KEY=key)
        )
        yield first, second


@pytest.fixture
async def first(servers: tuple[Server, Server]) -> AsyncIterator[Api]:
    async with asking(servers[0]) as api:
        yield api


async def test_what_the_second_server_asks_is_decided_on_the_first(
    servers: tuple[Server, Server], first: Api, thread: str, amount: int
) -> None:
    second = servers[1]
    (asked,) = await first.paused(f"pay {amount} then pay {amount + 1}", thread_id=thread)
    assert (asked["tool"], asked["args"]) == ("pay", {"amount": amount})
    assert second.traces(f"pay {amount}") == []

    await first.decided(thread, type="approve")
    await first.at_rest(thread)
    assert second.traces("pay ") == [f"pay {amount}"]
    (asked,) = await first.pending(thread)
    assert asked["args"] == {"amount": amount + 1}

    await first.decided(thread, type="edit", args={"amount": amount + 2})
    await first.at_rest(thread)
    assert second.traces("pay ") == [f"pay {amount}", f"pay {amount + 2}"]
    assert await first.pending(thread) == []
    async with asking(second, **bearer("near")) as far:
        # An answer to something else decides nothing, and nothing else of the config does.
        (asked,) = await far.paused(f"pay {amount + 3}", thread_id=f"{thread}-2")
        other = {"__pregel_resuming": True, "__pregel_resume_map": {"0" * 32: {"type": "approve"}}}
        body = {"assistant_id": "agent", "input": {"messages": "tell 1"}}
        body["config"] = {"configurable": other, "tags": ["graph:step:1"]}
        path = f"/threads/{thread}-2/runs/stream"
        answer = await expect(await far.http.post(path, json=body), 200)
        assert "event: end" in answer.text
        assert second.traces(f"pay {amount + 3}") == []
        assert (await far.approval(asked["approval_id"]))["status"] == "cancelled"
        listed = (await far.get("/approvals", thread_id=thread))["approvals"]
        assert [each["status"] for each in listed] == ["approved", "edited"]
        assert {each["decided_by"] for each in listed} == {"near"}


# ── the first server is killed ────────────────────────────────────────────────────────────────────


def said(state: dict[str, Any]) -> list[str]:
    """The words of people in a state."""
    return [each["content"] for each in state["values"]["messages"] if each["type"] == "human"]


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_decision_that_is_sent_again_after_a_kill_is_the_same_decision(
    servers: tuple[Server, Server], first: Api, thread: str, amount: int, is_over: bool
) -> None:
    near, second = servers
    (asked,) = await first.paused(f"slow {amount}", thread_id=thread)
    await first.decided(thread, type="approve")
    await second.until_traced(f"slow {amount}")
    # The second server has the decision, and the first has noted nothing of what came of it.
    near.kill()
    async with asking(second, **bearer("near")) as far:
        if is_over:
            second.let_go(amount)
            await far.at_rest(thread)
        near.start()
        if not is_over:
            second.let_go(amount)
        assert (await first.at_rest(thread))["status"] == "idle"
        assert second.traces(f"slow {amount}") == [f"slow {amount}"]
        state = await far.get(f"/threads/{thread}/state")
        assert said(state) == [f"slow {amount}"]
        listed = (await far.get("/approvals", thread_id=thread))["approvals"]
        assert [each["status"] for each in listed] == ["approved"]
        assert len(await far.runs(thread)) == 2
    (decided,) = (await first.get("/approvals", thread_id=thread))["approvals"]
    assert (decided["approval_id"], decided["status"]) == (asked["approval_id"], "approved")
    assert await first.last_words(thread) == f"Results: slowly paid {amount}"


@pytest.mark.parametrize("asks", [False, True])
async def test_an_input_that_is_sent_again_after_a_kill_is_the_same_input(
    servers: tuple[Server, Server], first: Api, thread: str, amount: int, asks: bool
) -> None:
    near, second = servers
    words = f"hold {amount}" + (f" then pay {amount}" if asks else "")
    await first.run(thread, words)
    await second.until_traced(f"hold {amount}")
    near.kill()
    async with asking(second, **bearer("near")) as far:
        if asks:
            second.let_go(amount)
            (there,) = (await far.at_rest(thread))["approvals"]
        near.start()
        if not asks:
            second.let_go(amount)
        await first.at_rest(thread)
        if asks:
            (asked,) = await first.pending(thread)
            assert asked["args"] == {"amount": amount}
            assert (await far.approval(there["approval_id"]))["status"] == "pending"
            await first.decided(thread, type="approve")
            await first.at_rest(thread)
            assert second.traces(f"pay {amount}") == [f"pay {amount}"]
        assert second.traces(f"hold {amount}") == [f"hold {amount}"]
        assert said(await far.get(f"/threads/{thread}/state")) == [words]
    assert (await first.at_rest(thread))["status"] == "idle"
