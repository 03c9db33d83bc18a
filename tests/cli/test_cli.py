"""The command line, as a person or a script meets it: real servers, real pipes, and a real terminal
where that matters."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from assent.cli.app import app
from assent.cli.screen import Screen
from assent.cli.terminal import program
from assent.core.text import pretty, visible
from tests.support import agents, any_graphs, given_graphs
from tests.support.command import COMMAND, Process, on_terminal, run, started
from tests.support.server import project_of, serving
from tests.support.waiting import PATIENCE

DESK = """
import asyncio, contextlib, os, pathlib

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt


def said(state):
    return state["messages"][-1].text


async def node(state):
    text = said(state)
    if text == "fail":
        raise ValueError("a secret of the server's")
    if text.startswith("wait "):
        await asyncio.sleep(float(text.removeprefix("wait ")))
        text = "waited"
    if text.startswith("ask "):
        answer = interrupt(text.removeprefix("ask "))
        text = f"{type(answer).__name__} {answer}"
    model = GenericFakeChatModel(messages=iter([AIMessage(text)]))
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("node", node)
builder.add_edge(START, "node")


@contextlib.asynccontextmanager
async def desk():
    yield builder.compile(name="desk")
    pathlib.Path("closed").touch()
"""


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")}
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "100",
        **variables,
    }


def assent(
    folder: Path, *arguments: str, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in a folder of its own."""
    return run(arguments, folder=folder, environment=environment(**variables), stdin=stdin)


@dataclass(frozen=True)
class Server:
    """A server that runs, and what it said as it started."""

    url: str
    process: Process | None
    log: Path

    def get(self, path: str, **headers: str) -> Any:
        return httpx.get(f"{self.url}{path}", headers=headers, trust_env=False, verify=False).json()

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, trust_env=False, verify=False, timeout=30)


@contextlib.contextmanager
def served(folder: Path, *arguments: str, **variables: str) -> Iterator[Server]:
    """`assent serve --port 0 …`, and its process ended at the end."""
    log = folder / "server.log"
    process = started(
        ["serve", "--port", "0", *arguments],
        folder=folder,
        environment=environment(**variables),
        log=log,
    )
    try:
        while "  or  " not in (
            banner := log.read_text() if log.exists() else ""
        ) or not banner.endswith("\n"):
            assert process.poll() is None, f"the server did not start: {banner}"
            time.sleep(0.05)
        url = re.search(r"Assent is at (\S+)", banner)
        assert url is not None
        yield Server(url[1], process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("clerk")) as server:
        yield server


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "desk.py").write_text(DESK)
    with served(folder, "desk.py:desk") as server:
        yield server


def chat(server: Server, *arguments: str, stdin: str = "") -> Result:
    """`assent chat` with a running server, in this process, with `stdin` piped into it."""
    return CliRunner().invoke(
        app,
        ["chat", "--url", server.url, *arguments],
        input=stdin,
        env={"COLUMNS": "100", "ASSENT_API_KEY": None},
    )


def thread_of(result: Result | subprocess.CompletedProcess[str]) -> str:
    found = re.search(r"--thread (\S+)", result.stderr)
    assert found is not None, result.stderr
    return found[1]


def records(server: Server, words: str = "how many records are there?") -> str:
    return str(server.post("/agent/invoke", {"message": words}).json()["output"])


# ── serve ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_version_is_told(tmp_path: Path) -> None:
    result = assent(tmp_path, "--version")
    assert (result.returncode, result.stdout) == (0, "assent 0.1.0\n")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_without_keys_the_server_does_not_listen_beyond_loopback(tmp_path: Path, host: str) -> None:
    result = assent(tmp_path, "serve", "--host", host, "--port", "0")
    assert result.returncode == 2
    assert result.stderr.rstrip("\n").count("\n") == 0
    assert result.stderr.endswith("set ASSENT_API_KEYS=name:secret, or bind to 127.0.0.1.\n")
    assert not list(tmp_path.iterdir())


def test_with_keys_it_does_and_asks_for_one(tmp_path: Path) -> None:
    with served(tmp_path, "--host", "0.0.0.0", ASSENT_API_KEYS="alice:long enough") as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert "long enough" not in server.log.read_text()
        assert server.get("/agents")["status"] == 401
        assert (
            server.get("/agents", Authorization="Bearer long enough")["agents"][0]["agent"]
            == "clerk"
        )
        refused = assent(tmp_path, "chat", "--url", server.url, "hello")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == (
            "This server needs a key: send 'Authorization: Bearer <secret>'. "
            "Set ASSENT_API_KEY, or give --api-key.\n"
        )
        assert (
            assent(
                tmp_path, "chat", "--url", server.url, "hello", ASSENT_API_KEY="long enough"
            ).returncode
            == 0
        )
        assert (
            assent(
                tmp_path, "chat", "--url", server.url, "--api-key", "long enough", "hello"
            ).returncode
            == 0
        )


