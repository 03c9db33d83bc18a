"""Input, context and config over HTTP: they reach the graph, and what does not fit is refused before
there is a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import agents, given_graphs
from tests.support.server import (
    Api,
    Json,
    Server,
    expect,
    only,
    problem,
    project_of,
    serving,
)

NEVER = "0 0 1 1 *"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("input")
    project = project_of(folder, {given_graphs: given_graphs.ALL, agents: ["agent"]})
    (folder / "assent.toml").write_text('[configurable]\nlooking = ["model"]\n')
    with serving(folder, project, ASSENT_CONFIG=str(folder / "assent.toml")) as server:
        yield server


async def invoke(api: Api, **body: Json) -> Json:
    return (await expect(await api.http.post("/agent/invoke", json=body), 200)).json()


async def refused(api: Api, **body: Json) -> str:
    """The sentence of the refusal, which leaves nothing behind."""
    before = await api.get("/threads")
    told = await problem(await api.http.post("/agent/stream", json=body), 422)
    assert await api.get("/threads") == before
    detail: str = told["detail"]
    return detail.removesuffix(" Nothing was changed.")


def traces(server: Server) -> list[str]:
    return server.ledger.read_text().splitlines()


# ── input ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_graphs_own_input_runs_it(api: Api, server: Server) -> None:
    given = {"topic": "tea", "notes": ["hot"]}
    async with api.http.stream(
        "POST", "/agent/stream", json={"agent": "report", "input": given}
    ) as response:
        await expect(response, 200)
        thread = response.headers["x-thread-id"]
        await response.aread()
    start = only(await api.events(thread), "run_start")
    assert (start.get("message"), start["input"]) == (None, given)
    assert "publish tea: hot, about tea" in traces(server)
    values = (await api.get(f"/threads/{thread}"))["values"]
    assert values == {"topic": "tea", "notes": ["hot", "about tea"]}


async def test_input_that_the_graph_does_not_know_is_named(api: Api) -> None:
    assert await refused(api, agent="report", input={"topic": "tea", "zzz": 1}) == (
        "The agent 'report' takes no input 'zzz'. It takes: notes, topic."
    )


async def test_langgraphs_clients_may_send_what_the_graph_does_not_know(
    api: Api, thread: str
) -> None:
    """CopilotKit sends `tools` to any graph. What is known of it runs, and nothing else is kept."""
    beside = {"tools": [], "zzz": 1, "decisions": {"x": {"type": "approve"}}}
    body: Json = {"assistant_id": "report", "input": {"topic": thread, **beside}}
    body["if_not_exists"] = "create"
    path = f"/threads/{thread}/runs"
    run = (await expect(await api.http.post(path, json=body), 200)).json()
    assert run["kwargs"]["input"] == {"topic": thread}
    values = (await expect(await api.http.post("/runs/wait", json=body), 200)).json()
    assert values == {"topic": thread, "notes": [f"about {thread}"]}
    (run,) = (await expect(await api.http.post("/runs/batch", json=[body]), 200)).json()
    assert run["kwargs"]["input"] == {"topic": thread}

    ours = {"assistant_id": "agent", "input": {"messages": "tell 1", **beside}}
    values = (await expect(await api.http.post("/runs/wait", json=ours), 200)).json()
    assert [each["content"] for each in values["messages"]] == ["tell 1", "word0"]
    assert values["decisions"] == {}
    for path, unknown in (("/runs", beside), ("/runs/stream", {"decisions": beside["decisions"]})):
        body = {"assistant_id": "agent", "input": unknown}
        told = await problem(await api.http.post(path, json=body), 422)
        assert "takes no input 'decisions'" in told["detail"]


async def test_a_message_to_a_graph_without_messages_says_what_it_takes(
    api: Api, server: Server
) -> None:
    shape = '{"notes"?: <array>, "topic"?: <string>}'
    assert await refused(api, agent="report", message="Hello.") == (
        f"The agent 'report' keeps no messages, so it takes an 'input': {shape}."
    )
    assert "agent takes no messages" in server.output


async def test_messages_in_an_input_are_a_conversation(api: Api) -> None:
    given = {"messages": [{"role": "user", "content": "One."}, "Two."]}
    answer = await invoke(api, agent="looking", input=given)
    assert answer["values"]["messages"][-1]["content"] == "HumanMessage 'Two.', model none"
    ids = [message["id"] for message in answer["values"]["messages"]]
    assert ids[:2] == [f"{answer['run_id']}-1", f"{answer['run_id']}-2"]


async def test_a_message_has_blocks(api: Api) -> None:
    blocks = [
        {"type": "text", "text": "Look:"},
        {"type": "image", "url": "https://example.com/a.png"},
    ]
    events = await api.stream(blocks, agent="looking")  # type: ignore[arg-type]
    assert only(events, "run_start")["message"] == "Look:"
    thread = await api.get(f"/threads/{events[0]['thread_id']}")
    (asked, answer) = thread["values"]["messages"]
    assert asked["content"] == blocks
    assert answer["content"] == f"HumanMessage {blocks!r}, model none"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            {},
            "The body: send a 'message' or an 'input', or a 'checkpoint_id' to go on from.",
        ),
        (
            {"message": "Hi.", "input": {"messages": "Hi."}},
            "The body: send a 'message' or an 'input', not both.",
        ),
        (
            {"message": [], "agent": "looking"},
            "In the body, 'message': it has 0 blocks, and may have 1 to 100.",
        ),
        (
            {"message": 5},
            "In the body, 'message': it should be a text, or a list of content blocks.",
        ),
        (
            {"message": [{"type": "image", "url": "ftp://e.x"}]},
            "In 'message', the block 1 is not one: its 'url' begins with https:// or http://.",
        ),
        (
            {"message": "Hi.", "config": {"zzz": 1}},
            "In the body, 'config.zzz': there is no such field.",
        ),
        (
            {"message": "Hi.", "recursion_limit": 5, "config": {"recursion_limit": 6}},
            "The body: 'recursion_limit' and that of 'config' differ: send one of them.",
        ),
        (
            {"message": "Hi.", "context": {"a": "x" * 70_000}},
            "In the body, 'context': it has 70,008 bytes as JSON, and 65,536 are the most.",
        ),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused(api: Api, body: Json, sentence: str) -> None:
    assert await refused(api, **body) == sentence


# ── context and config ────────────────────────────────────────────────────────────────────────────


async def test_a_context_reaches_the_tools_with_its_defaults(
    api: Api, server: Server, amount: int, thread: str
) -> None:
    body = {"agent": "shop", "thread_id": thread, "context": {"account": "acme"}}
    await api.paused(f"pay {amount}", **body)
    await api.ended((await api.decided(thread, type="approve"))["run_id"])
    assert f"pay {amount} from acme in en" in traces(server)


async def test_without_the_context_that_it_needs_there_is_no_run(api: Api) -> None:
    needs = "The agent 'shop' needs a 'context' with 'account'."
    assert await refused(api, agent="shop", message="pay 1") == needs
    takes = "The agent 'agent' declares no context_schema, so it takes no 'context'."
    assert await refused(api, agent="agent", message="pay 1", context={"a": 1}) == takes


async def test_a_fork_goes_on_with_the_context_of_its_source(
    api: Api, server: Server, amount: int, thread: str
) -> None:
    body = {"agent": "own_shop", "thread_id": thread, "context": {"account": "acme"}}
    await api.paused(f"pay {amount}", **body)
    forked = await api.http.post(f"/threads/{thread}/fork", json={"thread_id": f"{thread}-2"})
    assert forked.status_code == 201
    (asked,) = await api.pending(f"{thread}-2")
    assert json.loads(asked["conversation"]["context"]) == {"account": "acme"}
    await api.ended((await api.decided(f"{thread}-2", type="approve"))["run_id"])
    assert f"pay {amount} from acme in en" in traces(server)


async def test_tags_and_metadata_reach_callbacks_and_no_checkpoint(
    api: Api, server: Server, thread: str
) -> None:
    config = {"tags": ["shop"], "metadata": {"tenant": thread}}
    context = {"account": "acme"}
    body: Any = {"agent": "shop", "thread_id": thread, "context": context, "config": config}
    await api.stream("Hello.", **body)
    seen = [json.loads(line) for line in traces(server) if thread in line]
    assert seen == [{"tenant": thread, "tags": ["shop"]}]
    state = await api.get(f"/threads/{thread}/state")
    assert "tenant" not in state["metadata"]


async def test_a_runs_metadata_reaches_callbacks(api: Api, server: Server, thread: str) -> None:
    body: Any = {"agent": "shop", "context": {"account": "acme"}, "thread_id": thread}
    await api.stream("Hello.", metadata={"tenant": thread, "run_id": "x"}, **body)
    seen = [json.loads(line) for line in traces(server) if thread in line]
    assert seen == [{"tenant": thread, "tags": []}]


async def test_a_key_that_the_operator_declares_is_configurable(api: Api) -> None:
    config = {"configurable": {"model": "small"}}
    answer = await invoke(api, agent="looking", message="Hi.", config=config)
    assert answer["output"] == "HumanMessage 'Hi.', model small"
    said = await refused(api, agent="looking", message="Hi.", config={"configurable": {"zzz": 1}})
    assert said == "The agent 'looking' declares no configurable 'zzz'. It declares: model."


async def test_a_recursion_limit_may_be_in_the_config(api: Api) -> None:
    body = {"agent": "report", "input": {"topic": "tea"}, "config": {"recursion_limit": 1}}
    answer = await invoke(api, **body)
    assert answer["error"]["code"] == "recursion_limit"


async def test_a_breakpoint_pauses_and_goes_on_when_approved(
    api: Api, server: Server, thread: str
) -> None:
    body: Any = {"agent": "report", "thread_id": thread, "interrupt_before": ["publish"]}
    answer = await invoke(api, input={"topic": thread}, **body)
    assert answer["status"] == "interrupted"
    assert f"publish {thread}: about {thread}" not in traces(server)
    run = await api.decided(thread, type="approve")
    assert (await api.ended(run["run_id"]))["status"] == "success"
    assert f"publish {thread}: about {thread}" in traces(server)


async def test_a_reason_is_no_input_of_a_graph_without_messages(
    api: Api, server: Server, thread: str
) -> None:
    """LangGraph would drop it, and begin anew with nothing."""
    body: Any = {"agent": "report", "thread_id": thread, "interrupt_before": ["publish"]}
    await invoke(api, input={"topic": thread}, **body)
    answer = await invoke(
        api, agent="report", thread_id=thread, message="Not now.", if_paused="reject"
    )
    assert answer["status"] == "success"
    assert answer["values"] == {"topic": thread, "notes": [f"about {thread}"]}
    assert f"publish {thread}: about {thread}" not in traces(server)


# ── schedules ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_schedule_has_input_and_context(api: Api, server: Server, amount: int) -> None:
    body = {"cron": NEVER, "agent": "shop", "context": {"account": "acme"}}
    created = await expect(
        await api.http.post("/schedules", json={**body, "message": f"pay {amount}"}), 201
    )
    schedule = created.json()
    assert schedule["context"] == {"account": "acme"}
    path = f"/schedules/{schedule['schedule_id']}"
    started = (await expect(await api.http.post(f"{path}/run"), 202)).json()
    assert (await api.ended(started["run_id"]))["status"] == "interrupted"
    await api.ended((await api.decided(started["thread_id"], type="approve"))["run_id"])
    assert f"pay {amount} from acme in en" in traces(server)


async def test_a_schedules_message_takes_the_place_of_its_input(api: Api) -> None:
    body = {"cron": NEVER, "agent": "looking", "input": {"messages": "Hi."}}
    created = (await expect(await api.http.post("/schedules", json=body), 201)).json()
    assert (created["message"], created["input"]) == (None, {"messages": "Hi."})
    path = f"/schedules/{created['schedule_id']}"
    changed = await expect(await api.http.patch(path, json={"message": "Bye."}), 200)
    assert changed.json()["message"] == "Bye."
    assert "input" not in changed.json()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"agent": "report", "input": {"zzz": 1}}, "The agent 'report' takes no input 'zzz'."),
        ({"agent": "shop", "message": "Hi."}, "The agent 'shop' needs a 'context' with 'account'."),
        ({"agent": "report"}, "The body: send a 'message' or an 'input'."),
    ],
)
async def test_a_schedule_that_could_not_run_is_refused(
    api: Api, body: Json, sentence: str
) -> None:
    response = await api.http.post("/schedules", json={"cron": NEVER, **body})
    assert (await problem(response, 422))["detail"].startswith(sentence)
