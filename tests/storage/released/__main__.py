"""Writes a database as this version makes it, as text, when the version is released:

    python -m tests.storage.released 0.1.0

A real server makes it: a conversation that is over, one that waits for a person, a schedule, a
standing grant. `tests/storage/test_released.py` opens every such database with the Assent of today.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.storage.released import AUDIT_KEY, FOLDER
from tests.support.server import asking, expect, serving

SCHEDULE = {"message": "How many records are there?", "cron": "0 9 * * *"}
GRANT = {
    "agent": "clerk",
    "tool": "update_record",
    "bounds": {"field": {"among": ["notes"]}, "id": {"any": True}, "value": {"any": True}},
    "user": "local",
    "uses": 3,
    "until": "2126-01-01T00:00:00Z",
}


async def make(folder: Path) -> None:
    """A database with something of everything, in the folder."""
    with serving(folder, ASSENT_AUDIT_KEY=AUDIT_KEY) as server:
        async with asking(server) as api:
            await api.stream("How many records are there?", thread_id="over")
            await api.stream("Delete all records older than 2015", thread_id="waiting")
            await api.stream("Delete all records older than 2010", thread_id="rejected")
            await api.decided("rejected", type="reject", message="Keep them.")
            await api.until("rejected", "done")
            for path, body in (("/schedules", SCHEDULE), ("/grants", GRANT)):
                await expect(await api.http.post(path, json=body), 201)


def dumped(database: Path) -> str:
    """The database as the statements that make it again."""
    with closing(sqlite3.connect(database)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        statements = "\n".join(connection.iterdump())
    return (
        f"PRAGMA application_id = {application};\nPRAGMA user_version = {version};\n{statements}\n"
    )


def main(version: str) -> None:
    """Write the database of this version."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        asyncio.run(make(folder))
        text = dumped(folder / "assent.db")
    (FOLDER / f"{version}.sql").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
