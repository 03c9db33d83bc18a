"""The routes of tasks: what is made, executed once, and told of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent import Approve, Assent, Reject, build_hitl_agent
from assent.core.access import Owner
from assent.core.clock import utc_now
from assent.core.metadata import OF_TASK
from tests.support.models import ScriptedModel, say
from tests.support.server import problem
from tests.support.told import part_of_script, results
from tests.support.waiting import PATIENCE

KEYS = {"ann": "secret-of-ann", "bob": "secret-of-bob"}
TASKS = "/api/v1/agents/agent/tasks"
TASK = {"description": "Say hello.", "user_id": "user123"}
CONFIG = """
[tasks.agent]
instructions = true
"""

Json = Any


async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def reply(history: list[Any]) -> Any:
    """What the model says: what it was told to do, and then what came of it."""
    if history[-1].type == "tool":
        return say(f"Results: {' | '.join(results(history))}")
    return part_of_script(history[-1].text)


@asynccontextmanager
async def asked(
    folder: Path, config: str = CONFIG
) -> AsyncIterator[tuple[Assent, httpx.AsyncClient]]:
    """A server, and a client of it, who is `ann`."""
    file = folder / "assent.toml"
    file.write_text(config)
    agent = build_hitl_agent(ScriptedModel(script=reply), [pay], approve=["pay"])
    options = {"api_keys": KEYS, "config": str(file)}
    database = str(folder / "a.db")
    async with (
        asyncio.timeout(PATIENCE),
        Assent(agent, database=database, settings=options) as assent,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(assent.app),
            base_url="http://localhost",
            headers={"authorization": f"Bearer {KEYS['ann']}"},
        ) as client,
    ):
        yield assent, client


@asynccontextmanager
async def _as(client: httpx.AsyncClient, name: str) -> AsyncIterator[None]:
    """The client asks with somebody else's key."""
    before = client.headers["authorization"]
    client.headers["authorization"] = f"Bearer {KEYS[name]}"
    try:
        yield
    finally:
        client.headers["authorization"] = before


async def made(client: httpx.AsyncClient, **parameters: Json) -> str:
    """The path of a new task."""
    response = await client.post(TASKS, json={**TASK, "task_parameters": parameters})
    assert response.status_code == 200, response.text
    return f"{TASKS}/{response.json()['id']}"


async def executed(client: httpx.AsyncClient, path: str, query: str, **body: Json) -> Json:
    """The answer to the task's execution."""
    response = await client.post(f"{path}/execute", json={"query": query, **body})
    assert response.status_code == 200, response.text
    return response.json()


async def frames_of(
    client: httpx.AsyncClient, path: str, last: str = "", **query: Json
) -> list[tuple[str, str, Json]]:
    """The id, the name and the data of each event in the task's stream."""
    headers = {"last-event-id": last} if last else {}
    response = await client.get(f"{path}/events/stream", params=query, headers=headers)
    assert response.status_code == 200, response.text
    frames = []
    for part in response.text.split("\n\n")[1:]:
        lines = dict(line.split(": ", 1) for line in part.split("\n") if line[:1] not in ("", ":"))
        if lines:
            frames.append((lines["id"], lines.get("event", ""), json.loads(lines["data"])))
    return frames


# ── making ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_task_is_what_it_was_told_and_does_nothing(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        parameters = {"instructions": "Be brief.", "colour": "blue", "enable_streaming": True}
        body = {**TASK, "task_parameters": parameters}
        response = await client.post(TASKS, json=body)
        task = response.json()
        path = f"{TASKS}/{task['id']}"
        assert response.headers["location"] == path
        created_at = task.pop("created_at")
        assert task == {
            "id": task["id"],
            "task_id": task["id"],
            "agent_id": "agent",
            **body,
            "status": "created",
            "execution_id": None,
            "events_url": f"{path}/events/stream",
        }
        seen = (await client.get(path)).json()
        nothing = {"final_response": None, "error": None}
        assert seen == {**task, "created_at": created_at, **nothing}
        assert (await client.get(f"{path}/get_final_response")).json() == {
            "status": "created",
            **nothing,
        }
        assert (await client.get(f"{path}/get_events")).json() == {
            "events": [],
            "next": "",
            "more": False,
        }
        assert (await client.get(f"{path}/get_current_state")).json() == {
            "status": "created",
            "step": None,
            "next": [],
            "values": None,
            "approvals": [],
        }
        # Whose it is says the key, and nobody can make another task of it.
        thread = await assent.runs.thread(task["id"])
        assert (thread.owner, thread.metadata["user_id"]) == ("ann", "user123")
        changed = await client.patch(
            f"/threads/{task['id']}", json={"metadata": {"assent_task": None}}
        )
        await problem(changed, 422)


