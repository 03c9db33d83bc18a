"""The TypeScript client at work on a real server. Its pure parts are tested by `make test-web` in
Node alone, beside their sources."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from tests.support.command import REPOSITORY
from tests.support.node import TYPESCRIPT, node
from tests.support.secrets import keys_of, secret_of
from tests.support.server import Server, scripted_agents, serving

WEB = REPOSITORY / "web"
TESTS = WEB / "packages" / "client" / "test" / "server"
LOOKS = 0.02
"""Seconds between two looks at whether a test wants the server to be killed."""


def run(name: str, server: Server, **environment: str) -> None:
    """Run the tests of a file in Node, which reads TypeScript."""
    given = {"SERVER": server.url, "LEDGER": str(server.ledger), **environment}
    done = subprocess.run(
        [
            node(TYPESCRIPT),
            "--conditions=assent-source",
            "--test",
            "--test-timeout=30000",
            "--test-reporter=spec",
            str(TESTS / name),
        ],
        cwd=WEB,
        env={**os.environ, **given},
        check=False,
    )
    assert done.returncode == 0


@contextmanager
def killing(server: Server) -> Iterator[None]:
    """Kill and start the server anew whenever a test asks for that."""
    asked = Path(f"{server.ledger}.kill")
    over = Event()

    def watch() -> None:
        while not over.wait(LOOKS):
            if asked.exists():
                server.restart()
                asked.unlink()

    watching = Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def test_deciding(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        run("decide.ts", server)


def test_following(tmp_path: Path) -> None:
    target = scripted_agents(tmp_path, "agent", "slow_agent")
    with serving(tmp_path, target) as server, killing(server):
        run("follow.ts", server)


def test_people(tmp_path: Path) -> None:
    keys = {"ASSENT_API_KEYS": keys_of("ann", "bob")}
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **keys) as server:
        run("signed-in.ts", server, ANN=secret_of("ann"), BOB=secret_of("bob"))


def test_examples(tmp_path: Path) -> None:
    keys = {"ASSENT_API_KEYS": keys_of("ann")}
    with serving(tmp_path, scripted_agents(tmp_path, "agent"), **keys) as server:
        run("examples.ts", server, ANN=secret_of("ann"))
