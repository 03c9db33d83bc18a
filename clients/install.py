"""Installs the clients of `package.json` into `node_modules`, unless they stand there.

python -m clients.install            # the pinned versions
python -m clients.install --latest   # the newest, which leaves the pins as they are

A client whose newest version cannot be installed, as it needs what the registry does not have, is
named, and its pinned version is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.node import npm

FOLDER = Path(__file__).parent
PINS = FOLDER / "package-lock.json"
INSTALLED = FOLDER / "node_modules" / "installed.json"
"""The pins by which the clients were installed."""

QUIET = "--loglevel=error"
UNPINNED = ("--no-save", "--no-package-lock")

KEPT = {"@langchain/langgraph-sdk": "^1", "jsdom": "^29"}
"""The first version of the SDK is in use beside the second. jsdom is no client, but the page that
they stand in: later versions need a newer Node.js than the clients do."""


def main(*, latest: bool) -> None:
    pins = PINS.read_text()
    if latest:
        INSTALLED.unlink(missing_ok=True)
        install_newest()
    elif not INSTALLED.is_file() or INSTALLED.read_text() != pins:
        run("ci")
        INSTALLED.write_text(pins)


def install_newest() -> None:
    """Install the newest version of each client that has one, and say which versions stand now."""
    versions = newest()
    if not can_be_installed(*versions.values()):
        for name, version in newest().items():
            if not can_be_installed(version):
                sys.stdout.write(f"{name}: its newest version cannot be installed, its pins are.\n")
                del versions[name]
    run("install", *UNPINNED, *versions.values())
    # It fails where a version is another than the pinned one.
    subprocess.run([*npm(), "ls", "--loglevel=silent", "--depth=0"], cwd=FOLDER, check=False)


def newest() -> dict[str, str]:
    """The newest version of each client, as npm takes it, by the name that the tests know it by."""
    found = {}
    for name, version in json.loads((FOLDER / "package.json").read_text())["dependencies"].items():
        package = version.rpartition("@")[0]  # "npm:<package>", if the name is another
        prefix = f"{package}@" if package else ""
        found[name] = f"{name}@{prefix}{KEPT.get(name, 'latest')}"
    return found


def can_be_installed(*versions: str) -> bool:
    """True if the registry has these versions, and all that they need."""
    command = [*npm(), "install", "--dry-run", "--loglevel=silent", *UNPINNED, *versions]
    tried = subprocess.run(command, cwd=FOLDER, check=False, stdout=subprocess.DEVNULL)
    return tried.returncode == 0


def run(command: str, *arguments: str) -> None:
    subprocess.run([*npm(), command, QUIET, *arguments], cwd=FOLDER, check=True)


if __name__ == "__main__":
    main(latest="--latest" in sys.argv[1:])
