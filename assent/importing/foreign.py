"""The database of LangGraph's own `SqliteSaver` or `AsyncSqliteSaver`, opened so that nothing of it
changes, the files beside it included.

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
from assent.storage.sqlite.files import resolved

TABLES = {
    "checkpoints": {
        "thread_id",
        "checkpoint_ns",
        "checkpoint_id",
        "parent_checkpoint_id",
        "type",
        "checkpoint",
        "metadata",
    },
    "writes": {
        "thread_id",
        "checkpoint_ns",
        "checkpoint_id",
        "task_id",
        "idx",
        "channel",
        "type",
        "value",
    },
}
"""The tables of LangGraph's saver, and the columns that every version of it since 2024 has."""

UNMERGED = ("-wal", "-journal")
"""Files beside a database that hold a part of it."""


Stamps = dict[str, tuple[int, int]]
"""By file: how large it is, and when it was last written to."""


class Unreadable(AssentError):
    """Something of the old file cannot be read."""


class Carrier(JsonPlusSerializer):
    """Reads plain data, and leaves whatever would become an object as the bytes that it is; written
    again, they are the same."""

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=None)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        kind, body = data
        if kind not in PLAIN:
            raise Unreadable(
                f"A value is encoded as {kind!r}, and only what LangGraph writes without encryption and pickle is read."
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
    """A thread of the old file: how many checkpoints it has, how many bytes they take, and the
    latest of its root."""

    thread_id: str
    checkpoints: int
    size: int
    head: str | None


class OldWrite(NamedTuple):
    """What a task wrote, with its place among what it wrote."""

    task_id: str
    task_path: str
    idx: int
    channel: str
    value: Any


def must_be_copied(path: Path) -> bool:
    """Whether a log stands beside the database, which SQLite cannot read without writing there."""
    return any(_is_there(path, suffix) for suffix in UNMERGED)


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
        self._saver = AsyncSqliteSaver(connection, serde=Carrier())
        self._carrier = Carrier()
        self._stamps = stamps
        self._task_path = "task_path" if has_path else "''"

    @classmethod
    @asynccontextmanager
    async def open(cls, path: str | Path, *, near: Path, prefix: str) -> AsyncIterator[OldFile]:
        """Open the database at `path`. Should it have to be copied, the copy is made in the folder
        `near` and removed at the end.

        Raises `InvalidRequest` if there is none, or not one of LangGraph's saver; `AssentError` if
        it is being written to.
        """
        path = resolved(path)
        _check_header(path)
        with ExitStack() as stack:
            stamps, copy, uri = _stamps(path), None, f"{path.as_uri()}?mode=ro&immutable=1"
            if must_be_copied(path):
                with _copying(path):
                    copy = stack.enter_context(_scratch(near, prefix))
                    place = await asyncio.to_thread(_copied, path, copy)
                uri = f"{place.as_uri()}?mode=rw"
            async with aiosqlite.connect(uri, uri=True, isolation_level=None) as connection:
                with _reading(path):
                    has_path = await _check_tables(path, connection)
                yield cls(path, connection, copy=copy, stamps=stamps, has_path=has_path)

    def check_unchanged(self) -> None:
        """Raise if a program has written to the file since it was opened, so that what was read may
        be neither old nor new."""
        if self.copy is None and _stamps(self.path) != self._stamps:
            raise _in_use(self.path)

    async def threads(self) -> list[OldThread]:
        """Every thread that has checkpoints."""
        rows = await self._rows(
            "SELECT thread_id, count(*), coalesce(sum(length(checkpoint)), 0), max(iif(checkpoint_ns = '', checkpoint_id, NULL)) "
            "FROM checkpoints GROUP BY thread_id ORDER BY thread_id"
        )
        return [OldThread(*row) for row in rows]

    async def lineage(self, thread_id: str) -> dict[str, dict[str, tuple[str | None, int]]]:
        """The thread's checkpoints in the order of their ids, by namespace: the parent of each, and
        its size in bytes."""
        found: dict[str, dict[str, tuple[str | None, int]]] = {}
        sql = (
            "SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, coalesce(length(checkpoint), 0) FROM checkpoints "
            "WHERE thread_id = ? ORDER BY checkpoint_ns, checkpoint_id"
        )
        for ns, checkpoint_id, parent_id, size in await self._rows(sql, thread_id):
            found.setdefault(ns, {})[checkpoint_id] = (parent_id, size)
        return found

    async def checkpoint(self, thread_id: str, ns: str, checkpoint_id: str) -> CheckpointTuple:
        """One checkpoint. Raises `Unreadable`."""
        with _reading(self.path):
            found = await self._saver.aget_tuple(config_of(thread_id, ns, checkpoint_id))
        if found is None:
            raise _in_use(self.path)
        return found

    async def writes(self, thread_id: str, ns: str, checkpoint_id: str) -> list[OldWrite]:
        """What tasks wrote to the checkpoint. Raises `Unreadable`."""
        sql = (
            f"SELECT task_id, {self._task_path}, idx, channel, type, value FROM writes "
            "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ? ORDER BY task_id, idx"
        )
        rows = await self._rows(sql, thread_id, ns, checkpoint_id)
        with _reading(self.path):
            return [
                OldWrite._make((*write, self._carrier.loads_typed((kind, body))))
                for *write, kind, body in rows
            ]

    async def stray_writes(self, thread_id: str) -> list[tuple[str, str]]:
        """Namespace and id of checkpoints that were never stored, but that tasks wrote to."""
        sql = (
            "SELECT DISTINCT checkpoint_ns, checkpoint_id FROM writes w WHERE thread_id = ? AND NOT EXISTS (SELECT 1 FROM checkpoints c "
            "WHERE (c.thread_id, c.checkpoint_ns, c.checkpoint_id) = (w.thread_id, w.checkpoint_ns, w.checkpoint_id))"
        )
        return [(ns, checkpoint_id) for ns, checkpoint_id in await self._rows(sql, thread_id)]

    async def _rows(self, sql: str, *parameters: str) -> Sequence[Any]:
        with _reading(self.path):
            return list(await self._connection.execute_fetchall(sql, parameters))


def parents_first(parents: Mapping[str, str | None]) -> Iterator[str]:
    """The checkpoints so that each comes behind its parent, and else in their order. Ids sort by
    time only within one process."""
    seen: set[str] = set()
    for checkpoint_id in parents:
        line: list[str] = []
        at: str | None = checkpoint_id
        # One that was put again under a descendant of its own is its own ancestor: the line stops
        # there.
        while at is not None and at in parents and at not in seen:
            seen.add(at)
            line.append(at)
            at = parents[at]
        yield from reversed(line)


# ── the files ──


def _is_there(path: Path, suffix: str) -> bool:
    beside = path.with_name(path.name + suffix)
    return beside.is_file() and beside.stat().st_size > 0


def _parts(path: Path) -> list[Path]:
    return [
        path,
        *(path.with_name(path.name + suffix) for suffix in UNMERGED if _is_there(path, suffix)),
    ]


def _stamps(path: Path) -> Stamps:
    return {each.name: (each.stat().st_size, each.stat().st_mtime_ns) for each in _parts(path)}


def _copied(path: Path, folder: Path) -> Path:
    before = _stamps(path)
    for each in _parts(path):
        shutil.copyfile(each, folder / each.name)
    if _stamps(path) != before:
        raise _in_use(path)
    return folder / path.name


@contextmanager
def _scratch(near: Path, prefix: str) -> Iterator[Path]:
    # Not the system's folder for temporary files: that may be in memory, and the copy may be large.
    with TemporaryDirectory(prefix=prefix, dir=near) as folder:
        yield Path(folder)


@contextmanager
def _copying(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AssentError(
            f"The database {path} has a log beside it, so it is copied to be read, and that failed: {error.strerror}."
        ) from error


def remove_copies(near: Path, prefix: str, *, but: Path | None = None) -> None:
    """Remove the copies that killed imports have left."""
    for folder in near.glob(f"{prefix}*"):
        if folder != but:
            shutil.rmtree(folder, ignore_errors=True)


# ── what it is ──


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(16)
    except OSError as error:
        raise InvalidRequest(f"The file {path} cannot be read: {error.strerror}.") from error
    if header != b"SQLite format 3\0":
        raise InvalidRequest(f"The file {path} is no SQLite database.")


async def _check_tables(path: Path, connection: aiosqlite.Connection) -> bool:
    """Whether its writes have a `task_path`. Raises `InvalidRequest` if it is not LangGraph's."""
    columns = {}
    for table, needed in TABLES.items():
        columns[table] = {
            name
            for (name,) in await connection.execute_fetchall(
                "SELECT name FROM pragma_table_info(?)", (table,)
            )
        }
        if not columns[table] >= needed:
            raise InvalidRequest(
                f"The file {path} is not a database of LangGraph's SqliteSaver or AsyncSqliteSaver: "
                + (
                    f"its table '{table}' lacks {', '.join(sorted(needed - columns[table]))}."
                    if columns[table]
                    else f"it has no table '{table}'."
                )
            )
    return "task_path" in columns["writes"]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise Unreadable(
            f"The file {path} cannot be read: {error}. Restore it from a backup."
        ) from error
    except ValueError as error:
        # The metadata of a checkpoint is JSON, and should be.
        raise Unreadable(f"A value is damaged: {error}.") from error


def _in_use(path: Path) -> AssentError:
    return AssentError(
        f"The file {path} is being written to. Stop the program that does, and import again."
    )
