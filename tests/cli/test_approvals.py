"""`assent approvals`, against a real server."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner, Result

from assent.cli.app import app
from assent.cli.approvals import approvals_table
from assent.cli.wording import news_of
from assent.notify.endpoints import APPROVAL_EVENTS
from tests.support import any_graphs
from tests.support.screens import on_screen
from tests.support.server import Server, project_of, scripted_agents, serving
from tests.support.waiting import PATIENCE

ASSENT = [sys.executable, "-c", "from assent.cli.app import main; main()"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("approving")
    (folder / "assent.json").write_text(
        json.dumps({"policies": {"agents": {"agent": {"tools": {"slow": {"quorum": 2}}}}}})
    )
    keys = {
        "ASSENT_API_KEYS": "ann:secret-of-ann,bob:secret-of-bob",
        "ASSENT_ROLES": "ann:operator approver auditor,bob:operator approver auditor",
        "ASSENT_CONFIG": str(folder / "assent.json"),
    }
    with serving(folder, scripted_agents(folder, "agent"), **keys) as server:
        yield server


def asked(server: Server, message: str) -> dict[str, Any]:
    """What the agent asks, when it is told this."""
    headers = {"authorization": "Bearer secret-of-ann"}
    body = {"message": message, "thread_id": f"t-{uuid4().hex}"}
    with httpx.Client(
        base_url=server.url, headers=headers, timeout=20, trust_env=False, verify=False
    ) as http:
        (approval,) = http.post("/agent/invoke", json=body).raise_for_status().json()["approvals"]
    return dict(approval)


def approvals(server: Server, *argv: str, who: str = "bob", columns: int = 140) -> Result:
    environment = {
        "ASSENT_URL": server.url,
        "ASSENT_API_KEY": f"secret-of-{who}",
        "COLUMNS": str(columns),
        "NO_PROXY": "*",
    }
    return CliRunner().invoke(app, ["approvals", *argv], env=environment)


def test_what_waits_is_listed_shown_and_approved(server: Server) -> None:
    approval = asked(server, "pay 11")
    listed = approvals(server, "list", "--thread", approval["thread_id"])
    assert listed.exit_code == 0, listed.output
    assert approval["approval_id"] in listed.output
    shown = approvals(server, "show", approval["approval_id"])
    assert shown.output.count("1 person") == 1
    for text in (
        '"amount": 11',
        approval["digest"],
        "asked: pay 11",
        "the model wrote, and it may mislead: On it.",
        "anyone",
    ):
        assert text in shown.output, text
    done = approvals(server, "approve", approval["approval_id"])
    assert (done.exit_code, done.output) == (0, "It is approved. The run goes on.\n")
    again = approvals(server, "approve", approval["approval_id"])
    assert again.exit_code == 1
    assert "it was approved by bob at" in again.output
    listed = approvals(server, "list", "--thread", approval["thread_id"])
    assert listed.output == "Nothing waits.\n"
    (stored,) = json.loads(
        approvals(
            server, "list", "--thread", approval["thread_id"], "--status", "all", "--json"
        ).output
    )
    assert (stored["status"], stored["decided_by"]) == ("approved", "bob")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["reject", "ID", "Too much."], "rejected"),
        (["edit", "ID", '{"amount": 3}'], "edited"),
        (["respond", "ID", "Paid by hand."], "responded"),
    ],
)
def test_each_decision_is_taken(server: Server, argv: list[str], status: str) -> None:
    approval = asked(server, "pay 12")
    done = approvals(server, *(approval["approval_id"] if word == "ID" else word for word in argv))
    assert (done.exit_code, done.output) == (0, f"It is {status}. The run goes on.\n")
    assert (
        json.loads(approvals(server, "show", approval["approval_id"], "--json").output)["status"]
        == status
    )


def test_the_first_of_two_votes_waits_for_the_second(server: Server) -> None:
    server.let_go(13)
    approval = asked(server, "slow 13")
    assert (
        approvals(server, "approve", approval["approval_id"]).output
        == "It waits for others to agree.\n"
    )
    shown = approvals(server, "show", approval["approval_id"]).output
    assert "vote       bob: approve" in shown
    # Each thing is said once.
    assert (shown.count("2 people"), shown.count("bob")) == (1, 1)
    assert (
        "It is approved." in approvals(server, "approve", approval["approval_id"], who="ann").output
    )


def test_people_comment_delegate_and_withdraw_their_votes(server: Server) -> None:
    id = asked(server, "slow 14")["approval_id"]
    approvals(server, "approve", id)
    told = {
        ("comment", id, "Why\x1b now?"): "Your comment is added.\n",
        ("withdraw", id): "Your vote is withdrawn.\n",
        ("delegate", id, "--to", "ann"): "It is delegated to ann.\n",
        ("delegate", id, "--to", "bob"): "It is delegated to bob.\n",
    }
    for argv, sentence in told.items():
        done = approvals(server, *argv)
        assert (done.exit_code, done.output) == (0, sentence), argv
    shown = approvals(server, "show", id).output
    assert "comment    bob: Why\\u001b now?" in shown and "vote " not in shown
    again = approvals(server, "withdraw", id)
    assert again.exit_code == 1 and again.output.endswith(".\n")
    assert approvals(server, "delegate", id).exit_code == 1


def test_a_list_fits_a_narrow_terminal(server: Server) -> None:
    one, _other = asked(server, "pay 18"), asked(server, "pay 19")
    _titles, line, args = approvals(
        server, "list", "--thread", one["thread_id"], columns=80
    ).output.splitlines()
    id, _age, *said = line.split()
    assert (id, said) == (one["approval_id"], ["pay", "ann", "medium", "anyone"])
    assert args.strip() == "amount=18"
    wide = approvals(server, "list", "--thread", one["thread_id"], columns=140).output
    assert wide.splitlines()[1].split()[2:4] == ["pay", "amount=18"]
    # Of several statuses each says its own.
    approvals(server, "reject", id)
    lines = approvals(server, "list", "--status", "all", columns=80).output.splitlines()
    assert {line.split()[-1] for line in lines[1::2]} >= {"rejected", "pending"}
    assert max(map(len, lines)) <= 80
    # Where no row has room, each has lines of its own.
    lines = approvals(server, "list", "--status", "all", columns=40).output.splitlines()
    at = lines.index(id)
    assert lines[at + 1] == "  pay amount=18"
    assert re.fullmatch(r"  \d+s · by ann · medium · rejected", lines[at + 2])
    assert max(map(len, lines)) <= 40


def test_a_status_is_one_word_beside_the_name_of_a_common_tool(server: Server) -> None:
    waits = asked(server, "pay 20") | {"tool": "delete_records", "requested_by": ["local"]}
    table = approvals_table([waits, waits | {"status": "superseded"}], 80)
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    _titles, *lines = out.getvalue().splitlines()
    assert [line.split()[-1] for line in lines[::2]] == ["pending", "superseded"]


@given(st.lists(st.text(max_size=120), min_size=1, max_size=3), st.integers(20, 220))
def test_a_list_of_anything_stays_a_table(texts: list[str], width: int) -> None:
    """Whatever arguments hold, each approval has lines of its own."""
    row = {
        "approval_id": f"apr_{0:032}",
        "requested_at": "2026-01-01T00:00:00Z",
        "tool": "pay",
        "requested_by": ["ann"],
        "risk": "low",
        "status": "pending",
        "names": [],
        "roles": [],
        "assignees": [],
    }
    table = approvals_table([row | {"args": {"text": text}} for text in texts], width)
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    lines = out.getvalue().split("\n")
    assert [line[:4] for line in lines].count("apr_") == len(texts)
    assert len(lines) <= 7 * len(texts) and max(map(cell_len, lines)) <= width


NEWS = {
    "required": "waits for a decision",
    "voted": "bob voted 'approve' (1 of 2)",
    "decided": "approved by bob",
    "edited": "bob changed the arguments, and others must agree",
    "withdrawn": "bob withdrew a vote",
    "delegated": "bob delegated to cid",
    "commented": "bob commented",
    "reminder": "still waits for a decision",
    "escalated": "nobody decided in time, so others may decide too: lead, ann",
    "expired": "nobody decided in time",
    "superseded": "needs no decision any more",
    "cancelled": "needs no decision any more, since the run was cancelled",
}


@pytest.mark.parametrize("kind", APPROVAL_EVENTS)
def test_every_event_of_the_feed_has_words(kind: str) -> None:
    what = kind.removeprefix("approval_")
    fields = {
        "by": "bob",
        "decision": "approve",
        "votes": 1,
        "quorum": 2,
        "to": ["lead", "ann"] if what == "escalated" else "cid",
    }
    news = news_of({"type": kind, **fields})
    assert news is not None
    assert news[0] == NEWS[what]


def test_what_could_fool_its_reader_is_escaped_and_pointed_out(server: Server) -> None:
    approval = asked(server, "slow 14")
    assert approvals(server, "edit", approval["approval_id"], '{"amount": 14}').exit_code == 0
    refused = approvals(server, "edit", approval["approval_id"], "{")
    assert refused.exit_code == 1
    assert "This is not JSON: " in refused.output
    noted = asked(server, "pay 15")
    edited = approvals(
        server, "edit", noted["approval_id"], json.dumps({"amount": 15, "note": "for \u202eecilA"})
    )
    assert edited.exit_code == 0
    shown = approvals(server, "show", noted["approval_id"]).output
    assert "\u202e" not in shown
    assert "\\u202e" in shown
    assert "U+202E RIGHT-TO-LEFT OVERRIDE" in shown


def test_what_is_wrong_is_one_sentence(server: Server) -> None:
    for argv, said in (
        (["show", "apr_none"], "There is no approval"),
        (["list", "--older-than", "soon"], "is no duration"),
    ):
        result = approvals(server, *argv)
        assert result.exit_code == 1
        assert said in result.output
        assert "Traceback" not in result.output
    result = approvals(server, "list", who="nobody")
    assert result.output == (
        "The key that was sent is none of this server's: send one that is, as "
        "'Authorization: Bearer <secret>'. Set ASSENT_API_KEY, or give --api-key.\n"
    )
    result = CliRunner().invoke(app, ["approvals", "list", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "does not answer" in result.output


def test_only_watching_ends_well_with_ctrl_c(server: Server, tmp_path: Path) -> None:
    environment = {"ASSENT_URL": server.url, "ASSENT_API_KEY": "secret-of-bob"}
    with on_screen(tmp_path, "approvals", "watch", columns=120, **environment) as screen:
        # What was asked before it began to watch is not told.
        asked(server, "pay 21")
        while not screen.shows("pay: waits for a decision", within=1):
            asked(server, "pay 21")
        screen.type("\x03")
        assert screen.ended() == 0
    id = asked(server, "pay 22")["approval_id"]
    with on_screen(tmp_path, "approvals", "approve", id, **environment) as screen:
        screen.until("Approve this? [y/N]:")
        screen.type("\x03")
        assert screen.ended() == 1
        assert "Traceback" not in screen.shown


def test_a_question_is_shown_with_its_answers(tmp_path: Path) -> None:
    project_of(tmp_path, {any_graphs: ("asker", "form")})
    root = str(Path(__file__).parents[2])
    with serving(tmp_path, "langgraph.json", PYTHONPATH=root) as server:
        for agent, message, parts in (
            ("asker", "ask Which year? 2019 2020", ("1  2019", "2  2020", "choices    respond")),
            ("form", "x", ("-  city (text)", "-  nights (a whole number)")),
        ):
            body = {"message": message, "agent": agent}
            with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http:
                (approval,) = http.post("/agent/invoke", json=body).json()["approvals"]
            shown = approvals(server, "show", approval["approval_id"]).output
            assert all(part in shown for part in parts), shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"amount": NaN}', "NaN is no number there"),
        ('{"amount": 1e999}', "the number is too large"),
        ('{"amount": 1, "amount": 2}', "the field 'amount' is there twice"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
)
def test_arguments_that_programs_read_differently_are_none(
    server: Server, arguments: str, said: str
) -> None:
    approval = asked(server, "pay 18")
    result = approvals(server, "edit", approval["approval_id"], arguments)
    assert (result.exit_code, result.output) == (1, f"This is not JSON: {said}.\n")


@contextmanager
def answering(response: bytes) -> Iterator[str]:
    """A server that answers every request with this; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(response)

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        serving = threading.Thread(target=other.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()
        serving.join()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (
            "301 Moved\r\nLocation: https://a.example/x",
            "sends on to https://a.example/x. Give its own",
        ),
        ("200 OK\r\nContent-Type: text/html", "is none that this client reads"),
        ("502 Bad Gateway\r\nContent-Type: text/html", "The server answered 502"),
    ],
)
def test_a_server_that_is_another_one_is_named_in_a_sentence(head: str, said: str) -> None:
    body = "<h1>Hi</h1>"
    answer = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    with answering(answer.encode()) as url:
        result = CliRunner().invoke(app, ["approvals", "list", "--url", url])
    assert result.exit_code == 1
    assert said in result.output and "Traceback" not in result.output


def test_watching_tells_of_all_threads_from_now_on_and_over_a_restart(
    server: Server, tmp_path: Path
) -> None:
    before = asked(server, "pay 16")
    environment = {
        **os.environ,
        "ASSENT_URL": server.url,
        "ASSENT_API_KEY": "secret-of-bob",
        "NO_PROXY": "*",
        "PYTHONUNBUFFERED": "1",
    }
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        watching = subprocess.Popen(
            [*ASSENT, "approvals", "watch", "--json"], env=environment, stdout=out, stderr=err
        )
        try:
            told: list[dict[str, Any]] = []
            asked_now: list[str] = []
            deadline = time.monotonic() + 2 * PATIENCE
            while len({event["approval_id"] for event in told} & set(asked_now)) < 2:
                assert time.monotonic() < deadline, (tmp_path / "out").read_text()
                asked_now.append(asked(server, "pay 17")["approval_id"])
                time.sleep(0.5)
                text = (tmp_path / "out").read_text()
                if text.count("\n") == 1:
                    server.restart()
                told = [json.loads(line) for line in text.splitlines()]
        finally:
            watching.kill()
            watching.wait()
    assert [event["seq"] for event in told] == sorted({event["seq"] for event in told})
    assert before["approval_id"] not in {event["approval_id"] for event in told}
