"""`assent serve --reload`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from watchfiles import Change

from assent.cli.reload import ProjectFilter, project_folder
from tests.support.command import REPOSITORY, Process, run, started
from tests.support.server import free_port
from tests.support.waiting import PATIENCE

AGENT = """
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

builder = StateGraph(MessagesState)
builder.add_node("node", lambda state: {"messages": [AIMessage("%s")]})
builder.add_edge(START, "node")
agent = builder.compile(name="agent")
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")}
    return {**kept, "PYTHONPATH": str(REPOSITORY)}


@contextmanager
def reloading(folder: Path, port: int) -> Iterator[Process]:
    process = started(
        ["serve", "agent.py:agent", "--reload", "--port", str(port)],
        folder=folder,
        environment=environment(),
        log=folder / "log",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def written(log: Path, sentence: str, times: int = 1) -> None:
    """Wait until the log has the sentence so many times."""
    deadline = time.monotonic() + PATIENCE
    while not log.exists() or log.read_text().count(sentence) < times:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def answer(port: int) -> str:
    """What the agent says. A request waits while the server starts."""
    response = httpx.post(
        f"http://127.0.0.1:{port}/agent/invoke",
        json={"message": "hello"},
        trust_env=False,
        verify=False,
        timeout=PATIENCE,
    )
    return str(response.json()["output"])


def test_a_mistake_waits_for_the_next_change_and_the_server_ends_with_its_parent(
    tmp_path: Path,
) -> None:
    port, file, log = free_port(), tmp_path / "agent.py", tmp_path / "log"
    file.write_text("this is no Python")
    with reloading(tmp_path, port) as process:
        written(log, "agent.py cannot be imported: SyntaxError: invalid syntax")
        written(log, "No server runs. The next change starts one, and requests wait until then.")
        assert "Traceback" not in log.read_text()
        assert f"Following changes in {tmp_path}." in log.read_text()
        file.write_text(AGENT % "one")
        # Nobody is refused meanwhile: the socket is there all the time.
        assert answer(port) == "one"
        assert "Starting anew, since this has changed: agent.py." in log.read_text()
        assert log.read_text().count("No server runs.") == 1
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while is_answered(port):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def is_answered(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


RELOADING = """
import asyncio, pathlib, socket, sys
from assent.cli.reload import Reloader

CHILD = "import pathlib, socket, sys\\n" \\
    "there = socket.socket(fileno=int(sys.argv[1]))\\n" \\
    "word = pathlib.Path('word.py').read_bytes()\\n" \\
    "while True: there.accept()[0].sendall(word)\\n"
with socket.create_server(("127.0.0.1", 0)) as sock:
    print(sock.getsockname()[1], flush=True)
    reloader = Reloader([sys.executable, "-S", "-c", CHILD], sock, patience=5, tell=print)
    asyncio.run(reloader.run(pathlib.Path.cwd()))
"""


def test_each_change_is_served_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    """By a server that takes no time to start."""
    word = tmp_path / "word.py"
    word.write_text("one")
    argv = [sys.executable, "-c", RELOADING]
    with subprocess.Popen(
        argv, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert said(port) == "one"
        for text in ("two", "three"):
            word.write_text(text)
            assert process.stdout.readline() == "Starting anew, since this has changed: word.py.\n"
            deadline = time.monotonic() + PATIENCE
            while said(port) != text:
                assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert not is_answered(port)


def said(port: int) -> str:
    """What whoever connects is told, by the process that is there or is about to be."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        return sock.makefile().read()


def test_the_demo_has_no_files_to_follow(tmp_path: Path) -> None:
    done = run(["serve", "--reload", "--port", "0"], folder=tmp_path, environment=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert "Name one" in done.stderr


def test_only_the_files_of_a_project_count(tmp_path: Path) -> None:
    counts = ProjectFilter()
    for name in ("agent.py", "langgraph.json", "assent.toml", ".env", "prod.env", "a/b.yaml"):
        assert counts(Change.modified, str(tmp_path / name)), name
    for name in ("assent.db", "notes.txt", "__pycache__/a.py", ".venv/lib/a.py", "a.py~"):
        assert not counts(Change.modified, str(tmp_path / name)), name


def test_the_folder_is_that_of_the_agents_file(tmp_path: Path) -> None:
    assert project_folder(f"{tmp_path}/a/agent.py:agent") == tmp_path / "a"
    assert project_folder(f"{tmp_path}/langgraph.json") == tmp_path
    assert project_folder("package.module:agent") == Path.cwd()
