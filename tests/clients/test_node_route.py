"""The route in JavaScript that runs `assent run` for a message and streams its progress, in Node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import document_agent
from tests.support.command import REPOSITORY
from tests.support.node import node
from tests.support.server import Server, asking, serving
from tests.support.waiting import PATIENCE, until

SERVE = REPOSITORY / "examples" / "progress" / "serve.mjs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, f"{document_agent.__file__}:slow_graph") as server:
        yield server


@contextmanager
def routing(folder: Path, **environment: str) -> Iterator[str]:
    """The URL of the route."""
    process = subprocess.Popen(
        [node(), SERVE],
        cwd=folder,
        env={**os.environ, "PORT": "0", **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def route(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": commands, "PYTHONPATH": str(REPOSITORY), "ASSENT_URL": server.url}
    with routing(tmp_path_factory.mktemp("route"), NO_PROXY="*", **environment) as url:
        yield url


def posted(url: str, message: str) -> list[Any]:
    """The data of each event that answers the message."""
    body = {"message": message}
    response = httpx.post(url, json=body, timeout=PATIENCE, trust_env=False).raise_for_status()
    assert response.headers["content-type"] == "text/event-stream"
    data = [line[6:] for line in response.text.split("\n\n") if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(each) for each in data]


def test_a_message_is_answered_with_progress_and_a_result(route: str, tmp_path: Path) -> None:
    """Whatever it looks like: no shell reads it, and it is no option."""
    touched = tmp_path / "touched"
    said = f"--help $(touch {touched}) `touch {touched}`; touch {touched}"
    *steps, result = posted(route, said)
    assert {tuple(step) for step in steps} == {("type", "agent", "task", "timestamp")}
    assert {(step["type"], step["agent"]) for step in steps} == {("progress", "slow_clerk")}
    assert "agent" in {step["task"] for step in steps}
    assert result == {"type": "result", "result": f"You said: {said}"}
    assert not touched.exists()


def test_a_run_that_waits_for_a_person_or_fails_says_so(server: Server, route: str) -> None:
    waiting = posted(route, "pay 5")[-1]
    assert list(waiting) == ["type", "thread_id"]
    thread = httpx.get(f"{server.url}/threads/{waiting['thread_id']}", trust_env=False).json()
    assert (waiting["type"], thread["status"]) == ("waiting", "interrupted")
    failed = posted(route, "boom")[-1]
    assert (failed["type"], failed["code"]) == ("error", 1)
    assert failed["error"].endswith(".") and "\n" not in failed["error"]


async def test_a_client_that_leaves_cancels_the_run(server: Server, route: str) -> None:
    body = {"message": "tell 9000"}
    async with asking(server) as api, httpx.AsyncClient(trust_env=False) as client:
        async with client.stream("POST", route, json=body, timeout=PATIENCE) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    break
            (run,) = [each.fields async for each in api.client.runs.list(status="running")]

        async def is_cancelled() -> bool:
            return (await api.client.runs.get(run["run_id"])).status == "cancelled"

        await until(is_cancelled)


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "text/plain"}, '{"message": "hi"}', 415),
        ({}, '{"message": "hi"}', 415),
        ({"content-type": "application/json"}, "{", 422),
        ({"content-type": "application/json"}, "null", 422),
        ({"content-type": "application/json"}, '{"message": 1}', 422),
        ({"content-type": "application/json"}, '{"message": ""}', 422),
        ({"content-type": "application/json"}, '{"message": "a\\u0000"}', 422),
        ({"content-type": "application/json"}, json.dumps({"message": "é" * 50_001}), 422),
    ],
)
def test_what_is_no_message_runs_nothing(
    route: str, headers: dict[str, str], content: str, status: int
) -> None:
    refused = httpx.post(route, content=content, headers=headers, trust_env=False, timeout=PATIENCE)
    assert refused.status_code == status
    assert refused.json()["error"].startswith("Send ")


def test_a_command_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with routing(tmp_path, PATH=str(tmp_path)) as url:
        assert posted(url, "hi") == [
            {"type": "error", "error": "spawn assent ENOENT", "code": None}
        ]
