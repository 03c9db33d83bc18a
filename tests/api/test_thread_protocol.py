"""LangGraph's thread protocol: events over HTTP and over WebSockets, and commands."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from assent.api.dialects.langgraph.channels import CHANNELS, PLACES_OF_ENTRY
from tests.support.secrets import bearer, keys_of
from tests.support.server import (
    Api,
    Server,
    asking,
    problem,
    scripted_agents,
    serving,
)
from tests.support.thread_client import (
    ALL,
    Event,
    data_of,
    done,
    is_end,
    sent,
    thread_socket,
    until_end,
)

AGENTS = ("agent", "asking")


def human(text: str) -> Any:
    return {"messages": [{"type": "human", "content": text}]}


def start(text: str, agent: str = "agent") -> dict[str, Any]:
    return {"assistant_id": agent, "input": human(text)}


async def test_a_run_is_started_followed_and_decided_as_the_sdk_does_it(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    begun = await done(api.http, thread, "run.start", **start(f"tell 3; pay {amount}"))
    watched, events = await asyncio.gather(
        until_end(api.http, thread, channels=["lifecycle", "input"]),
        until_end(api.http, thread),
    )
    run = await api.get(f"/runs/{begun['run_id']}")
    assert run["status"] == "interrupted"
    # What two streams tell is one event for a client, which knows it by its id.
    methods = ("lifecycle", "input.requested")
    assert watched == [event for event in events if event["method"] in methods]
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})

    assert [data["event"] for data in data_of(events, "lifecycle")] == ["running", "interrupted"]
    (asked,) = data_of(events, "input.requested")
    (action,) = asked["payload"]["action_requests"]
    assert (action["name"], action["args"]) == ("pay", {"amount": amount})
    messages = data_of(events, "messages")
    words = [data["delta"] for data in messages if data["event"] == "content-block-delta"]
    assert "".join(word.get("text", "") for word in words) == "word0 word1 word2"
    finished = [data["content"] for data in messages if data["event"] == "content-block-finish"]
    assert finished[-1]["args"] == {"amount": amount}
    state = await api.get(f"/threads/{thread}/state")
    assert data_of(events, "values")[-1] == state["values"]

    decided = {"interrupt_id": asked["interrupt_id"], "response": [{"type": "approve"}]}
    answer = await sent(api.http, thread, "input.respond", namespace=[], **decided)
    await api.ended(answer["result"]["run_id"])
    rest = await until_end(api.http, thread, since=events[-1]["seq"])
    # What the client still hears of the question is known to be older than its answer.
    assert events[-1]["seq"] <= answer["meta"]["applied_through_seq"] < rest[0]["seq"]
    assert data_of(rest, "input.answered") == [{"interrupt_ids": [asked["interrupt_id"]]}]
    assert data_of(rest, "lifecycle")[-1]["event"] == "completed"
    assert [data["event"] for data in data_of(rest, "tools")] == ["tool-started", "tool-finished"]
    assert len(server.traces(f"pay {amount}")) == 1

    # Whoever comes second is told who was first.
    late = await sent(api.http, thread, "input.respond", **decided)
    assert (late["type"], late["error"]) == ("error", "no_such_interrupt")
    assert "local" in late["message"] or "nothing" in late["message"]
    assert len(server.traces(f"pay {amount}")) == 1


async def test_events_have_the_same_numbers_wherever_and_in_whatever_channels_they_are_heard(
    api: Api, thread: str, amount: int
) -> None:
    begun = await done(api.http, thread, "run.start", **start(f"look {amount} then tell 2"))
    await api.ended(begun["run_id"])
    whole = await until_end(api.http, thread)
    assert {event["method"] for event in whole} >= CHANNELS.keys() - {"input", "custom"}
    for channel in ("messages", "values", "updates", "tools", "tasks", "checkpoints"):
        alone = await until_end(api.http, thread, channels=[channel, "lifecycle"])
        expected = [each for each in whole if each["method"] in (channel, "lifecycle")]
        if channel == "tasks":
            assert [each["seq"] for each in alone] == [each["seq"] for each in expected]
        else:
            assert alone == expected
    for at in range(0, len(whole) - 1, 7):
        assert await until_end(api.http, thread, since=whole[at]["seq"]) == whole[at + 1 :]
    for since, status in ((whole[-1]["seq"] * 2, 409), (-1, 422), (True, 422)):
        body = {"channels": ALL, "since": since}
        response = await api.http.post(f"/threads/{thread}/stream/events", json=body)
        await problem(response, status)


async def test_a_socket_opens_before_its_thread_and_tells_of_all_that_it_subscribes_to(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    async with thread_socket(server.port, thread) as socket:
        watching = await socket.done("subscription.subscribe", channels=["lifecycle", "input"])
        assert (await api.http.get(f"/threads/{thread}")).status_code == 404
        await socket.done("run.start", **start(f"pay {amount}"))
        await socket.until()
        heard = [*socket.events.values()]
        (asked,) = data_of(heard, "input.requested")
        await socket.done("subscription.subscribe", channels=["values", "lifecycle"])
        await socket.until()
        assert len(data_of([*socket.events.values()], "values")) > 1
        assert socket.again == 2

        decided = {"interrupt_id": asked["interrupt_id"], "response": [{"type": "reject"}]}
        await socket.done("input.respond", namespace=[], **decided)
        await socket.until()
        everything = await until_end(
            api.http,
            thread,
            lambda event: is_end(event) and event["params"]["data"]["event"] == "completed",
            channels=["lifecycle", "input", "values"],
        )
        heard = sorted(socket.events.values(), key=lambda each: each["seq"])
        # The state in which it paused has what was decided by now, and so the next one is no news.
        assert {each["event_id"] for each in everything} <= socket.events.keys()
        assert [each for each in heard if each["method"] != "values"] == [
            each for each in everything if each["method"] != "values"
        ]
        await socket.done("subscription.unsubscribe", **watching)
        gone = await socket.ask("subscription.unsubscribe", **watching)
        assert (gone["type"], gone["error"]) == ("error", "no_such_subscription")
    assert server.traces(f"pay {amount}") == []


async def test_a_replay_has_the_states_of_the_last_run(
    api: Api, server: Server, thread: str
) -> None:
    async with thread_socket(server.port, thread) as socket:
        await socket.done("subscription.subscribe", channels=ALL)
        await socket.done("run.start", **start("tell 2; look 1"))
        first = (await socket.until())["seq"]
        assert await until_end(api.http, thread) == [*socket.events.values()]
        await socket.done("run.start", **start("tell 3; look 2"))
        last = (await socket.until())["seq"]
        heard = [*socket.events.values()]
    replayed = await until_end(api.http, thread, lambda event: event["seq"] == last)

    def up_to_first(events: list[Event], *left_out: str) -> list[Event]:
        return [each for each in events if each["seq"] <= first and each["method"] not in left_out]

    assert replayed[-1] == heard[-1]
    assert [each for each in replayed if each["seq"] > first] == [
        each for each in heard if each["seq"] > first
    ]
    states = ("values", "tasks")
    assert up_to_first(replayed, *states) == up_to_first(heard, *states)
    assert data_of(up_to_first(heard), "values")
    assert not data_of(up_to_first(replayed), "values")
    began = [each for each in data_of(up_to_first(replayed), "tasks") if "input" in each]
    assert began
    assert not any(each["input"] for each in began)


async def test_each_question_of_a_graph_is_asked_and_answered(
    api: Api, server: Server, thread: str
) -> None:
    await done(api.http, thread, "run.start", **start("Which?; When?", "asking"))
    events = await until_end(api.http, thread, channels=["input", "lifecycle"])
    asked = {
        data["payload"]["question"]: data["interrupt_id"]
        for data in data_of(events, "input.requested")
    }
    assert asked.keys() == {"Which?", "When?"}
    responses = [
        {"namespace": [], "interrupt_id": asked["Which?"], "response": "The first."},
        {"namespace": [], "interrupt_id": asked["When?"], "response": "Now."},
    ]
    answer = await done(api.http, thread, "input.respond", responses=responses)
    assert (await api.ended(answer["run_id"]))["status"] == "success"
    words = (await api.get(f"/threads/{thread}/state"))["values"]["messages"]
    assert {each["content"] for each in words[1:]} == {
        "Answers: ['The first.']",
        "Answers: ['Now.']",
    }


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("run.start", {"input": None}, "invalid_argument", "'assistant_id'"),
    ("run.start", {"assistant_id": "agent", "input": None}, "invalid_argument", "nothing to do"),
    ("input.respond", {"response": 1}, "invalid_argument", "'interrupt_id'"),
    ("input.respond", {"responses": [{}]}, "invalid_argument", "'interrupt_id'"),
    ("input.inject", {"message": {}}, "unknown_command", "run.start"),
    ("state.get", {"namespace": []}, "unknown_command", "/threads/{id}/state"),
    ("subscription.subscribe", {"channels": ["values"]}, "unknown_command", "WebSocket"),
    ("a\x1bb", {}, "unknown_command", "run.start, input.respond"),
]


@pytest.mark.parametrize(("method", "params", "code", "sentence"), REFUSED)
async def test_a_command_that_cannot_be_carried_out_changes_nothing(
    api: Api, thread: str, method: str, params: dict[str, Any], code: str, sentence: str
) -> None:
    refused = await sent(api.http, thread, method, **params)
    assert (refused["type"], refused["error"]) == ("error", code), refused
    assert sentence in refused["message"]
    assert (await api.http.get(f"/threads/{thread}")).status_code == 404


async def test_what_is_no_command_is_refused_and_the_socket_stays(
    api: Api, server: Server, thread: str
) -> None:
    path = f"/threads/{thread}/commands"
    for body in ({}, {"id": "1", "method": "run.start"}, {"id": 1}):
        await problem(await api.http.post(path, json=body), 422)
    for body in ({"channels": []}, {"channels": ["news"]}, {"channels": ["custom:"]}, {}):
        await problem(await api.http.post(f"/threads/{thread}/stream/events", json=body), 422)
    for wide in ([["a"]] * 101, [["a"] * 101], [["a" * 1001]], [[1]]):
        body = {"channels": ALL, "namespaces": wide}
        await problem(await api.http.post(f"/threads/{thread}/stream/events", json=body), 422)
    everything = {"channels": ALL}
    await problem(await api.http.post(f"/threads/{thread}/stream/events", json=everything), 404)

    async with thread_socket(server.port, thread) as socket:
        for text in ("", "[]", '{"id": 1}', '{"method": "run.start"}', b"{}"):
            await socket.connection.send(text)
            said = await socket.next()
            assert (said["type"], said["error"], said["id"]) == ("error", "invalid_argument", None)
        for channels in ([], ["news"], "values"):
            said = await socket.ask("subscription.subscribe", channels=channels)
            assert said["error"] == "invalid_argument"
        said = await socket.ask("state.get")
        assert said["error"] == "unknown_command"
        absent = {"interrupt_id": "0" * 32, "response": 1}
        assert (await socket.ask("input.respond", **absent))["error"] == "no_such_run"


async def test_a_command_that_decides_nothing_that_is_asked_decides_nothing(
    api: Api, server: Server, thread: str, amount: int
) -> None:
    await api.paused(f"pay {amount}", thread_id=thread)
    for params in (
        {"interrupt_id": "0" * 32, "response": [{"type": "approve"}]},
        {"interrupt_id": "0" * 32, "response": [{"type": "approve"}], "goto": "tools"},
        {"interrupt_id": "0" * 32, "response": [{"type": "approve"}], "update": {"x": 1}},
    ):
        assert (await sent(api.http, thread, "input.respond", **params))["type"] == "error"
    again = await sent(api.http, thread, "run.start", assistant_id="agent", input=None)
    assert again["type"] == "error"
    assert len(await api.pending(thread)) == 1

    # Nor does a run that brings answers along, as a graph does whose node starts one.
    ((asked,),) = (await api.get(f"/threads/{thread}"))["interrupts"].values()
    answers = {asked["id"]: [{"type": "approve"}]}
    config = {"configurable": {"__pregel_resume_map": answers}}
    for said in (None, human("tell 1")):
        await sent(api.http, thread, "run.start", assistant_id="agent", input=said, config=config)
        await api.at_rest(thread)
        assert server.traces(f"pay {amount}") == []
    assert await api.pending(thread) == []


# ── of somebody else ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def peoples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that ann and bob have keys of. Each may run their own threads, and decide for the
    other."""
    folder = tmp_path_factory.mktemp("peoples")
    agents = scripted_agents(folder, "agent")
    with serving(folder, agents, ASSENT_API_KEYS=keys_of("ann", "bob")) as server:
        yield server