def test_localhost_is_loopback(tmp_path: Path) -> None:
    with served(tmp_path, "--host", "localhost") as server:
        assert server.url.startswith("http://localhost:")
        assert server.get("/health")["status"] == "healthy"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"ASSENT_DATABASE": "postgres://x"},
            "The setting ASSENT_DATABASE is wrong: 'postgres://x' is not a database that Assent knows. .*",
        ),
        (
            {"ASSENT_API_KEYS": "alice:hush"},
            "The setting ASSENT_API_KEYS is wrong: write each key as name:secret, .*",
        ),
        (
            {"ASSENT_LOG_LEVEL": "loud"},
            "The setting ASSENT_LOG_LEVEL is wrong: Input should be 'debug', .*",
        ),
        (
            {"ASSENT_UI": "perhaps"},
            "The setting ASSENT_UI is wrong: it is a switch. Write true or false.",
        ),
        (
            {"ASSENT_RECURSION_LIMIT": "0"},
            "The setting ASSENT_RECURSION_LIMIT is wrong: Input should be greater than or equal to 1.",
        ),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, variables: dict[str, str], sentence: str) -> None:
    result = assent(tmp_path, "serve", "--port", "0", **variables)
    assert result.returncode == 2
    assert re.fullmatch(f"{sentence}\n", result.stderr), result.stderr
    assert "hush" not in result.stderr


def test_an_agent_that_fails_to_load_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    result = assent(tmp_path, "serve", "broken.py:agent", "--port", "0")
    assert (result.returncode, result.stdout) == (1, "")
    *others, last = result.stderr.splitlines()
    file = tmp_path / "broken.py"
    assert last == f"{file} cannot be imported: ZeroDivisionError: division by zero ({file}:2)."
    assert "Traceback" not in result.stderr and len(others) <= 1


def test_a_start_without_a_free_port_or_database_ends_with_one_sentence(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        (tmp_path / "other").mkdir()
        taken = assent(tmp_path / "other", "serve", "--port", port)
        locked = assent(tmp_path, "serve", "--port", "0")
        chatting = assent(tmp_path, "chat", "hello")
        saying = assent(tmp_path, "run", "hello")
        assert server.get("/health")["status"] == "healthy"
    refused = (taken, locked, chatting, saying)
    assert {result.returncode for result in refused} == {1}
    assert f"Port {port} on 127.0.0.1 is in use." in taken.stderr
    assert "is open in another Assent process" in locked.stderr
    for begun in (chatting, saying):
        assert "such as --url http://127.0.0.1:8000" in begun.stderr
    assert not any("Traceback" in result.stderr for result in refused)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_closes_what_it_opened(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "desk.py").write_text(DESK)
    with served(tmp_path, "desk.py:desk") as server:
        assert not (tmp_path / "closed").exists()
        server.process.send_signal(sent)
        assert server.process.wait(PATIENCE) == (0 if sent is signal.SIGINT else -sent)
        assert "Traceback" not in server.log.read_text()
    assert (tmp_path / "closed").exists()


def test_a_langgraph_project_is_served_by_its_own_names(tmp_path: Path) -> None:
    (tmp_path / "desk.py").write_text(DESK)
    (tmp_path / "langgraph.json").write_text(
        json.dumps({"graphs": {"one": "./desk.py:builder", "two": "./desk.py:desk"}})
    )
    with served(tmp_path, "langgraph.json") as server:
        assert [agent["agent"] for agent in server.get("/agents")["agents"]] == ["one", "two"]
        assert "agents    one, two" in server.log.read_text()
        assert """-d '{"message": "Hello"}'""" in server.log.read_text()
        assert chat(server, "--agent", "two", "hello").stdout == "hello\n"
        assert (
            chat(server, "--agent", "three", "hello").stderr
            == "There is no agent 'three'. There are: one, two.\n"
        )


@pytest.mark.parametrize(
    ("called", "found", "named"),
    [
        (".venv/bin/assent", False, ".venv/bin/assent"),
        ("/my desk/bin/assent", False, "'/my desk/bin/assent'"),
        ("/venv/bin/assent", True, "assent"),
        ("/venv/bin/python", False, "assent"),
    ],
)
def test_the_program_is_named_as_a_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, found: bool, named: str
) -> None:
    if found:
        (tmp_path / "assent").write_text("")
        (tmp_path / "assent").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [called])
    assert program() == named


# ── chat: saying something ────────────────────────────────────────────────────────────────────────


def test_chat_gives_input_context_and_config(tmp_path: Path) -> None:
    project_of(tmp_path, {given_graphs: ("report", "shop")})
    (tmp_path / "context.json").write_text('{"account": "acme"}')
    with served(tmp_path, "langgraph.json", LEDGER=str(tmp_path / "ledger")) as server:
        banner = server.log.read_text()
        assert """-d '{"agent": "shop", "message": "Hello"}'""" in banner
        assert f"assent chat --url {server.url} --agent shop\n" in banner
        report = chat(server, "--agent", "report", "--input", '{"topic": "tea"}')
        assert report.exit_code == 0, report.stderr
        context = f"@{tmp_path / 'context.json'}"
        asked = chat(server, "--agent", "shop", "--context", context, "pay 5")
        assert asked.exit_code == 3
        assert f"assent chat --url {server.url} --agent shop --context @" in asked.stderr
        refused = chat(server, "--agent", "shop", "--context", "{}", "pay 5")
        assert refused.stderr == "The agent 'shop' needs a 'context' with 'account'.\n"
    assert (tmp_path / "ledger").read_text() == "publish tea: about tea\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--input", "{}", "Hello."], "Give a message or an --input, but not both."),
        (["--file", "a.png"], "Give a message with a --file."),
        (["--file", "/nowhere.png", "Hello."], "--file: the file /nowhere.png cannot be read"),
        (["--context", "{account}"], "--context is not JSON: "),
        (["--config", "@nowhere.json"], "--config: the file nowhere.json cannot be read: "),
    ],
)
def test_chat_says_which_option_it_cannot_read(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, ["chat", "--url", "http://127.0.0.1:1", *arguments])
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_chat_starts_a_server_of_its_own(tmp_path: Path) -> None:
    result = assent(tmp_path, "chat", "how many records are there?")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "· summarise_records(" in result.stdout and "\x1b" not in result.stdout
    assert (tmp_path / "assent.db").exists()


