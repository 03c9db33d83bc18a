"""The `assent` command, or uvicorn, as a process of its own: a fork of one that has imported
everything already, where that is possible (`zygote.py`).

    process = started(["serve", "--port", "0"], folder=…, environment={…}, log=…)
    done = run(["approvals", "list"], folder=…, environment={…})
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.waiting import PATIENCE
from tests.support.zygote import ASSENT, HAS_SAFE_FORK, Forked, Zygote, take_terminal

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from assent.cli.app import main; main()"]
PREPARED = "from tests.support.zygote import call, prepare; prepare()"
COLD = not HAS_SAFE_FORK or bool(os.environ.get("COLD_SERVERS"))
"""Whether every process is started as its command is, imports and all, and not as a fork of a
process that has imported already."""

Process = subprocess.Popen[bytes] | Forked


def started(
    argv: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    errors: Path | None = None,
    typed: Path | None = None,
    cold: bool = COLD,
    program: str = ASSENT,
) -> Process:
    """The command, or another program, with these arguments. It writes to the end of `log`, and
    its errors to `errors` if that is another file; it reads the file `typed`, or nothing."""
    if not cold:
        return _zygote().start(
            [*argv],
            folder=folder,
            environment=environment,
            log=log,
            errors=errors,
            typed=typed,
            program=program,
        )
    command = COMMAND
    if program != ASSENT or "BEFORE_SERVING" in environment:
        command = [sys.executable, "-c", f"{PREPARED}; call({program!r})"]
    with (
        Path(typed or os.devnull).open("rb") as stdin,
        log.open("ab") as stdout,
        (errors or log).open("ab") as stderr,
    ):
        return subprocess.Popen(
            [*command, *argv],
            cwd=folder,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )


def on_terminal(
    argv: Sequence[str], terminal: str, *, folder: Path, environment: Mapping[str, str]
) -> Process:
    """The command with these arguments, on the terminal of this name."""
    if not COLD:
        return _zygote().start(
            [*argv], folder=folder, environment=environment, log=folder / "log", terminal=terminal
        )
    return subprocess.Popen(
        [*COMMAND, *argv],
        cwd=folder,
        env=environment,
        preexec_fn=lambda: take_terminal(terminal),
    )


def run(
    argv: Sequence[str], *, folder: Path, environment: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """What became of the command with these arguments, and what it wrote."""
    with TemporaryDirectory() as beside:
        typed, out, err = (Path(beside, name) for name in ("typed", "out", "err"))
        typed.write_text(stdin)
        process = started(
            argv, folder=folder, environment=environment, log=out, errors=err, typed=typed
        )
        try:
            code = process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                process.send_signal(9)
        return subprocess.CompletedProcess(
            [*argv], code, out.read_text("utf-8"), err.read_text("utf-8")
        )


ADDRESS = "ASSENT_TESTS_FORK_AT"
"""The variable that has the address of the process that forks, where it is another's."""


@cache
def _zygote() -> Zygote:
    """One for all tests: it has nothing of theirs."""
    return Zygote(REPOSITORY, os.environ.get(ADDRESS))


def share_zygote() -> None:
    """Have the processes that are started from now on fork from one process of this one's."""
    if not COLD:
        os.environ[ADDRESS] = _zygote().address
