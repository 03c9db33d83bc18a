"""Clients that are written in JavaScript, each at work on the real server: `make clients`.

Each file of tests beside this one is run by Node's own runner, with the address of one server for
them all in its environment; that of kills has a server of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.support import agents, any_graphs, document_agent
from tests.support.command import REPOSITORY
from tests.support.node import node
from tests.support.server import Server, project_of, scripted_agents, serving

FOLDER = Path(__file__).parent
KILLS = FOLDER / "kills.test.mjs"
FILES = sorted(set(FOLDER.glob("*.test.mjs")) - {KILLS})
PRINTED = "http://127.0.0.1:8000"
"""The server of the pages."""

AMOUNTS = 1_000
"""How many amounts the tests of one file may pay, so that no two files pay the same."""

LOOKS = 0.02
"""Seconds between two looks at whether a test wants the server to be killed."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    assert (FOLDER / "node_modules").is_dir(), (
        "The clients are not installed. Install and test them: make clients"
    )
    folder = tmp_path_factory.mktemp("server")
    graphs = {agents: agents.ALL, any_graphs: ["batched", "inbox"], document_agent: ["graph"]}
    with serving(folder, project_of(folder, graphs)) as server:
        yield server


def run(file: Path, server: Server, first_amount: int) -> None:
    environment = {
        **os.environ,
        "SERVER": server.url,
        "LEDGER": str(server.ledger),
        "FIRST_AMOUNT": str(first_amount),
    }
    # Its report goes where pytest keeps what a test prints, and is shown if it fails.
    done = subprocess.run(
        [node(), "--test", "--test-reporter=spec", file.name],
        cwd=FOLDER,
        env=environment,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".test.mjs"))
def test_a_client(server: Server, file: Path) -> None:
    run(file, server, AMOUNTS * FILES.index(file))


def test_clients_of_a_server_that_is_killed(tmp_path: Path) -> None:
    asked = tmp_path / "ledger.kill"
    over = Event()

    def restart_when_asked(server: Server) -> None:
        while not over.wait(LOOKS):
            if asked.exists():
                server.restart()
                asked.unlink()

    with serving(tmp_path, scripted_agents(tmp_path, "slow_agent")) as server:
        killer = Thread(target=restart_when_asked, args=(server,))
        killer.start()
        try:
            run(KILLS, server, 1)
        finally:
            over.set()
            killer.join()


def test_the_page_on_langgraphs_sdks_runs(tmp_path: Path) -> None:
    page = REPOSITORY / "docs" / "how-to" / "use-from-langgraph-sdks.md"
    source = "".join(re.findall(r"^```javascript\n(.*?)^```$", page.read_text(), re.M | re.S))
    with serving(tmp_path) as server:
        done = subprocess.run(
            [node(), "--input-type=module", "--eval", source.replace(PRINTED, server.url)],
            cwd=FOLDER,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    asked, answer, assistant = done.stdout.splitlines()
    assert asked.startswith("May delete_records be called with")
    assert answer
    assert assistant == "records 2"
