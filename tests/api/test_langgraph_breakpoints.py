"""A run asked to pause before a node, and LangGraph's clients say by no input that it shall go on:
that is consent, by whoever may give it. Where the graph itself stops there, it is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langgraph_sdk import get_client

from tests.support.secrets import keys_of, secret_of
from tests.support.server import Api, Server, asking_as, expect, problem, serving

GRAPHS = """
from langgraph.graph import START, MessagesState, StateGraph
from tests.support.agents import trace

def made(name, *, ends=("publish",), **pause):
    graph = StateGraph(MessagesState)
    for node in ("write", *ends):
        def step(state, node=node):
            trace(f"{state['messages'][0].text} {node}")
            return {}
        graph.add_node(node, step)
    graph.add_edge(START, "write")
    for end in ends:
        graph.add_edge("write", end)
    return graph.compile(name=name, **pause)

free = made("free")
strict = made("strict")
both = made("both")
stops = made("stops", interrupt_before=["publish"])
after = made("after", interrupt_after=["write"])
wide = made("wide", ends=("publish", "send, file"), interrupt_before=["publish"])
comma = made("comma", ends=("send, file",), interrupt_before=["send, file"])
outer = StateGraph(MessagesState).add_node("inner", stops).add_edge(START, "inner").compile()
"""
NAMES = ("free", "strict", "both", "stops", "after", "wide", "comma", "outer")
POLICIES = """
[policies.agents.strict]
risk = "high"

[policies.agents.both]
quorum = 2
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("breakpoints")
    (folder / "graphs.py").write_text(GRAPHS)
    graphs = ", ".join(f'"{name}": "{folder}/graphs.py:{name}"' for name in NAMES)
    (folder / "langgraph.json").write_text(f'{{"graphs": {{{graphs}}}}}')
    (folder / "assent.toml").write_text(POLICIES)
    with serving(
        folder,
        str(folder / "langgraph.json"),
        ASSENT_CONFIG=str(folder / "assent.toml"),
        ASSENT_API_KEYS=keys_of("ann", "bob", "op", "eve"),
        ASSENT_ROLES="ann:operator approver,bob:operator approver admin,op:operator,eve:viewer",
    ) as server:
        yield server


@pytest.fixture
async def people(server: Server) -> AsyncIterator[dict[str, Api]]:
    async with asking_as(server, "ann", "bob", "op", "eve") as people:
        yield people


@pytest.fixture
def ann(people: dict[str, Api]) -> Api:
    return people["ann"]


async def paused(by: Api, thread: str, agent: str, **asked: Any) -> Any:
    """The approvals of a run that was asked to pause."""
    body = {"agent": agent, "thread_id": thread, "input": {"messages": thread}, **asked}
    events = await by.stream(**body)
    assert events[-1]["type"] == "run_paused", events[-1]
    return await by.pending(thread)


def null(agent: str, **fields: Any) -> dict[str, Any]:
    return {"assistant_id": agent, "input": None, **fields}


async def test_the_sdk_goes_on_at_a_breakpoint_that_its_run_asked_for(
    server: Server, ann: Api, thread: str
) -> None:
    async with get_client(url=server.url, api_key=secret_of("ann")) as sdk:
        await sdk.threads.create(thread_id=thread)
        given: Any = {"messages": thread}
        await sdk.runs.wait(thread, "free", input=given, interrupt_before="*")
        assert server.traces(thread) == []
        head = (await sdk.threads.get_state(thread))["checkpoint"]
        parts = sdk.runs.stream(thread, "free", input=None, checkpoint=head, interrupt_before="*")
        assert [part.event async for part in parts][-2:] == ["values", "end"]
        assert server.traces(thread) == [f"{thread} write"]
        run = await sdk.runs.create(thread, "free", input=None)
        await sdk.runs.join(thread, run["run_id"])
    assert server.traces(thread) == [f"{thread} write", f"{thread} publish"]
    assert (await ann.at_rest(thread))["status"] == "idle"
    decided = (await ann.get("/approvals", thread_id=thread))["approvals"]
    assert [(each["node"], each["status"], each["decided_by"]) for each in decided] == [
        ("write", "approved", "ann"),
        ("publish", "approved", "ann"),
    ]


async def test_a_breakpoint_behind_a_node_is_passed_too(
    server: Server, ann: Api, thread: str
) -> None:
    await paused(ann, thread, "free", interrupt_after=["write"])
    path = f"/threads/{thread}/runs/wait"
    await expect(await ann.http.post(path, json=null("free")), 200)
    assert server.traces(thread) == [f"{thread} write", f"{thread} publish"]


