"""The door: `Storage` over one SQLite file."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from assent.checkpoint.contracts import (
    Approval,
    ApprovalStatus,
    Change,
    Effect,
    LogEntry,
    Page,
    Ring,
    Run,
    RunStatus,
    Storage,
    Thread,
    ThreadStatus,
)
from assent.checkpoint.sqlite import files, retention
from assent.checkpoint.sqlite.changes import operation
from assent.checkpoint.sqlite.reader import Reader
from assent.checkpoint.sqlite.saver import SqliteSaver
from assent.checkpoint.sqlite.tables import R, Table, Tables, time_text
from assent.checkpoint.sqlite.tails import Tails
from assent.checkpoint.sqlite.writer import Writer
from assent.clock import Clock
from assent.errors import Gone, InvalidRequest
from assent.events import Event


class SqliteStorage(Storage):
    """Everything durable in one file. Made by `open`; used on the event loop that opened it."""

    def __init__(self, writer: Writer, reader: Reader, tails: Tails, checkpointer: SqliteSaver) -> None:
        self.checkpointer: SqliteSaver = checkpointer
        self._writer = writer
        self._reader = reader
        self._tails = tails
        self._tables = Tables()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: str | Path, clock: Clock | None = None, *, synchronous: Literal["full", "normal"] = "full"
    ) -> AsyncIterator[SqliteStorage]:
        """Open the database at `path`, making it if there is none, and hold it for this process; everything queued is committed at the end.

        With `synchronous="normal"` a commit does not wait for the disk: a kill of the process loses nothing, but a power cut may lose the
        last commits, those acknowledged too.

        Raises `ConfigurationError` if another process has it open, or if it cannot be opened, is no Assent database, or a newer one's.
        """
        path = files.resolved(path)
        tails = Tails()
        async with AsyncExitStack() as stack:
            files.create(path)
            stack.enter_context(files.locked(path))
            connection = stack.enter_context(files.connected(path, clock or Clock(), synchronous))
            writer = Writer(connection, path.name, tails.store)
            stack.push_async_callback(writer.close)
            reader = await stack.enter_async_context(Reader.open(path))
            yield cls(writer, reader, tails, await SqliteSaver.over(writer, reader))

    # ── writing ──

    async def commit(self, change: Change) -> tuple[int, ...]:
        threads = {event.thread_id for event in change.events} | ({change.erase} if change.erase is not None else set())
        return await self._writer.write(operation(change, self._tables), threads=threads)

    def append(self, events: Sequence[Event], on_error: Callable[[Exception], None]) -> None:
        # A copy, because the caller may go on to fill the list that it handed over.
        self._writer.append(tuple(events), on_error)

    # ── the log ──

    async def read_log(
        self, thread_id: str, after: int = 0, *, limit: int = 1000, types: Collection[str] | None = None
    ) -> tuple[LogEntry, ...]:
        _check_limit(limit)
        tail = self._tails.get(thread_id)
        if tail is not None and tail.base is None:
            tail.prime(await self._head(thread_id))
            tail = self._tails.get(thread_id)
        if tail is not None and tail.covers(after):
            return tail.read(after, limit, types)
        entries = await self._read_file(thread_id, after, limit, types)
        if after > 0 and not _follows(entries, after, types):
            await self._check_not_removed(thread_id, after)
        return entries

    async def last_seq(self, thread_id: str) -> int:
        ((newest,),) = await self._reader.rows("SELECT max(seq) FROM events WHERE thread_id = ?", (thread_id,))
        return newest or 0

    async def remove_events(self, before: datetime) -> int:
        return await retention.remove_events(self._writer, self._reader, before)

    async def prune_checkpoints(self, thread_ids: Sequence[str], keep: int) -> None:
        await self.checkpointer.aprune(thread_ids, keep=keep)

    async def shrink(self) -> None:
        await retention.shrink(self._writer)

    def listen(self, thread_id: str) -> AbstractContextManager[Ring]:
        return self._tails.listen(thread_id)

    async def _head(self, thread_id: str) -> int:
        found = await self._reader.rows("SELECT seq FROM log_heads WHERE thread_id = ?", (thread_id,))
        return found[0][0] if found else 0

    async def _check_not_removed(self, thread_id: str, after: int) -> None:
        # Asked after the events were read: what was removed before that read is known by now.
        found = await self._reader.rows("SELECT removed FROM log_heads WHERE thread_id = ?", (thread_id,))
        removed = found[0][0] if found else 0
        if removed > after:
            raise Gone(
                f"The events of the thread '{thread_id}' up to number {removed} have been removed, and you asked for those after {after}. "
                f"Begin after {removed}, or after 0 for all that are left.",
                first=removed + 1,
            )

    async def _read_file(self, thread_id: str, after: int, limit: int, types: Collection[str] | None) -> tuple[LogEntry, ...]:
        where, parameters = ["thread_id = ?", "seq > ?"], [thread_id, after]
        if types is not None:
            where.append(_among("type"))
            parameters.append(_list(types))
        sql = f"SELECT seq, type, body FROM events WHERE {' AND '.join(where)} ORDER BY seq LIMIT ?"
        return tuple(LogEntry(*columns) for columns in await self._reader.rows(sql, (*parameters, limit)))

    # ── the rows ──

    async def thread(self, thread_id: str) -> Thread | None:
        return await self._one(self._tables.threads, thread_id)

    async def threads(self, *, status: ThreadStatus | None = None, limit: int = 100, cursor: str | None = None) -> Page[Thread]:
        _check_limit(limit)
        where, parameters = _wheres(status=status)
        if cursor is not None:
            where.append("(created_at, thread_id) < (?, ?)")
            parameters += _position(cursor)
        rows = await self._many(self._tables.threads, where, parameters, "created_at DESC, thread_id DESC", limit + 1)
        return _page(rows, limit, lambda row: (row.created_at, row.thread_id))

    async def run(self, run_id: str) -> Run | None:
        return await self._one(self._tables.runs, run_id)

    async def runs(
        self, *, thread_id: str | None = None, status: Collection[RunStatus] | None = None, limit: int = 1000
    ) -> tuple[Run, ...]:
        _check_limit(limit)
        where, parameters = _wheres(thread_id=thread_id)
        if status is not None:
            where.append(_among("status"))
            parameters.append(_list(status))
        return await self._many(self._tables.runs, where, parameters, "created_at, run_id", limit)

    async def ended_runs(self, since: datetime | None = None, *, limit: int = 1000, cursor: str | None = None) -> Page[Run]:
        _check_limit(limit)
        where, parameters = ["ended_at >= ?"], [time_text(since) if since else ""]
        if cursor is not None:
            where.append("(ended_at, run_id) > (?, ?)")
            parameters += _position(cursor)
        rows = await self._many(self._tables.runs, where, parameters, "ended_at, run_id", limit + 1)
        return _page(rows, limit, lambda row: (row.ended_at or row.created_at, row.run_id))

    async def approval(self, approval_id: str) -> Approval | None:
        return await self._one(self._tables.approvals, approval_id)

    async def approvals(
        self,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        status: ApprovalStatus | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Approval]:
        _check_limit(limit)
        where, parameters = _wheres(thread_id=thread_id, run_id=run_id, status=status)
        if cursor is not None:
            where.append("(requested_at, approval_id) > (?, ?)")
            parameters += _position(cursor)
        rows = await self._many(self._tables.approvals, where, parameters, "requested_at, approval_id", limit + 1)
        return _page(rows, limit, lambda row: (row.requested_at, row.approval_id))

    async def effect(self, key: str) -> Effect | None:
        return await self._one(self._tables.effects, key)

    async def integrity_check(self) -> tuple[str, ...]:
        """What is wrong with the file, a sentence each; empty if nothing is. Reads all of it."""
        found = await self._reader.rows("PRAGMA integrity_check")
        return tuple(problem for (problem,) in found if problem != "ok")

    async def _one(self, table: Table[R], key: str) -> R | None:
        rows = await self._many(table, [f'"{table.key}" = ?'], [key], f'"{table.key}"', 1)
        return rows[0] if rows else None

    async def _many(self, table: Table[R], where: list[str], parameters: list[Any], order: str, limit: int) -> tuple[R, ...]:
        condition = f"WHERE {' AND '.join(where)} " if where else ""
        rows = await self._reader.rows(f"{table.select} {condition}ORDER BY {order} LIMIT ?", (*parameters, limit))
        return tuple(table.decode(columns) for columns in rows)


def _wheres(**equal: str | None) -> tuple[list[str], list[Any]]:
    """Conditions, and their parameters, for every column that was asked for."""
    given = {column: str(value) for column, value in equal.items() if value is not None}
    return [f"{column} = ?" for column in given], list(given.values())


def _among(column: str) -> str:
    return f"{column} IN (SELECT value FROM json_each(?))"


def _list(values: Collection[str]) -> str:
    return orjson.dumps([str(value) for value in values]).decode()


def _follows(entries: Sequence[LogEntry], after: int, types: Collection[str] | None) -> bool:
    """Whether the entries themselves show that nothing is missing after that number."""
    return types is None and bool(entries) and entries[0].seq == after + 1


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise InvalidRequest(f"The limit {limit} asks for nothing. Ask for 1 or more.")


def _page(rows: tuple[R, ...], limit: int, key: Callable[[R], tuple[datetime, str]]) -> Page[R]:
    """The page of these rows, of which one more than `limit` was asked for."""
    more = len(rows) > limit
    return Page(rows[:limit], _cursor(*key(rows[limit - 1])) if more else None)


def _cursor(time: datetime, key: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([time_text(time), key])).decode().rstrip("=")


def _position(cursor: str) -> list[str]:
    """The time and the id that a cursor stands for."""
    try:
        match orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)):
            case [str(time), str(key)]:
                return [time, key]
    except (binascii.Error, ValueError):
        pass
    raise InvalidRequest(f"The cursor {cursor[:100]!r} is none that a page has given. Use a page's own, or begin without one.")
