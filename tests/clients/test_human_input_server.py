"""`HumanInputServer`: a server that a program starts itself, beside what it runs or for its agents."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from assent import Approve, HumanInputServer, Reject, astream_typed, build_hitl_agent
from assent.core.errors import ConfigurationError
from assent.core.events import Done, Event, RunPaused, event_type
from tests.support import asking_program
from tests.support.command import Process, started
from tests.support.models import ScriptedModel, call, say
from tests.support.server import expect, free_port
from tests.support.waiting import PATIENCE, until

ASK = {"messages": [("user", "Pay 3.")]}


NOT_SHOWN = "a run of the program is not shown"


async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def payer(**options: Any) -> Any:
    """An agent of a program: it pays, and needs a person for that."""
    model = ScriptedModel(script=[call("pay", amount=3), say("Paid.")])
    return build_hitl_agent(model, [pay], approve=["pay"], name="payer", **options)


def on(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


@contextmanager
def in_thread(**options: Any) -> Iterator[HumanInputServer]:
    """A server in a thread, on a free port."""
    server = HumanInputServer(port=0, **options)
    thread = threading.Thread(target=server.start)
    thread.start()
    try:
        server.ready(PATIENCE)
        yield server
    finally:
        server.stop()
        thread.join()


@asynccontextmanager
async def in_loop(**options: Any) -> AsyncIterator[HumanInputServer]:
    """A server in this event loop, on a free port."""
    server = HumanInputServer(port=0, **options)
    serving = asyncio.create_task(server.start_async())
    try:
        await asyncio.to_thread(server.ready, PATIENCE)
        yield server
    finally:
        server.stop()
        await serving


def asking(server: HumanInputServer, **headers: str) -> httpx.AsyncClient:
    """A client of the server."""
    return httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=PATIENCE, trust_env=False
    )


def polled(server: HumanInputServer, execution_id: str) -> Any:
    """What a client that polls is told."""
    response = httpx.get(f"{server.url}/poll/human-input/{execution_id}", trust_env=False)
    return response.json()["events"] if response.status_code == 200 else response.status_code


# ── beside a program ──────────────────────────────────────────────────────────────────────────────


def test_what_a_program_runs_is_shown_and_decided_by_it_alone() -> None:
    agent = payer(checkpointer=InMemorySaver())
    with in_thread() as server:
        asked = [*server.stream(agent, ASK, on("t-1"))]
        assert isinstance(asked[-1], RunPaused)
        assert {event.seq for event in asked} == {0}
        run_id = asked[0].run_id
        (required,) = polled(server, "t-1")
        assert required["crew_id"] == "payer"
        assert required["task_id"] == asked[-1].approvals[0]
        assert required["prompt"] == 'May pay run with {"amount": 3}?'
        assert polled(server, run_id) == [{**required, "execution_id": run_id}]
        # Over HTTP there is nothing to decide, and no agent.
        thread = httpx.get(f"{server.url}/threads/t-1", trust_env=False).json()
        assert (thread["status"], thread["values"]) == ("idle", None)
        listed = httpx.get(f"{server.url}/approvals", trust_env=False).json()
        assert listed["approvals"] == []
        for path, body in (
            ("/threads/t-1/resume", {"type": "approve"}),
            ("/agent/runs", {"message": "Hi"}),
        ):
            refused = httpx.post(f"{server.url}{path}", json=body, trust_env=False)
            assert refused.status_code in (404, 409), refused.text
        assert httpx.get(f"{server.url}/threads/t-1/state", trust_env=False).status_code == 404

        done = [*server.stream(agent, Approve(), on("t-1"))]
        assert isinstance(done[-1], Done)
        completed = polled(server, run_id)[1]
        assert completed["human_feedback"] == "Approved"
        assert completed["task_id"] == required["task_id"]
        # The execution is over, so whoever follows the run is told so.
        stream = httpx.get(f"{server.url}/events/human-input/{run_id}", trust_env=False)
        assert stream.text.endswith(": end done\n\n")
        assert stream.text.count("data: ") == 2


async def test_its_events_are_those_of_the_graph_alone() -> None:
    async with in_loop() as server:
        shown = [
            event
            async for event in server.astream(payer(checkpointer=InMemorySaver()), ASK, on("t"))
        ]
        plain = [
            event
            async for event in astream_typed(payer(checkpointer=InMemorySaver()), ASK, on("t"))
        ]
        assert [*map(event_type, shown)] == [*map(event_type, plain)]
        async with asking(server) as client:
            page = await client.get("/threads/t/events", headers={"accept": "application/json"})
            stored = page.json()["events"]
        assert [event["type"] for event in stored] == [*map(event_type, shown)]
        assert [event["seq"] for event in stored] == [*range(1, len(shown) + 1)]


async def test_without_a_thread_of_its_own_a_run_is_its_thread() -> None:
    def answer(state: MessagesState) -> Any:
        return {"messages": [("ai", "Hello.")]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    agent = graph.compile()
    async with in_loop() as server:
        for config in (None, on("a name, with spaces")):
            events = [event async for event in server.astream(agent, ASK, config)]
            run_id = events[0].run_id
            assert await asyncio.to_thread(polled, server, run_id) == []
            async with asking(server) as client:
                thread = await client.get(f"/threads/{run_id}")
                assert thread.json()["metadata"] == {"assent_observed": True}


async def test_where_a_run_cannot_be_shown_it_goes_on(tmp_path: Path) -> None:
    database = str(tmp_path / "a.db")
    async with (
        in_loop(agents=payer(), database=database) as server,
        asking(server) as client,
    ):
        sent = {"message": "Pay 3.", "thread_id": "served"}
        await expect(await client.post("/agent/invoke", json=sent), 200)
        before = (await client.get("/threads/served")).json()
        agent = payer(checkpointer=InMemorySaver())
        with capture_logs() as lines:
            events = [event async for event in server.astream(agent, ASK, on("served"))]
        assert isinstance(events[-1], RunPaused)
        (line,) = (each for each in lines if each["event"] == NOT_SHOWN)
        assert "is the server's own" in line["reason"]
        assert (await client.get("/threads/served")).json() == before
        # What is erased while the program runs stays so.
        agent = payer(checkpointer=InMemorySaver())
        shown: list[Event] = []
        async for event in server.astream(agent, ASK, on("erased")):
            if not shown:
                await expect(await client.delete("/threads/erased"), 204)
            shown.append(event)
        assert isinstance(shown[-1], RunPaused)
        gone = await client.get("/threads/erased/events")
        assert gone.status_code == 404
    with capture_logs() as lines:
        events = [event async for event in server.astream(agent, Reject("No."), on("erased"))]
    assert isinstance(events[-1], Done)
    assert [(line["event"], line["reason"]) for line in lines] == [
        (NOT_SHOWN, "The server has ended.")
    ]


# ── with agents ───────────────────────────────────────────────────────────────────────────────────


async def test_its_agents_are_decided_on_over_http() -> None:
    options = {"api_key": "api-key", "allow_query_token": True}
    async with (
        in_loop(agents={"payer": payer()}, **options) as server,
        asking(server) as reader,
        asking(server, authorization="Bearer api-key") as client,
    ):
        sent = {"message": "Pay 3.", "thread_id": "t"}
        run = (await client.post("/agent/invoke", json=sent)).json()
        assert run["status"] == "interrupted"
        path = f"/events/human-input/{run['run_id']}"
        reading = asyncio.create_task(reader.get(path, params={"token": "api-key"}))
        await expect(await client.post("/threads/t/resume", json={"type": "approve"}), 202)
        stream = await reading
        assert stream.text.count('"type":"human_input_') == 2
        assert stream.text.endswith(": end done\n\n")
        assert (await reader.get("/health")).status_code == 200
        assert (await reader.get("/threads")).status_code == 401


@pytest.mark.parametrize(("allowed", "status"), [("true", 404), (None, 401)])
async def test_the_environment_says_whether_a_key_may_be_in_a_url(
    allowed: str | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if allowed is not None:
        monkeypatch.setenv("ASSENT_ALLOW_QUERY_TOKEN", allowed)
    async with in_loop(api_key="api-key") as server, asking(server) as reader:
        response = await reader.get("/poll/human-input/x", params={"token": "api-key"})
        assert response.status_code == status


async def test_a_key_in_a_url_is_in_no_line_of_the_programs_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    options = {"api_key": "swordfish-4711", "allow_query_token": True}
    async with in_loop(**options) as server:
        uri = server.url.replace("http", "ws") + "/ws/human-input/nobody?token=swordfish-4711"
        with pytest.raises(InvalidStatus):
            async with connect(uri):
                pass
        async with asking(server) as client:
            path = "/poll/human-input/nobody?token=swordfish-4711"
            assert (await client.get(path)).status_code == 404
    # The client is in this process too.
    own = [line for line in caplog.records if not line.name.startswith(("websockets", "http"))]
    assert {line.name for line in own} & {"asyncio", "uvicorn.error"}
    assert not any("swordfish" in line.getMessage() for line in own)


# ── the process ───────────────────────────────────────────────────────────────────────────────────


@contextmanager
def program(name: str, folder: Path, port: int) -> Iterator[tuple[Process, Path]]:
    """One of the programs as a process, and the file that it prints to."""
    log = folder / "log"
    environment = {
        **os.environ,
        "BEFORE_SERVING": f"{asking_program.__name__}:{name}",
        "PORT": str(port),
        "TMPDIR": str(folder),
    }
    process = started(["serve"], folder=folder, environment=environment, log=log)
    try:
        yield process, log
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)


def temporary(folder: Path) -> list[Path]:
    """What servers have left there."""
    return [*folder.glob("assent-*")]


def printed(log: Path) -> list[Any]:
    lines = log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith(("[", '"', "t", "f"))]


async def test_a_program_with_a_server_beside_it_stays_as_it_is_and_ends_in_order(
    tmp_path: Path,
) -> None:
    port = free_port()
    with program("beside", tmp_path, port) as (process, log):
        await until(lambda: log.exists() and len(printed(log)) >= 3)
        asked, decided, is_unchanged = printed(log)
        assert asked[-1] == "run_paused"
        assert decided[:2] == ["run_resumed", "approval_decided"] and decided[-1] == "done"
        assert is_unchanged is True
        assert temporary(tmp_path) != []
        headers = {"authorization": f"Bearer {asking_program.KEY}"}
        url = f"http://127.0.0.1:{port}/events/human-input/{asking_program.THREAD}"
        async with (
            httpx.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False) as client,
            client.stream("GET", url) as response,
        ):
            text = ""
            async for piece in response.aiter_text():
                text += piece
                if text.count("data: ") == 2 and "Answered: The old one." in text:
                    break
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, PATIENCE) == 0
        assert printed(log)[3:] == ["interrupted"]
        assert "Traceback" not in log.read_text()
        assert temporary(tmp_path) == []


async def test_a_process_that_is_forked_leaves_the_server_alone(tmp_path: Path) -> None:
    with program("forking", tmp_path, free_port()) as (process, log):
        await until(lambda: log.exists() and len(printed(log)) >= 1)
        assert printed(log) == [True]
        assert [each.name for each in temporary(tmp_path)[0].iterdir()]
        assert "the process that this one was forked from" in log.read_text()
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0
        assert temporary(tmp_path) == []


async def test_ctrl_c_ends_a_server_in_the_main_thread(tmp_path: Path) -> None:
    port = free_port()
    with program("alone", tmp_path, port) as (process, log):
        async with httpx.AsyncClient(trust_env=False) as client:

            async def answers() -> bool:
                try:
                    response = await client.get(f"http://127.0.0.1:{port}/health")
                except httpx.TransportError:
                    return False
                return response.status_code == 200

            await until(answers)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0
        assert printed(log) == ["ended"]
        assert temporary(tmp_path) == []


# ── starting and stopping ─────────────────────────────────────────────────────────────────────────


async def test_a_task_that_is_cancelled_ends_its_server() -> None:
    server = HumanInputServer(port=0)
    serving = asyncio.create_task(server.start_async())
    await asyncio.to_thread(server.ready, PATIENCE)
    with pytest.raises(ConfigurationError, match="started already"):
        await server.start_async()
    assert server.url.startswith("http://localhost:")
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(ConfigurationError, match="has ended"):
        server.ready()


def test_a_server_that_was_stopped_can_be_started_again() -> None:
    async def once(server: HumanInputServer) -> str:
        serving = asyncio.create_task(server.start_async())
        await asyncio.sleep(0)
        await asyncio.to_thread(server.ready, PATIENCE)
        server.stop()
        await serving
        return server.url

    server = HumanInputServer(port=0)
    assert asyncio.run(once(server)) and asyncio.run(once(server))


def test_of_two_starts_at_once_one_is_refused_and_the_other_serves() -> None:
    server = HumanInputServer(port=0)
    begun, refused = threading.Barrier(2), list[str]()

    def start() -> None:
        begun.wait(PATIENCE)
        try:
            server.start()
        except ConfigurationError as error:
            refused.append(error.message)

    threads = [threading.Thread(target=start, daemon=True) for _ in range(2)]
    interval = sys.getswitchinterval()
    # They take turns at every step of their starts.
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        server.ready(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert polled(server, "nobody") == 404
    server.stop()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert refused == ["This server has been started already."]


def test_what_keeps_a_server_from_starting_is_said() -> None:
    with in_thread() as server:
        taken = HumanInputServer(port=int(server.url.rpartition(":")[2]))
        with pytest.raises(ConfigurationError, match="is in use"):
            taken.start()
        with pytest.raises(ConfigurationError, match="is in use"):
            taken.ready()
    with pytest.raises(ConfigurationError, match="Give it an api_key"):
        HumanInputServer("0.0.0.0", port=0).start()
    with pytest.raises(ConfigurationError, match=r"not started within 0\.01 s"):
        HumanInputServer().ready(0.01)
    for options in ({"api_key": " "}, {"api_key": "k", "settings": {"api_keys": {"a": "b"}}}):
        with pytest.raises(ConfigurationError, match="api_key that is not empty"):
            HumanInputServer(**options)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no such setting"):
        HumanInputServer(settings={"nothing": 1})


async def test_a_stream_without_a_loop_is_for_threads_without_one() -> None:
    with pytest.raises(ConfigurationError, match=r"Use astream\(\) here"):
        HumanInputServer().stream(payer(), ASK)
    with pytest.raises(ConfigurationError, match=r"Use await start_async\(\) here"):
        HumanInputServer().start()
