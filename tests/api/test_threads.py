"""Threads over HTTP: made, listed, read with the field names of the langgraph-sdk package,
followed, and removed."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from langgraph_sdk import schema

from tests.support.sdk import check_state, fields
from tests.support.server import Api, Server, problem, types_of
from tests.support.waiting import PATIENCE

AGENTS = ("agent", "asking")

# ── made, listed, removed ─────────────────────────────────────────────────────────────────────────


async def test_a_thread_is_made_and_found(api: Api, thread: str) -> None:
    response = await api.http.post(
        "/threads", json={"thread_id": thread, "metadata": {"user": "ann", "tags": [1, None]}}
    )
    assert response.status_code == 200
    made = response.json()
    assert made.keys() >= fields(schema.Thread)
    assert (made["thread_id"], made["status"], made["metadata"]) == (
        thread,
        "idle",
        {"user": "ann", "tags": [1, None]},
    )
    assert made["interrupts"] == {}
    found = await api.get(f"/threads/{thread}")
    assert found.keys() == made.keys()
    assert {**found, "values": None} == {**made, "values": None}
    assert await api.events(thread) == []
    await api.stream("tell 1", thread_id=thread)
    found = await api.get(f"/threads/{thread}")
    assert found["metadata"].items() > made["metadata"].items()
    assert found["created_at"] == made["created_at"] < found["updated_at"]


async def test_the_server_chooses_an_id(api: Api) -> None:
    first, second = [
        (await api.http.post("/threads", json={})).json()["thread_id"] for _ in range(2)
    ]
    assert first != second


async def test_a_thread_that_exists_is_a_409_or_left_as_it_is(api: Api, thread: str) -> None:
    made = (await api.http.post("/threads", json={"thread_id": thread})).json()
    await problem(
        await api.http.post("/threads", json={"thread_id": thread, "metadata": {"a": 1}}), 409
    )
    again = await api.http.post(
        "/threads", json={"thread_id": thread, "metadata": {"a": 1}, "if_exists": "do_nothing"}
    )
    assert again.status_code == 200
    assert again.json() == made


async def test_threads_are_listed_newest_first_in_pages(api: Api, thread: str) -> None:
    ids = [f"{thread}-{number}" for number in range(5)]
    for id in ids:
        await api.http.post("/threads", json={"thread_id": id})
    seen: list[str] = []
    cursor: str | None = None
    while len(seen) < 5:
        page = await api.get("/threads", limit=2, **({"cursor": cursor} if cursor else {}))
        assert page.keys() == {"threads", "next"}
        assert all(row.keys() >= fields(schema.Thread) for row in page["threads"])
        seen += [row["thread_id"] for row in page["threads"]]
        cursor = page["next"]
    assert seen[:5] == ids[::-1]
    for wrong in ({"limit": 0}, {"status": "open"}, {"cursor": "nonsense"}):
        await problem(await api.http.get("/threads", params=wrong), 422)


async def test_threads_are_listed_by_status(api: Api, thread: str, amount: int) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    assert thread in [
        row["thread_id"]
        for row in (await api.get("/threads", status="interrupted", limit=1000))["threads"]
    ]
    assert thread not in [
        row["thread_id"]
        for row in (await api.get("/threads", status="idle", limit=1000))["threads"]
    ]


async def test_a_removed_thread_is_gone_and_its_numbers_are_not_used_again(
    api: Api, thread: str, amount: int
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    last = len(await api.events(thread))
    response = await api.http.delete(f"/threads/{thread}")
    assert (response.status_code, response.content) == (204, b"")
    for path in (
        f"/threads/{thread}",
        f"/threads/{thread}/state",
        f"/threads/{thread}/history",
        f"/threads/{thread}/events",
    ):
        await problem(await api.http.get(path, headers={"accept": "application/json"}), 404)
    await problem(await api.http.delete(f"/threads/{thread}"), 404)
    await problem(await api.http.get(f"/approvals/{approval['approval_id']}"), 404)
    await problem(await api.resume(thread, type="approve"), 404)
    # A new thread of that name knows nothing of the old one.
    events = await api.stream("tell 1", thread_id=thread)
    assert events[0]["seq"] == last + 1
    contents = [
        message["content"]
        for message in (await api.get(f"/threads/{thread}"))["values"]["messages"]
    ]
    assert contents == ["tell 1", "word0"]


async def test_a_busy_thread_is_not_removed(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"slow {amount}", thread_id=thread)
    await api.decided(thread, type="approve")
    await problem(await api.http.delete(f"/threads/{thread}"), 409)
    server.let_go(amount)
    assert await api.last_words(thread) == f"Results: slowly paid {amount}"


async def test_a_removal_that_is_refused_removes_nothing(
    api: Api, server: Server, thread: str
) -> None:
    """A thread is removed and decided at the same moment: either it is gone, or all of it is
    there."""
    ids = [f"{thread}-{number}" for number in range(12)]
    amounts = range(900_001, 900_001 + len(ids))
    for id, paid in zip(ids, amounts, strict=True):
        await api.paused(f"pay {paid}", thread_id=id)

    async def both(id: str) -> tuple[int, int]:
        removal = api.http.delete(f"/threads/{id}")
        decision = api.resume(id, type="approve")
        removed, decided = await asyncio.gather(removal, decision)
        return removed.status_code, decided.status_code

    outcomes = await asyncio.gather(*(both(id) for id in ids))
    for id, paid, (removed, decided) in zip(ids, amounts, outcomes, strict=True):
        if decided == 202 and removed == 409:
            assert await api.last_words(id) == f"Results: paid {paid}"
            assert server.traces(f"pay {paid}") == [f"pay {paid}"]
        elif decided == 202:
            # Removed after its run had ended.
            assert removed == 204
        else:
            assert (removed, decided) in ((204, 404), (204, 409))
            assert server.traces(f"pay {paid}") == []


@pytest.mark.parametrize(
    "body",
    [
        {"thread_id": "a b"},
        {"metadata": []},
        {"if_exists": "maybe"},
        {"ttl": 5},
        {"supersteps": [{}]},
        [],
        "x",
    ],
)
async def test_a_bad_body_makes_no_thread(api: Api, body: Any) -> None:
    before = await api.get("/threads")
    await problem(await api.http.post("/threads", json=body), 422)
    assert await api.get("/threads") == before


# ── states ────────────────────────────────────────────────────────────────────────────────────────


async def test_the_state_has_the_fields_of_the_sdk(api: Api, thread: str, amount: int) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread)
    state = await api.get(f"/threads/{thread}/state")
    check_state(state, thread)
    assert state["next"] == ["approval"]
    assert state["approvals"] == [approval]
    # It is our gate that asks: in LangGraph's words, an interrupt of the last task.
    (task,) = state["tasks"]
    (interrupt,) = state["interrupts"]
    assert task["interrupts"] == [interrupt]
    (action,) = interrupt["value"]["action_requests"]
    assert (action["name"], action["args"]) == ("pay", {"amount": amount})
    assert [message["type"] for message in state["values"]["messages"]] == ["human", "ai"]
    found = await api.get(f"/threads/{thread}")
    assert found.keys() >= fields(schema.Thread)
    assert found["values"] == state["values"]
    assert (found["approvals"], found["interrupts"]) == ([approval], {task["id"]: [interrupt]})


async def test_a_dynamic_interrupt_stands_in_the_state_under_its_own_id(
    api: Api, thread: str
) -> None:
    await api.paused("Which?", thread_id=thread, agent="asking")
    state = await api.get(f"/threads/{thread}/state")
    check_state(state, thread)
    (interrupt,) = state["interrupts"]
    assert interrupt["value"] == {"question": "Which?"}
    (task,) = state["tasks"]
    assert task["interrupts"] == [interrupt]
    found = await api.get(f"/threads/{thread}")
    assert found["interrupts"] == {task["id"]: [interrupt]}
    (approval,) = found["approvals"]
    assert (approval["kind"], approval["thread_id"]) == ("input", thread)


async def test_the_history_goes_back_in_time(api: Api, thread: str, amount: int) -> None:
    await api.stream(f"look {amount}", thread_id=thread)
    history = await api.get(f"/threads/{thread}/history", limit=100)
    for state in history:
        check_state(state, thread)
    assert history[0] == await api.get(f"/threads/{thread}/state")
    assert history[-1]["parent_checkpoint"] is None
    for newer, older in pairwise(history):
        assert newer["parent_checkpoint"]["checkpoint_id"] == older["checkpoint"]["checkpoint_id"]
    lengths = [len(state["values"].get("messages", ())) for state in history]
    assert lengths == sorted(lengths, reverse=True)
    assert await api.get(f"/threads/{thread}/history", limit=2) == history[:2]
    before = history[1]["checkpoint"]["checkpoint_id"]
    assert await api.get(f"/threads/{thread}/history", limit=2, before=before) == history[2:4]


async def test_the_state_of_a_thread_that_never_ran_is_empty(api: Api, thread: str) -> None:
    await api.http.post("/threads", json={"thread_id": thread})
    state = await api.get(f"/threads/{thread}/state")
    check_state(state, thread)
    assert (state["next"], state["tasks"], state["interrupts"]) == ([], [], [])
    assert await api.get(f"/threads/{thread}/history") == []


# ── events ────────────────────────────────────────────────────────────────────────────────────────


async def test_events_come_as_json_pages(api: Api, thread: str) -> None:
    sent = await api.stream("tell 5", thread_id=thread)
    sent += await api.stream("tell 5", thread_id=thread)
    pages, after = [], 0
    while True:
        response = await api.http.get(
            f"/threads/{thread}/events",
            params={"after": after, "limit": 7},
            headers={"accept": "application/json"},
        )
        assert response.headers["content-type"] == "application/json"
        page = response.json()
        assert page.keys() == {"events", "next", "more"}
        if not page["events"]:
            assert page["next"] == after
            break
        assert page["next"] == page["events"][-1]["seq"]
        pages += page["events"]
        after = page["next"]
    assert pages == sent
    assert await api.events(thread, after=len(sent)) == []


async def test_events_are_filtered_by_type(api: Api, thread: str) -> None:
    sent = await api.stream("tell 5", thread_id=thread)
    wanted = await api.events(thread, types="token, done")
    assert wanted == [event for event in sent if event["type"] in ("token", "done")]
    assert (
        types_of(await api.events(thread, after=wanted[2]["seq"], types="token")) == ["token"] * 2
    )
    body = await problem(
        await api.http.get(f"/threads/{thread}/events", params={"types": "token,tokens"}), 422
    )
    assert "'tokens'" in body["detail"]


async def test_a_live_stream_is_filtered_and_crosses_runs(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    async with asyncio.timeout(PATIENCE), api.following(thread, types="run_start,done") as events:
        assert [(await anext(events))["type"] for _ in range(2)] == ["run_start", "done"]
        sent = await api.stream("tell 1", thread_id=thread)
        assert [await anext(events) for _ in range(2)] == [sent[0], sent[-1]]


async def test_the_last_event_id_counts_more_than_the_url(api: Api, thread: str) -> None:
    sent = await api.stream("tell 5", thread_id=thread)
    async with asyncio.timeout(PATIENCE), api.following(thread, last=4, after=1) as events:
        assert await anext(events) == sent[4]
    async with asyncio.timeout(PATIENCE), api.following(thread, after=2) as events:
        assert await anext(events) == sent[2]
    for wrong in ("x", "-1", "1.5", "²", "", "9" * 30, "9" * 5000):
        response = await api.http.get(
            f"/threads/{thread}/events", headers=[(b"Last-Event-ID", wrong.encode())]
        )
        await problem(response, 422)
    for number in ("-1", str(2**63), "9" * 5000):
        await problem(
            await api.http.get(f"/threads/{thread}/events", params={"after": number}), 422
        )


async def test_the_events_of_nobody_are_a_404(api: Api) -> None:
    for accept in ("application/json", "text/event-stream"):
        await problem(await api.http.get("/threads/nobody/events", headers={"accept": accept}), 404)
    for path in ("/threads/nobody", "/threads/nobody/state", "/threads/nobody/history"):
        await problem(await api.http.get(path), 404)
    await problem(await api.http.get("/threads/a%20b"), 422)


async def test_no_event_holds_what_the_thread_has_said_before(api: Api, thread: str) -> None:
    """The log grows with what happens, not with the length of the thread."""
    await api.stream("tell 1 marked-in-the-first-turn", thread_id=thread)
    events = await api.stream("tell 1", thread_id=thread)
    assert "marked-in-the-first-turn" not in json.dumps(events)


@pytest.mark.parametrize("name", ["assent_task", "assent_observed", "assent_title"])
async def test_what_the_server_goes_by_is_no_clients_metadata(
    api: Api, thread: str, name: str
) -> None:
    await api.stream("tell 1", thread_id=thread)
    metadata = {"mine": 1, name: {"agent_id": "agent"}}
    for method, path, body in (
        ("POST", "/threads", {"thread_id": f"{thread}-new"}),
        ("PATCH", f"/threads/{thread}", {}),
        ("PATCH", f"/threads/{thread}", {"metadata": {name: None}}),
        ("POST", f"/threads/{thread}/fork", {}),
        ("POST", f"/threads/{thread}/runs", {"assistant_id": "agent", "input": {"messages": []}}),
        ("POST", "/agent/runs", {"message": "tell 1", "thread_id": f"{thread}-new"}),
    ):
        refused = await api.http.request(method, path, json={"metadata": metadata, **body})
        told = await problem(refused, 422)
        assert f"'{name}' is a field that only the server sets" in json.dumps(told)
    assert not {"mine", name} & (await api.get(f"/threads/{thread}"))["metadata"].keys()
    assert (await api.http.get(f"/threads/{thread}-new")).status_code == 404
