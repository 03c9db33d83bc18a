"""The public names, and what it costs to import them."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import pytest

import assent
from assent.core import errors
from assent.storage import sqlite

REFERENCE = (Path(__file__).parent.parent / "docs" / "reference" / "python.md").read_text(
    encoding="utf-8"
)


def documented(heading: str) -> dict[str, str]:
    """The rows of the table under a heading: the name, and what stands in backticks for it."""
    table = REFERENCE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| `(([A-Za-z_]+).*?)` \|", table, re.MULTILINE)
    return {name: written for written, name in rows}


def test_the_public_names_are_the_documented_ones() -> None:
    assert sorted(assent.__all__) == sorted(documented("name"))
    assert all(hasattr(assent, name) for name in assent.__all__)


@pytest.mark.parametrize(
    "name", [name for name, written in documented("name").items() if "(" in written]
)
def test_the_documented_signatures_are_the_real_ones(name: str) -> None:
    parameters = inspect.signature(getattr(assent, name)).parameters.values()
    # An enum's member is written as the text that it is, which is also taken for it.
    plain = [
        each.replace(default=str(each.default)) if isinstance(each.default, StrEnum) else each
        for each in parameters
    ]
    bare = inspect.Signature(
        [parameter.replace(annotation=inspect.Parameter.empty) for parameter in plain]
    )
    assert documented("name")[name] == f"{name}{bare}".replace("'", '"')


def test_the_documented_kinds_and_errors_exist() -> None:
    assert list(documented("`kind`")) == ["tool", "node", "input", "unknown_outcome"]
    assert all(
        issubclass(getattr(errors, name), assent.AssentError) for name in documented("error")
    )


def test_the_checkpointer_is_where_the_readme_says() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    assert "from assent.storage.sqlite import SqliteSaver" in readme
    assert sqlite.__all__ == ["SqliteSaver", "SqliteStorage"]
    assert all(hasattr(sqlite, name) for name in sqlite.__all__)


def loaded_by(statement: str) -> set[str]:
    """The packages that a new process has loaded after the statement."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    printed = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    return set(json.loads(printed))


def test_whoever_talks_to_a_server_does_not_pay_for_agents() -> None:
    loaded = loaded_by("import assent, assent.client")
    assert "assent" in loaded
    assert {"langgraph", "langchain", "langchain_core", "fastapi", "starlette"}.isdisjoint(loaded)


def test_without_all_of_assent_its_names_say_what_to_install() -> None:
    # None in `sys.modules` is a module that cannot be found.
    statement = (
        "import sys\nsys.modules['langgraph'] = None\n"
        "try: from assent import build_hitl_agent\nexcept ImportError as error: print(error)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", statement], check=True, capture_output=True, text=True
    ).stdout
    assert printed == (
        "'build_hitl_agent' needs all of Assent, and only its client is installed: "
        "pip install assent.\n"
    )


def test_whoever_imports_an_agent_does_not_pay_for_the_server() -> None:
    loaded = loaded_by("from assent import build_hitl_agent")
    assert "langgraph" in loaded
    assert {
        "fastapi",
        "starlette",
        "uvicorn",
        "typer",
        "structlog",
        "aiosqlite",
        "openai",
    }.isdisjoint(loaded)
