"""`assent owners move`, in the file of a server that is stopped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assent.cli.app import app
from assent.core.access import Owner
from assent.runs.transitions import new_thread
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import NOON


def owners(folder: Path, *arguments: str, code: int = 0) -> Result:
    """Run `assent owners move` in this process."""
    environment = {"ASSENT_DATABASE": f"sqlite:///{folder / 'assent.db'}"}
    runner = CliRunner(
        env={name: None for name in os.environ if name.startswith("ASSENT_")} | environment
    )
    ended = runner.invoke(app, ["owners", "move", *arguments])
    assert ended.exit_code == code, ended.output
    return ended


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        await storage.commit(Change(rows=(new_thread("t", Owner("local"), {}, NOON),)))
    return tmp_path


def test_what_was_made_without_keys_is_given_to_somebody(folder: Path) -> None:
    told = owners(folder, "local", "ann", "--tenant", "acme").output
    assert "'ann' has 1 thread(s), 0 schedule(s), 0 upload(s), 0 standing grant(s) and" in told
    assert "0 thread(s)" in owners(folder, "local", "ann", "--tenant", "acme").output
    back = owners(folder, "ann", "bob", "--from-tenant", "acme")
    assert "'bob' has 1 thread(s)" in back.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("local", "local"), "has all that already"),
        (("ann", "local"), "Nobody can be called"),
        (("local", "a\nb"), "Nobody can be called"),
        (("local", "ann", "--tenant", "a/b"), "A tenant's name is"),
    ],
)
def test_nonsense_is_refused(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    assert told in owners(folder, *arguments, code=2).output


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    assert "There is no database" in owners(tmp_path, "local", "ann", code=2).output
    assert not [*tmp_path.iterdir()]


async def test_a_server_that_works_is_left_alone(folder: Path) -> None:
    async with SqliteStorage.open(folder / "assent.db") as storage:
        assert "Stop it first" in owners(folder, "local", "ann", code=1).output
        assert await storage.thread("t") == new_thread("t", Owner("local"), {}, NOON)
