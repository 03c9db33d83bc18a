"""The clients of tasks, as their document prints them, against a server process; and what a kill of
it leaves of a task."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tests.support import agents, document_agent
from tests.support.command import REPOSITORY
from tests.support.cutting_proxy import Cut, cutting, never
from tests.support.node import node
from tests.support.openai_server import Call, OpenAIServer, Say
from tests.support.readers import request
from tests.support.server import Api, Server, asking, project_of, scripted_agents, serving, volley
from tests.support.waiting import PATIENCE, until

EXAMPLES = REPOSITORY / "examples/tasks"
KEY = "secret-of-ann"
CONFIG = """
[tasks.graph]
instructions = true

[tasks.graph.models]
"gpt-4" = "openai:gpt-4"

[budgets.prices."gpt-4"]
input = 30
output = 60
"""

Json = Any


@contextmanager
def provider() -> Iterator[OpenAIServer]:
    """A provider of models, in a thread of its own."""
    loop, server = asyncio.new_event_loop(), OpenAIServer()
    thread = Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(PATIENCE)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAIServer]:
    with provider() as server:
        yield server


def served(folder: Path, model: OpenAIServer, **environment: str) -> Any:
    """A server with a model for tasks, as a context."""
    config = folder / "assent.toml"
    config.write_text(CONFIG)
    given = {
        "ASSENT_CONFIG": str(config),
        "OPENAI_API_KEY": "test",
        "OPENAI_BASE_URL": model.url,
        "ASSENT_HEARTBEAT": "0.2s",
        **environment,
    }
    project = project_of(folder, {document_agent: ["graph"], agents: ["agent", "slow_agent"]})
    return serving(folder, project, **given)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: OpenAIServer) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("server"), model) as server:
        yield server


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that dies when it is told to. It knows no provider, whose library is slow to
    import."""
    folder = tmp_path_factory.mktemp("dying")
    dies = {"BEFORE_SERVING": "tests.support.dying:install", "DIES": str(folder / "dies")}
    with serving(folder, scripted_agents(folder, "agent"), **dies) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    async with asking(server) as api:
        yield api


def path_of(task: Json) -> str:
    return f"/api/v1/agents/{task['agent_id']}/tasks/{task['id']}"


async def made(api: Api, agent: str = "graph", **parameters: Json) -> str:
    """The path of a new task."""
    body = {"description": "tell 3", "user_id": "user123", "task_parameters": parameters}
    response = await api.http.post(f"/api/v1/agents/{agent}/tasks", json=body)
    assert response.status_code == 200, response.text
    return path_of(response.json())


async def executed(api: Api, path: str, query: str, **body: Json) -> Json:
    """The answer to the task's execution."""
    response = await api.http.post(f"{path}/execute", json={"query": query, **body})
    assert response.status_code == 200, response.text
    return response.json()