def test_chats_own_server_serves_any_agent(tmp_path: Path) -> None:
    (tmp_path / "desk.py").write_text(DESK)
    result = assent(tmp_path, "chat", "--serve", "desk.py:desk", "ask what?")
    assert result.returncode == 3
    thread = thread_of(result)
    assert f"Come back with: assent chat --serve desk.py:desk --thread {thread}" in result.stderr
    again = assent(tmp_path, "chat", "--serve", "desk.py:desk", "--thread", thread, stdin="that\n")
    assert again.returncode == 0
    assert "str that\n" in again.stdout
    assert (tmp_path / "closed").exists()


def test_a_failed_run_ends_with_1_and_what_may_be_said_of_it(desk: Server) -> None:
    result = chat(desk, "fail")
    assert result.exit_code == 1
    assert result.stdout.strip() and "a secret" not in result.stdout
    log = desk.log.read_text()
    assert "ValueError: a secret of the server's" in log
    # The values of local variables may hold what no log should.
    assert "HumanMessage(" not in log


def test_what_the_server_refuses_is_said_in_its_words(desk: Server) -> None:
    result = chat(desk, "--thread", "nowhere")
    assert (result.exit_code, result.stderr) == (1, "There is no thread 'nowhere'.\n")


@pytest.mark.parametrize(
    ("url", "code", "sentence"),
    [
        ("http://127.0.0.1:1", 1, "The server at http://127.0.0.1:1 does not answer: "),
        ("localhost:1", 2, "--url 'localhost:1' is not a URL. Write http://localhost:1.\n"),
        ("127.0.0.1:1", 2, "--url '127.0.0.1:1' is not a URL. Write http://127.0.0.1:1.\n"),
        ("http://[::1", 2, "--url 'http://[::1' is not a URL. Write http://127.0.0.1:8000.\n"),
        ("ftp://a", 2, "--url 'ftp://a' is not a URL. Write http://127.0.0.1:8000.\n"),
    ],
)
def test_a_server_that_is_not_there(url: str, code: int, sentence: str) -> None:
    result = CliRunner().invoke(app, ["chat", "--url", url, "hello"])
    assert result.exit_code == code
    assert result.stderr.startswith(sentence) and result.stderr.count("\n") == 1


def test_a_key_that_no_request_can_carry_is_told_and_not_repeated() -> None:
    for command in (["chat", "--url", "http://127.0.0.1:1", "hello"], ["approvals", "list"]):
        result = CliRunner().invoke(app, [*command, "--api-key", "grün-und-blau"])
        assert result.exit_code == 2
        assert result.stderr.startswith("The key is none that a request can carry: write it in")
        assert "grün" not in result.stderr


def test_several_messages_go_to_one_thread(desk: Server) -> None:
    result = chat(desk, stdin="one\n\ntwo\n")
    assert result.exit_code == 0
    assert "one\n" in result.stdout and "two\n" in result.stdout
    values = desk.get(f"/threads/{thread_of(result)}")["values"]
    assert [message["content"] for message in values["messages"]] == ["one", "one", "two", "two"]


def test_a_thread_that_is_busy_is_followed_to_the_end_of_its_run(desk: Server) -> None:
    threading.Thread(
        target=desk.post, args=("/agent/invoke", {"message": "wait 2", "thread_id": "busy"})
    ).start()
    while "status" not in (thread := desk.get("/threads/busy")) or thread["status"] != "busy":
        time.sleep(0.05)
    result = chat(desk, "--thread", "busy")
    assert result.exit_code == 0
    assert "waited" in result.stdout


# ── chat: deciding ────────────────────────────────────────────────────────────────────────────────


def test_one_message_without_a_person_leaves_the_approval_pending(clerk: Server) -> None:
    before = records(clerk)
    result = chat(clerk, "delete record 101", stdin="a\n")
    assert result.exit_code == 3
    assert re.search(
        r'delete_records wants to run.*\{"ids": \[101\]\}.*preview.*sha256 [0-9a-f]{12} ',
        result.stdout,
        re.DOTALL,
    )
    assert records(clerk) == before
    again = chat(clerk, "--thread", thread_of(result), stdin="a\n")
    assert again.exit_code == 0
    assert "· delete_records(ids=[101]) … deleted: 1, remaining: " in again.stdout
    assert records(clerk) != before


def test_a_paused_thread_is_decided_on_before_anything_else_is_said(clerk: Server) -> None:
    thread = thread_of(chat(clerk, "delete record 102"))
    result = chat(clerk, "--thread", thread, "how many records are there?", stdin="a\n")
    assert result.exit_code == 3
    assert (
        "delete_records wants to run" in result.stdout and "summarise_records" not in result.stdout
    )


def test_a_rejection_tells_the_reason(clerk: Server) -> None:
    result = chat(clerk, stdin="delete record 103\nr\nit is still needed\n")
    assert result.exit_code == 0
    assert (
        "delete_records: rejected by local" in result.stdout
        and "it is still needed" in result.stdout
    )
    assert "… deleted" not in result.stdout