@pytest.mark.parametrize(
    ("agent", "asked"),
    [
        ("stops", {"interrupt_before": ["publish"]}),
        ("stops", {"interrupt_after": ["write"]}),
        ("after", {"interrupt_before": ["publish"]}),
        ("wide", {"interrupt_before": ["send, file"]}),
        ("comma", {"interrupt_after": ["write"]}),
        ("outer", {"interrupt_after": ["inner"]}),
    ],
)
async def test_where_the_graph_itself_stops_no_input_is_no_consent(
    server: Server, ann: Api, thread: str, agent: str, asked: Any
) -> None:
    before = await paused(ann, thread, agent, **asked)
    for fields in ({}, asked, {"interrupt_before": []}):
        for path in ("runs", "runs/stream", "runs/wait"):
            body = null(agent, **fields)
            told = await problem(await ann.http.post(f"/threads/{thread}/{path}", json=body), 409)
            assert [each["approval_id"] for each in told["approvals"]] == [
                each["approval_id"] for each in before
            ]
    assert await ann.pending(thread) == before
    assert server.traces(thread) == [f"{thread} write"]


async def test_a_budget_is_no_breakpoint(server: Server, ann: Api, thread: str) -> None:
    budget = {"seconds": 0.000001, "on_exceeded": "pause"}
    before = await paused(ann, thread, "free", interrupt_before=["publish"], budget=budget)
    assert {each["kind"] for each in before} == {"budget"}
    path = f"/threads/{thread}/runs"
    await problem(await ann.http.post(path, json=null("free")), 409)
    assert await ann.pending(thread) == before
    assert server.traces(thread) == []


async def test_who_may_not_decide_passes_nothing(
    server: Server, people: dict[str, Api], thread: str
) -> None:
    before = await paused(people["op"], thread, "free", interrupt_before=["publish"])
    path = f"/threads/{thread}/runs/stream"
    told = await problem(await people["op"].http.post(path, json=null("free")), 403)
    assert "'decide'" in told["detail"]
    await problem(await people["eve"].http.post(path, json=null("free")), 403)
    # Bob sees the approval, and not the thread: he decides what is asked, and asks for no runs.
    await problem(await people["bob"].http.post(path, json=null("free")), 404)
    assert await people["op"].pending(thread) == before
    assert server.traces(thread) == [f"{thread} write"]


async def test_with_four_eyes_nobody_passes_what_they_have_asked_for(
    server: Server, ann: Api, thread: str
) -> None:
    (before,) = await paused(ann, thread, "strict", interrupt_before=["publish"])
    path = f"/threads/{thread}/runs/stream"
    await problem(await ann.http.post(path, json=null("strict")), 403)
    assert await ann.pending(thread) == [before]
    assert server.traces(thread) == [f"{thread} write"]


async def test_where_two_must_agree_it_is_one_vote(
    server: Server, people: dict[str, Api], thread: str
) -> None:
    ann = people["ann"]
    (asked,) = await paused(ann, thread, "both", interrupt_before=["publish"])
    path = f"/threads/{thread}/runs/wait"
    for _ in range(2):
        left = (await expect(await ann.http.post(path, json=null("both")), 200)).json()
        assert len(left["__interrupt__"]) == 1
    assert [each["by"] for each in (await ann.approval(asked["approval_id"]))["votes"]] == ["ann"]
    assert server.traces(thread) == [f"{thread} write"]
    approve = f"/approvals/{asked['approval_id']}/decide"
    await expect(await people["bob"].http.post(approve, json={"type": "approve"}), 202)
    await ann.at_rest(thread)
    assert server.traces(thread) == [f"{thread} write", f"{thread} publish"]


async def test_under_a_key_one_breakpoint_is_passed_once(
    server: Server, ann: Api, thread: str
) -> None:
    await paused(ann, thread, "free", interrupt_before="*")
    runs = set()
    for _ in range(2):
        answer = await ann.http.post(
            f"/threads/{thread}/runs", json=null("free"), headers={"Idempotency-Key": thread}
        )
        runs.add((await expect(answer, 200)).json()["run_id"])
        await ann.at_rest(thread)
    assert len(runs) == 1
    assert [each["node"] for each in await ann.pending(thread)] == ["publish"]
    assert server.traces(thread) == [f"{thread} write"]


async def test_what_asks_for_something_else_passes_nothing(
    server: Server, ann: Api, thread: str
) -> None:
    before = await paused(ann, thread, "free", interrupt_before=["publish"])
    path = f"/threads/{thread}/runs"
    for breakpoints in ({"interrupt_before": "*"}, {"interrupt_after": ["publish"]}):
        told = await problem(await ann.http.post(path, json=null("free", **breakpoints)), 422)
        assert "names others" in told["detail"]
    for other in ({"after_seconds": 60}, {"assistant_id": "stops"}):
        await problem(await ann.http.post(path, json=null("free") | other), 422)
    started = {"id": 1, "method": "run.start", "params": {"assistant_id": "free"}}
    answer = await ann.http.post(f"/threads/{thread}/commands", json=started)
    assert (await expect(answer, 200)).json()["type"] == "error"
    assert await ann.pending(thread) == before
    assert server.traces(thread) == [f"{thread} write"]
