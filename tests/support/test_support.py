"""The fakes are held to what they stand for: the rule of histories, OpenAI's protocol, a model that
streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

import httpx
import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from tests.support.cutting_proxy import cutting, never
from tests.support.history import history_problems
from tests.support.models import (
    ScriptedModel,
    ScriptExhausted,
    call,
    calls,
    lc_history_problems,
    say,
)
from tests.support.openai_server import Call, Drop, OpenAIServer, Say, Status
from tests.support.receiver import Receiver, receiving
from tests.support.server import free_port
from tests.support.waiting import PATIENCE, until

Json = dict[str, Any]

USER: Json = {"role": "user", "content": "Pay, please."}


def asks(*ids: str, arguments: Any = "{}", name: str = "pay") -> Json:
    function = {"name": name, "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": id_, "type": "function", "function": function} for id_ in ids],
    }


def answers(id_: str) -> Json:
    return {"role": "tool", "tool_call_id": id_, "content": "done"}


# ── the rule ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "history",
    [
        [USER],
        [
            {"role": "system", "content": "Be brief."},
            USER,
            {"role": "assistant", "content": "Yes."},
            USER,
        ],
        [USER, asks("a"), answers("a")],
        [USER, asks("a", "b"), answers("b"), answers("a"), USER],
        # An id may come back in a later turn: each turn is answered for itself.
        [USER, asks("a"), answers("a"), asks("a"), answers("a")],
    ],
)
def test_a_history_that_a_provider_accepts_has_no_problem(history: list[Json]) -> None:
    assert history_problems(history) == []


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        ([], "empty"),
        ([USER, asks("a")], "calls 'a', which no tool message directly after it answers"),
        (
            [USER, asks("a", "b"), answers("a"), USER],
            "calls 'b', which no tool message directly after it answers",
        ),
        (
            [USER, asks("a"), USER, answers("a")],
            "calls 'a', which no tool message directly after it answers",
        ),
        ([USER, asks("a"), USER, answers("a")], "messages[3] answers 'a', but does not follow"),
        ([USER, asks("a"), answers("a"), answers("a")], "calls 'a', which 2 tool messages answer"),
        ([USER, asks("a"), answers("a"), answers("b")], "an answer to 'b', which it does not call"),
        ([USER, answers("a")], "messages[1] answers 'a', but does not follow"),
        ([USER, asks("a", "a"), answers("a")], "2 calls with the id 'a'"),
        ([USER, asks(""), answers("")], "a tool call without an id"),
        ([USER, asks("a", name=""), answers("a")], "without a name"),
        ([USER, asks("a", arguments={}), answers("a")], "not the text of a JSON object"),
        ([USER, asks("a", arguments='{"amount": '), answers("a")], "not the text of a JSON object"),
        ([USER, {"role": "human", "content": "Hi"}], "the role 'human', which does not exist"),
        ([USER, {"role": "assistant", "content": None}], "neither content nor tool calls"),
        ([{"role": "user", "content": None}], "no content"),
    ],
)
def test_a_history_that_a_provider_refuses_has_a_problem(history: list[Json], problem: str) -> None:
    assert any(problem in found for found in history_problems(history)), history_problems(history)


def test_the_rule_holds_for_langchain_messages_too() -> None:
    asked = AIMessage("", tool_calls=[{"name": "pay", "args": {}, "id": "a", "type": "tool_call"}])
    answer = ToolMessage("done", tool_call_id="a")
    assert (
        lc_history_problems([SystemMessage("Be brief."), HumanMessage("Hi"), asked, answer]) == []
    )
    assert lc_history_problems([HumanMessage("Hi"), asked]) != []
    assert lc_history_problems([HumanMessage("Hi"), asked, HumanMessage("And?"), answer]) != []


def test_a_call_that_could_not_be_parsed_needs_its_answer_as_well() -> None:
    bad = AIMessage(
        "",
        invalid_tool_calls=[
            {"name": "pay", "args": "{}", "id": "a", "error": None, "type": "invalid_tool_call"}
        ],
    )
    assert lc_history_problems([HumanMessage("Hi"), bad, HumanMessage("And?")]) != []


# ── the server ────────────────────────────────────────────────────────────────────────────────────


async def post(server: OpenAIServer, *messages: Json, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(headers={"authorization": "Bearer test"}) as client:
        return await client.post(
            f"{server.url}/chat/completions",
            json={"model": "m", "messages": messages or [USER], **options},
        )


def chunks_of(response: httpx.Response) -> list[Json]:
    *frames, end, nothing = response.text.split("\n\n")
    assert (end, nothing) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


async def test_text_streams_in_pieces_with_usage_at_the_end() -> None:
    async with OpenAIServer(Say("It is a fine day.")) as server:
        chunks = chunks_of(await post(server, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas[0]["role"] == "assistant"
    assert [delta["content"] for delta in deltas[1:-1]] == ["It is ", "a fine", " day."]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_usage_is_sent_only_to_who_asks_for_it() -> None:
    async with OpenAIServer(Say("Yes.")) as server:
        assert all("usage" not in chunk for chunk in chunks_of(await post(server, stream=True)))


async def test_calls_stream_in_pieces_that_alternate() -> None:
    async with OpenAIServer(Call(("look", {"id": 17}), ("pay", {"amount": 300}))) as server:
        chunks = chunks_of(await post(server, stream=True))
    pieces = [
        piece for chunk in chunks for piece in chunk["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert [(piece["index"], piece["id"], piece["function"]["name"]) for piece in pieces[:2]] == [
        (0, "call_1", "look"),
        (1, "call_2", "pay"),
    ]
    assert [piece["index"] for piece in pieces[2:]] == [0, 1, 0, 1, 1]
    texts = [
        "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == index)
        for index in (0, 1)
    ]
    assert [json.loads(text) for text in texts] == [{"id": 17}, {"amount": 300}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_without_stream_the_message_comes_whole() -> None:
    async with OpenAIServer(Call(("pay", {"amount": 3}), text="One moment.")) as server:
        whole = (await post(server)).json()
    choice = whole["choices"][0]
    assert (whole["object"], choice["finish_reason"], choice["message"]["content"]) == (
        "chat.completion",
        "tool_calls",
        "One moment.",
    )
    assert choice["message"]["tool_calls"][0]["function"] == {
        "name": "pay",
        "arguments": '{"amount": 3}',
    }


async def test_a_broken_history_is_answered_400_and_takes_no_reply() -> None:
    async with OpenAIServer(Say("Yes.")) as server:
        refused = await post(server, USER, asks("a"), USER)
        accepted = await post(server, USER, asks("a"), answers("a"))
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "calls 'a'" in refused.json()["error"]["message"]
    assert accepted.json()["choices"][0]["message"]["content"] == "Yes."
    assert server.problems == [
        "Request 1: messages[1] calls 'a', which no tool message directly after it answers."
    ]
    assert len(server.histories) == 2


async def test_what_does_not_belong_here_is_refused_and_remembered() -> None:
    async with OpenAIServer() as server, httpx.AsyncClient() as client:
        assert (await post(server)).status_code == 400
        assert (await client.post(f"{server.url}/chat/completions", json={})).status_code == 401
        assert (await client.post(f"{server.url}/responses", json={})).status_code == 404
    assert len(server.problems) == 3


async def test_a_status_says_when_to_come_back() -> None:
    async with OpenAIServer(Status(429, retry_after=2)) as server:
        response = await post(server)
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert response.json()["error"]["type"] == "rate_limit_exceeded"
    assert server.problems == []


@pytest.mark.parametrize(
    "drop", [Drop(after="Some text"), Drop(tool=("pay", {"amount": 3, "to": "Ada Lovelace"}))]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_drop_cuts_the_connection_in_the_middle(drop: Drop, stream: bool) -> None:
    async with (
        OpenAIServer(drop) as server,
        httpx.AsyncClient(headers={"authorization": "Bearer test"}) as client,
    ):
        received = b""
        body = {"model": "m", "messages": [USER], "stream": stream}
        with pytest.raises(httpx.RemoteProtocolError):
            async with client.stream(
                "POST", f"{server.url}/chat/completions", json=body
            ) as response:
                async for part in response.aiter_raw():
                    received += part
    assert response.status_code == 200
    assert b"chatcmpl-" in received
    assert b"[DONE]" not in received
    if stream and drop.tool:
        assert b"amou" in received
        assert b"lace" not in received


async def test_a_held_answer_waits_after_its_first_piece() -> None:
    release = asyncio.Event()
    async with (
        OpenAIServer(Say("It is a fine day.", hold=release)) as server,
        httpx.AsyncClient() as client,
    ):
        body = {"model": "m", "messages": [USER], "stream": True}
        headers = {"authorization": "Bearer test"}
        async with client.stream(
            "POST", f"{server.url}/chat/completions", json=body, headers=headers
        ) as response:
            lines = response.aiter_lines()
            async for line in lines:
                if "It is " in line:
                    break
            await anext(lines)  # the empty line that ends the event
            following = asyncio.ensure_future(anext(lines))
            await asyncio.wait({following}, timeout=0.1)
            assert not following.done()
            release.set()
            rest = [await following] + [line async for line in lines]
    assert "data: [DONE]" in rest


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_model_streams_words_and_calls_in_pieces() -> None:
    model = ScriptedModel(
        script=[
            say("A fine day."),
            calls(("look", {"id": 17}), ("pay", {"amount": 300}), text="One moment."),
        ]
    )
    words = [chunk.content async for chunk in model.astream("Hi")]
    assert words == ["A ", "fine ", "day.", ""]
    chunks = list(model.stream("Pay"))
    whole: AIMessageChunk = sum(chunks[1:], start=chunks[0])
    assert len(chunks) > 6
    assert [(made["name"], made["args"]) for made in whole.tool_calls] == [
        ("look", {"id": 17}),
        ("pay", {"amount": 300}),
    ]
    assert whole.content == "One moment."


async def test_the_model_shares_its_script_with_what_bind_tools_returns() -> None:
    model = ScriptedModel(
        script=[
            say("One"),
            lambda history: say(f"You said {history[-1].content}"),
            ValueError("The line is dead."),
        ]
    )
    bound = model.bind_tools(["pay"])
    assert (await model.ainvoke("a")).content == "One"
    assert bound.invoke("b").content == "You said b"
    with pytest.raises(ValueError, match="The line is dead"):
        await bound.ainvoke("c")
    with pytest.raises(ScriptExhausted, match="3 replies, and this is call 4"):
        await model.ainvoke("d")
    assert [history[-1].content for history in model.calls] == ["a", "b", "c", "d"]
    assert model.bound_tools == ["pay"]


async def test_one_message_may_stand_in_the_script_often_with_new_call_ids() -> None:
    model = ScriptedModel(script=[call("pay", amount=1)] * 2, unique_ids=True)
    ids = {(await model.ainvoke("Hi")).tool_calls[0]["id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize("turns", range(5))
async def test_a_receiver_leaves_no_connection_open_however_late_it_came(turns: int) -> None:
    async with receiving(Receiver()) as receiver:
        client = socket.create_connection(("127.0.0.1", receiver.port), timeout=PATIENCE)
        for _ in range(turns):
            await asyncio.sleep(0)
    with client, contextlib.suppress(ConnectionError):
        assert await asyncio.to_thread(client.recv, 1) == b""


# ── the network ───────────────────────────────────────────────────────────────────────────────────


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    writer.close()


async def test_a_proxy_that_holds_waits_for_a_server_that_is_away() -> None:
    port = free_port()
    async with asyncio.timeout(PATIENCE), cutting(port, never(), holds=True) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"Hello.\n")
        await until(lambda: proxy.connections)
        async with await asyncio.start_server(echo, "127.0.0.1", port):
            assert await reader.readline() == b"Hello.\n"
        writer.close()