NO_TASKS: list[tuple[Json, str]] = [
    ({}, "description"),
    ({"description": ""}, "description"),
    ({"description": "x", "user_id": "u" * 201}, "user_id"),
    ({"description": "x", "owner": "bob"}, "owner"),
    ({"description": "x", "task_parameters": []}, "task_parameters"),
    ({"description": "x", "task_parameters": {"enable_streaming": "yes"}}, "enable_streaming"),
    ({"description": "x", "task_parameters": {"x": "y" * 70_000}}, "65,536"),
    ({"description": "x", "task_parameters": {"x": [{"y": 1}] * 1000}}, "1,000"),
    ({"description": "x", "task_parameters": {"model": 4}}, "model"),
    (
        {"description": "x", "task_parameters": {"model": "gpt-5"}},
        "The agent 'agent' has no model 'gpt-5' for tasks. To give it models, list them in "
        "[tasks.agent.models] of the file that ASSENT_CONFIG names.",
    ),
    ({"description": "x", "task_parameters": {"instructions": "x" * 8001}}, "8,000"),
]


async def test_what_no_task_can_be_is_refused(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        for body, said in NO_TASKS:
            refused = await problem(await client.post(TASKS, json=body), 422)
            assert said in refused["detail"]
        assert (await assent.runs.storage.threads()).rows == ()


async def test_a_task_that_is_made_again_under_its_key_is_the_same(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        keyed = {"idempotency-key": "mine"}
        answers = await asyncio.gather(
            *(client.post(TASKS, json=TASK, headers=keyed) for _ in range(3))
        )
        assert len({answer.json()["id"] for answer in answers}) == 1
        other = {**TASK, "description": "Another."}
        await problem(await client.post(TASKS, json=other, headers=keyed), 422)
        assert len((await assent.runs.storage.threads()).rows) == 1
        # Without one, it is another task.
        assert (await client.post(TASKS, json=TASK)).json()["id"] != answers[0].json()["id"]


async def test_it_is_the_agents_alone(tmp_path: Path) -> None:
    async with asked(tmp_path) as (_, client):
        task_id = (await made(client)).rsplit("/", 1)[1]
        elsewhere = f"/api/v1/agents/other/tasks/{task_id}"
        await client.post("/threads", json={"thread_id": "t"})
        for path in (elsewhere, f"{TASKS}/nobody", f"{TASKS}/t"):
            for query in ("", *(f"/{name}" for name in QUERIES), "/events/stream"):
                await problem(await client.get(f"{path}{query}"), 404)
            await problem(await client.post(f"{path}/execute", json={}), 404)
        await problem(await client.post("/api/v1/agents/other/tasks", json=TASK), 404)


async def test_a_copy_of_its_thread_is_no_task(tmp_path: Path) -> None:
    async with asked(tmp_path) as (_, client):
        path = await made(client)
        task_id = path.rsplit("/", 1)[1]
        for query in ("", "5"):
            if query:
                await executed(client, path, query)
            copied = (await client.post(f"/threads/{task_id}/copy")).json()
            assert copied["metadata"].get(OF_TASK) is None
            await problem(await client.get(f"{TASKS}/{copied['thread_id']}"), 404)
            await problem(await client.post(f"{TASKS}/{copied['thread_id']}/execute", json={}), 404)


async def test_a_copy_of_an_empty_thread_can_be_traced_to_who_made_that(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        ann = Owner("ann")
        await assent.runs.create_thread("t", owner=ann, metadata={}, known_to=["bob"])
        copied = (await client.post("/threads/t/copy")).json()["thread_id"]
        thread = await assent.runs.thread(copied)
        assert thread.requested_by == ("bob",)


QUERIES = ("get_current_state", "get_events", "get_final_response")


async def test_the_agents_are_listed(tmp_path: Path) -> None:
    config = '[tasks.agent]\nenable_streaming = true\nmodels = {"gpt-4" = "openai:gpt-4"}\n'
    async with asked(tmp_path, config.replace("models", "# models")) as (_, client):
        assert (await client.get("/api/v1/agents")).json() == [
            {
                "id": "agent",
                "name": "agent",
                "description": "",
                "models": [],
                "instructions": False,
                "enable_streaming": True,
            }
        ]


# ── executing ─────────────────────────────────────────────────────────────────────────────────────


async def test_without_streaming_the_answer_has_all_that_happened(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        path = await made(client)
        answer = await executed(client, path, "hello")
        events = answer.pop("events")
        run_id = answer["execution_id"]
        assert answer == {
            "task_id": path.rsplit("/", 1)[1],
            "execution_id": run_id,
            "status": "completed",
            "events_url": f"{path}/events/stream",
            "more": False,
            "final_response": "You said: hello",
            "error": None,
        }
        names = [event["event"].removeprefix("Workflow") for event in events]
        assert names == [
            *("Started", "StepStarted", "LLMCallStarted", "LLMCallCompleted", "StepCompleted"),
            "Completed",
        ]
        assert events[0]["query"] == "hello"
        assert {event["execution_id"] for event in events} == {run_id}
        assert (await client.get(f"{path}/get_events")).json()["events"] == events
        assert (await client.get(f"{path}/get_final_response")).json() == {
            "status": "completed",
            "final_response": "You said: hello",
            "error": None,
        }
        # What the client says of its user is nobody here.
        run = await assent.runs.run(run_id)
        assert (run.owner, run.requested_by) == ("ann", ("ann",))
        assert run.metadata["user_id"] == "user123"
        assert run.input.get("user") is None


async def test_without_a_query_the_agent_is_told_the_description(tmp_path: Path) -> None:
    async with asked(tmp_path) as (_, client):
        answer = await client.post(f"{await made(client)}/execute")
        assert answer.json()["final_response"] == "You said: Say hello."


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        (False, [(None, None, False), (True, None, True), (False, True, True)]),
        (True, [(None, None, True), (False, None, False), (True, False, False)]),
    ],
)
async def test_the_execution_says_how_events_are_shown_or_the_task_or_the_agents_entry(
    tmp_path: Path, configured: bool, said: list[tuple[bool | None, bool | None, bool]]
) -> None:
    config = f"[tasks.agent]\nenable_streaming = {json.dumps(configured)}\n"
    async with asked(tmp_path, config) as (_, client):
        for of_task, of_execution, is_streamed in said:
            path = await made(client, enable_streaming=of_task)
            answer = await executed(client, path, "hello", enable_streaming=of_execution)
            assert ("events" not in answer) is is_streamed
            assert answer["status"] == "running" or not is_streamed


async def test_a_task_is_executed_once_however_often_it_is_sent(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        path = await made(client)
        answers = await asyncio.gather(*(executed(client, path, "hello") for _ in range(3)))
        answers.append(await executed(client, path, "hello"))
        assert all(answer == answers[0] for answer in answers)
        other = await client.post(f"{path}/execute", json={"query": "goodbye"})
        refused = await problem(other, 409)
        assert refused["execution_id"] == answers[0]["execution_id"]
        assert "is completed" in refused["detail"]
        # Nobody else has this task.
        async with _as(client, "bob"):
            await problem(await client.post(f"{path}/execute", json={"query": "hello"}), 404)
        assert len((await assent.runs.storage.latest_runs()).rows) == 1


async def test_of_unequal_executions_at_once_one_is_carried_out(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        path = await made(client)
        bodies = [{"query": f"hello {number}"} for number in range(4)]
        answers = await asyncio.gather(
            *(client.post(f"{path}/execute", json=body) for body in bodies)
        )
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200, 409, 409, 409], [answer.text for answer in answers]
        assert len((await assent.runs.storage.latest_runs()).rows) == 1


async def test_a_thread_on_which_something_else_has_run_is_no_task_to_execute(
    tmp_path: Path,
) -> None:
    async with asked(tmp_path) as (assent, client):
        path = await made(client)
        await assent.invoke("hello", user="bob", thread_id=path.rsplit("/", 1)[1])
        await problem(await client.post(f"{path}/execute", json={"query": "hello"}), 409)


async def test_what_the_configuration_allows_is_looked_at_again(tmp_path: Path) -> None:
    async with asked(tmp_path) as (_, client):
        path = await made(client, instructions="Be brief.")
    async with asked(tmp_path, "") as (assent, client):
        refused = await problem(await client.post(f"{path}/execute", json={}), 422)
        assert "takes no instructions" in refused["detail"]
        assert (await assent.runs.storage.latest_runs()).rows == ()
        assert (await client.get(path)).json()["status"] == "created"


async def test_a_pause_goes_on_with_what_the_task_has_chosen_and_shows_it(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        path = await made(client, instructions="Pay at once.")
        answer = await executed(client, path, "pay 5")
        (asks,) = await assent.runs.approvals.pending(await assent.runs.thread(answer["task_id"]))
        assert asks.conversation["instructions"] == "Pay at once."
        resumed = await assent.resume(answer["task_id"], Approve(), user="bob")
        run = await assent.runs.run(resumed.run_id)
        assert run.input["instructions"] == "Pay at once."
    # It is not done without them, either.
    async with asked(tmp_path) as (assent, client):
        path = await made(client, instructions="Pay at once.")
        answer = await executed(client, path, "pay 5")
    async with asked(tmp_path, "") as (assent, client):
        await assent.resume(answer["task_id"], Approve(), user="bob")
        *_, (_, _, last) = await frames_of(client, path)
        seen = (await client.get(path)).json()
        assert (last["event"], seen["status"]) == ("WorkflowFailed", "failed")
        assert "takes no instructions" in seen["error"]


# ── what is told ──────────────────────────────────────────────────────────────────────────────────


async def test_the_stream_goes_over_a_pause_to_the_end_and_back_from_each_event(
    tmp_path: Path,
) -> None:
    async with asked(tmp_path) as (assent, client):
        path = await made(client)
        task_id = path.rsplit("/", 1)[1]
        answer = await executed(client, path, "pay 5")
        assert (answer["status"], answer["final_response"]) == ("paused", None)
        assert answer["events"][-1]["event"] == "WorkflowPaused"
        state = (await client.get(f"{path}/get_current_state")).json()
        approvals = answer["events"][-1]["approvals"]
        assert (state["status"], state["approvals"]) == ("paused", approvals)
        assert state["next"] == ["approval"]
        assert state["values"]["messages"][0]["content"] == "pay 5"

        reading = asyncio.create_task(frames_of(client, path))
        await assent.resume(task_id, Approve(), user="bob")
        frames = await reading
        assert frames[-1][2]["final_response"] == "Results: paid 5"
        names = [name for _, name, _ in frames[::2]]
        assert [name for name in names if not name.endswith(("StepStarted", "StepCompleted"))] == [
            f"Workflow{name}"
            for name in (
                *("Started", "LLMCallStarted", "LLMCallCompleted", "Paused", "Resumed"),
                *("ToolCallStarted", "ToolCallCompleted", "LLMCallStarted", "LLMCallCompleted"),
                "Completed",
            )
        ]
        assert {data["execution_id"] for *_, data in frames} == {answer["execution_id"]}
        for at, (id, _, _) in enumerate(frames[:-1], 1):
            assert await frames_of(client, path, last=id) == frames[at:]
        headers = {"last-event-id": frames[-1][0]}
        for query in ("", "?named=only"):
            over = await client.get(f"{path}/events/stream{query}", headers=headers)
            assert over.status_code == 204
        # By name alone, and as pages.
        once = await frames_of(client, path, named="only")
        assert once == [
            (unnamed[0], named[1], named[2])
            for named, unnamed in zip(frames[::2], frames[1::2], strict=True)
        ]
        assert await pages_of(client, path, 3) == [{"id": id, **data} for id, _, data in once]


async def pages_of(client: httpx.AsyncClient, path: str, limit: int) -> list[Json]:
    """All events, by `get_events`."""
    events: list[Json] = []
    page: Json = {"more": True, "next": ""}
    while page["more"]:
        query = {"limit": limit, "last_event_id": page["next"]}
        page = (await client.get(f"{path}/get_events", params=query)).json()
        assert len(page["events"]) <= limit
        events += page["events"]
    return events


async def test_from_now_on_there_is_no_history(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        path = await made(client)
        answer = await executed(client, path, "pay 5")
        reading = asyncio.create_task(frames_of(client, path, include_history=False))
        await asyncio.sleep(0)
        while not (await client.get("/connections")).json()["connections"]:
            await asyncio.sleep(0.01)
        await assent.resume(answer["task_id"], Reject("No."), user="bob")
        frames = await reading
        assert frames[0][2]["event"] == "WorkflowResumed"
        assert frames[-1][2]["event"] == "WorkflowCompleted"
        query = {"include_history": False}
        over = await client.get(f"{path}/events/stream", params=query)
        assert over.status_code == 204


async def test_an_end_that_is_none_is_told_too(tmp_path: Path) -> None:
    async with asked(tmp_path) as (_, client):
        path = await made(client)
        answer = await executed(client, path, "boom")
        assert (answer["status"], answer["final_response"]) == ("failed", None)
        failed = answer["events"][-1]
        assert (failed["event"], failed["cancelled"]) == ("WorkflowFailed", False)
        assert failed["error"] == answer["error"]
        assert "swordfish" not in json.dumps(answer)

        path = await made(client)
        answer = await executed(client, path, "pay 5")
        await client.post(f"/threads/{answer['task_id']}/cancel", json={"wait": True})
        seen = (await client.get(path)).json()
        assert (seen["status"], seen["error"]) == ("cancelled", None)
        *_, (_, _, last) = await frames_of(client, path)
        assert (last["event"], last["cancelled"]) == ("WorkflowFailed", True)


async def test_of_events_that_were_removed_nothing_is_waited_for(tmp_path: Path) -> None:
    async with asked(tmp_path) as (assent, client):
        path = await made(client)
        answer = await executed(client, path, "hello")
        await assent.runs.storage.remove_events(utc_now() + timedelta(hours=1))
        # The number behind them all, and none.
        for query in ({}, {"last_event_id": answer["events"][-1]["id"]}):
            await problem(await client.get(f"{path}/events/stream", params=query), 410)
            page = (await client.get(f"{path}/get_events", params=query)).json()
            assert (page["events"], page["more"]) == ([], False)
        again = await executed(client, path, "hello")
        assert (again["status"], again["events"]) == ("completed", [])
        assert again["final_response"] is None


NO_STREAMS: list[tuple[Json, int]] = [
    ({"last_event_id": "x"}, 422),
    ({"last_event_id": "9999"}, 410),
    ({"last_event_id": "-1"}, 422),
    ({"last_event_id": "1" * 30}, 422),
    ({"named": "all"}, 422),
    ({"include_history": "perhaps"}, 422),
    ({"follow": "me"}, 422),
    ({"token": "x"}, 422),
]


async def test_what_no_stream_can_be_is_refused(tmp_path: Path) -> None:
    async with asked(tmp_path) as (_, client):
        path = await made(client)
        for _ in range(2):
            for query, status in NO_STREAMS:
                await problem(await client.get(f"{path}/events/stream", params=query), status)
            # And once it was executed.
            await executed(client, path, "hello")