def test_an_edit_asks_again_until_the_arguments_are_json_that_the_tool_takes(clerk: Server) -> None:
    result = chat(
        clerk,
        stdin='delete record 104\ne\n{"ids": [105\n[105]\n{"idz": [105]}\n{"ids": [105]}\n',
    )
    assert result.exit_code == 0
    assert "This is not JSON: " in result.stdout
    assert "The arguments must be a JSON object." in result.stdout
    assert "The tool 'delete_records' has no argument 'idz'." in result.stdout
    # The question is not shown again, and what was chosen still is.
    assert result.stdout.count("delete_records wants to run") == 1
    assert "· delete_records(ids=[105]) … deleted: 1" in result.stdout


def test_what_is_no_choice_is_asked_again(clerk: Server) -> None:
    result = chat(clerk, stdin="delete record 106\nsure\n\nA\n")
    assert result.stdout.count("Type one of a, e, r, s.") == 2
    assert "deleted: 1" in result.stdout


def test_the_end_of_input_at_a_question_leaves_it_pending(clerk: Server) -> None:
    result = chat(clerk, stdin="delete record 107\nr\n")
    assert result.exit_code == 3
    (approval,) = clerk.get(f"/approvals?thread_id={thread_of(result)}")["approvals"]
    assert approval["status"] == "pending"


TWO = "change the status of record 108 to archived. Change the status of record 109 to archived."


def statuses(server: Server, result: Result) -> dict[int, str]:
    approvals = server.get(f"/approvals?thread_id={thread_of(result)}")["approvals"]
    return {approval["args"]["record_id"]: approval["status"] for approval in approvals}


def test_several_calls_are_all_shown_before_the_first_is_asked_for(clerk: Server) -> None:
    # The two are of one moment, so that only the agent's order can tell which is first: tried
    # several times, it is not luck.
    for _ in range(4):
        result = chat(clerk, stdin=f"{TWO}\nr\nno\na\n")
        places = [
            result.stdout.index(text)
            for text in (
                "update_record wants to run (1 of 2)",
                '{"record_id": 108, ',
                "update_record wants to run (2 of 2)",
                '{"record_id": 109, ',
                "(1 of 2) update_record(record_id=108, ",
                "[A]pprove all",
                "(2 of 2) update_record(record_id=109, ",
            )
        ]
        assert places == sorted(places)
        assert statuses(clerk, result) == {108: "rejected", 109: "approved"}


def test_several_calls_may_be_approved_together(clerk: Server) -> None:
    assert statuses(clerk, chat(clerk, stdin=f"{TWO}\nA\n")) == {108: "approved", 109: "approved"}


