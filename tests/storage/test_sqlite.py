"""What is particular to SQLite: the file, its lock, its schema, and what a crash or a full disk
leaves."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assent.core.clock import Clock
from assent.core.errors import ConfigurationError, Unavailable
from assent.core.rows import FileUse, RunStatus
from assent.core.sealing import NoSeal
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage, database
from assent.storage.sqlite.tables import Table, Tables
from tests.storage.samples import NOON, run, thread, token
from tests.support.disk import files_at_most, small_disk
from tests.support.waiting import until


def fail(error: Exception) -> None:
    raise error


def sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Run statements as another program would; return the rows of the last."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def holds(path: Path, text: bytes) -> bool:
    return text in path.read_bytes()


# ── opening ──


OPENER = """
import asyncio, sys
from assent.storage.sqlite import SqliteStorage
from assent.core.errors import ConfigurationError
async def main():
    async with SqliteStorage.open(sys.argv[1]):
        print("opened")
try:
    asyncio.run(main())
except ConfigurationError as error:
    print(error)
"""


def open_elsewhere(path: Path) -> str:
    """What a second process says that opens the file."""
    return subprocess.run(
        [sys.executable, "-c", OPENER, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout


async def test_a_second_server_on_the_same_file_refuses_to_start(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        said = open_elsewhere(path)
        assert str(path) in said
        assert "open in another Assent process" in said
        (path.parent / "sub").mkdir()
        with pytest.raises(ConfigurationError, match="open in another Assent process"):
            async with SqliteStorage.open(path.parent / "sub" / ".." / path.name):
                pass
        await storage.commit(Change(rows=(thread(),)))
    assert open_elsewhere(path) == "opened\n"


LOOKER = """
import sys
from pathlib import Path
from assent.storage.sqlite.database import is_held
path = Path(sys.argv[1])
is_held(path)
print("looking", flush=True)
while True:
    is_held(path)
