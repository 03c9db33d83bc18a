"""Talking to an agent: what goes over the wire, to the byte, and which threads take a message."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tests.support.agents import SECRET
from tests.support.server import (
    BEGIN,
    PING,
    Api,
    Server,
    expect,
    only,
    problem,
    types_of,
    volley,
    without_ends,
    without_tokens,
)
from tests.support.waiting import PATIENCE

AGENTS = ("agent", "slow_agent", "chat_agent")

EVERYTHING = re.compile(rb"(id: [1-9][0-9]*\ndata: \{[^\r\n]*\}\n\n)+")
NAMED = re.compile(rb"(id: [1-9][0-9]*\nevent: [a-z_]+\ndata: \{[^\r\n]*\}\n\n)+")


# ── the stream ────────────────────────────────────────────────────────────────────────────────────


async def test_a_stream_is_ids_and_data_and_nothing_else(api: Api, thread: str) -> None:
    response = await api.http.post("/agent/stream", json={"message": "tell 5", "thread_id": thread})
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-thread-id"] == thread
    assert response.headers["x-heartbeat"] == "5"
    sent, reason = without_ends(response.content)
    assert EVERYTHING.fullmatch(sent)
    assert reason == "done"
    events = await api.events(thread)
    assert {event["run_id"] for event in events} == {response.headers["x-run-id"]}
    # What is replayed is the same, byte for byte.
    frames = b"".join(b"id: %d\ndata: " % event["seq"] for event in events)
    assert re.sub(rb"(data: )\{[^\n]*\}\n\n", rb"\1", sent) == frames


async def test_no_line_of_a_stream_ends_in_the_middle_for_a_client_that_knows_unicode(
    api: Api, thread: str
) -> None:
    """httpx's `aiter_lines`, like `str.splitlines`, splits at more than CR and LF."""
    message = "tell 1 \u0085 \u2028 \u2029 \x0b \x0c \x1c \x1d \x1e \r end"
    async with api.http.stream(
        "POST", "/agent/stream", json={"message": message, "thread_id": thread}
    ) as response:
        lines = [line async for line in response.aiter_lines()]
    assert lines[:3] == [": assent", "retry: 1000", ""]
    assert lines[-4:] == [": end", "event: end", 'data: {"reason": "done"}', ""]
    lines = [line for line in lines[3:-4] if line != ": ping"]
    assert {line.partition(": ")[0] for line in lines if line} == {"id", "data"}
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data")]
    assert data == await api.events(thread)
    assert data[0]["message"] == message


async def test_event_names_are_there_for_who_asks(api: Api, thread: str) -> None:
    await api.stream("tell 5", thread_id=thread)
    count = len(await api.events(thread))
    raw = b""
    async with (
        asyncio.timeout(PATIENCE),
        api.http.stream("GET", f"/threads/{thread}/events", params={"named": "true"}) as response,
    ):
        async for chunk in response.aiter_raw():
            raw += chunk
            if raw.count(b"\ndata: ") == count and raw.endswith(b"\n\n"):
                break
    assert NAMED.fullmatch(raw.removeprefix(BEGIN).replace(PING, b""))


async def test_a_run_tells_its_story_in_order(api: Api, thread: str, amount: int) -> None:
    events = await api.stream(
        f"look {amount} then tell 3", thread_id=thread, metadata={"from": "a test"}
    )
    assert without_tokens(events) == ["run_start", "tool_start", "tool_end", "done"]
    start = events[0]
    assert (start["agent"], start["message"], start["metadata"]) == (
        "agent",
        f"look {amount} then tell 3",
        {"from": "a test"},
    )
    begun, ended = only(events, "tool_start"), only(events, "tool_end")
    assert (begun["tool"], begun["input"]) == ("look", {"amount": amount})
    assert (ended["tool"], ended["output"]) == ("look", f"saw {amount}")
    assert begun["tool_call_id"] == ended["tool_call_id"]
    assert begun["node"] == "tools"
    words = [event["content"] for event in events if event["type"] == "token"]
    assert words == ["On ", "it.", "word0 ", "word1 ", "word2"]
    for event in events:
        assert {"type", "ts", "thread_id", "run_id", "seq"} <= event.keys()
        assert event["ts"].endswith("Z")