@pytest.mark.parametrize(
    ("typed", "got"),
    [
        ("that", "str that"),
        ("true", "bool True"),
        ('{"a": 1}', "dict {'a': 1}"),
        ('"true"', "str true"),
        ("42", "int 42"),
    ],
)
def test_a_question_takes_text_or_json(desk: Server, typed: str, got: str) -> None:
    result = chat(desk, stdin=f"ask what is it?\n\n{{bad\n{typed}\n")
    assert "a question for you" in result.stdout and "what is it?" in result.stdout
    assert "An answer is needed." in result.stdout and "This is not JSON: " in result.stdout
    assert got in result.stdout


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Graphs as other people write them."""
    folder = tmp_path_factory.mktemp("others")
    project_of(
        folder, {any_graphs: ("asker", "form", "question", "own_schema", "mixed", "batched")}
    )
    root = str(Path(__file__).parents[2])
    with served(folder, "langgraph.json", PYTHONPATH=root, LEDGER=str(folder / "ledger")) as server:
        yield server


@pytest.mark.parametrize(
    ("agent", "typed", "shown", "said"),
    [
        ("asker", "ask Which year? 2019 2020\n3\n2\n", ("because something is ambiguous", "2  2020", "none of the answers"), "told: 2020"),
        ("asker", "ask Which year? 2019 2020\n2019\n", ("a number or the answer itself",), "told: 2019"),
        ("asker", "ask Which year?\n/reject Nobody knows.\n", ("/reject <why> declines", "declined by local"),
         "The person did not answer. The reason: Nobody knows."),
        ("asker", "ask Which year?\n/reject\n", ("declined by local",), "told: The person did not answer.\n"),
        ("form", "x\n\nRome\ntwo\n2\n", ("An answer is needed.", "city (text): ", "whole number"), "Booking(city='Rome', nights=2)"),
        ("own_schema", "x\n/reject\n0\n3\n", ("your answer (a whole number): ", "This is not a whole number."), "Answer: 3"),
        ("question", "x\nblue\n", ("Which colour?",), "Answer: 'blue'"),
        ("batched", "pay 1; pay 2\nA\n", ("Money leaves the house.",), "Results: paid 1 | paid 2"),
        ("mixed", "pay 1\na\nblue\na\n", ("stop › publish wants to run", "(2 of 3) a question for you"), "paid 1"),
    ],
)  # fmt: skip
def test_every_kind_of_question_is_answered_at_the_prompt(
    others: Server, agent: str, typed: str, shown: tuple[str, ...], said: str
) -> None:
    result = chat(others, "--agent", agent, stdin=typed)
    assert result.exit_code == 0, result.output
    for part in (*shown, said):
        assert part in result.stdout, result.stdout
    assert "Traceback" not in result.output


def test_a_person_grants_more_of_a_budget_or_does_not(tmp_path: Path) -> None:
    (tmp_path / "assent.toml").write_text(
        '[budgets]\non_exceeded = "pause"\n[budgets.run]\nmodel_calls = 1\n'
    )
    with served(tmp_path, ASSENT_CONFIG=str(tmp_path / "assent.toml")) as server:
        question = "how many records are there?\n"
        result = chat(server, stdin=f"{question}more\n1\n5\n")
        assert result.exit_code == 0
        assert "A budget of this run is used up: 1 of 1 calls of the model." in result.stdout
        assert "This run has used 1 of the 1 calls of the model that it may use." in result.stdout
        assert (
            "[a]llow up to 2 calls of the model / <a number> allows up to that / [s]top ? "
            in result.stdout
        )
        assert (
            "Type one of a, <a number>, s." in result.stdout
            and "must be above the 1 that are used" in result.stdout
        )
        assert "the budget: more was granted by local" in result.stdout
        stopped = chat(server, stdin=f"{question}s\nIt is enough.\n")
        assert stopped.exit_code == 1
        assert (
            "the budget: no more was granted by local" in stopped.stdout
            and "It is enough." in stopped.stdout
        )


def test_where_several_must_agree_each_is_asked_once_and_for_what_is_asked_now(
    tmp_path: Path,
) -> None:
    rules = '[people]\nbob = {roles = ["lead"]}\ncy = {roles = ["lead"]}\n[policies.agents.agent.tools.pay]\nroles = ["lead"]\nquorum = 2\n'
    (tmp_path / "assent.toml").write_text(rules)
    keys = ",".join(f"{name}:secret-of-{name}" for name in ("ann", "bob", "cy"))
    roles = ",".join(f"{name}:operator approver auditor" for name in ("bob", "cy"))
    environment = {
        "ASSENT_API_KEYS": keys,
        "ASSENT_ROLES": roles,
        "ASSENT_CONFIG": str(tmp_path / "assent.toml"),
    }
    with serving(tmp_path, f"{agents.__file__}:agent", **environment) as process:
        server = Server(process.url, None, tmp_path)

        def chats(name: str, *arguments: str, stdin: str) -> Result:
            return chat(server, "--api-key", f"secret-of-{name}", *arguments, stdin=stdin)

        refused = chats("ann", stdin="pay 5\na\n")
        assert refused.exit_code == 3
        assert "2 people must agree." in refused.stdout and "may not decide" in refused.stderr
        thread = ("--thread", thread_of(refused))
        first = chats("bob", *thread, stdin="a\na\n")
        assert (first.exit_code, first.stdout.count("pay wants to run")) == (3, 1)
        assert (
            "pay: bob voted 'approve' (1 of 2)" in first.stdout
            and "Others must decide too." in first.stdout
        )
        edited = chats("cy", *thread, stdin='e\n{"amount": 6}\n')
        assert (
            "bob voted 'approve'." in edited.stdout
            and "pay: cy changed the arguments, and others must agree" in edited.stdout
        )
        again = chats("bob", *thread, stdin="a\n")
        assert (
            '{"amount": 6}' in again.stdout
            and "cy changed it to this." in again.stdout
            and "bob voted 'approve'.\n" not in again.stdout
        )
        assert again.exit_code == 0, again.output
        assert "paid 6" in again.stdout


@pytest.mark.parametrize(
    ("typed", "told", "said"),
    [
        ("h\nIt went out.\n", "its result was told", "Results: It went out."),
        ("h\n\n", "its result was told", "Results: It happened."),
        ("n\n", "did not happen, so it runs", "Results: survived 7"),
        ("g\nLeave it.\n", "given up", "Leave it."),
    ],
)
def test_a_person_says_what_became_of_a_call_that_a_crash_cut_off(
    tmp_path: Path, typed: str, told: str, said: str
) -> None:
    with serving(tmp_path, f"{agents.__file__}:agent") as process:
        server = Server(process.url, None, tmp_path)
        thread = thread_of(chat(server, "die 7"))
        with contextlib.suppress(httpx.TransportError):
            server.post(f"/threads/{thread}/resume", {"type": "approve"})
        process.wait_for_death()
        process.restart()
        result = chat(server, "--thread", thread, stdin=f"x\n{typed}")
        assert result.exit_code == 0, result.output
        assert "die was cut off" in result.stdout and '{"amount": 7}' in result.stdout
        assert (
            "it [h]appened / it did [n]ot, run it / [g]ive up ? " in result.stdout
            and "Type one of h, n, g." in result.stdout
        )
        assert f"die: {told} by local" in result.stdout and said in result.stdout


def test_a_decision_that_others_took_first_is_told_and_its_outcome_shown(clerk: Server) -> None:
    process = subprocess.Popen(
        [*COMMAND, "chat", "--url", clerk.url],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("delete record 110\n")
    process.stdin.flush()
    shown = ""
    while "[a]pprove" not in shown:
        shown += process.stdout.read(1)
    approval = next(
        a
        for a in clerk.get("/approvals?status=pending&limit=1000")["approvals"]
        if a["args"] == {"ids": [110]}
    )
    clerk.post(f"/threads/{approval['thread_id']}/resume", {"type": "reject", "message": "mine"})
    out, err = process.communicate("a\n", timeout=30)
    assert process.returncode == 0
    assert err.splitlines()[0] and "Traceback" not in err
    assert "delete_records: rejected by local" in out and "mine" in out and "deleted: 1" not in out


# ── chat: JSON lines ──────────────────────────────────────────────────────────────────────────────


def test_json_lines_are_the_events_as_they_are_on_the_wire(desk: Server) -> None:
    # What some take for the end of a line (U+2028, U+0085) is none here.
    decisions = (
        'no json\n[]\n{"type": "approve"}\n{"type": "respond", "message": "ÿ\u2028\u0085"}\n'
    )
    result = chat(desk, "--json", "ask ÿ\u2028\u0085?", stdin=decisions)
    assert result.exit_code == 0
    lines = result.stdout.removesuffix("\n").split("\n")
    thread = json.loads(lines[0])["thread_id"]
    with httpx.stream(
        "GET", f"{desk.url}/threads/{thread}/events", trust_env=False, verify=False
    ) as response:
        body, sent = "", []
        for chunk in response.iter_text():
            body += chunk
            sent = re.findall("data: ([^\n]*)\n\n", body)
            if len(sent) >= len(lines):
                break
    assert lines == sent
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(result.stderr.splitlines()) == 3


def test_json_leaves_it_pending_at_the_end_of_input_and_shows_it_again(clerk: Server) -> None:
    result = chat(clerk, "--json", "delete record 112")
    assert result.exit_code == 3
    required = [
        line
        for line in result.stdout.splitlines()
        if json.loads(line)["type"] == "approval_required"
    ]
    again = chat(clerk, "--json", "--thread", thread_of(result))
    assert (again.exit_code, again.stdout.splitlines()) == (3, required)
    approval = json.loads(required[0])["approval_id"]
    decided = chat(
        clerk,
        "--json",
        "--thread",
        thread_of(result),
        stdin=f"{json.dumps({'decisions': {approval: {'type': 'approve'}}})}\nhello\n",
    )
    types = [json.loads(line)["type"] for line in decided.stdout.splitlines()]
    assert (decided.exit_code, types.count("done"), types.count("run_start")) == (0, 2, 1)


# ── chat: a connection that drops ─────────────────────────────────────────────────────────────────


class Wire:
    """A way to a server that cuts the first connection after some bytes of the answer."""

    def __init__(self, server: Server, cut_after: int) -> None:
        self._target = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        self._left = cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0

    def __enter__(self) -> Wire:
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._carry(near)

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(4096)
                    if not data:
                        return
                    if source is far and self.cuts == 0:
                        self._left -= len(data)
                        if self._left < 0:
                            self.cuts += 1
                            return
                    (far if source is near else near).sendall(data)


def test_a_connection_that_drops_in_a_run_is_taken_up_after_the_last_event(clerk: Server) -> None:
    with Wire(clerk, cut_after=3000) as wire:
        result = CliRunner().invoke(
            app, ["chat", "--url", wire.url, "--json", "how many records are there per year?"]
        )
    assert wire.cuts == 1
    assert result.exit_code == 0
    assert "The connection dropped." in result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "done"


# ── chat: in a terminal ───────────────────────────────────────────────────────────────────────────


class Terminal:
    """A program on a terminal, and what it has shown."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        import pty

        self._near, far = pty.openpty()
        self.process = on_terminal(
            arguments,
            os.ttyname(far),
            folder=folder,
            environment=environment(TERM="dumb", **variables),
        )
        # Held open: it is closed for whoever reads it while nobody has it open.
        self._far = far
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._near, text.encode())

    def until(self, pattern: str, seconds: float = 20) -> str:
        """What is shown up to the pattern, which is then behind us."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown)):
            assert time.monotonic() < end, self.shown
            if select.select([self._near], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self._near, 65536).decode(errors="replace")
                except OSError:
                    # The other end is closed: nothing more will come.
                    end = 0
        before, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return before

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)
        os.close(self._near)
        os.close(self._far)


@pytest.fixture
def terminal(clerk: Server, tmp_path: Path) -> Iterator[Terminal]:
    editor = tmp_path / "editor"
    editor.write_text(
        f"#!{sys.executable}\nimport sys\nfile = sys.argv[1]\ntext = open(file).read()\nopen(file, 'w').write(text.replace('120', '121'))\n"
    )
    editor.chmod(0o755)
    terminal = Terminal(
        tmp_path, "chat", "--url", clerk.url, EDITOR=str(editor), VISUAL=str(editor)
    )
    yield terminal
    terminal.close()


def test_what_was_typed_before_a_question_was_shown_does_not_answer_it(
    terminal: Terminal, clerk: Server
) -> None:
    terminal.until("you> ")
    terminal.type("delete record 115\na\n")
    terminal.until(r"an\[s\]wer for it \? ")
    with pytest.raises(AssertionError):
        terminal.until("deleted: 1", seconds=1)
    terminal.type("a\n")
    terminal.until("deleted: 1")


def test_ctrl_c_at_a_question_leaves_it_pending_and_says_how_to_come_back(
    terminal: Terminal, clerk: Server
) -> None:
    terminal.until("you> ")
    terminal.type("delete record 116\n")
    terminal.until(r"an\[s\]wer for it \? ")
    # A signal in the instant between the prompt and the wait for a key is seen by Python only at
    # the next key.
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.until(r"Come back with: assent chat --url \S+ --thread ")
    assert terminal.process.wait(PATIENCE) == 3


def test_the_arguments_are_edited_in_the_editor(terminal: Terminal) -> None:
    terminal.until("you> ")
    terminal.type("delete record 120\n")
    terminal.until(r"an\[s\]wer for it \? ")
    terminal.type("e\n")
    terminal.until(r"delete_records\(ids=\[121\]\) … deleted: 1")
    terminal.until("you> ")
    terminal.type("\x04")
    assert terminal.process.wait(PATIENCE) == 0


def test_ctrl_c_in_a_run_cancels_it_and_comes_back_to_the_prompt(
    desk: Server, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path, "chat", "--url", desk.url)
    try:
        terminal.until("you> ")
        terminal.type("wait 60\n")
        # Nothing is shown of this run yet.
        time.sleep(2)
        terminal.type("\x03")
        terminal.until("Cancelling the run.")
        terminal.until("The run was cancelled.")
        terminal.until("you> ")
        terminal.type("still there\n")
        terminal.until(r"\nstill there")
        terminal.until("you> ")
        terminal.type("\x04")
        thread = re.search(r"--thread (\S+)", terminal.until(r"--thread \S+\s"))
        assert thread is not None
        assert terminal.process.wait(PATIENCE) == 0
        runs = desk.get(f"/runs?thread_id={thread[1]}")["runs"]
        assert [run["status"] for run in runs] == ["success", "cancelled"]
    finally:
        terminal.close()


def test_ctrl_c_in_a_run_of_one_message_cancels_it_and_leaves(desk: Server, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "chat", "--url", desk.url, "wait 60")
    try:
        while not (active := desk.get("/runs?status=running")["runs"]):
            time.sleep(0.05)
        time.sleep(0.5)
        terminal.type("\x03")
        terminal.until("The run was cancelled.")
        assert terminal.process.wait(PATIENCE) == 130
        assert desk.get(f"/runs/{active[0]['run_id']}")["status"] == "cancelled"
    finally:
        terminal.close()


def test_a_second_ctrl_c_leaves_while_a_tool_takes_its_time(tmp_path: Path) -> None:
    (tmp_path / "desk.py").write_text(HOLDING)
    with served(tmp_path, "desk.py:desk") as server:
        terminal = Terminal(tmp_path, "chat", "--url", server.url)
        try:
            terminal.until("you> ")
            terminal.type("hold\n")
            while not (tmp_path / "held").exists():
                time.sleep(0.05)
            terminal.type("\x03")
            terminal.until("Ctrl-C again leaves.")
            time.sleep(0.5)
            terminal.type("\x03")
            terminal.until("Left the run to itself, which is being cancelled. Come back with: ")
            assert terminal.process.wait(PATIENCE) == 130
            (run,) = server.get("/runs")["runs"]
            assert run["status"] == "cancelling"
        finally:
            terminal.close()
            (tmp_path / "go").touch()


HOLDING = """
import pathlib, time
from langgraph.graph import START, MessagesState, StateGraph


