"""Reads the database of LangGraph's own `SqliteSaver` or `AsyncSqliteSaver`. Neither it nor the
files beside it change.

SQLite cannot read a write-ahead log without writing beside it, so a database that has one is copied
first, with its log, and the copy is read. Values are carried over as they are: no object is made of
them, and no code named in them is looked up.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import aiosqlite
import ormsgpack
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from assent.checkpoint.serializer import PLAIN
from assent.core.errors import AssentError, InvalidRequest
from assent.storage.sqlite.checkpoints.tuples import config_of
from assent.storage.sqlite.database import resolved

TABLES = {
    "checkpoints": "thread_id checkpoint_ns checkpoint_id parent_checkpoint_id type "
    "checkpoint metadata",
    "writes": "thread_id checkpoint_ns checkpoint_id task_id idx channel type value",
}
"""The tables of LangGraph's saver, and the columns that every version of it since 2024 has."""

UNMERGED = ("-wal", "-journal")
"""The files beside a database that hold a part of it."""

THREADS = """
    SELECT thread_id, count(*), coalesce(sum(length(checkpoint)), 0),
    max(iif(checkpoint_ns = '', checkpoint_id, NULL))
    FROM checkpoints GROUP BY thread_id ORDER BY thread_id
"""

LINEAGE = """
    SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, coalesce(length(checkpoint), 0)
    FROM checkpoints WHERE thread_id = ? ORDER BY checkpoint_ns, checkpoint_id
"""

WRITES = """
    SELECT task_id, {task_path}, idx, channel, type, value FROM writes
    WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ? ORDER BY task_id, idx
"""

STRAY_WRITES = """
    SELECT DISTINCT checkpoint_ns, checkpoint_id FROM writes w
    WHERE thread_id = ? AND NOT EXISTS (
        SELECT 1 FROM checkpoints c WHERE (c.thread_id, c.checkpoint_ns, c.checkpoint_id)
        = (w.thread_id, w.checkpoint_ns, w.checkpoint_id)
    )
"""

Stamps = dict[str, tuple[int, int]]
"""By file: its size, and the time of its last change."""


class Unreadable(AssentError):
    """Something in the old file cannot be read."""


class Carrier(JsonPlusSerializer):
    """Reads plain data, and leaves whatever would become an object as its bytes, which are the same
    when they are written again."""

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=None)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, body = data
        if kind not in PLAIN:
            raise Unreadable(
                f"A value is encoded as {kind!r}, and only what LangGraph writes without "
                "encryption and pickle is read."
            )
        if kind != "msgpack":
            return super().loads_typed(data)
        try:
            return ormsgpack.unpackb(
                body, ext_hook=ormsgpack.Ext, option=ormsgpack.OPT_NON_STR_KEYS
            )
        except ValueError:
            raise Unreadable("A value is damaged.") from None


@dataclass(frozen=True, slots=True)
class OldThread:
    """A thread of the old file: how many checkpoints it has, their size in bytes, and the latest of
    its root namespace."""

    thread_id: str
    checkpoints: int
    size: int
    head: str | None


class OldWrite(NamedTuple):
    """A task's write to a channel, with its index among the task's writes."""

    task_id: str
    task_path: str
    idx: int
    channel: str
    value: Any


def must_be_copied(path: Path) -> bool:
    """True if a log stands beside the database, which SQLite cannot read without writing there."""
    return len(_parts(path)) > 1


