"""The plans of every query that a storage makes: none goes through a table that grows, or sorts
it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import combinations
from typing import Any, cast

import pytest

from assent.core.access import APPROVES_ALL, Owner, Sight
from assent.core.approval import ApprovalStatus
from assent.core.audit import AuditAction
from assent.core.rows import UNFINISHED, NotificationStatus, RunStatus, ThreadStatus
from assent.core.sealing import NoSeal
from assent.storage.sqlite import SqliteStorage, database, queries, store
from assent.storage.sqlite.paging import cursor_behind
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.tables import Table, Tables
from assent.storage.sqlite.tails import Tails
from tests.storage.samples import NOON

CURSOR = cursor_behind("2026", "x")
PENDING = (RunStatus.PENDING,)

LISTS: Mapping[str, Mapping[str, Any]] = {
    "threads": {"status": ThreadStatus.IDLE, "cursor": CURSOR},
    "runs": {"thread_id": "t", "status": PENDING},
    "latest_runs": {
        "thread_id": "t",
        "status": PENDING,
        "agent": "a",
        "since": NOON,
        "until": NOON,
        "cursor": CURSOR,
    },
    "ended_runs": {"since": NOON, "cursor": CURSOR},
    "schedules": {"cursor": CURSOR},
    "assistants": {"cursor": CURSOR},
    "approvals": {
        "thread_id": "t",
        "run_id": "r",
        "status": ApprovalStatus.PENDING,
        "agent": "a",
        "tool": "t",
        "before": NOON,
        "cursor": CURSOR,
    },
    "grants": {"cursor": CURSOR},
    "api_keys": {"owner": Owner("ann", "acme"), "cursor": CURSOR},
    "sessions": {"owner": Owner("ann"), "cursor": CURSOR},
    "notifications": {
        "status": NotificationStatus.PENDING,
        "approval_id": "a",
        "cursor": CURSOR,
    },
    "audit": {
        "thread_id": "t",
        "approval_id": "a",
        "actor": "x",
        "action": AuditAction.VOTED,
        "since": NOON,
        "until": NOON,
        "sort": "newest",
        "cursor": "5",
    },
}
"""The lists, and what each can be narrowed by. Those by a role, an assignee or an endpoint are left
out: they are read in their order, and what does not match is passed by."""

FEW = {"thread_id", "run_id", "approval_id"}
"""What has few rows: they are found by it, and not among all that are pending, or of an agent."""

SORTED: Mapping[str, Mapping[str, Any]] = {
    "runs": {"thread_id": "t", "status": UNFINISHED, "due_by": NOON},
    "due_runs": {"now": NOON, "agents": {"a", "b"}},
    "orphaned_runs": {"agents": {"a"}},
    "unfinished_runs": {},
    "open_grants": {"tenant": None, "agent": "a", "tools": ["t"], "now": NOON},
    "usage": {"agent": "a", "since": NOON},
}
"""What is asked of few rows, which are found by indexes and then sorted."""

QUESTIONS: Mapping[str, tuple[Any, ...]] = {
    "thread": ("t",),
    "run": ("r",),
    "newest_event": ("t", "r"),
    "last_seq": ("t",),
    "read_log": ("t", 5),
    "read_log_back": ("t", 5),
    "due_timers": (NOON,),
    "effects": ("t", "c"),
    "due_notifications": ("e", NOON),
    "next_notification": ("e",),
    "next_due": (NOON,),
    "file": ("f",),
    "api_key": ("k",),
    "session": ("s",),
    "file_uses": ("t",),
    "uploads_of": (Owner("ann"),),
    "links_of": ("t",),
    "known_files": (["f"],),
}


class ExplainingReader(Reader):
    """Answers from a database, and notes the plan of each query."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__("plans")
        self._connection = connection
        self.plan: list[str] = []

    async def rows(
        self,
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        most_bytes: int | None = None,
        is_page: bool = False,
    ) -> list[Any]:
        explained = self._connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        self.plan += [detail for *_, detail in explained]
        return self._connection.execute(sql, parameters).fetchall()

    def explain(self, sql: str) -> list[str]:
        """The plan of a statement, whatever its parameters."""
        self.plan = [
            detail
            for *_, detail in self._connection.execute(
                f"EXPLAIN QUERY PLAN {sql}", ["x"] * sql.count("?")
            )
        ]
        return self.plan

    def passes_through(self) -> list[str]:
        """The steps of the plans that go through a whole table, or sort."""
        tables = [
            name
            for (name,) in self._connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name != 'workers'"
            )
        ]
        return [
            step
            for step in self.plan
            if "TEMP B-TREE" in step
            or any(f"{step} ".startswith(f"SCAN {table} ") for table in tables)
        ]


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in database.migrations():
            connection.executescript(migration.sql)
        yield connection