def node(state):
    pathlib.Path("held").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    return {}


builder = StateGraph(MessagesState)
builder.add_node("node", node)
builder.add_edge(START, "node")
desk = builder.compile(name="desk")
"""


def test_ctrl_c_at_json_lines_leaves_the_run_to_itself(desk: Server, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "chat", "--url", desk.url, "--json", "wait 3")
    try:
        terminal.until("node_start")
        terminal.type("\x03")
        terminal.until("Left the run to itself. Come back with: ")
        assert terminal.process.wait(PATIENCE) == 130
    finally:
        terminal.close()


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────


UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


# Of each category, for it is rare that one is drawn by chance.
DANGEROUS = list("\x00\x1b\x9b\x7f\u200b\u202e\u2028\u2029\ue000\ud800\U000e0001")


@given(st.lists(st.sampled_from(DANGEROUS) | st.characters()).map("".join))
def test_nothing_that_is_shown_commands_the_terminal_or_hides(text: str) -> None:
    assert all(char in "\n\t" or unicodedata.category(char) not in UNSEEN for char in visible(text))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_that_is_shown_is_still_the_same_value(value: Any) -> None:
    shown = pretty(value)
    assert json.loads(shown) == value
    assert all(char == "\n" or unicodedata.category(char) not in UNSEEN for char in shown)


def test_control_characters_in_text_tools_and_questions_are_escaped(desk: Server) -> None:
    nasty = "a\x1b]0;owned\x07b\x9bc\u202ed"
    result = chat(desk, stdin=f"ask {nasty}\n{nasty}\n")
    assert result.exit_code == 0
    for char in "\x1b\x07\x9b\u202e":
        assert char not in result.stdout
    assert r"a\u001b]0;owned\u0007b\u009bc\u202ed" in result.stdout


def shown(*events: dict[str, Any], width: int = 80) -> str:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=width, markup=False, highlight=False, emoji=False))
    for event in events:
        screen.event(event)
    return out.getvalue()


def token(content: str, message: str = "m") -> dict[str, Any]:
    return {"type": "token", "content": content, "message_id": message}


def ended(message: str = "m") -> dict[str, Any]:
    return {"type": "llm_end", "message_id": message}


def said(text: str, id: str | None = None, **members: Any) -> dict[str, Any]:
    return {
        "type": "state_update",
        "update": {"messages": [{"type": "ai", "content": text, "id": id}]},
        **members,
    }


def call(kind: str, tool_call_id: str = "c", **members: Any) -> dict[str, Any]:
    return {"type": kind, "tool": "find", "tool_call_id": tool_call_id, **members}


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (
            [token("[bold]Hel"), token("lo :smile: [/]"), ended()],
            "[bold]Hello :smile: [/]\n",
        ),
        ([token("one", "1"), token("two", "2"), {"type": "done"}], "one\ntwo\n"),
        # Models that speak at once are kept apart: the first to begin, then the next.
        (
            [
                token("one ", "1"),
                token("two ", "2"),
                token("and one", "1"),
                ended("2"),
                token("three", "3"),
                ended("1"),
                ended("3"),
            ],
            "one and one\ntwo \nthree\n",
        ),
        # What a crash of a node or a retry cut off ends, and leaves room for the next.
        (
            [
                {**token("on", "1"), "task_id": "t"},
                {**token("two", "2"), "task_id": "u"},
                {"type": "node_error", "task_id": "t", "error": {"type": "E"}},
                token("!", "2"),
                ended("2"),
            ],
            "on\ntwo!\n",
        ),
        # A router's decision is no speech, and JSON that is an answer stands in the state.
        ([token(' {"next": '), token('"writer"}'), ended(), {"type": "done"}], ""),
        ([token('{"a": 1}'), ended(), said('{"a": 1}', "m"), {"type": "done"}], '{"a": 1}\n'),
        ([token("{x} is a set"), ended(), {"type": "done"}], "{x} is a set\n"),
        ([token("{cut o"), {"type": "error", "message": "It broke."}], "{cut o\nIt broke.\n"),
        (
            [{"type": "media", "message_id": "m", "media": "image", "url": "https://a/b.png"}],
            "  [image] https://a/b.png\n",
        ),
        ([{**token("hm"), "type": "reasoning"}, token("\n\nso"), {"type": "done"}], "hm\nso\n"),
        ([token("a\r\nb"), {"type": "run_paused"}], "a\nb\n"),
        ([token("👩\u200d🚀"), {"type": "done"}], "👩\u200d🚀\n"),
        (
            [
                call("tool_start", input={"a": "x", "b": [1]}),
                call("tool_end", output='{"found": 3, "all": [1, 2]}'),
            ],
            '· find(a="x", b=[1]) … found: 3, all: 2 items\n',
        ),
        (
            [call("tool_start"), call("tool_end", output="first\nsecond")],
            "· find() … first\n  second\n",
        ),
        (
            [call("tool_start"), call("tool_end", output="\n".join(map(str, range(240))))],
            "".join(
                ["· find() … 0\n", *(f"  {n}\n" for n in range(1, 10)), "  … 230 more lines\n"]
            ),
        ),
        (
            [
                call("tool_start", ts="2026-01-01T00:00:00Z"),
                call("tool_end", output="x", ts="2026-01-01T00:02:05.4Z"),
            ],
            "· find() … x · 2 min 5 s\n",
        ),
        (
            [
                call("tool_start", "1"),
                call("tool_start", "2"),
                call("tool_end", "1"),
                call("tool_end", "2", output=2),
            ],
            "· find() …\n· find() …\n· find: done\n· find: 2\n",
        ),
        (
            [call("tool_start"), call("tool_error", error={"type": "ValueError"})],
            "· find() … failed: ValueError\n",
        ),
        ([call("tool_start", input={"a": "x" * 99})], f'· find(a="{"x" * 56}…) …'),
        ([call("tool_start"), call("tool_end", output="y" * 99)], f"· find() … {'y' * 68}…\n"),
        (
            [{"type": "approval_decided", "decision": "edit", "by": "bob", "tool": "find"}],
            "· find: approved with other arguments by bob\n",
        ),
        ([{"type": "node_start"}, {"type": "something of a newer server"}], ""),
    ],
)
def test_events_as_a_person_sees_them(events: list[dict[str, Any]], text: str) -> None:
    assert shown(*events) == text


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([said("Published."), {"type": "done"}], "Published.\n"),
        ([token("Hi"), ended(), said("Hi", "m"), {"type": "done"}], "Hi\n"),
        # A node that wraps what its model said into a message of its own.
        ([token("Hi"), ended(), said("Hi", "another"), {"type": "done"}], "Hi\n"),
        ([token("Hi"), ended(), {"type": "done"}, said("Hi"), {"type": "done"}], "Hi\nHi\n"),
        ([said("inside", ns=["inner"]), said("")], ""),
        (
            [
                {
                    "type": "state_update",
                    "update": {"messages": [{"type": "human", "content": "you"}]},
                },
                {"type": "state_update"},
            ],
            "",
        ),
        (
            [{"type": "state_update", "update": {"messages": "no list"}}, said("x\x1b[2J")],
            "x\\u001b[2J\n",
        ),
    ],
)
def test_what_a_graph_says_by_itself_is_shown_once(events: list[dict[str, Any]], text: str) -> None:
    assert shown(*events) == text


def test_a_call_whose_outcome_is_unknown_is_explained() -> None:
    out = io.StringIO()
    Screen(Console(file=out, width=100)).approval(
        {
            "kind": "unknown_outcome",
            "tool": "pay",
            "args": {"euros": 5},
            "digest": "ab" * 32,
            "allowed": ["approve", "reject"],
        },
        "",
    )
    assert "pay was cut off" in out.getvalue() and "nobody knows whether it" in out.getvalue()
    assert '{"euros": 5}' in out.getvalue() and "sha256 abababababab" in out.getvalue()


def test_what_a_graph_cannot_promise_is_said_before_somebody_decides() -> None:
    out = io.StringIO()
    asked = {"kind": "input", "node": "pay", "args": "Pay?", "allowed": ["respond"], "digest": "ab"}
    note = {"warning": "It happens again."}
    Screen(Console(file=out, width=100)).approval({**asked, "conversation": note}, "")
    assert "It happens again." in out.getvalue()


def test_an_agent_that_cannot_be_loaded_leaves_no_file_behind(tmp_path: Path) -> None:
    done = assent(tmp_path, "serve", "nowhere.py:agent", "--port", "0")
    assert done.returncode == 1
    assert "nowhere.py" in done.stderr
    assert list(tmp_path.iterdir()) == []
