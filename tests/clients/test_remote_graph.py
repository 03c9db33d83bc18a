"""LangGraph's `RemoteGraph`: the agent of a second server is a node of a graph on the first, and
what it asks is decided there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.errors import ConflictError

from tests.support.secrets import bearer, keys_of, secret_of
from tests.support.server import Api, Server, asking, expect, scripted_agents, serving

OUTER = """
import os
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteGraph

def remote(name, url="REMOTE"):
    key = os.environ["REMOTE_KEY"]
    return RemoteGraph("agent", url=os.environ[url], api_key=key, name=name)

graph = StateGraph(MessagesState)
graph.add_node("remote", remote("remote"))
graph.add_edge(START, "remote")
outer = graph.compile(name="outer")

graph = StateGraph(MessagesState)
for name, url in (("left", "REMOTE"), ("right", "THIRD")):
    graph.add_node(name, remote(name, url))
    graph.add_edge(START, name)
two = graph.compile(name="two")
"""


class Servers(NamedTuple):
    """The first server, and two others, whose agents are nodes there."""

    first: Server
    second: Server
    third: Server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    near = tmp_path_factory.mktemp("near")
    (near / "outer.py").write_text(OUTER)
    graphs = {name: f"{near}/outer.py:{name}" for name in ("outer", "two")}
    (near / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
    with ExitStack() as stack:

        def far(name: str) -> Server:
            folder = tmp_path_factory.mktemp(name)
            agents = scripted_agents(folder, "agent")
            return stack.enter_context(serving(folder, agents, ASSENT_API_KEYS=keys_of("near")))

        second, third = far("second"), far("third")
        urls = {"REMOTE": second.url, "THIRD": third.url, "REMOTE_KEY": secret_of("near")}
        first = stack.enter_context(serving(near, str(near / "langgraph.json"), **urls))
        yield Servers(first, second, third)


@pytest.fixture
async def first(servers: Servers) -> AsyncIterator[Api]:
    async with asking(servers.first) as api:
        yield api


async def test_what_the_second_server_asks_is_decided_on_the_first(
    servers: Servers, first: Api, thread: str, amount: int
) -> None:
    second = servers.second
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


async def test_what_is_rejected_or_answered_on_the_first_is_so_on_the_second(
    servers: Servers, first: Api, thread: str, amount: int
) -> None:
    second, amount = servers.second, 10 * amount
    await first.paused(f"pay {amount} then pay {amount + 1}", thread_id=thread)
    await first.decided(thread, type="reject", message="Too much.")
    await first.at_rest(thread)
    await first.decided(thread, type="respond", message="paid by hand")
    assert (await first.at_rest(thread))["status"] == "idle"
    async with asking(second, **bearer("near")) as far:
        listed = (await far.get("/approvals", thread_id=thread))["approvals"]
        assert [(each["status"], each["decision"]["message"]) for each in listed] == [
            ("rejected", "Too much."),
            ("responded", "paid by hand"),
        ]
        answers = [
            each["content"]
            for each in (await far.get(f"/threads/{thread}/state"))["values"]["messages"]
            if each["type"] == "tool"
        ]
    assert second.traces(f"pay {amount}") == second.traces(f"pay {amount + 1}") == []
    assert "Too much." in answers[0] and answers[1] == "paid by hand"
    assert await first.last_words(thread) == "Results: paid by hand"


async def test_two_servers_that_ask_at_once_are_both_decided_on_the_first(
    servers: Servers, first: Api, thread: str, amount: int
) -> None:
    _, second, third = servers
    amount *= 10
    asked = await first.paused(f"pay {amount}", thread_id=thread, agent="two")
    assert [each["args"] for each in asked] == [{"amount": amount}] * 2
    left, right = sorted(asked, key=lambda each: str(each["node"]))
    assert (left["node"], right["node"]) == ("left", "right")
    one = {left["approval_id"]: {"type": "approve"}}
    await first.decided(thread, decisions=one)
    # Nothing goes on before both are.
    assert (await first.at_rest(thread))["status"] == "interrupted"
    assert second.traces(f"pay {amount}") == third.traces(f"pay {amount}") == []
    await first.decided(thread, decisions={right["approval_id"]: {"type": "reject"}})
    assert (await first.at_rest(thread))["status"] == "idle"
    assert second.traces(f"pay {amount}") == [f"pay {amount}"]
    assert third.traces(f"pay {amount}") == []


# ── by itself ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def remote(servers: Servers) -> AsyncIterator[RemoteGraph]:
    where: Any = {"url": servers.second.url, "api_key": secret_of("near")}
    with get_sync_client(**where) as sync_client:
        async with get_client(**where) as client:
            yield RemoteGraph("agent", client=client, sync_client=sync_client)


async def test_without_a_graph_around_it_code_that_is_not_async_calls_it(
    servers: Servers, remote: RemoteGraph, thread: str, amount: int
) -> None:
    second, amount = servers.second, 10 * amount
    config: Any = {"configurable": {"thread_id": thread}}
    approve: Any = Command(resume={"decisions": [{"type": "approve"}]})

    def call() -> None:
        paused = remote.invoke({"messages": f"pay {amount}"}, config)
        (asked,) = paused["__interrupt__"]
        state = remote.get_state(config)
        assert state.next == ("approval",)
        assert [each.id for each in state.tasks[0].interrupts] == [asked["id"]]
        # Nobody writes to what waits for a person.
        with pytest.raises(ConflictError):
            remote.update_state(config, WRITTEN)
        assert second.traces(f"pay {amount}") == []
        parts = [*remote.stream(approve, config, stream_mode="updates")]
        assert [[*part] for part in parts] == [["approval"], ["tools"], ["settle"], ["agent"]]
        place = remote.update_state(config, WRITTEN)
        assert place["configurable"]["checkpoint_id"]
        last, *_ = remote.get_state_history(config, limit=100)
        assert last.values["messages"][-1]["content"] == "written"

    await asyncio.to_thread(call)
    assert second.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_what_it_writes_to_a_state_is_no_consent(
    servers: Servers, remote: RemoteGraph, thread: str, amount: int
) -> None:
    second, amount = servers.second, 10 * amount
    config: Any = {"configurable": {"thread_id": thread}}
    paused = await remote.ainvoke({"messages": f"pay {amount}"}, config)
    (asked,) = paused["__interrupt__"]
    dropped = await remote.aupdate_state(config, None, as_node="__end__")
    assert dropped["configurable"]["thread_id"] == thread
    approve: Any = Command(resume={asked["id"]: {"type": "approve"}})
    with pytest.raises(ConflictError):
        await remote.ainvoke(approve, config)
    forged = {**WRITTEN, "decisions": {"x": {"type": "approve"}}}
    await remote.aupdate_state(config, forged, as_node="__start__")
    state = await remote.aget_state(config)
    assert isinstance(state.values, dict)
    assert state.values["decisions"] == {}
    assert state.values["messages"][-1]["content"] == "written"
    first = [each async for each in remote.aget_state_history(config, limit=100)][-1]
    await remote.aupdate_state(first.config, WRITTEN)
    assert second.traces(f"pay {amount}") == []


WRITTEN: Any = {"messages": [{"type": "human", "content": "written", "id": "w"}]}


# ── the first server is killed ────────────────────────────────────────────────────────────────────


def said(state: dict[str, Any]) -> list[str]:
    """The words of people in a state."""
    return [each["content"] for each in state["values"]["messages"] if each["type"] == "human"]


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_decision_that_is_sent_again_after_a_kill_is_the_same_decision(
    servers: Servers, first: Api, thread: str, amount: int, is_over: bool
) -> None:
    near, second, _ = servers
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
    servers: Servers, first: Api, thread: str, amount: int, asks: bool
) -> None:
    near, second, _ = servers
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