"""


def test_a_checkup_beside_it_keeps_no_server_from_starting(path: Path) -> None:
    """Whoever looks whether the lock is held holds it for a moment."""
    with database.opened(path, Clock()):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", LOOKER, str(path)], stdout=subprocess.PIPE
    ) as looker:
        assert looker.stdout is not None
        looker.stdout.readline()
        try:
            for _ in range(50):
                with database.opened(path, Clock()):
                    pass
        finally:
            looker.kill()


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


async def test_only_the_owner_can_read_the_files(path: Path) -> None:
    with umask(0):
        async with SqliteStorage.open(path) as storage:
            await storage.commit(Change(rows=(thread(),)))
            modes = {
                file.name: stat.filemode(file.stat().st_mode) for file in path.parent.iterdir()
            }
    names = {"assent.db", "assent.db-wal", "assent.db-shm", "assent.db.lock", "assent.db.audit-key"}
    assert modes == dict.fromkeys(names, "-rw-------")


async def test_what_was_written_is_there_after_a_restart(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),), events=(token(), token())))
    async with SqliteStorage.open(str(path)) as storage:
        assert await storage.thread("t") == thread()
        assert await storage.commit(Change(events=(token(),))) == (3,)


async def test_numbers_go_on_after_an_erasure_and_a_restart(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),), events=(token(), token())))
        await storage.commit(Change(erase="t"))
    async with SqliteStorage.open(path) as storage:
        assert await storage.commit(Change(events=(token(),))) == (3,)


async def test_an_erased_thread_leaves_no_trace_in_the_file(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(
            Change(
                rows=(thread(metadata={"k": "secret-in-a-row"}),),
                events=(token("t", "secret-in-an-event"),),
            )
        )
        await storage.commit(Change(erase="t"))
    assert not holds(path, b"secret-in")


def test_the_writer_loses_nothing_that_it_acknowledged(path: Path) -> None:
    with database.connected(path, Clock()) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"nowhere/assent\.db cannot be opened: No such file or directory"
    ):
        async with SqliteStorage.open(tmp_path / "nowhere" / "assent.db"):
            pass


async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be opened: Is a directory"):
        async with SqliteStorage.open(tmp_path):
            pass


@pytest.fixture
def diary(path: Path) -> Path:
    """A file that is no database."""
    path.write_text("Dear diary, " * 1000)
    return path


async def test_a_file_that_is_no_database_is_refused_and_left_alone(
    path: Path, diary: Path
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"assent\.db cannot be used as a database: file is not a database"
    ):
        async with SqliteStorage.open(path):
            pass
    assert holds(diary, b"Dear diary, " * 1000)
    assert [file.name for file in path.parent.iterdir()] == ["assent.db"]


async def test_another_programs_database_is_refused(path: Path) -> None:
    sql(path, "CREATE TABLE threads (id)")
    with pytest.raises(ConfigurationError, match="database of another program"):
        async with SqliteStorage.open(path):
            pass
    assert sql(path, "SELECT name FROM sqlite_master") == [("threads",)]
    assert [file.name for file in path.parent.iterdir()] == ["assent.db"]


async def test_a_start_that_fails_half_way_lets_go_of_the_file(path: Path, diary: Path) -> None:
    with pytest.raises(ConfigurationError):
        async with SqliteStorage.open(path):
            pass
    await asyncio.to_thread(diary.unlink)
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),)))


# ── the schema ──


async def test_migrations_are_numbered_applied_once_and_recorded(path: Path) -> None:
    steps = database.migrations()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    for _ in range(2):
        async with SqliteStorage.open(path, Clock(now=lambda: NOON)):
            pass
    assert sql(path, "PRAGMA user_version") == [(steps[-1].number,)]
    recorded = sql(path, "SELECT number, name, applied_at FROM migrations ORDER BY number")
    assert recorded == [(step.number, step.name, "2026-01-02T12:00:00.123456Z") for step in steps]


async def test_an_empty_database_of_other_pages_becomes_ours(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA page_size = 8192; VACUUM;")
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),)))
    assert sql(path, "PRAGMA page_size") == [(8192,)]


async def test_a_database_of_a_newer_assent_is_refused(path: Path) -> None:
    async with SqliteStorage.open(path):
        pass
    sql(path, "PRAGMA user_version = 999")
    with pytest.raises(ConfigurationError, match=r"written by a newer Assent \(schema 999"):
        async with SqliteStorage.open(path):
            pass


NEWEST = len(database.migrations())


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make these statements the migration after the newest one."""
    steps = database.migrations()
    number = steps[-1].number + 1

    def add(statements: str) -> None:
        added = database.Migration(number, "made_up", statements)
        monkeypatch.setattr(database, "migrations", lambda: (*steps, added))

    return add


async def test_the_next_start_applies_the_next_migration_and_keeps_what_is_there(
    path: Path, second: Callable[[str], None]
) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),), events=(token(),)))
    second("ALTER TABLE threads ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';")
    for _ in range(2):
        async with SqliteStorage.open(path, Clock(now=lambda: NOON)) as storage:
            assert await storage.thread("t") == thread()
            assert await storage.last_seq("t") == 1
            await storage.commit(Change(events=(token("later"),)))
    assert sql(path, "SELECT colour FROM threads") == [("red",)]
    assert sql(path, "PRAGMA user_version") == [(NEWEST + 1,)]
    assert sql(path, "SELECT name, applied_at FROM migrations ORDER BY number")[NEWEST:] == [
        ("made_up", "2026-01-02T12:00:00.123456Z")
    ]
    # The copy is of the moment before, and a start without a migration makes none.
    copy = path.with_name(f"assent.db.schema-{NEWEST}")
    assert stat.filemode(copy.stat().st_mode) == "-rw-------"
    assert sql(copy, "PRAGMA user_version") == [(NEWEST,)]
    assert sql(copy, "SELECT thread_id FROM threads") == [("t",)]
    assert sql(copy, "SELECT count(*) FROM events") == [(1,)]


async def test_without_a_copy_there_is_no_migration(
    path: Path, second: Callable[[str], None]
) -> None:
    async with SqliteStorage.open(path):
        pass
    # Nothing can take the place of a folder.
    path.with_name(f"assent.db.schema-{NEWEST}").mkdir()
    second("CREATE TABLE colours (name TEXT);")
    with pytest.raises(ConfigurationError, match=rf"cannot be copied to .*schema-{NEWEST}"):
        async with SqliteStorage.open(path):
            pass
    assert sql(path, "PRAGMA user_version") == [(NEWEST,)]
    assert {file.name for file in path.parent.iterdir()} == {
        *("assent.db", "assent.db.lock", "assent.db.audit-key", f"assent.db.schema-{NEWEST}")
    }


