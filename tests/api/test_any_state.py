"""Whatever a state holds that the saver can store is shown, and a failure never tempts a client to
do a thing twice."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from msgspec.json import decode

from assent.api.views import SharedJson, state_json
from assent.core.json import encode_json
from tests.support import odd_agent
from tests.support.server import Api, Server, expect, problem, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the agent with odd values in its state."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(odd_agent.__file__, folder / "agent.py")
    with serving(folder, "agent.py:graph") as server:
        yield server


async def invoked(api: Api, message: str, **body: Any) -> Any:
    response = await api.http.post("/agent/invoke", json={"message": message, **body})
    return (await expect(response, 200)).json()


async def test_a_state_with_bytes_and_other_odd_values_is_shown(api: Api, thread: str) -> None:
    outcome = await invoked(api, "odd", thread_id=thread)
    assert (outcome["status"], outcome["output"]) == ("success", "Here they are.")
    shown = outcome["values"]
    assert shown["odd"] == {
        "bytes": "_w==",
        "model": {"name": "scan", "page": "_wA="},
        "dataclass": {"name": "scan", "page": "_wA="},
        "by bytes": {"_w==": 1},
        "set": ["_w=="],
        "deque": ["_w=="],
        "decimal": "1.50",
        "delta": "PT5S",
        "path": "a/b",
        "nan": "NaN",
        "by tuple": {"1,2": 3},
    }
    assert shown["messages"][-2]["artifact"] == "_w=="

    assert (await api.get(f"/threads/{thread}"))["values"] == shown
    assert (await api.get(f"/threads/{thread}/state"))["values"] == shown
    history = (await expect(await api.http.get(f"/threads/{thread}/history"), 200)).json()
    assert history[0]["values"] == shown
    forked = await expect(await api.http.post(f"/threads/{thread}/fork"), 201)
    assert forked.json()["values"] == shown
    run = (await api.events(thread))[0]["run_id"]
    assert (await api.get(f"/runs/{run}/wait"))["values"] == shown


async def test_a_request_that_failed_after_it_had_begun_is_not_to_be_sent_again(
    api: Api, server: Server, thread: str
) -> None:
    """Here the state cannot be read any more, so neither can the outcome of a run."""
    await invoked(api, "fragile", thread_id=thread)
    (server.folder / "broken").touch()

    async def runs() -> int:
        return len(await api.runs(thread))

    async def failed(**headers: str) -> str:
        sent = {"message": "fragile", "thread_id": thread}
        response = await api.http.post("/agent/invoke", json=sent, headers=headers)
        assert response.headers["connection"] == "close"
        return str((await problem(response, 500))["detail"])

    look_first = "It may have been carried out all the same: look before you send it again."
    assert (await failed()).endswith(look_first)
    assert await runs() == 2
    for _ in range(2):
        detail = await failed(**{"Idempotency-Key": thread})
        assert detail.endswith("The request may be sent again with the same Idempotency-Key.")
        assert await runs() == 3

    # A key says nothing on a route that takes none.
    headers = {"Idempotency-Key": thread}
    reading = await api.http.get(f"/threads/{thread}/state", headers=headers)
    assert (await problem(reading, 500))["detail"].endswith("The request may be sent again.")


async def test_input_that_a_reducer_refuses_leaves_the_thread_as_it_was(
    api: Api, thread: str
) -> None:
    """The schema takes it, so there is a run, which fails."""
    await invoked(api, "odd", thread_id=thread)
    before = (await api.get(f"/threads/{thread}"))["values"]

    body = {"input": {"small": 1000}, "thread_id": thread}
    failed = (await expect(await api.http.post("/agent/invoke", json=body), 200)).json()
    assert (failed["status"], failed["error"]["code"]) == ("error", "agent_error")
    assert failed["values"] == before
    assert (await api.get(f"/threads/{thread}"))["values"] == before
    assert (await api.get(f"/threads/{thread}/state?subgraphs=true"))["values"] == before
    forked = await expect(await api.http.post(f"/threads/{thread}/fork"), 201)
    assert forked.json()["values"] == before

    body = {"input": {"small": 10}, "thread_id": thread}
    taken = (await expect(await api.http.post("/agent/invoke", json=body), 200)).json()
    assert (taken["status"], taken["values"]["small"]) == ("success", 10)


def test_states_of_one_thread_are_shown_as_each_by_itself_would_be() -> None:
    """What they share is only encoded once."""
    first, second = HumanMessage("Hi\ud800.", id="1"), AIMessage("NaN", id="2")
    states: list[Any] = [
        {"messages": [first], "rate": math.nan},
        {"messages": [first, second], "notes": ["a"]},
        {"messages": []},
        [first, 5],
        {1: "one"},
    ]
    shown = SharedJson()
    for state in states:
        assert decode(encode_json(shown(state))) == decode(encode_json(state_json(state)))
    # Another message under the same id is another one.
    edited = {"messages": [HumanMessage("Hello.", id="1")]}
    assert decode(encode_json(shown(edited))) == state_json(edited)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "\ud800"])
def test_a_text_that_looks_like_no_json_stays_a_text(text: str) -> None:
    assert state_json({"a": [text, math.inf, 1.5]}) == {
        "a": [text.replace("\ud800", "?"), "Infinity", 1.5]
    }
