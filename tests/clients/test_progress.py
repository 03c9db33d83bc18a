"""The consumers of progress in `examples/progress`, against a server: over Server-Sent Events, a
WebSocket, and the standard error of `assent run`."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from assent.api.streams.websocket import MOST_WRONG
from tests.support import document_agent
from tests.support.agents import SECRET
from tests.support.command import REPOSITORY
from tests.support.server import Api, Server, asking, problem, serving
from tests.support.waiting import PATIENCE

KEY = "your-api-key"
EXAMPLES = REPOSITORY / "examples" / "progress"
FIELDS = ["type", "agent", "task", "timestamp"]


@pytest.fixture(scope="module", params=[None, KEY], ids=["without a key", "with a key"])
def key(request: pytest.FixtureRequest) -> str | None:
    given: str | None = request.param
    return given


with_key = pytest.mark.parametrize("key", [KEY], ids=["with a key"], indirect=True)
"""For what is the same without one."""


@pytest.fixture(scope="module")
def server(key: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {} if key is None else {"ASSENT_API_KEYS": f"ann:{key}"}
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, f"{document_agent.__file__}:graph", **settings) as server:
        yield server


def headers_of(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def api(server: Server, key: str | None) -> AsyncIterator[Api]:
    async with asking(server, **headers_of(key)) as api:
        yield api


def consumer(name: str, lines: list[str]) -> Callable[..., Any]:
    """The example's `main`, which prints to `lines`."""

    def told(*words: object, **options: Any) -> None:
        lines.append(" ".join(map(str, words)))

    main: Callable[..., Any] = runpy.run_path(
        str(EXAMPLES / f"{name}.py"), init_globals={"print": told}
    )["main"]
    return main


def messages_in(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines if line.startswith("{")]


def totals_in(lines: list[str]) -> dict[str, int]:
    totals = (line.rpartition(": ") for line in lines if not line.startswith("{"))
    return {task: int(count) for task, _, count in totals}


async def test_consumers_follow_a_run_over_a_pause_to_its_result(
    server: Server, api: Api, key: str | None
) -> None:
    await api.paused("search courts then pay 5", thread_id="t")
    (run,) = await api.runs("t")
    given = (server.url, run["run_id"], *([] if key is None else [key]))
    lines: dict[str, list[str]] = {"sse": [], "websocket": []}
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(consumer("sse", lines["sse"]), *given))
        group.create_task(consumer("websocket", lines["websocket"])(*given))
        await api.until_streams(2, thread_id="t")
        await api.decided("t", type="approve")

    for told in lines.values():
        *steps, result = messages_in(told)
        assert {tuple(step) for step in steps} == {tuple(FIELDS)}
        assert {(step["type"], step["agent"]) for step in steps} == {("progress", "clerk")}
        assert {"agent", "tools", "search", "pay"} <= {step["task"] for step in steps}
        assert list(result) == ["type", "result", "timestamp"]
        assert (result["type"], result["result"]) == ("result", "Results: paid 5")
        counts = Counter(f"clerk · {step['task']}" for step in steps)
        assert totals_in(told) == counts
    assert messages_in(lines["sse"]) == messages_in(lines["websocket"])

    events = await api.events("t", types="node_start,tool_start,progress")
    assert [step["timestamp"] for step in steps] == [event["ts"] for event in events]
    for id in ("t", run["run_id"]):
        summary = await api.get(f"/progress/{id}/summary")
        assert summary["updates"] == len(steps)
        by_task = summary["agents"]["clerk"]
        assert {f"clerk · {task}": each["updates"] for task, each in by_task.items()} == counts
        assert all(each["first"] <= each["last"] for each in by_task.values())

    # Whoever comes back gets what is behind the last message that they have.
    behind = [str(event["seq"]) for event in events]
    url = f"/progress/{run['run_id']}"
    for at in (0, len(behind) // 2, len(behind) - 1):
        stream = await api.http.get(url, headers={"Last-Event-ID": behind[at]})
        data = [line[6:] for line in stream.text.splitlines() if line.startswith("data: ")]
        assert data.pop() == "[DONE]"
        assert list(map(json.loads, data)) == [*steps, result][at + 1 :]
    last = (await api.events("t"))[-1]["seq"]
    assert (await api.http.get(url, headers={"Last-Event-ID": str(last)})).status_code == 204


@with_key
async def test_a_run_that_fails_ends_with_an_error(server: Server, api: Api, key: str) -> None:
    run = await api.run("failing", "boom")
    lines: list[str] = []
    await asyncio.to_thread(consumer("sse", lines), server.url, run["run_id"], key)
    error = messages_in(lines)[-1]
    assert list(error) == ["type", "error", "timestamp"]
    assert error["type"] == "error" and error["error"] and SECRET not in error["error"]


@with_key
async def test_a_thread_is_followed_from_run_to_run_without_an_end(
    server: Server, api: Api, key: str
) -> None:
    await api.stream("case", thread_id="long")
    async with (
        asyncio.timeout(PATIENCE),
        connect(
            f"ws://127.0.0.1:{server.port}/progress/long/ws", additional_headers=headers_of(key)
        ) as socket,
    ):
        await until_task(socket, "case")
        await api.stream("cite juries", thread_id="long")
        await until_task(socket, "cite")
        # It only listens, and refuses what it is told in its own form.
        await socket.send('{"type": "approve"}')
        while (frame := json.loads(await socket.recv()))["type"] == "progress":
            pass
        assert list(frame) == ["type", "error", "timestamp"]
        assert frame["type"] == "error" and frame["error"].endswith(".")
        for _ in range(MOST_WRONG):
            await socket.send(b"\x00")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1008


async def until_task(socket: ClientConnection, task: str) -> None:
    while json.loads(await socket.recv()).get("task") != task:
        pass


@with_key
async def test_what_cannot_be_followed_is_refused(server: Server, api: Api, key: str) -> None:
    await api.stream("case", thread_id="there")
    for suffix in ("", "/summary"):
        await problem(await api.http.get(f"/progress/nobody{suffix}"), 404)
    for last, status in (("x", 422), ("-1", 422), ("9999", 410), ("1" * 30, 422)):
        refused = await api.http.get("/progress/there", params={"last_event_id": last})
        await problem(refused, status)
    await problem(await api.http.get("/progress/there/ws"), 426)
    async with asking(server) as stranger:
        for suffix in ("", "/ws", "/summary"):
            await problem(await stranger.http.get(f"/progress/there{suffix}"), 401)
    url = f"ws://127.0.0.1:{server.port}/progress/nobody/ws"
    with pytest.raises(InvalidStatus) as denied:
        await connect(url, additional_headers=headers_of(key))
    assert denied.value.response.status_code == 404


@with_key
def test_a_consumer_reads_lines_of_json_from_standard_error(
    server: Server, key: str, tmp_path: Path
) -> None:
    command = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{command}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "NO_PROXY": "*",
        "ASSENT_API_KEY": key,
    }
    argv = [sys.executable, EXAMPLES / "stderr.py", "search courts", "--url", server.url]
    done = subprocess.run(
        argv,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    answer = lines.index("Results: Courts decide on guilt. Clerks decide on courts.")
    assert any(line.endswith(" clerk · search") for line in lines[:answer])
    assert totals_in(lines[answer + 1 :])["clerk · search"] == 1
