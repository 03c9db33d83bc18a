"""A forked server is a process like a cold one: its own arguments, folder, environment, output,
exit code and death."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.command import COLD, REPOSITORY, Process, started
from tests.support.server import scripted_agents, serving
from tests.support.waiting import PATIENCE
from tests.support.zygote import Zygote

pytestmark = pytest.mark.skipif(COLD, reason="no server is forked here")


def start(folder: Path, *argv: str, **environment: str) -> Process:
    return started(argv, folder=folder, environment=environment, log=folder / "log")


def test_it_is_the_command_with_its_own_arguments_output_and_exit_code(tmp_path: Path) -> None:
    assert start(tmp_path, "--version").wait(PATIENCE) == 0
    database = {"ASSENT_DATABASE": "sqlite:///here.db"}
    assert start(tmp_path, "serve", "agent.py:agent", **database).wait(PATIENCE) == 1
    assert start(tmp_path, "sing").wait(PATIENCE) == 2
    said = (tmp_path / "log").read_text()
    assert said.startswith("assent ")
    assert str(tmp_path / "agent.py") in said.replace("\n", "")
    assert "No such command 'sing'" in said


def test_it_dies_of_signals(tmp_path: Path) -> None:
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        server.kill()
        server.start()
        assert server.terminate() == -signal.SIGTERM
    forked = start(tmp_path, "serve", "--port", "0")
    assert forked.poll() is None
    forked.send_signal(signal.SIGKILL)
    assert forked.wait(PATIENCE) == -signal.SIGKILL
    # To signal what has ended does nothing, whoever has its id by now.
    forked.send_signal(signal.SIGKILL)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="what a process has open is listed in /proc"
)
def test_it_inherits_nothing_and_outlives_nobody(tmp_path: Path) -> None:
    zygote = Zygote(REPOSITORY)
    # It stops before it does anything, for nobody reads what it writes.
    os.mkfifo(tmp_path / "log")
    forked = zygote.start(["--version"], folder=tmp_path, environment={}, log=tmp_path / "log")
    process = Path(f"/proc/{forked.pid}")
    deadline = time.monotonic() + 20
    while sockets := [name for name in _open_files(process) if name.startswith("socket:")]:
        assert time.monotonic() < deadline, sockets
    assert [task.name for task in (process / "task").iterdir()] == [str(forked.pid)]
    zygote.close()
    assert not process.exists()


def _open_files(process: Path) -> list[str]:
    """What the process has open. What it closes while this looks is not told."""
    names = []
    for descriptor in (process / "fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(str(descriptor.readlink()))
    return names