async def test_a_migration_that_fails_changes_nothing(
    path: Path, second: Callable[[str], None]
) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),)))
    second("CREATE TABLE colours (name TEXT);\nCREATE TABLE events (name TEXT);")
    with pytest.raises(ConfigurationError, match="table events already exists"):
        async with SqliteStorage.open(path):
            pass
    assert sql(path, "SELECT count(*) FROM sqlite_master WHERE name = 'colours'") == [(0,)]
    assert sql(path, "PRAGMA user_version") == [(NEWEST,)]
    assert sql(path, "SELECT max(number) FROM migrations") == [(NEWEST,)]
    second("CREATE TABLE colours (name TEXT);")
    async with SqliteStorage.open(path) as storage:
        assert await storage.thread("t") == thread()


@pytest.mark.parametrize("table", list(Tables(NoSeal())), ids=lambda table: table.name)
async def test_each_table_has_the_columns_of_its_row(path: Path, table: Table[Any]) -> None:
    async with SqliteStorage.open(path):
        pass
    found = sql(path, f"SELECT name FROM pragma_table_info('{table.name}')")
    # In no order: in the file the small columns come first.
    assert {name for (name,) in found} == set(table.selected)


async def test_nobody_who_ran_something_lives_after_a_start(path: Path) -> None:
    active = run(status=RunStatus.RUNNING, worker="w")
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(active,)))
        await storage.heartbeat("w", agents={"clerk"})
        assert await storage.orphaned_runs(agents={"clerk"}) == ()
    async with SqliteStorage.open(path) as storage:
        assert await storage.orphaned_runs(agents={"clerk"}) == (active,)


# ── failing and ending ──


async def test_everything_queued_is_committed_before_closing(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        for _ in range(5000):
            storage.append([token()], fail)
    async with SqliteStorage.open(path) as storage:
        assert await storage.last_seq("t") == 5000


async def test_a_closed_storage_refuses_everybody(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),)))
    with pytest.raises(Unavailable, match="shutting down"):
        await storage.commit(Change())
    with pytest.raises(Unavailable, match="shutting down"):
        await storage.thread("t")
    errors: list[Exception] = []
    storage.append([token()], errors.append)
    await asyncio.sleep(0.01)
    assert [type(error) for error in errors] == [Unavailable]


async def back(storage: SqliteStorage) -> None:
    """Wait until the storage takes changes again."""
    await until(lambda: storage.outage() is None)


async def test_while_a_file_cannot_grow_changes_are_refused_and_events_wait(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),), events=(token(),)))
        with files_at_most(path.with_name("assent.db-wal").stat().st_size + 10_000):
            storage.append([token("t", "x" * 50_000)], fail)
            with pytest.raises(Unavailable, match=r"assent\.db cannot serve"):
                await storage.commit(
                    Change(
                        rows=(
                            replace(thread(), version=2),
                            thread("big", metadata={"k": "x" * 50_000}),
                        ),
                        events=(token(),),
                    )
                )
            assert await storage.thread("t") == thread()
            assert await storage.last_seq("t") == 1
        await back(storage)
        assert await storage.commit(
            Change(rows=(replace(thread(), version=2),), events=(token(),))
        ) == (3,)
        assert sql(path, "PRAGMA integrity_check") == [("ok",)]


def cut_off_checkpoint(whole: Path, left: Path) -> None:
    """Leave what a full disk or a kill does that stops a checkpoint after the first page, given the
    file as the whole checkpoint would leave it."""
    page = whole.read_bytes()[:4096]
    assert left.stat().st_size == len(page)
    left.write_bytes(page)


async def test_a_start_reads_what_a_cut_off_checkpoint_left(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "left"
    folder.mkdir()
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),), events=(token(),)))
        for file in path.parent.glob("assent.db*"):
            shutil.copy(file, folder)
    left = folder / path.name
    cut_off_checkpoint(path, left)
    async with SqliteStorage.open(left) as storage:
        assert await storage.thread("t") == thread()
        assert await storage.last_seq("t") == 1