async def test_a_socket_of_somebody_elses_thread_is_as_one_of_none(
    peoples: Server, thread: str, amount: int
) -> None:
    absent = f"{thread}-absent"
    async with AsyncExitStack() as stack:
        ann, bob = [
            await stack.enter_async_context(asking(peoples, **bearer(name)))
            for name in ("ann", "bob")
        ]
        await ann.paused(f"pay {amount}", thread_id=thread)
        before = await ann.get(f"/threads/{thread}")
        (asked,) = before["approvals"]
        sockets = {
            id: await stack.enter_async_context(
                thread_socket(peoples.port, id, headers=bearer("bob"))
            )
            for id in (thread, absent)
        }
        for id, socket in sockets.items():
            await socket.done("subscription.subscribe", channels=ALL)
            await socket.done("subscription.subscribe", channels=ALL, since=PLACES_OF_ENTRY)
            decision = {"interrupt_id": asked["approval_id"], "response": [{"type": "approve"}]}
            refused = await socket.ask("input.respond", **decision)
            assert refused["error"] == "no_such_run"
            assert refused["message"] == f"There is no thread '{id}'."
        run = await sockets[thread].ask("run.start", **start("look 1"))
        assert run["type"] == "error"
        assert await ann.get(f"/threads/{thread}") == before

        # He may decide what she asks, and sees no more of her thread for that.
        reject = {"type": "reject"}
        decided = await bob.http.post(f"/approvals/{asked['approval_id']}/decide", json=reject)
        assert decided.status_code == 202
        await ann.at_rest(thread)
        await sockets[thread].done("subscription.subscribe", channels=ALL)
        await sockets[thread].done("subscription.subscribe", channels=["lifecycle"])
        assert sockets[thread].events == {}
        # On a thread of his own he hears all of it.
        await sockets[absent].done("run.start", **start("look 1"))
        await sockets[absent].until()
    assert peoples.traces(f"pay {amount}") == []
