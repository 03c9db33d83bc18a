"""Databases of released versions, opened by the Assent of today: nothing of them is lost, and what
waited for a person is decided. And the schemas that they have, which nobody changes any more."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from hashlib import sha256
from importlib import resources
from pathlib import Path

import pytest

from assent.storage.sqlite import SqliteStorage, database
from tests.storage.released import AUDIT_KEY, FOLDER, made_again
from tests.support.server import asking, serving

RELEASED = sorted(FOLDER.glob("*.sql"))

FROZEN = {
    "0001_schema.sql": "c3b6ac936b9c5c8190bdba914bd9fc8de5c40764412a2dd77367157097a8a507",
    "0002_store.sql": "0992000cf1bfb97ed56fdee72a19e19668b317d2e887741d900aa572ff79ee61",
    "0003_files.sql": "e5abc0d2337f2fb198552e1ed57eb1117ae434d0d96b1e131986f859ea5bde82",
    "0004_owners.sql": "3fd063b9b14beac8b38e818ef1ec4ba9c7423a3f8723cc023b019c5ac849fc5a",
    "0005_clients.sql": "f6a720ae309126548c47a2ebf40f681f70532b7ab27d0203ab560c6c64c33783",
}
"""The migrations that a released version has, with the SHA-256 of each."""


@pytest.mark.parametrize("name", FROZEN)
def test_a_released_migration_is_never_changed(name: str) -> None:
    folder = resources.files(database.__package__) / "migrations"
    assert sha256((folder / name).read_bytes()).hexdigest() == FROZEN[name], (
        f"Databases out there have the schema of {name} as it was. Add a migration beside it."
    )


def schema_of(path: Path) -> list[tuple[str, str, str]]:
    """All that the database is made of: kind, name, statement without its white space."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master")
        return sorted((kind, name, " ".join(sql.split())) for kind, name, sql in rows)


@pytest.mark.parametrize("number", [step.number for step in database.migrations()][:-1])
async def test_a_database_of_each_schema_becomes_as_a_new_one(number: int, tmp_path: Path) -> None:
    older, newer = tmp_path / "older.db", tmp_path / "newer.db"
    steps = database.migrations()[:number]
    older.write_bytes(database.new_database(steps, page_size=4096))
    for path in (older, newer):
        async with SqliteStorage.open(path):
            pass
    assert schema_of(older) == schema_of(newer)


@pytest.mark.parametrize("dump", RELEASED, ids=lambda dump: dump.stem)
async def test_what_a_released_version_stored_goes_on(dump: Path, tmp_path: Path) -> None:
    made_again(dump, tmp_path / "assent.db")
    with serving(tmp_path, ASSENT_AUDIT_KEY=AUDIT_KEY) as server:
        async with asking(server) as api:
            titles = {
                each["thread_id"]: each["title"] for each in (await api.get("/threads"))["threads"]
            }
            assert titles == {
                "over": "How many records are there?",
                "waiting": "Delete all records older than 2015",
                "rejected": "Delete all records older than 2010",
            }
            assert "3000 records" in await api.last_words("over")
            (rejected,) = (await api.get("/approvals", thread_id="rejected", status="rejected"))[
                "approvals"
            ]
            assert rejected["decision"]["message"] == "Keep them."
            assert len((await api.get("/schedules"))["schedules"]) == 1
            assert len((await api.get("/grants"))["grants"]) == 1

            await api.decided("waiting", type="approve")
            await api.until("waiting", "done")
            verified = await api.get("/audit/verify")
            assert (verified["broken"], verified["unchecked"]) == (None, {})
        assert server.sql("PRAGMA user_version") == [(len(database.migrations()),)]
