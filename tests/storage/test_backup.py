"""Copies of a database that is being written to."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from assent.core.access import Owner
from assent.core.clock import Clock
from assent.core.errors import ConfigurationError
from assent.core.rows import ThreadStatus
from assent.runs.uploads import Uploads
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.checkup import Level, check_up
from assent.storage.sqlite.database import back_up
from tests.storage.samples import thread, token
from tests.support.keys import KEY


def hidden(folder: Path) -> list[str]:
    """The names of unfinished copies."""
    return [file.name for file in folder.glob(".*")]


async def test_a_copy_has_all_that_was_committed_before_and_nothing_by_halves(
    tmp_path: Path,
) -> None:
    path, writing = tmp_path / "assent.db", True
    committed = 0

    async def write(storage: SqliteStorage) -> None:
        nonlocal committed
        while writing:
            # Each commit has one event of each of two threads.
            await storage.commit(Change(events=(token("one"), token("two"))))
            committed += 1

    async with SqliteStorage.open(path, audit_key=KEY) as storage:
        rows = tuple(thread(name, status=ThreadStatus.IDLE, pending=()) for name in ("one", "two"))
        await storage.commit(Change(rows=rows))
        task = asyncio.create_task(write(storage))
        for number in range(5):
            before = committed
            copy = tmp_path / f"copy-{number}.db"
            assert (await asyncio.to_thread(back_up, path, copy)).keys == []
            assert stat.filemode(copy.stat().st_mode) == "-rw-------"
            assert Level.WRONG not in {finding.level for finding in check_up(copy)}
            async with SqliteStorage.open(copy, audit_key=KEY) as copied:
                last = await copied.last_seq("one")
                assert before <= last == await copied.last_seq("two") <= committed
        writing = False
        await task
    assert hidden(tmp_path) == []


async def test_a_copy_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path):
        pass
    (tmp_path / "taken").mkdir()
    for copy in (tmp_path / "taken", tmp_path / "nowhere" / "copy.db"):
        with pytest.raises(ConfigurationError, match="cannot be copied to"):
            back_up(path, copy)
    (tmp_path / "text").write_text("This is no database, and was never meant to be one. " * 20)
    with pytest.raises(ConfigurationError, match="cannot be used as a database"):
        back_up(tmp_path / "text", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists() and hidden(tmp_path) == []


async def test_a_copy_is_not_put_beside_what_is_left_of_another_file(tmp_path: Path) -> None:
    path, copy = tmp_path / "assent.db", tmp_path / "copy.db"
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread("one"),)))
        back_up(path, copy)
        with closing(sqlite3.connect(copy, isolation_level=None)) as killed:
            killed.execute("UPDATE threads SET thread_id = 'of another file'")
            log = copy.with_name("copy.db-wal").read_bytes()
        copy.unlink()
        copy.with_name("copy.db-wal").write_bytes(log)
        with pytest.raises(ConfigurationError, match=r"copy\.db-wal is left of another file"):
            back_up(path, copy)
        assert not copy.exists() and hidden(tmp_path) == []
        copy.with_name("copy.db-wal").unlink()
        back_up(path, copy)
    async with SqliteStorage.open(copy, audit_key=KEY) as copied:
        assert await copied.thread("one") == thread("one")


async def test_uploads_are_copied_and_those_that_are_removed_later_stay_in_the_copy(
    tmp_path: Path,
) -> None:
    path, copy = tmp_path / "assent.db", tmp_path / "copy.db"

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a file"

    async with SqliteStorage.open(path, encryption_key=KEY, audit_key=KEY) as storage:
        uploads = Uploads(storage, Clock())
        row = await uploads.add(chunks(), name="a", declared=None, owner=Owner("ada"))
        assert (await asyncio.to_thread(back_up, path, copy)).uploads == 1
        await uploads.remove(row.file_id)
    async with SqliteStorage.open(copy, encryption_key=KEY, audit_key=KEY) as storage:
        assert await storage.file(row.file_id) == row
        assert await storage.files.read(row.file_id) == b"a file"
