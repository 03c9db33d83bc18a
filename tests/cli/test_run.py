"""`assent run` in scripts and pipes: the answer, the progress, and each exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from assent.core.events import EVENT_TYPES
from tests.support.command import COMMAND, REPOSITORY, run, started
from tests.support.screens import on_screen
from tests.support.server import Server, serving
from tests.support.waiting import PATIENCE

DESK = """
import asyncio, contextlib
from typing import TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


async def node(state):
    text = state["messages"][-1].text
    if text == "fail":
        raise ValueError("a secret of the server's")
    if text.startswith("wait"):
        await asyncio.sleep(600)
    if text.startswith("ask "):
        text = str(interrupt(text.removeprefix("ask ")))
    return {"messages": [AIMessage(text)]}


class Sum(TypedDict):
    numbers: list[int]
    total: int


def add(state):
    return {"total": sum(state["numbers"])}


desk = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(name="desk")
sums = StateGraph(Sum).add_node("add", add).add_edge(START, "add").compile(name="sums")
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "desk.py").write_text(DESK)
    graphs = {"desk": "./desk.py:desk", "sums": "./desk.py:sums"}
    (folder / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
    with serving(folder, "langgraph.json") as server:
        yield server


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")}
    return {**kept, "NO_PROXY": "*", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(REPOSITORY)}


def said(server: Server, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`assent run`, and what became of it."""
    argv = ["run", "--url", server.url, "--agent", "desk", *arguments]
    return run(argv, folder=folder, environment=environment())


def get(server: Server, path: str) -> Any:
    return httpx.get(
        f"{server.url}{path}",
        headers={"accept": "application/json"},
        trust_env=False,
        verify=False,
    ).json()


def post(server: Server, path: str, body: Any) -> Any:
    response = httpx.post(
        f"{server.url}{path}", json=body, trust_env=False, verify=False, timeout=60
    )
    return response.raise_for_status().json()


def test_the_answer_alone_is_on_standard_output(desk: Server, tmp_path: Path) -> None:
    done = said(desk, tmp_path, "two\nlines \x1b[31m")
    assert (done.returncode, done.stdout) == (0, "two\nlines \x1b[31m\n")
    assert "  node · " in done.stderr and "desk · 1 step" in done.stderr
    quiet = said(desk, tmp_path, "--progress", "none", "hello")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "hello\n", "")


def test_a_terminal_gets_whole_words_and_nothing_that_it_cannot_show(
    desk: Server, tmp_path: Path
) -> None:
    message = f"{'many words of ten ' * 4}\x1b[31m and … and {'long' * 6}"
    argv = ("run", "--url", desk.url, "--agent", "desk", message)
    with on_screen(tmp_path, *argv, PYTHONIOENCODING="latin-1") as screen:
        assert screen.ended() == 0
    assert screen.shown.splitlines()[-2:] == [
        r"many words of ten many words of ten many words of ten many words of ten",
        rf"\u001b[31m and \u2026 and {'long' * 6}",
    ]


def test_a_graph_without_messages_answers_with_its_state(desk: Server, tmp_path: Path) -> None:
    given = ("--agent", "sums", "--input", '{"numbers": [1, 2]}')
    done = said(desk, tmp_path, *given)
    assert (done.returncode, done.stdout) == (0, '{"numbers": [1, 2], "total": 3}\n')


def test_events_are_lines_of_json_as_on_the_wire(desk: Server, tmp_path: Path) -> None:
    done = said(desk, tmp_path, "--progress", "events", "hello ÿ\u2028")
    assert (done.returncode, done.stdout) == (0, "hello ÿ\u2028\n")
    lines = done.stderr.removesuffix("\n").split("\n")
    events = [json.loads(line) for line in lines]
    assert [event["type"] for event in events][:1] == ["run_start"]
    assert events[-1]["type"] == "done" and {event["type"] for event in events} <= {*EVENT_TYPES}
    assert get(desk, f"/threads/{events[0]['thread_id']}/events")["events"] == events


def test_progress_is_lines_of_json_with_an_agent_and_a_task(desk: Server, tmp_path: Path) -> None:
    done = said(desk, tmp_path, "--progress", "json", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n")
    (line,) = map(json.loads, done.stderr.splitlines())
    assert list(line) == ["type", "agent", "task", "timestamp"]
    assert (line["type"], line["agent"], line["task"]) == ("progress", "desk", "node")
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None

    failed = said(desk, tmp_path, "--progress", "json", "fail")
    assert (failed.returncode, failed.stdout) == (1, "")
    step, sentence = failed.stderr.splitlines()
    assert json.loads(step)["task"] == "node" and "a secret" not in sentence
    # Nothing but progress is JSON there.
    asked = said(desk, tmp_path, "--progress", "json", "ask Which year?")
    assert (asked.returncode, asked.stdout) == (3, "")
    assert [json.loads(line)["type"] for line in asked.stderr.splitlines()] == ["progress"]


def test_a_run_that_fails_or_is_refused_ends_with_1(desk: Server, tmp_path: Path) -> None:
    failed = said(desk, tmp_path, "--progress", "none", "fail")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.strip() and "a secret" not in failed.stderr
    refused = said(desk, tmp_path, "--agent", "nobody", "hello")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "There is no agent 'nobody'. There are: desk, sums.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give a message, or an --input."),
        (["hello", "--input", "{}"], "Give a message or an --input, but not both."),
        (["hello", "--url", "nowhere"], "--url 'nowhere' is not a URL."),
        (["hello", "--progress", "loud"], "'loud' is not one of"),
    ],
)
def test_options_that_make_no_sense_end_with_2(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = run(["run", *arguments], folder=tmp_path, environment=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_what_waits_for_a_person_ends_with_3_and_goes_on_later(
    desk: Server, tmp_path: Path
) -> None:
    done = said(desk, tmp_path, "ask Which year?")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Which year?" in done.stderr
    (thread,) = [word for word in done.stderr.split() if word.count("-") == 4]
    assert f"assent chat --url {desk.url} --agent desk --thread {thread}" in done.stderr
    # A thread that waits takes no other message: it was refused, and not sent.
    other = said(desk, tmp_path, "--thread", thread, "hello")
    assert (other.returncode, other.stdout) == (1, "")
    assert get(desk, f"/threads/{thread}")["status"] == "interrupted"


@pytest.mark.parametrize(("decision", "code"), [("reject", 4), ("approve", 0)])
def test_what_is_done_without_what_it_asked_for_ends_with_4(
    clerk: Server, tmp_path: Path, decision: str, code: int
) -> None:
    """Somebody else decides, while the person at this terminal is asked."""
    with on_screen(tmp_path, "run", "delete record 160", "--url", clerk.url) as screen:
        screen.until("[a]pprove")
        (approval,) = get(clerk, "/approvals?status=pending")["approvals"]
        post(clerk, f"/threads/{approval['thread_id']}/resume", {"type": decision})
        # What is typed now comes too late, whatever it is.
        screen.type("a\r")
        assert screen.ended() == code
        assert "record" in screen.shown.splitlines()[-1]


def test_what_nobody_decides_in_time_ends_with_4(clerk: Server, tmp_path: Path) -> None:
    message = "set the status of record 161 to archived"
    with on_screen(tmp_path, "run", message, "--url", clerk.url) as screen:
        screen.until("[a]pprove")
        deadline = time.monotonic() + PATIENCE
        while not get(clerk, "/approvals?status=expired")["approvals"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        screen.type("a\r")
        assert screen.ended() == 4
        assert "update_record: nobody decided in time" in screen.shown


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("clerk")
    config = folder / "assent.toml"
    config.write_text('[policies.agents.clerk.tools.update_record]\ntimeout = "1s"\n')
    with serving(folder, ASSENT_CONFIG=str(config)) as server:
        yield server


def test_ctrl_c_cancels_the_run_and_ends_with_130(desk: Server, tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = ["run", "--url", desk.url, "--agent", "desk", "wait"]
    process = started(argv, folder=tmp_path, environment=environment(), log=log)
    deadline = time.monotonic() + PATIENCE
    while not (active := get(desk, "/runs?status=running")["runs"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert get(desk, f"/runs/{active[0]['run_id']}")["status"] == "cancelled"
    assert "The run was cancelled" in log.read_text()


def test_nobody_is_asked_without_a_terminal_whatever_is_typed(
    clerk: Server, tmp_path: Path
) -> None:
    argv = ["run", "--url", clerk.url, "delete record 170"]
    done = run(argv, folder=tmp_path, environment=environment(), stdin="a\na\n")
    assert (done.returncode, done.stdout) == (3, "")
    assert "delete_records wants to run" in done.stderr
    (approval,) = [
        each
        for each in get(clerk, "/approvals?status=pending")["approvals"]
        if each["args"] == {"ids": [170]}
    ]
    post(clerk, f"/threads/{approval['thread_id']}/resume", {"type": "reject"})


def test_a_pipe_that_nobody_reads_ends_with_1(desk: Server, tmp_path: Path) -> None:
    """As `assent run … | head -c0`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "run", "--url", desk.url, "--agent", "desk", "hello"],
        cwd=tmp_path,
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr
