"""The exit code of each command, by a process of its own, and that its help tells of it. Those of
`assent run` are in test_run.py, those of `assent chat` at a run in test_cli.py."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from assent.cli.app import MODULES
from tests.support.command import run, started
from tests.support.server import Server, free_port, serving
from tests.support.waiting import PATIENCE, until

DOCUMENTED = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-terminal.md"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose audit chain has a row, since something was decided."""
    with serving(tmp_path_factory.mktemp("clerk")) as server:
        url = server.url
        with httpx.Client(base_url=url, trust_env=False, verify=False, timeout=PATIENCE) as http:
            asked = http.post("/agent/invoke", json={"message": "delete record 1"}).json()
            id = asked["approvals"][0]["approval_id"]
            assert http.post(f"/approvals/{id}/decide", json={"type": "reject"}).is_success
        yield server


def code_of(server: Server, *arguments: str, **settings: str) -> int:
    """The exit code of the command, which says something, and shows no traceback."""
    ended = run(arguments, folder=server.folder, environment={**server.environment, **settings})
    assert ended.stdout or ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.returncode


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (f"chat --url {NOBODY} hello", 1),
        ("chat --url nowhere hello", 2),
        ("chat --nothing", 2),
        (f"run --url {NOBODY} hello", 1),
        (f"approvals list --url {NOBODY}", 1),
        ("approvals list --url nowhere", 2),
        ("approvals nothing", 2),
        ("serve nothing.py:agent --port 0", 1),
        ("serve --port here", 2),
        ("backup nowhere/copy.db", 1),
        ("import-checkpoints nothing.sqlite", 2),
        ("nothing", 2),
    ],
)
def test_what_cannot_be_done_says_so(server: Server, command: str, code: int) -> None:
    assert code_of(server, *command.split()) == code


def test_the_database_is_well_or_ill_or_it_cannot_be_known(server: Server, tmp_path: Path) -> None:
    """Beside the server that has it open."""
    copy = tmp_path / "copy.db"
    assert code_of(server, "approvals", "list", "--url", server.url) == 0
    assert code_of(server, "doctor") == 0
    assert code_of(server, "audit", "verify") == 0
    assert code_of(server, "backup", str(copy)) == 0
    assert code_of(server, "backup", str(copy)) == 2
    ours = {"ASSENT_DATABASE": f"sqlite:///{copy}"}
    assert code_of(server, "doctor", ASSENT_DATABASE="postgres://nowhere") == 2
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE audit SET actor = 'somebody'")
        connection.execute("DELETE FROM events WHERE seq = 2")
    assert code_of(server, "doctor", **ours) == 1
    # Its key is beside the database, and not beside the copy.
    assert code_of(server, "audit", "verify", **ours) == 2
    key = server.folder / "assent.db.audit-key"
    assert code_of(server, "audit", "verify", **ours, ASSENT_AUDIT_KEY=key.read_text().strip()) == 1


async def test_a_server_that_is_asked_to_stop_ends_with_0(server: Server, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    environment = {**server.environment, "ASSENT_DATABASE": f"sqlite:///{tmp_path / 'new.db'}"}
    process = started(
        ["serve", "--port", str(port)], folder=tmp_path, environment=environment, log=log
    )
    await until(lambda: log.exists() and "Assent is at" in log.read_text())
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0


def test_the_help_of_each_command_tells_its_documented_exit_codes(server: Server) -> None:
    table = DOCUMENTED.read_text(encoding="utf-8").split("## Exit codes\n\n")[1].split("\n\n")[0]
    rows = [re.split(r"\s*\|\s*", row)[1:3] for row in table.splitlines()[2:]]
    commands = [name.strip("`").split()[1:] for name, _ in rows]
    assert {command[0] for command in commands} == {*MODULES}
    for command, (_, told) in zip(commands, rows, strict=True):
        wide = {**server.environment, "COLUMNS": "400", "NO_COLOR": "1"}
        ended = run([*command, "--help"], folder=server.folder, environment=wide)
        (codes,) = re.findall(r"Exits with (.+?)\.\s", ended.stdout)
        assert re.findall(r"\b\d+\b", codes) == re.findall(r"\b\d+\b", told), command
