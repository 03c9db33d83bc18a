"""Python programs as processes of their own, forked as commands are (`command.py`).

done = ran([path, "an argument"], folder=tmp_path)
process = starting([path], folder=tmp_path)
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.command import REPOSITORY, Process, run, started

ENVIRONMENT = {"BEFORE_SERVING": f"{__name__}:become", "PYTHONPATH": str(REPOSITORY)}


def ran(argv: Sequence[str | Path], *, folder: Path) -> subprocess.CompletedProcess[str]:
    """What became of the program with these arguments, and what it wrote."""
    return run([*map(str, argv)], folder=folder, environment=_environment())


def starting(argv: Sequence[str | Path], *, folder: Path) -> Process:
    """The program with these arguments, which writes to the file `log`."""
    log = folder / "log"
    return started([*map(str, argv)], folder=folder, environment=_environment(), log=log)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")}
    return {**kept, **ENVIRONMENT}


def become() -> None:
    """Be the program that the arguments name, to its end."""
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit()