async def test_a_start_while_nothing_can_be_written_says_why_and_changes_nothing(
    path: Path,
) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.heartbeat("w", agents={"clerk"})
    with files_at_most(0), pytest.raises(ConfigurationError) as refused:
        async with SqliteStorage.open(path):
            pass
    assert str(refused.value) == (
        f"The database {path} cannot serve: the disk failed to read or write. Check the disk, and "
        "the system's log. Then start again."
    )
    async with SqliteStorage.open(path) as storage:
        assert await storage.thread("t") is None


# ── a disk of its own ──


async def test_a_full_disk_takes_nothing_back_and_serves_again_when_there_is_room(
    path: Path,
) -> None:
    with small_disk(path.parent, "3m") as resize:
        async with SqliteStorage.open(path) as storage:
            written = 0
            with pytest.raises(
                Unavailable, match=r"assent\.db cannot serve: .*(full|failed to read or write)"
            ):
                while written < 1000:
                    storage.append([token("t", "x" * 10_000)], fail)
                    await storage.commit(
                        Change(rows=(thread(f"t{written}"),), events=(token("t", "y"),))
                    )
                    written += 1
            assert 20 < written < 1000
            # The append that shared the transaction may have come through by itself.
            stored = await storage.last_seq("t")
            assert stored in (2 * written, 2 * written + 1)
            assert [entry.seq for entry in await storage.read_log("t", limit=10_000)] == list(
                range(1, stored + 1)
            )
            assert await storage.thread(f"t{written}") is None
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await storage.commit(Change(events=(token("t", "x" * 100_000),)))
            resize("20m")
            await back(storage)
            assert await storage.commit(
                Change(rows=(thread(f"t{written}"),), events=(token("t", "x" * 100_000),))
            ) == (2 * written + 2,)
            assert sql(path, "PRAGMA integrity_check") == [("ok",)]
        async with SqliteStorage.open(path) as storage:
            assert await storage.last_seq("t") == 2 * written + 2


async def test_a_file_that_may_only_be_read_takes_nothing_and_serves_again(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(),), events=(token(),)))
        connection = storage._writer._connection
        connection.execute("PRAGMA query_only = ON")
        storage.append([token()], fail)
        with pytest.raises(
            Unavailable,
            match=r"assent\.db cannot serve: it may only be read\. Check the permissions",
        ):
            await storage.commit(Change(rows=(replace(thread(), version=2),), events=(token(),)))
        assert await storage.thread("t") == thread()
        assert await storage.last_seq("t") == 1
        connection.execute("PRAGMA query_only = OFF")
        await back(storage)
        assert await storage.commit(
            Change(rows=(replace(thread(), version=2),), events=(token(),))
        ) == (3,)


@contextmanager
def may_only_be_read(path: Path) -> Iterator[None]:
    """Take away the right to write the file. Root has it whatever the file says, so for root the
    disk is made read-only."""
    if os.getuid():
        path.chmod(0o400)
        yield
        path.chmod(0o600)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(path.parent)], check=True)
        yield
        subprocess.run(["mount", "-o", "remount,rw", str(path.parent)], check=True)


async def test_a_start_on_a_file_that_may_only_be_read_says_so_and_changes_nothing(
    path: Path,
) -> None:
    with small_disk(path.parent, "9m") if os.getuid() == 0 else nullcontext():
        async with SqliteStorage.open(path) as storage:
            await storage.commit(Change(rows=(thread(),)))
        with (
            may_only_be_read(path),
            pytest.raises(
                ConfigurationError, match=r"assent\.db cannot be opened: (Permission|Read)"
            ),
        ):
            async with SqliteStorage.open(path):
                pass
        async with SqliteStorage.open(path) as storage:
            assert await storage.thread("t") == thread()


async def test_uses_of_uploads_are_found_where_there_were_none_before(path: Path) -> None:
    use = FileUse(use_id="f:t", file_id="f", thread_id="t")
    async with SqliteStorage.open(path) as storage:
        assert await storage.file_uses("t") == ()
        await storage.commit(Change(rows=(thread("t"), use)))
        assert await storage.file_uses("t") == (use,)
        assert await storage.file_uses("u") == ()
    async with SqliteStorage.open(path) as storage:
        assert await storage.file_uses("t") == (use,)
