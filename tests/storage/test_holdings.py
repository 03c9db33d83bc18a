"""What people and tenants have, as the file counts it: always what is there."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from assent.core.rows import File, RunStatus, ThreadStatus
from assent.core.sealing import NoSeal
from assent.storage.sqlite import database
from assent.storage.sqlite.tables import Tables
from tests.storage.samples import NOON, assistant, assistant_version, run, thread
from tests.support.rows import replace

TABLES = Tables(NoSeal())
TENANTS = (None, "acme", "other")
PEOPLE = ("ann", "bob", "")

COUNTED = """
    SELECT ifnull(tenant, ''), owner, 'threads', count(*) FROM threads GROUP BY 1, 2
    UNION ALL
    SELECT ifnull(tenant, ''), owner, 'pending', count(*) FROM runs WHERE status = 'pending'
    GROUP BY 1, 2
    UNION ALL SELECT ifnull(tenant, ''), owner, 'file_bytes', sum(size) FROM files GROUP BY 1, 2
    UNION ALL
    SELECT ifnull(tenant, ''), owner, 'assistants', count(*) FROM assistant_versions GROUP BY 1, 2
"""


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in database.migrations():
            connection.executescript(migration.sql)
        yield connection


def upload(file_id: str, **changes: Any) -> File:
    made = File(
        file_id=file_id,
        owner="ann",
        created_at=NOON,
        mime_type="text/plain",
        size=7,
        sha256="0",
        name="a",
    )
    return replace(made, **changes)


def held(connection: sqlite3.Connection) -> tuple[set[Any], set[Any]]:
    """What the people have, and what the tenants have, as it is counted along."""
    rows = connection.execute("SELECT * FROM holdings WHERE amount != 0").fetchall()
    own = {row for row in rows if not row[2].startswith("tenant_")}
    whole = {
        (tenant, kind.removeprefix("tenant_"), amount)
        for tenant, _, kind, amount in rows
        if kind.startswith("tenant_")
    }
    return own, whole


def counted(connection: sqlite3.Connection) -> tuple[set[Any], set[Any]]:
    """The same, counted anew."""
    columns = "tenant, owner, kind, amount"
    own = connection.execute(f"WITH c ({columns}) AS ({COUNTED}) SELECT * FROM c").fetchall()
    whole = connection.execute(
        f"WITH c ({columns}) AS ({COUNTED}) SELECT tenant, kind, sum(amount) FROM c GROUP BY 1, 2"
    ).fetchall()
    return set(own), set(whole)


@pytest.mark.parametrize("seed", range(3))
def test_what_somebody_has_is_what_is_there(connection: sqlite3.Connection, seed: int) -> None:
    choice = random.Random(seed)
    makers = (
        lambda key: thread(key, status=choice.choice(list(ThreadStatus))),
        lambda key: run(key, status=choice.choice(list(RunStatus)), thread_id="t"),
        lambda key: upload(key, size=choice.randrange(1, 99)),
        lambda key: assistant_version(f"{int(key) % 3}:{key}"),
        lambda key: assistant(f"{int(key) % 3}"),
    )
    for _ in range(300):
        key = f"{choice.randrange(12)}"
        row: Any = choice.choice(makers)(key)
        row = replace(row, tenant=choice.choice(TENANTS), owner=choice.choice(PEOPLE))
        table = TABLES.of(row)
        key = table.key_of(row)
        stored = connection.execute(table.version, (key,)).fetchone()
        if stored is None:
            connection.execute(table.insert, table.encode(row))
        elif choice.random() < 0.4:
            connection.execute(table.delete, (key, stored[0]))
        else:
            row = replace(row, version=stored[0] + 1)
            connection.execute(table.update, (*table.encode(row), key, stored[0]))
        assert held(connection) == counted(connection)
    assert any(amount > 1 for *_, amount in held(connection)[0])


def test_what_was_there_before_is_counted(connection: sqlite3.Connection) -> None:
    for row in (thread("t"), thread("u"), thread("v", owner="bob")):
        row = replace(row, tenant=None)
        connection.execute(TABLES.threads.insert, TABLES.threads.encode(row))
    for each in (run("r", status=RunStatus.PENDING), run("s")):
        each = replace(each, tenant=None)
        connection.execute(TABLES.runs.insert, TABLES.runs.encode(each))
    for file in (upload("f"), upload("g", owner="bob")):
        connection.execute(TABLES.files.insert, TABLES.files.encode(file))
    connection.execute("DELETE FROM holdings")

    (step,) = (each for each in database.migrations() if each.name == "owners")
    for statement in step.sql.split("CREATE VIEW changed_holdings")[0].split(";"):
        if "INSERT INTO holdings" in statement:
            connection.execute(statement)
    assert held(connection) == counted(connection)
    assert ("", "ann", "threads", 2) in held(connection)[0]