def over(reader: Reader) -> Any:
    """A storage that only reads."""
    none = cast(Any, None)
    tables = Tables(NoSeal())
    rest: Any = (none, NoSeal(), none, tables, none, none, none)
    return SqliteStorage(none, reader, Tails(), *rest, audit_file=none)


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_is_read_in_the_order_of_an_index(
    connection: sqlite3.Connection, name: str
) -> None:
    filters = LISTS[name]
    for count in range(len(filters) + 1):
        for chosen in combinations(filters, count):
            reader = ExplainingReader(connection)
            await getattr(over(reader), name)(**{each: filters[each] for each in chosen})
            found = reader.passes_through()
            if not {*chosen} - {"sort"}:
                # All of it, page by page.
                assert len(reader.plan) <= 2
                found = [step for step in found if not step.startswith("SCAN")]
            assert not found, (chosen, reader.plan)

            of_one_thing = FEW.intersection(chosen)
            if of_one_thing:
                used = [step for step in reader.plan if " INDEX " in step]
                assert any(each in used[0] for each in of_one_thing), (chosen, used)


SIGHTS = {
    "own": Sight("own", Owner("ann", "acme")),
    "own of nobody's": Sight("own", Owner("ann")),
    "an approver's": Sight("own", Owner("ann"), ("lead",), APPROVES_ALL),
    "a tenant's": Sight("tenant", Owner("ann", "acme")),
}

OF_TENANTS = {"notifications", "audit"}
"""Lists of which nobody has something of their own."""


@pytest.mark.parametrize(
    ("name", "sight"),
    [
        (name, sight)
        for name in LISTS
        for sight in SIGHTS
        if name != "ended_runs" and (name not in OF_TENANTS or sight == "a tenant's")
    ],
)
async def test_what_somebody_sees_of_a_list_is_found_by_an_index(
    connection: sqlite3.Connection, name: str, sight: str
) -> None:
    filters = LISTS[name]
    for count in range(len(filters) + 1):
        for chosen in combinations(filters, count):
            reader = ExplainingReader(connection)
            reads = over(reader).seen_by(SIGHTS[sight])
            await getattr(reads, name)(**{each: filters[each] for each in chosen})
            assert not reader.passes_through(), (chosen, reader.plan)
            of_one_thing = FEW.intersection(chosen)
            if of_one_thing:
                used = [step for step in reader.plan if " INDEX " in step]
                assert any(each in used[0] for each in of_one_thing), (chosen, used)


@pytest.mark.parametrize("status", [None, ThreadStatus.IDLE])
@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("by", ["created_at", "updated_at"])
async def test_threads_are_found_in_the_order_of_either_time(
    connection: sqlite3.Connection, by: str, sight: str, status: ThreadStatus | None
) -> None:
    for newest_first in (False, True):
        reader = ExplainingReader(connection)
        order = {"by": by, "newest_first": newest_first, "agent": "a", "status": status}
        await over(reader).seen_by(SIGHTS[sight]).threads(**order)
        assert not reader.passes_through(), reader.plan


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize(
    "name", ["thread", "run", "approval", "file", "schedule", "assistant", "link"]
)
async def test_what_somebody_sees_of_a_row_is_found_by_its_key(
    connection: sqlite3.Connection, name: str, sight: str
) -> None:
    reader = ExplainingReader(connection)
    await getattr(over(reader).seen_by(SIGHTS[sight]), name)("x")
    assert f"{name}_id=?" in reader.plan[0], reader.plan
    assert not reader.passes_through(), reader.plan


@pytest.mark.parametrize("cursor", [None, cursor_behind(5, "x")])
@pytest.mark.parametrize("sight", SIGHTS)
async def test_the_versions_of_an_assistant_are_found_by_it_in_their_order(
    connection: sqlite3.Connection, sight: str, cursor: str | None
) -> None:
    reader = ExplainingReader(connection)
    await over(reader).seen_by(SIGHTS[sight]).assistant_versions("a", cursor=cursor)
    assert not reader.passes_through(), reader.plan
    assert "assistant_versions_by_number (assistant_id=?" in reader.plan[0], reader.plan


@pytest.mark.parametrize("types", [None, {"done"}, {"token", "done"}])
@pytest.mark.parametrize("run_id", [None, "r"])
@pytest.mark.parametrize("back", [False, True], ids=["on", "back"])
async def test_a_log_that_is_seen_is_found_by_its_thread(
    connection: sqlite3.Connection, types: set[str] | None, run_id: str | None, back: bool
) -> None:
    seen, whole = ExplainingReader(connection), ExplainingReader(connection)
    sql = queries.log_page(types, run_id, back=back)
    asked = queries.log_parameters("t", 5, 9, types, run_id)
    await whole.rows(sql, asked)
    await seen.rows(queries.of_seen_thread(sql), {**asked, "tenant": None, "owner": "ann"})
    assert seen.passes_through() == whole.passes_through()
    searches = {step for step in whole.plan if step.startswith("SEARCH")}
    assert searches <= {*seen.plan}
    assert "SEARCH own USING PRIMARY KEY (thread_id=?)" in seen.plan


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_question_is_answered_by_an_index(
    connection: sqlite3.Connection, name: str
) -> None:
    reader = ExplainingReader(connection)
    await getattr(over(reader), name)(*QUESTIONS[name])
    assert reader.plan
    assert not reader.passes_through(), reader.plan