async def test_the_server_chooses_an_id_for_a_thread_without_one(api: Api) -> None:
    events = await api.stream("tell 1")
    thread = await api.get(f"/threads/{events[0]['thread_id']}")
    assert thread["status"] == "idle"
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", thread["thread_id"])


async def test_a_thread_remembers(api: Api, thread: str) -> None:
    await api.stream("tell 1", thread_id=thread)
    await api.stream("tell 2", thread_id=thread)
    contents = [
        message["content"]
        for message in (await api.get(f"/threads/{thread}"))["values"]["messages"]
    ]
    assert contents == ["tell 1", "word0", "tell 2", "word0 word1"]


@pytest.mark.parametrize("thread_id", ["a", "A-b_9", "x" * 64])
async def test_a_client_may_choose_the_id(api: Api, thread_id: str) -> None:
    assert (await api.stream("tell 1", thread_id=thread_id))[0]["thread_id"] == thread_id


@pytest.mark.parametrize("thread_id", ["", "x" * 65, "a b", "../x", "ä", "a/b", "a\n"])
async def test_an_id_of_other_characters_is_refused(api: Api, thread_id: str) -> None:
    before = await api.get("/threads")
    await problem(
        await api.http.post("/agent/stream", json={"message": "tell 1", "thread_id": thread_id}),
        422,
    )
    assert await api.get("/threads") == before


# ── one answer ────────────────────────────────────────────────────────────────────────────────────


async def test_invoke_waits_and_says_what_came_of_it(api: Api, thread: str) -> None:
    response = await expect(
        await api.http.post("/agent/invoke", json={"message": "tell 3", "thread_id": thread}), 200
    )
    body = response.json()
    assert (body["thread_id"], body["status"], body["output"], body["error"]) == (
        thread,
        "success",
        "word0 word1 word2",
        None,
    )
    assert body["approvals"] == []
    assert [message["type"] for message in body["values"]["messages"]] == ["human", "ai"]
    assert response.headers["x-thread-id"] == thread
    assert response.headers["x-run-id"] == body["run_id"]


async def test_invoke_says_what_waits(api: Api, thread: str, amount: int) -> None:
    body = (
        await api.http.post("/agent/invoke", json={"message": f"pay {amount}", "thread_id": thread})
    ).json()
    assert body["status"] == "interrupted"
    assert [approval["args"] for approval in body["approvals"]] == [{"amount": amount}]
    assert body["approvals"] == await api.pending(thread)


async def test_invoke_says_what_failed(api: Api, thread: str) -> None:
    body = (
        await api.http.post("/agent/invoke", json={"message": "boom", "thread_id": thread})
    ).json()
    assert body["status"] == "error"
    assert body["error"]["code"] == "agent_error"
    # Nothing was answered, and what was asked is no answer.
    assert body["output"] == ""
    assert SECRET not in json.dumps(body)


# ── which threads take a message ──────────────────────────────────────────────────────────────────