class OldFile:
    """The old database. Made by `open`. Of a thread, never more than one checkpoint is in
    memory."""

    def __init__(
        self,
        path: Path,
        connection: aiosqlite.Connection,
        *,
        copy: Path | None,
        stamps: Stamps,
        has_path: bool,
    ) -> None:
        self.path = path
        self.copy = copy
        self.size = sum(each.stat().st_size for each in _parts(path))
        self._connection = connection
        self._carrier = Carrier()
        self._saver = AsyncSqliteSaver(connection, serde=self._carrier)
        self._stamps = stamps
        self._writes = WRITES.format(task_path="task_path" if has_path else "''")

    @classmethod
    @asynccontextmanager
    async def open(cls, path: str | Path, *, near: Path, prefix: str) -> AsyncIterator[OldFile]:
        """Open the database at `path`. If it has to be copied, the copy is made in the folder
        `near` and removed at the end.

        Raises `InvalidRequest` if there is no such file, or it is not of LangGraph's saver;
        `AssentError` if it is being written to.
        """
        path = resolved(path)
        _check_header(path)
        with ExitStack() as stack:
            stamps, copy, uri = _stamps(path), None, f"{path.as_uri()}?mode=ro&immutable=1"
            if must_be_copied(path):
                with _copying(path):
                    # Not in the system's folder for temporary files: that may be in memory, and the
                    # copy may be large.
                    scratch = TemporaryDirectory(prefix=prefix, dir=near)
                    copy = Path(stack.enter_context(scratch))
                    copied = await asyncio.to_thread(_copied, path, copy)
                uri = f"{copied.as_uri()}?mode=rw"
            async with aiosqlite.connect(uri, uri=True, isolation_level=None) as connection:
                with _reading(path):
                    has_path = await _check_tables(path, connection)
                yield cls(path, connection, copy=copy, stamps=stamps, has_path=has_path)

    def check_unchanged(self) -> None:
        """Raise `AssentError` if a program has written to the file since it was opened: a mixture
        of old and new may have been read."""
        if self.copy is None and _stamps(self.path) != self._stamps:
            raise _in_use(self.path)

    async def threads(self) -> list[OldThread]:
        """Every thread that has checkpoints."""
        return [OldThread(*row) for row in await self._rows(THREADS)]

    async def lineage(self, thread_id: str) -> dict[str, dict[str, tuple[str | None, int]]]:
        """By namespace: the thread's checkpoints in the order of their ids, each with its parent
        and its size in bytes."""
        lineage: dict[str, dict[str, tuple[str | None, int]]] = {}
        for ns, checkpoint_id, parent_id, size in await self._rows(LINEAGE, thread_id):
            lineage.setdefault(ns, {})[checkpoint_id] = (parent_id, size)
        return lineage

    async def checkpoint(self, thread_id: str, ns: str, checkpoint_id: str) -> CheckpointTuple:
        """One checkpoint. Raises `Unreadable`."""
        with _reading(self.path):
            found = await self._saver.aget_tuple(config_of(thread_id, ns, checkpoint_id))
        if found is None:
            raise _in_use(self.path)
        return found

    async def writes(self, thread_id: str, ns: str, checkpoint_id: str) -> list[OldWrite]:
        """The tasks' writes to the checkpoint. Raises `Unreadable`."""
        writes: list[OldWrite] = []
        for *write, kind, body in await self._rows(self._writes, thread_id, ns, checkpoint_id):
            with _reading(self.path):
                value = self._carrier.loads_typed((kind, body))
            writes.append(OldWrite._make((*write, value)))
        return writes

    async def stray_writes(self, thread_id: str) -> list[tuple[str, str]]:
        """Namespace and id of checkpoints that were never stored, but that tasks wrote to."""
        return [(ns, id) for ns, id in await self._rows(STRAY_WRITES, thread_id)]

    async def _rows(self, sql: str, *parameters: str) -> Sequence[Any]:
        with _reading(self.path):
            return list(await self._connection.execute_fetchall(sql, parameters))


def in_order(parents: Mapping[str, str | None]) -> Iterator[str]:
    """The checkpoints in the order in which to write them: by their ids, except that each comes
    behind its parent, since ids sort by time only within one process.

    The one with the highest id comes last, whatever follows from it: it is the one with which
    LangGraph's saver goes on.
    """
    head = max(parents, default=None)
    seen: set[str] = set()
    for checkpoint_id in parents:
        line: list[str] = []
        at: str | None = checkpoint_id
        # A checkpoint that was put again under one of its descendants is its own ancestor: the line
        # stops there.
        while at is not None and at in parents and at not in seen:
            seen.add(at)
            line.append(at)
            at = parents[at]
        yield from (each for each in reversed(line) if each != head)
    if head is not None:
        yield head


def remove_copies(near: Path, prefix: str, *, but: Path | None = None) -> None:
    """Remove the copies that killed imports have left."""
    for folder in near.glob(f"{prefix}*"):
        if folder != but:
            shutil.rmtree(folder, ignore_errors=True)


# ── the files ──


def _parts(path: Path) -> list[Path]:
    """The database, and the files beside it that hold a part of it."""
    parts = [path]
    for suffix in UNMERGED:
        beside = path.with_name(path.name + suffix)
        if beside.is_file() and beside.stat().st_size > 0:
            parts.append(beside)
    return parts


def _stamps(path: Path) -> Stamps:
    return {each.name: (each.stat().st_size, each.stat().st_mtime_ns) for each in _parts(path)}


def _copied(path: Path, folder: Path) -> Path:
    before = _stamps(path)
    for each in _parts(path):
        shutil.copyfile(each, folder / each.name)
    if _stamps(path) != before:
        raise _in_use(path)
    return folder / path.name


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(16)
    except OSError as error:
        raise InvalidRequest(f"The file {path} cannot be read: {error.strerror}.") from error
    if header != b"SQLite format 3\0":
        raise InvalidRequest(f"The file {path} is not a SQLite database.")


async def _check_tables(path: Path, connection: aiosqlite.Connection) -> bool:
    """True if its writes have a `task_path`. Raises `InvalidRequest` if it is not LangGraph's."""
    columns: set[str] = set()
    for table, needed in TABLES.items():
        rows = await connection.execute_fetchall("SELECT name FROM pragma_table_info(?)", (table,))
        columns = {name for (name,) in rows}
        lacking = sorted(set(needed.split()) - columns)
        if lacking:
            fault = f"its table '{table}' lacks {', '.join(lacking)}"
            if not columns:
                fault = f"it has no table '{table}'"
            raise InvalidRequest(
                f"The file {path} is not a database of LangGraph's SqliteSaver or "
                f"AsyncSqliteSaver: {fault}."
            )
    # The last table that was looked at is that of the writes.
    return "task_path" in columns


@contextmanager
def _copying(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AssentError(
            f"The database {path} has a log beside it, so it is copied to be read, "
            f"and that failed: {error.strerror}."
        ) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise Unreadable(
            f"The file {path} cannot be read: {error}. Restore it from a backup."
        ) from error
    except ValueError as error:
        # The metadata of a checkpoint should be JSON, and is not.
        raise Unreadable(f"A value is damaged: {error}.") from error


def _in_use(path: Path) -> AssentError:
    return AssentError(
        f"The file {path} is being written to. Stop the program that does, and import again."
    )