@pytest.mark.parametrize("run_id", [None, "r"])
async def test_the_last_events_of_a_log_are_read_from_its_end(
    connection: sqlite3.Connection, run_id: str | None
) -> None:
    for types in (None, {"token"}):
        reader = ExplainingReader(connection)
        await over(reader).read_log_back("t", types=types, run_id=run_id)
        assert not reader.passes_through(), reader.plan
        assert "SEARCH events USING PRIMARY KEY (thread_id=? AND seq>? AND seq<?)" in reader.plan


@pytest.mark.parametrize("name", SORTED)
async def test_only_what_was_found_by_an_index_is_sorted(
    connection: sqlite3.Connection, name: str
) -> None:
    reader = ExplainingReader(connection)
    await getattr(over(reader), name)(**SORTED[name])
    assert {*reader.passes_through()} <= {
        "USE TEMP B-TREE FOR ORDER BY",
        "USE TEMP B-TREE FOR GROUP BY",
    }
    if name == "runs":
        assert "runs_by_thread_and_status (thread_id=? AND status=?)" in reader.plan[0]


@pytest.mark.parametrize("table", list(Tables(NoSeal())), ids=lambda table: table.name)
async def test_a_row_is_written_by_its_key_and_removed_with_its_thread(
    connection: sqlite3.Connection, table: Table[Any]
) -> None:
    reader = ExplainingReader(connection)
    of_thread = f"SELECT 1 FROM {table.name} WHERE thread_id = ? LIMIT 1"
    for sql in (table.update, table.delete, table.version, of_thread):
        assert reader.explain(sql)[0].startswith(f"SEARCH {table.name} "), (sql, reader.plan)
        assert not reader.passes_through(), (sql, reader.plan)


@pytest.mark.parametrize(
    "sql",
    [
        queries.OLD_LOGS,
        queries.OLD_RUNS,
        queries.STILL_OLD_RUNS,
        queries.IDLE_THREAD,
        queries.SETTLED_THREAD,
        f"SELECT * FROM threads WHERE {queries.IDLE_SINCE} ORDER BY updated_at, thread_id",
        queries.REMOVE_APPROVALS_OF_RUN,
        queries.REMOVE_EFFECTS_OF_RUN,
        queries.REMOVE_RUN,
        queries.REMOVE_GRANTS,
        queries.REMOVE_LINKS,
        queries.REMOVE_SESSIONS,
        queries.REMOVE_TICKETS,
        queries.REMOVE_ANSWERS,
        queries.REMOVE_NOTIFICATIONS,
        queries.RETIRE_SILENT,
        queries.QUEUE_LENGTHS,
        queries.RUNS_BY_STATUS,
        queries.PENDING_APPROVALS,
        queries.UNUSED_FILES,
        queries.REMOVE_FILE,
        store.FIRST_WRITTEN,
        store.LAST_NUMBER,
        store.REMOVE,
        store.REFRESH,
        store.REMOVE_EXPIRED,
        store.BY_KEY,
        store.NAMESPACES,
    ],
)
async def test_what_the_writer_looks_for_is_found_by_an_index(
    connection: sqlite3.Connection, sql: str
) -> None:
    reader = ExplainingReader(connection)
    assert reader.explain(sql)
    assert not reader.passes_through(), reader.plan


async def test_a_search_of_the_store_sorts_no_values(connection: sqlite3.Connection) -> None:
    plan = ExplainingReader(connection).explain(store.NEWEST)
    sorted_at = plan.index("USE TEMP B-TREE FOR ORDER BY")
    # The numbers of one namespace are sorted, from the index alone.
    assert (
        "COVERING INDEX" in plan[sorted_at - 1] and "prefix>? AND prefix<?" in plan[sorted_at - 1]
    )
    assert "SEARCH store_items USING INTEGER PRIMARY KEY (rowid=?)" in plan


async def test_the_runs_whose_events_are_kept_are_those_of_one_thread(
    connection: sqlite3.Connection,
) -> None:
    plan = ExplainingReader(connection).explain(queries.KEPT_RUNS)
    searches = [step for step in plan if step.startswith("SEARCH")]
    assert [step.partition(" (")[2] for step in searches] == [
        "thread_id=? AND status=?)",
        "thread_id=?)",
    ]