async def test_a_paused_thread_answers_with_what_it_waits_for(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    pending = await api.paused(f"pay {amount}", thread_id=thread)
    before = await api.events(thread), await api.get(f"/threads/{thread}")
    for path in ("/agent/stream", "/agent/invoke"):
        for words in ("yes", "approved", "hello"):
            body = await problem(
                await api.http.post(path, json={"message": words, "thread_id": thread}), 409
            )
            assert body["approvals"] == pending
    assert before == (await api.events(thread), await api.get(f"/threads/{thread}"))
    assert server.traces(f"pay {amount}") == []


async def test_a_message_may_reject_what_is_pending_and_go_on(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    approvals = await api.paused(f"pay {amount}; pay {amount}", thread_id=thread)
    events = await api.stream("tell 2", thread_id=thread, if_paused="reject")
    assert without_tokens(events) == ["approval_decided", "approval_decided", "run_resumed", "done"]
    for approval, event in zip(approvals, events[:2], strict=True):
        assert (event["decision"], event["message"], event["by"]) == ("reject", "tell 2", "local")
        assert (await api.approval(approval["approval_id"]))["status"] == "rejected"
    assert await api.last_words(thread) == "word0 word1"
    messages = (await api.get(f"/threads/{thread}"))["values"]["messages"]
    told = [message for message in messages if message["type"] == "tool"]
    assert len(told) == 2
    assert all(message["status"] == "error" and "tell 2" in message["content"] for message in told)
    assert server.traces(f"pay {amount}") == []


async def test_rejecting_what_is_pending_changes_nothing_on_a_thread_without_it(
    api: Api, thread: str
) -> None:
    assert without_tokens(await api.stream("tell 1", thread_id=thread, if_paused="reject")) == [
        "run_start",
        "done",
    ]


async def test_a_busy_thread_takes_no_message(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"slow {amount}", thread_id=thread)
    await api.decided(thread, type="approve")
    for extra in ({}, {"if_paused": "reject"}):
        body = await problem(
            await api.http.post(
                "/agent/stream", json={"message": "tell 1", "thread_id": thread, **extra}
            ),
            409,
        )
        assert thread in body["detail"]
    server.let_go(amount)
    await api.at_rest(thread)
    assert types_of(await api.events(thread)).count("run_start") == 1


async def test_of_many_messages_at_once_one_starts_a_run(
    api: Api, server: Server, thread: str
) -> None:
    body = {"message": "tell 20", "agent": "slow_agent", "thread_id": thread}
    answers = await volley(server, [("/agent/invoke", body)] * 20)
    assert sorted(status for status, _ in answers) == [200] + [409] * 19
    assert types_of(await api.events(thread)).count("run_start") == 1


async def test_an_agent_is_chosen_by_name_and_a_thread_stays_with_it(api: Api, thread: str) -> None:
    events = await api.stream("tell 1", thread_id=thread, agent="slow_agent")
    assert events[0]["agent"] == "slow_agent"
    assert (await api.stream("tell 1", thread_id=thread))[0]["agent"] == "slow_agent"
    body = await problem(
        await api.http.post(
            "/agent/stream", json={"message": "tell 1", "thread_id": thread, "agent": "agent"}
        ),
        422,
    )
    assert "slow_agent" in body["detail"]
    body = await problem(
        await api.http.post("/agent/stream", json={"message": "tell 1", "agent": "nobody"}), 404
    )
    assert "nobody" in body["detail"]


# ── what a chat message decides ───────────────────────────────────────────────────────────────────


async def test_where_the_agent_says_so_a_whole_word_of_consent_approves(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread, agent="chat_agent")
    events = await api.stream("Yes!", thread_id=thread)
    assert without_tokens(events) == [
        "approval_decided",
        "run_resumed",
        "tool_start",
        "tool_end",
        "done",
    ]
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


@pytest.mark.parametrize("words", ["not approved", "I approved of the old one", "yes, but only 3"])
async def test_where_the_agent_says_so_any_other_text_rejects(
    api: Api, server: Server, thread: str, amount: int, words: str
) -> None:
    (approval,) = await api.paused(f"pay {amount}", thread_id=thread, agent="chat_agent")
    await api.stream(words, thread_id=thread)
    stored = await api.approval(approval["approval_id"])
    assert (stored["status"], stored["decision"]["message"]) == ("rejected", words)
    assert server.traces(f"pay {amount}") == []


# ── what fails ────────────────────────────────────────────────────────────────────────────────────


async def test_what_a_model_or_a_tool_raises_is_not_shown(
    api: Api, thread: str, amount: int
) -> None:
    shown: list[Any] = []
    failed = await api.stream("boom", thread_id=f"{thread}-model")
    assert (failed[-1]["type"], failed[-1]["code"], failed[-1]["node"]) == (
        "error",
        "agent_error",
        "agent",
    )
    assert "RuntimeError" in failed[-1]["message"]
    tool = await api.stream(f"fail {amount}", thread_id=f"{thread}-tool")
    assert only(tool, "tool_error")["error"]["type"] == "RuntimeError"
    assert tool[-1]["type"] == "done"
    for id in (f"{thread}-model", f"{thread}-tool"):
        for path in ("", "/state", "/history"):
            shown.append(await api.get(f"/threads/{id}{path}"))
    assert SECRET not in json.dumps([failed, tool, shown])


async def test_what_a_tool_says_for_the_model_is_shown(api: Api, thread: str, amount: int) -> None:
    events = await api.stream(f"refuse {amount}", thread_id=thread)
    assert only(events, "tool_error")["error"]["message"] == f"There is no {amount}."
    assert await api.last_words(thread) == f"Results: There is no {amount}."


async def test_a_thread_whose_run_failed_takes_the_next_message(api: Api, thread: str) -> None:
    await api.stream("boom", thread_id=thread)
    assert (await api.get(f"/threads/{thread}"))["status"] == "error"
    events = await api.stream("tell 2", thread_id=thread)
    assert events[-1]["type"] == "done"
    assert (await api.get(f"/threads/{thread}"))["status"] == "idle"


async def test_what_was_done_before_a_failure_stays_done(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount} then boom", thread_id=thread)
    await api.decided(thread, type="approve")
    assert (await api.at_rest(thread))["status"] == "error"
    assert (await api.stream("tell 2", thread_id=thread))[-1]["type"] == "done"
    assert await api.last_words(thread) == "word0 word1"
    assert server.traces(f"pay {amount}") == [f"pay {amount}"]


async def test_a_run_that_goes_round_in_circles_is_stopped(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    circles = " then ".join([f"look {amount}"] * 20)
    events = await api.stream(circles, thread_id=thread, recursion_limit=4)
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "recursion_limit")
    assert server.traces(f"look {amount}") == [f"look {amount}"] * 4
    assert (await api.stream(circles, thread_id=thread, recursion_limit=21))[-1]["type"] == "done"


async def test_a_run_that_goes_on_after_a_pause_has_the_limit_that_was_asked_for(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    looks = " then ".join([f"look {amount}"] * 20)
    await api.paused(f"pay {amount} then {looks}", thread_id=thread, recursion_limit=4)
    decided = await api.decided(thread, type="approve")
    ended = await api.ended(decided["run_id"])
    assert (ended["status"], ended["error"]["code"]) == ("error", "recursion_limit")
    assert server.traces(f"look {amount}") == [f"look {amount}"] * 4


@pytest.mark.parametrize("limit", [0, -1, 10_001, "many"])
async def test_a_recursion_limit_is_within_those_of_the_server(
    api: Api, thread: str, limit: Any
) -> None:
    body = {"message": "Hi", "thread_id": thread, "recursion_limit": limit}
    await problem(await api.http.post("/agent/invoke", json=body), 422)


async def test_a_run_that_fails_holds_up_nobody_and_writes_no_values_into_the_log(
    api: Api, server: Server, thread: str
) -> None:
    failing = asyncio.create_task(api.stream("boom", thread_id=thread))
    longest, loop = 0.0, asyncio.get_running_loop()
    while not failing.done():
        asked_at = loop.time()
        await api.get("/health")
        longest = max(longest, loop.time() - asked_at)
    assert longest < 1.5
    # The traceback is there, and what stood in the variables of its frames is not.
    assert f"The password is {SECRET}" in server.output
    assert "HumanMessage(" not in server.output
