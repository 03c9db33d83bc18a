"""The client's own distribution: it is built from this repository, and works where nothing else of
Assent is, and no LangGraph."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from assent.cli.distributions import of_one_version
from assent.core.errors import ConfigurationError
from tests.support.command import REPOSITORY
from tests.support.server import scripted_agents, serving
from tests.support.waiting import PATIENCE

PROJECT = REPOSITORY / "packages" / "client"
BIN = Path(sys.executable).parent

ALONE = """
import importlib, json, sys
from pathlib import Path
import assent

for name in ("langgraph", "langchain_core", "fastapi", "cryptography"):
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    sys.exit(f"{name} is there")

root = Path(assent.__file__).parent
for path in root.rglob("*.py"):
    module = ".".join(("assent", *path.relative_to(root).with_suffix("").parts))
    importlib.import_module(module.removesuffix(".__init__"))

try:
    from assent import build_hitl_agent
except ImportError as error:
    print(error)
"""

TALK = """
import asyncio, sys
from assent import Approve, Reject
from assent.client import Client, SyncClient

url = sys.argv[1]

async def talk():
    async with Client(url, trust_env=False) as client:
        *_, last = [event async for event in client.stream("pay 5", thread_id="async")]
        (approval,) = [each async for each in client.approvals.list(thread_id="async")]
        assert last.approvals == (approval.approval_id,)
        outcome = await client.approvals.decide(approval, Approve())
        print((await client.runs.wait(outcome.run_id)).output)
        for transport in ("sse", "websocket", "poll"):
            async for heard in client.watch(thread_id="async", transport=transport):
                if heard.type == "done":
                    print(transport)
                    break

asyncio.run(talk())
with SyncClient(url, trust_env=False) as client:
    *_, last = client.stream("pay 6", thread_id="sync")
    (approval,) = client.approvals.list(thread_id="sync")
    *_, last = client.resume("sync", {approval.approval_id: Reject(message="No.")})
    for transport in ("sse", "websocket", "poll"):
        for heard in client.watch(thread_id="sync", transport=transport):
            if heard.type == "done":
                break
    print(type(last).__name__)
"""


def run(*argv: str | Path, cwd: Path) -> str:
    """What the command writes."""
    command = [*map(str, argv)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(project: Path, folder: Path) -> Path:
    """The wheel of the project."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=project)
    (wheel,) = folder.glob("*.whl")
    return wheel


def needed(requirements: Iterator[str] | list[str], found: set[str]) -> set[str]:
    """The names of these requirements, and of all that they require."""
    for requirement in map(Requirement, requirements):
        is_meant = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_meant and requirement.name not in found:
            found.add(requirement.name)
            needed(distribution(requirement.name).requires or [], found)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(PROJECT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The interpreter of an environment with the wheel and what it requires, which is taken from
    this environment: no index is asked."""
    folder = tmp_path_factory.mktemp("alone")
    run(
        BIN / "uv",
        "venv",
        "--quiet",
        "--offline",
        "--python",
        sys.executable,
        folder / "env",
        cwd=folder,
    )
    python = folder / "env" / "bin" / "python"
    run(
        BIN / "uv",
        "pip",
        "install",
        "--offline",
        "--no-deps",
        "--python",
        python,
        wheel,
        cwd=folder,
    )
    (site,) = folder.glob("env/lib/python*/site-packages")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for name in needed(project["dependencies"], set()):
        of_it = distribution(name)
        for top in {path.parts[0] for path in of_it.files or () if path.parts[0] != ".."}:
            if not (site / top).exists():
                (site / top).symlink_to(str(of_it.locate_file(top)))
    return python


def test_the_client_works_alone(python: Path, tmp_path: Path) -> None:
    said = run(python, "-I", "-c", ALONE, cwd=tmp_path)
    assert said == (
        "'build_hitl_agent' needs all of Assent, and only its client is installed: "
        "pip install assent.\n"
    )
    with serving(tmp_path, scripted_agents(tmp_path, "agent")) as server:
        said = run(python, "-I", "-c", TALK, server.url, cwd=tmp_path)
    assert said.splitlines() == ["Results: paid 5", "sse", "websocket", "poll", "Done"]


def test_a_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=PROJECT)
    (archive,) = tmp_path.glob("*.tar.gz")
    run("tar", "xzf", archive, cwd=tmp_path)
    again = built(tmp_path / archive.name.removesuffix(".tar.gz"), tmp_path / "again")
    assert files(again) == files(wheel)


def files(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_both_distributions_have_one_version() -> None:
    versions = {
        tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]
        for project in (PROJECT, REPOSITORY)
    }
    assert len(versions) == 1


def test_two_distributions_of_different_versions_are_refused() -> None:
    of_one_version({"assent": "0.1.0"})
    of_one_version({"assent": "0.1.0", "assent-client": "0.1.0"})
    with pytest.raises(ConfigurationError, match=r"assent-client 0\.2\.0 is installed"):
        of_one_version({"assent": "0.1.0", "assent-client": "0.2.0"})
