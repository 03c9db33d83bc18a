"""The Chromium in which tests open the web page: the one that ASSENT_BROWSER names, or `chromium` of
the PATH, or else the one that `make browser` installs.

`python -m tests.support.browser` installs that one if there is no other.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from filelock import FileLock

from tests.support.node import node, npm

FOLDER = Path(__file__).parents[1] / "web" / "browser"
"""Where npm installs it, packed."""

NONE = (
    "The tests of the web page need Chromium. Install it, as with apt-get install chromium or make "
    "browser, or name one in ASSENT_BROWSER."
)

UNPACK = "import c from '@sparticuz/chromium'; await c.executablePath()"


@cache
def chromium() -> str:
    """The path of the program. Fails the test if there is none."""
    named = os.environ.get("ASSENT_BROWSER")
    if named:
        assert shutil.which(named), f"ASSENT_BROWSER names '{named}', which is no program."
        return named
    found = shutil.which("chromium") or _unpacked()
    assert found is not None, NONE
    return found


def _unpacked() -> str | None:
    """The one that npm has installed. It unpacks itself, once for all tests of this machine."""
    lock = json.loads((FOLDER / "package-lock.json").read_text(encoding="utf-8"))
    version = lock["packages"]["node_modules/@sparticuz/chromium"]["version"]
    folder = Path(gettempdir(), f"assent-chromium-{version}")
    program = folder / "chromium"
    if not program.exists() and (FOLDER / "node_modules").is_dir():
        folder.mkdir(exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            _unpack(folder)
    return str(program) if program.exists() else None


def _unpack(folder: Path) -> None:
    if (folder / "chromium").exists():
        return
    # It would take what is half there for whole.
    with TemporaryDirectory(dir=folder) as beside:
        command = [node(), "--input-type=module", "--eval", UNPACK]
        environment = {**os.environ, "TMPDIR": beside}
        done = subprocess.run(
            command, cwd=FOLDER, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"Chromium could not be unpacked:\n{done.stderr}"
        for path in sorted(Path(beside).iterdir(), key=lambda path: path.name == "chromium"):
            path.rename(folder / path.name)


def install() -> None:
    """Install one with npm, unless there is one."""
    if os.environ.get("ASSENT_BROWSER") or shutil.which("chromium"):
        return
    if not (FOLDER / "node_modules").is_dir():
        print("Installing Chromium for the tests of the web page: once.", flush=True)  # noqa: T201
        command = [*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=FOLDER, check=True)


if __name__ == "__main__":
    install()
