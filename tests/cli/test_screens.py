"""`assent chat`, `assent approvals` and `assent run` on real terminals of 80 and 200 columns."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.cells import cell_len
from rich.console import Console

from assent.cli.lines import MOST_REMEMBERED, history_file
from assent.cli.screen import Indented
from assent.core.text import pretty
from tests.support.goldens import check_golden
from tests.support.screens import OnScreen, on_screen
from tests.support.server import Server, serving

GOLDENS = Path(__file__).parent / "goldens"

CHOICES = "[a]pprove / [e]dit / [r]eject / an[s]wer for it ?"
WIDTHS = pytest.mark.parametrize("columns", [80, 200])


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("clerk")) as server:
        yield server


def asked(server: Server, message: str) -> dict[str, Any]:
    """What the agent asks, when it is told this."""
    with httpx.Client(base_url=server.url, trust_env=False, verify=False, timeout=60) as http:
        answer = http.post("/agent/invoke", json={"message": message}).raise_for_status().json()
    return dict(answer["approvals"][0])


def typed(screen: OnScreen, *lines: str) -> None:
    """Type these lines, each at the prompt."""
    for line in lines:
        screen.until("you>")
        screen.type(f"{line}\r")


@WIDTHS
def test_a_chat_with_a_decision(clerk: Server, tmp_path: Path, columns: int) -> None:
    with on_screen(tmp_path, "chat", "--url", clerk.url, columns=columns) as screen:
        typed(screen, f"delete record {columns + 1}")
        screen.until(CHOICES)
        screen.type("x\r")
        screen.until("'x' is no choice. Type one of a, e, r, s.")
        screen.type("\x7fa\r")
        screen.until("deleted: 1")
        screen.until("tokens")
        # The line beneath the conversation is gone, and the toolbar is there.
        screen.until("you>\n")
        check_golden(GOLDENS / f"chat-{columns}.txt", screen.golden)
        screen.type("\x04")
        assert screen.ended() == 0


@pytest.mark.parametrize("width", [2, 7, 12, 20, 40, 80])
def test_a_broken_line_goes_on_further_in_and_loses_nothing(width: int) -> None:
    text = pretty({"to": "Ada", "note": "z" * 90, "in": {"turn": ["one two  three", "日本" * 20]}})
    console = Console(width=width)
    with console.capture() as shown:
        console.print(Indented(text))
    lines = shown.get().splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(shown.get().split()) == "".join(text.split())
    if width == 40:
        (number,) = (number for number, line in enumerate(lines) if line == '  "note":')
        assert lines[number + 1].startswith('    "zzz')


def test_a_narrow_terminal_has_all_of_it_too(clerk: Server, tmp_path: Path) -> None:
    with on_screen(tmp_path, "chat", "--url", clerk.url, columns=40) as screen:
        typed(screen, "show record 300")
        screen.until("4 steps")
        screen.until("you>\n")
        screen.type("delete record 145\r")
        screen.until("[a]pprove")
        screen.type("x\r")
        screen.until("'x' is no choice")
        screen.type("\x7fe\r")
        screen.until("Ctrl-C goes back")
        check_golden(GOLDENS / "narrow-40.txt", screen.golden)


@WIDTHS
def test_what_was_typed_is_kept_when_the_server_refuses_it(
    clerk: Server, tmp_path: Path, columns: int
) -> None:
    with on_screen(tmp_path, "chat", "--url", clerk.url, columns=columns) as screen:
        typed(screen, f"delete record {columns + 2}")
        screen.until(CHOICES)
        screen.type("e\r")
        screen.until("Ctrl-X Ctrl-E opens your editor")
        screen.type("x")
        screen.type("\x1b\r")
        screen.until("This is not JSON")
        screen.type("\x7f" * 40 + f'{{"idz": [{columns + 3}]}}\x1b\r')
        screen.until("has no argument 'idz'")
        # It stands beneath what was typed, and the question is not shown again.
        assert screen.shown.count("delete_records wants to run") == 1
        assert screen.shown.index('{"idz"') < screen.shown.index("has no argument")
        # A sentence that is too long for one line is whole at the bottom.
        screen.until("Ctrl-C goes back" if columns > 80 else "status, text.")
        check_golden(GOLDENS / f"refused-{columns}.txt", screen.golden)
        screen.type("\x7f" * 40 + f'{{"ids": [{columns + 3}]}}\x1b\r')
        screen.until(f"· delete_records(ids=[{columns + 3}]) … deleted: 1")


def test_arguments_are_edited_in_the_persons_own_editor(clerk: Server, tmp_path: Path) -> None:
    """What they make of them the first time is no JSON. It is kept, and they edit it again."""
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\ncase $1 in *.json) ;; *) exit 1 ;; esac\n"
        "sed -i -e '/[^}]$/ s/$/}/' -e 's/140]}/141]/' \"$1\"\n"
    )
    editor.chmod(0o755)
    variables = {"EDITOR": str(editor), "VISUAL": str(editor)}
    with on_screen(tmp_path, "chat", "--url", clerk.url, **variables) as screen:
        typed(screen, "delete record 140")
        screen.until(CHOICES)
        screen.type("e\r")
        screen.until("Ctrl-X Ctrl-E opens your editor")
        screen.type("\x18\x05")
        screen.until("This is not JSON: Expecting")
        assert '{"ids": [141]\nThis is not JSON' in screen.shown
        screen.type("\x18\x05")
        screen.until("· delete_records(ids=[141]) … deleted: 1")


def test_commands_are_completed_and_messages_remembered(clerk: Server, tmp_path: Path) -> None:
    with on_screen(tmp_path, "chat", "--url", clerk.url) as screen:
        typed(screen, "how many records are there by category?")
        screen.until("tokens")
        screen.until("you>\n")
        screen.type("/ag\t\r")
        screen.until("/agents\nclerk")
        screen.type("/nothing\r")
        screen.until("'/nothing' is no command")
        screen.type("/quit\r")
        assert screen.ended() == 0

    history = history_file({"XDG_STATE_HOME": str(tmp_path)})
    assert history.stat().st_mode & 0o777 == 0o600
    with on_screen(tmp_path, "chat", "--url", clerk.url) as screen:
        screen.until("you>")
        screen.type("\x1b[A" * 4)
        screen.until("you> how many records are there by category?")


def test_the_history_has_an_end(clerk: Server, tmp_path: Path) -> None:
    history = history_file({"XDG_STATE_HOME": str(tmp_path)})
    history.parent.mkdir()
    history.write_text("".join(f"\n# then\n+message {n}\n" for n in range(MOST_REMEMBERED + 50)))
    with on_screen(tmp_path, "chat", "--url", clerk.url) as screen:
        screen.until("you>")
        screen.type("\x1b[A")
        screen.until(f"you> message {MOST_REMEMBERED + 49}")
    assert history.read_text().count("\n+message") == MOST_REMEMBERED
    assert history.stat().st_mode & 0o777 == 0o600


def test_lines_that_are_pasted_with_a_message_answer_no_question(
    clerk: Server, tmp_path: Path
) -> None:
    with on_screen(tmp_path, "chat", "--url", clerk.url) as screen:
        screen.until("you>")
        screen.type("delete record 150\ra\ra\r")
        screen.until(CHOICES)
        screen.type("r\r")
        screen.until("why (")
        screen.type("no\r")
        screen.until("delete_records: rejected by local")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_approvals_are_listed_and_shown(clerk: Server, tmp_path: Path, columns: int) -> None:
    approval = asked(clerk, f"delete record {columns + 4}")
    thread = ("--thread", approval["thread_id"], "--url", clerk.url)
    with on_screen(tmp_path, "approvals", "list", *thread, columns=columns) as listed:
        assert listed.ended() == 0
        check_golden(GOLDENS / f"approvals-{columns}.txt", listed.golden)
    id = approval["approval_id"]
    with on_screen(tmp_path, "approvals", "show", id, "--url", clerk.url, columns=columns) as shown:
        assert shown.ended() == 0
        check_golden(GOLDENS / f"approval-{columns}.txt", shown.golden)


@WIDTHS
def test_a_run_by_hand_asks_and_answers(clerk: Server, tmp_path: Path, columns: int) -> None:
    message = f"delete record {columns + 5}"
    with on_screen(tmp_path, "run", message, "--url", clerk.url, columns=columns) as screen:
        screen.until(CHOICES)
        screen.type("a\r")
        assert screen.ended() == 0
        check_golden(GOLDENS / f"run-{columns}.txt", screen.golden)


def test_what_a_run_does_is_shown_while_it_does_it(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    with serving(tmp_path, "slow.py:slow", GO=str(tmp_path / "go")) as server:
        with on_screen(tmp_path, "run", "hello", "--url", server.url) as screen:
            screen.until("waiting ")
            screen.until("waiting 0 s", gone=True)
            (tmp_path / "go").touch()
            assert screen.ended() == 0
            # What is over is told in one line, and nothing of the display is left.
            assert "waiting · " in screen.shown
            assert not any("\u2800" <= char <= "\u28ff" for char in screen.shown)
            assert json.dumps(screen.shown.splitlines()[-1]) == '"gone"'
            (tmp_path / "go").unlink()

        argv = ("chat", "--url", server.url)
        with on_screen(tmp_path, *argv, columns=200) as screen:
            typed(screen, "hello")
            screen.until("waiting ")
            server.kill()
            screen.until("The connection dropped. Trying to come back …")
            screen.type("\x03")
            way_back = f"Left the run to itself. Come back with: assent {' '.join(argv)} --thread "
            screen.until(way_back)
            assert screen.ended() == 130


@pytest.mark.parametrize("command", ["chat", "run"])
def test_a_server_that_dies_at_a_decision_leaves_a_way_back(tmp_path: Path, command: str) -> None:
    message = "delete record 1"
    with serving(tmp_path) as server:
        options = ("--url", server.url, "--agent", "clerk", "--config", '{"tags": ["a b"]}')
        with on_screen(tmp_path, command, message, *options, columns=200) as screen:
            screen.until(CHOICES)
            server.kill()
            screen.type("a\r")
            assert screen.ended() == 1
            *_, sentence, way_back = screen.shown.splitlines()
        assert re.search(r"The server at \S+ does not answer: .+ Is it running\?", sentence)
        told, _, back = way_back.partition("assent ")
        assert told == "Come back with: "
        assert back.startswith(f"chat {shlex.join(options)} --thread ")
        server.start()
        with on_screen(tmp_path, *shlex.split(back), columns=200) as screen:
            screen.until(CHOICES)
            screen.type("a\r")
            screen.until("deleted: 1")


SLOW = """
import os, pathlib, time
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


def waiting(state):
    while not pathlib.Path(os.environ["GO"]).exists():
        time.sleep(0.05)
    return {"messages": [AIMessage("gone")]}


builder = StateGraph(MessagesState)
builder.add_node("waiting", waiting)
builder.add_edge(START, "waiting")
slow = builder.compile(name="slow")
"""
