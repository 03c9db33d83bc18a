"""Installs the clients of `package.json` into `node_modules`, unless they stand there.

python -m clients.install            # the pinned versions
python -m clients.install --latest   # the newest, which leaves the pins as they are
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.node import npm

FOLDER = Path(__file__).parent
PINS = FOLDER / "package-lock.json"
INSTALLED = FOLDER / "node_modules" / "installed.json"
"""The pins by which the clients were installed."""

QUIET = "--loglevel=error"

KEPT = {"@langchain/langgraph-sdk": "^1"}
"""The first version of the SDK is in use beside the second."""


def main(*, latest: bool) -> None:
    pins = PINS.read_text()
    if latest:
        INSTALLED.unlink(missing_ok=True)
        run("install", "--no-save", "--no-package-lock", *newest())
    elif not INSTALLED.is_file() or INSTALLED.read_text() != pins:
        run("ci")
        INSTALLED.write_text(pins)


def newest() -> Iterator[str]:
    """Each client with its newest version, under the name that the tests know it by."""
    for name, version in json.loads((FOLDER / "package.json").read_text())["dependencies"].items():
        package = version.rpartition("@")[0]  # "npm:<package>", if the name is another
        prefix = f"{package}@" if package else ""
        yield f"{name}@{prefix}{KEPT.get(name, 'latest')}"


def run(command: str, *arguments: str) -> None:
    subprocess.run([*npm(), command, QUIET, *arguments], cwd=FOLDER, check=True)


if __name__ == "__main__":
    main(latest="--latest" in sys.argv[1:])