async def run_to_end(*argv: str, **environment: str) -> str:
    """What a program prints."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=subprocess.PIPE, env={**os.environ, **environment}
    )
    async with asyncio.timeout(PATIENCE):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


def events_in(printed: str) -> list[tuple[str, Json]]:
    """The name and the data of each event among the lines of a stream, "" for one without."""
    name, events = "", []
    for line in printed.splitlines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            if name != "heartbeat":
                events.append((name, json.loads(line.removeprefix("data: "))))
            name = ""
    return events


# ── the document's code ───────────────────────────────────────────────────────────────────────────


async def test_the_python_code_makes_and_executes_a_task_and_prints_its_events(
    server: Server, model: OpenAIServer, api: Api
) -> None:
    await _the_python_code_works(server, model, api, owner="local")


async def test_it_does_with_a_key(tmp_path: Path, model: OpenAIServer) -> None:
    with served(tmp_path, model, ASSENT_API_KEYS=f"ann:{KEY}") as server:
        async with asking(server, authorization=f"Bearer {KEY}") as api:
            await _the_python_code_works(server, model, api, owner="ann", ASSENT_API_KEY=KEY)
        # Without one nobody learns of it, nor with one in the URL.
        async with asking(server) as nobody:
            for query in ("", f"?token={KEY}"):
                response = await nobody.http.get(f"/api/v1/agents{query}")
                assert response.status_code == 401
                assert KEY not in response.text
        assert KEY not in server.output


async def _the_python_code_works(
    server: Server, model: OpenAIServer, api: Api, *, owner: str, **environment: str
) -> None:
    model.requests.clear()
    model.replies.extend([Call(("search", {"topic": "law"})), Say("Judges decide on law.")])
    code = str(EXAMPLES / "create.py")
    printed = await run_to_end(sys.executable, code, "graph", server.url, **environment)
    events = events_in(printed)
    named, unnamed = events[::2], events[1::2]
    assert [data for _, data in named] == [data for _, data in unnamed]
    assert all(name == data["event"] for name, data in named)
    assert {name for name, _ in unnamed} == {""}
    told = {name.removeprefix("Workflow"): data for name, data in named}
    assert set(told) == {
        *("Started", "StepStarted", "StepCompleted", "LLMCallStarted", "LLMCallCompleted"),
        *("ToolCallStarted", "ToolCallCompleted", "Completed"),
    }
    assert told["Started"]["query"] == "Explain quantum computing in simple terms"
    assert told["Completed"]["final_response"] == "Judges decide on law."
    called = told["LLMCallStarted"]
    assert called["estimated_cost"] > 0
    # The model is the one that the operator has listed, with the agent's tools.
    assert (called["model"], told["LLMCallCompleted"]["success"]) == ("gpt-4", True)
    assert {request["model"] for request in model.requests} == {"gpt-4"}
    tools = {tool["function"]["name"] for tool in model.requests[0]["tools"]}
    assert tools == {"ask_human", "search", "cite", "case", "pay", "fail"}
    assert model.problems == []

    # What it says of its user is nobody, wherever somebody is meant.
    run = await api.get(f"/runs/{told['Started']['execution_id']}")
    assert (run["requested_by"], run["metadata"]["user_id"]) == ([owner], "user123")
    thread = await api.get(f"/threads/{run['thread_id']}")
    assert thread["metadata"]["user_id"] == "user123"
    (stored,) = server.sql("SELECT owner FROM threads WHERE thread_id = ?", run["thread_id"])
    assert stored == (owner,)
    assert server.sql("SELECT count(*) FROM audit WHERE actor = 'user123'") == [(0,)]


async def test_the_page_hears_each_event_by_both_of_its_ways_and_ends_with_the_task(
    server: Server, api: Api, amount: int
) -> None:
    path = await made(api, "agent", enable_streaming=True)
    task_id = path.rsplit("/", 1)[1]
    page = str(EXAMPLES / "page.mjs")
    printing = asyncio.create_task(
        run_to_end(node(), "--experimental-eventsource", page, "agent", task_id, server.url)
    )
    await api.until_streams(1, thread_id=task_id)
    answer = await executed(api, path, f"look {amount} then pay {amount}")
    assert answer["status"] == "running"
    await until(lambda: _waits(api, path))
    await api.decided(task_id, type="approve")
    # It is told by a 204 that nothing will come.
    printed = await printing
    received = re.findall(
        r"Received event: message \{\s+event_id: '([^']+)',\s+event: '(\w+)'", printed
    )
    events = (await api.get(f"{path}/get_events"))["events"]
    assert received == [(event["event_id"], event["event"]) for event in events]
    names = [event["event"] for event in events]
    assert names[-1] == "WorkflowCompleted"
    called = re.findall(r"^LLM call started: (.*) null$", printed, re.MULTILINE)
    assert len(called) == names.count("WorkflowLLMCallStarted") == 3


async def test_instructions_join_the_prompt_and_whoever_decides_sees_them(
    model: OpenAIServer, api: Api
) -> None:
    model.requests.clear()
    model.replies.extend([Call(("pay", {"amount": 5})), Say("Paid.")])
    path = await made(api, model="gpt-4", instructions="You are a helpful assistant.")
    answer = await executed(api, path, "Pay.")
    assert answer["status"] == "paused"
    (asked,) = await api.pending(answer["task_id"])
    shown = asked["conversation"]
    assert (shown["model"], shown["instructions"]) == ("gpt-4", "You are a helpful assistant.")
    assert asked["requested_by"] == ["local"]
    # The run that goes on has both.
    await api.ended((await api.decided(answer["task_id"], type="approve"))["run_id"])
    assert (await api.get(f"{path}/get_final_response"))["final_response"] == "Paid."
    prompt = {
        "role": "system",
        "content": "Instructions of this task:\nYou are a helpful assistant.",
    }
    assert [history[0] for history in model.histories] == [prompt, prompt]


async def test_a_model_that_is_not_listed_is_refused_by_its_name(api: Api) -> None:
    body = {"description": "x", "task_parameters": {"model": "gpt-5"}}
    refused = await api.http.post("/api/v1/agents/graph/tasks", json=body)
    assert refused.status_code == 422
    assert refused.json()["detail"] == (
        "The agent 'graph' has no model 'gpt-5' for tasks. It has: gpt-4."
    )
    listed = {each["id"]: each for each in await api.get("/api/v1/agents")}
    assert set(listed) == {"graph", "agent", "slow_agent"}
    assert (listed["graph"]["models"], listed["graph"]["instructions"]) == (["gpt-4"], True)
    assert (listed["agent"]["models"], listed["agent"]["instructions"]) == ([], False)


# ── batches, and streams ──────────────────────────────────────────────────────────────────────────


class Reader:
    """Reads a stream, as it comes."""

    def __init__(self, api: Api, path: str, **query: Json) -> None:
        self.text = ""
        self._task = asyncio.create_task(self._read(api, path, query))

    @property
    def events(self) -> list[tuple[str, Json]]:
        return events_in(self.text)

    async def beats(self) -> None:
        """Wait for two more signs of life."""
        beats = self.text.count("event: heartbeat")
        await until(lambda: self.text.count("event: heartbeat") >= beats + 2)

    async def end(self) -> list[tuple[str, Json]]:
        """All events, once the server has ended the stream."""
        async with asyncio.timeout(PATIENCE):
            await self._task
        return self.events

    async def _read(self, api: Api, path: str, query: Json) -> None:
        async with api.http.stream("GET", f"{path}/events/stream", params=query) as response:
            assert response.status_code == 200
            async for chunk in response.aiter_text():
                self.text += chunk


@pytest.mark.parametrize("streams", [True, False])
async def test_a_stream_waits_for_the_execution_and_shows_it_in_its_mode(
    server: Server, api: Api, streams: bool, amount: int
) -> None:
    path = await made(api, "agent", enable_streaming=streams)
    both, once = Reader(api, path), Reader(api, path, named="only")
    await both.beats()
    await once.beats()
    query = f"look 1 then slow {amount} then pay {amount}"
    executing = asyncio.create_task(executed(api, path, query))
    task_id = path.rsplit("/", 1)[1]
    await until(lambda: _waits(api, path))
    run = await api.decided(task_id, type="approve")
    await server.until_traced(f"slow {amount}")
    # It is at work in a tool: what has happened since the last rest is shown, or is not.
    await both.beats()
    started = [data for name, data in both.events if name == "WorkflowToolCallStarted"]
    assert [call["tool_name"] for call in started] == (["look", "slow"] if streams else ["look"])
    paused = [name for name, _ in both.events].index("WorkflowPaused")
    assert (len(both.events) == paused + 2) is not streams
    server.let_go(amount)
    await api.ended(run["run_id"])
    await until(lambda: _waits(api, path))
    await api.decided(task_id, type="approve")
    events = await both.end()
    assert events[-1][1]["final_response"] == f"Results: paid {amount}"
    assert await once.end() == events[::2]
    answer = await executing
    assert ("events" in answer) is not streams
    pages = await api.get(f"{path}/get_events")
    assert [event for _, event in events[::2]] == [
        {name: value for name, value in event.items() if name != "id"} for event in pages["events"]
    ]
    if not streams:
        assert answer["status"] == "paused"
        assert answer["events"] == pages["events"][: len(answer["events"])]


async def _waits(api: Api, path: str) -> bool:
    return bool((await api.get(f"{path}/get_current_state"))["status"] == "paused")


async def test_whoever_waits_for_it_in_vain_gets_it_as_it_is_and_stops_nothing(
    server: Server, api: Api, amount: int
) -> None:
    path = await made(api, "agent")
    body = {"query": f"hold {amount}"}
    waiting = await api.http.post(f"{path}/execute", json=body, params={"timeout": 0.1})
    assert (waiting.status_code, waiting.json()["status"]) == (202, "running")
    with pytest.raises(httpx.ReadTimeout):
        await api.http.post(f"{path}/execute", json=body, timeout=0.2)
    server.let_go(amount)
    answer = await executed(api, path, f"hold {amount}")
    assert answer["execution_id"] == waiting.json()["execution_id"]
    assert (answer["status"], answer["final_response"]) == ("completed", f"Results: held {amount}")
    assert server.traces(f"hold {amount}") == [f"hold {amount}"]


# ── twice at once, and kills ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("queries", [["tell 2"] * 6, ["tell 2", "tell 3"] * 3])
async def test_of_executions_at_once_one_is_carried_out(
    server: Server, api: Api, queries: list[str]
) -> None:
    path = await made(api, "agent")
    bodies = [(f"{path}/execute", {"query": query}) for query in queries]
    answers = await volley(server, bodies)
    taken = [body for status, body in answers if status == 200]
    refused = [body for status, body in answers if status == 409]
    assert len(taken) + len(refused) == len(answers)
    assert len(taken) == len(queries) // len({*queries})
    (run,) = await api.runs(path.rsplit("/", 1)[1])
    assert {body["execution_id"] for body in [*taken, *refused]} == {run["run_id"]}


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_what_a_kill_leaves_of_a_task_is_all_or_nothing(
    dying: Server, moment: str, amount: int
) -> None:
    async with asking(dying) as api:
        known = {thread["thread_id"] for thread in (await api.get("/threads"))["threads"]}
        body = {"description": f"look {amount}", "user_id": "user123"}
        keyed = {"idempotency-key": f"key-{moment}"}
        _let_die(dying, f"{moment} Thread")
        with pytest.raises(httpx.HTTPError):
            await api.http.post("/api/v1/agents/agent/tasks", json=body, headers=keyed)
        dying.wait_for_death()
        dying.restart()
        threads = (await api.get("/threads"))["threads"]
        left = {thread["thread_id"] for thread in threads} - known
        assert len(left) == (moment == "after")
        # The same again is the same task.
        again = await api.http.post("/api/v1/agents/agent/tasks", json=body, headers=keyed)
        task = again.json()
        assert left <= {task["id"]}

        path = path_of(task)
        _let_die(dying, f"{moment} RunStart")
        with pytest.raises(httpx.HTTPError):
            await api.http.post(f"{path}/execute", json={})
        dying.wait_for_death()
        dying.restart()
        runs = await api.runs(task["id"])
        assert len(runs) == (moment == "after")
        answer = (await api.http.post(f"{path}/execute", json={})).json()
        assert answer["status"] == "completed"
        (run,) = await api.runs(task["id"])
        assert answer["execution_id"] == run["run_id"]
        assert dying.traces(f"look {amount}") == [f"look {amount}"]
        told = [event["event"] for event in answer["events"]]
        assert (told[0], told[-1]) == ("WorkflowStarted", "WorkflowCompleted")
        assert told.count("WorkflowToolCallStarted") == 1


async def test_the_page_hears_each_event_once_by_both_of_its_ways_over_cuts_and_a_kill(
    server: Server, api: Api, amount: int
) -> None:
    """An EventSource in Node gives up where nobody listens, so the proxy holds what it asks until
    the server is back."""
    path = await made(api, enable_streaming=True)
    task_id = path.rsplit("/", 1)[1]
    await executed(api, path, f"pay {amount} then die-{amount}")
    await until(lambda: _waits(api, path))
    cuts = chain([Cut(await _amid_an_event(server, path)), None, Cut(AMID_FRAMES)], never())
    async with cutting(server.port, cuts, holds=True) as proxy, page(task_id, proxy.url) as printed:
        async with asyncio.timeout(PATIENCE):
            heard = await printed.readuntil(b"event: 'WorkflowPaused'")
        # It dies as its model is called, before or after it has answered.
        with suppress(httpx.TransportError):
            await api.resume(task_id, type="approve")
        await asyncio.to_thread(server.wait_for_death)
        await asyncio.to_thread(server.restart)
        async with asyncio.timeout(PATIENCE):
            heard += await printed.read()
        # Cut, killed, cut, and whole.
        assert proxy.connections >= 4
    events = (await api.get(f"{path}/get_events"))["events"]
    ways = re.findall(
        r"^LLM call (started):|^Received event: message \{\s+event_id: '([^']+)'",
        heard.decode(),
        re.MULTILINE,
    )
    assert ways == [way for event in events for way in _ways_of(event)]
    assert events[-1]["event"] == "WorkflowCompleted"
    resumed = [event for event in events if event["event"] == "WorkflowResumed"]
    assert [event["recovered"] for event in resumed] == [False, True]


AMID_FRAMES = 1500
"""Bytes of an answer: more than its head, and fewer than all that is told after the kill."""


def _ways_of(event: Json) -> list[tuple[str, str]]:
    """The page's two ways, by which it hears the event in this order: by its name, if it listens
    for that, and by `onmessage`."""
    by_message = ("", event["event_id"])
    if event["event"] == "WorkflowLLMCallStarted":
        return [("started", ""), by_message]
    return [by_message]


async def _amid_an_event(server: Server, path: str) -> int:
    """The bytes of the answer up to where the page has heard of a model's call by its name, and has
    half of what `onmessage` hears of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request(f"{path}/events/stream"))
    async with asyncio.timeout(PATIENCE):
        before = await reader.readuntil(b"event: WorkflowLLMCallStarted\n")
        named = await reader.readuntil(b"\n\n")
    writer.transport.abort()
    return len(before) + len(named) + len(named) // 2


@asynccontextmanager
async def page(task_id: str, url: str) -> AsyncIterator[asyncio.StreamReader]:
    """What the page prints of a task of `graph`. It has to end well, and to be read to the end."""
    process = await asyncio.create_subprocess_exec(
        *(node(), "--experimental-eventsource", EXAMPLES / "page.mjs", "graph", task_id, url),
        stdout=subprocess.PIPE,
        limit=1 << 20,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _let_die(server: Server, when: str) -> None:
    Path(server.environment["DIES"]).write_text(when)
