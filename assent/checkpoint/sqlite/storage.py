"""The door: `Storage` over one SQLite file."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
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
from assent.checkpoint.sqlite.distrust import distrusting
from assent.checkpoint.sqlite.reader import Reader
from assent.checkpoint.sqlite.saver import SqliteSaver
from assent.checkpoint.sqlite.sealing import Seal, parse_keys
from assent.checkpoint.sqlite.seals import seal_of
from assent.checkpoint.sqlite.tables import R, Table, Tables, time_text
from assent.checkpoint.sqlite.tails import Tails
from assent.checkpoint.sqlite.writer import Writer
from assent.clock import Clock
from assent.errors import Gone, InvalidRequest, Tampered, Unavailable
from assent.events import Event

logger = logging.getLogger(__name__)


class SqliteStorage(Storage):
    """Everything durable in one file. Made by `open`; used on the event loop that opened it."""

    def __init__(self, writer: Writer, reader: Reader, tails: Tails, checkpointer: SqliteSaver, seal: Seal, clock: Clock) -> None:
        self.checkpointer: SqliteSaver = checkpointer
        self._writer = writer
        self._reader = reader
        self._tails = tails
        self._seal = seal
        self._tables = Tables(seal)
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | Path,
        clock: Clock | None = None,
        *,
        synchronous: Literal["full", "normal"] = "full",
        encryption_key: str | None = None,
    ) -> AsyncIterator[SqliteStorage]:
        """Open the database at `path`, making it if there is none, and hold it for this process; everything queued is committed at the end.

        With `synchronous="normal"` a commit does not wait for the disk: a kill of the process loses nothing, but a power cut may lose the
        last commits, those acknowledged too.

        `encryption_key` holds the keys, `id:base64,id:base64`, that what is stored is sealed with: the first one seals, all of them open.

        Raises `ConfigurationError` if another process has it open, or if it cannot be opened, is no Assent database, or a newer one's, or
        is not sealed with these keys.
        """
        path = files.resolved(path)
        keys = parse_keys(encryption_key) if encryption_key is not None else ()
        clock = clock or Clock()
        tails = Tails()
        async with AsyncExitStack() as stack:
            files.create(path)
            stack.enter_context(files.locked(path))
            connection = stack.enter_context(files.connected(path, clock, synchronous))
            seal = seal_of(connection, path, keys)
            writer = Writer(connection, path.name, tails.store, seal)
            stack.push_async_callback(writer.close)
            reader = await stack.enter_async_context(Reader.open(path))
            yield cls(writer, reader, tails, await SqliteSaver.over(writer, reader, seal=seal), seal, clock)

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
        try:
            await self.checkpointer.aprune(thread_ids, keep=keep)
        except Tampered as error:
            # Nothing of the thread is read any more, so nothing of it is removed either; and the others are pruned without it.
            thread_id = await self._found(error)
            if others := [each for each in thread_ids if each != thread_id]:
                await self.prune_checkpoints(others, keep)

    async def distrust(self, thread_id: str, reason: str, *, stopped: bool = False) -> None:
        operation = distrusting(thread_id, reason, self._clock.now(), self._tables, stopped=stopped)
        await self._writer.write(operation, threads=(thread_id,))

    async def _found(self, error: Tampered) -> str:
        """Distrust the thread that the error names; return its id."""
        thread_id = str(error.details["thread_id"])
        logger.error("%s", error)
        # A disk that is full now does not make the row any better: whoever reads it next will try again.
        with suppress(Unavailable):
            await self.distrust(thread_id, error.message)
        return thread_id

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
        entries: list[LogEntry] = []
        for seq, type_, body in await self._reader.rows(sql, (*parameters, limit)):
            try:
                entries.append(LogEntry(seq, type_, self._seal.open(body, thread_id, "event", seq, type_)))
            except Tampered:
                # What stands before it is still told. The next read begins with it.
                if not entries:
                    raise
                break
        return tuple(entries)

    # ── the rows ──

    async def thread(self, thread_id: str) -> Thread | None:
        return await self._one(self._tables.threads, thread_id)

    async def threads(self, *, status: ThreadStatus | None = None, limit: int = 100, cursor: str | None = None) -> Page[Thread]:
        _check_limit(limit)
        where, parameters = _wheres(status=status)
        if cursor is not None:
            where.append("(created_at, thread_id) < (?, ?)")
            parameters += _position(cursor)
        return await self._page(self._tables.threads, where, parameters, limit, by="created_at", newest_first=True)

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
        return (await self._page(self._tables.runs, where, parameters, limit, by="created_at")).rows

    async def ended_runs(self, since: datetime | None = None, *, limit: int = 1000, cursor: str | None = None) -> Page[Run]:
        _check_limit(limit)
        where, parameters = ["ended_at >= ?"], [time_text(since) if since else ""]
        if cursor is not None:
            where.append("(ended_at, run_id) > (?, ?)")
            parameters += _position(cursor)
        return await self._page(self._tables.runs, where, parameters, limit, by="ended_at")

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
        return await self._page(self._tables.approvals, where, parameters, limit, by="requested_at")

    async def effect(self, key: str) -> Effect | None:
        return await self._one(self._tables.effects, key)

    async def integrity_check(self) -> tuple[str, ...]:
        """What is wrong with the file, a sentence each; empty if nothing is. Reads all of it."""
        found = await self._reader.rows("PRAGMA integrity_check")
        return tuple(problem for (problem,) in found if problem != "ok")

    async def _one(self, table: Table[R], key: str) -> R | None:
        found = await self._reader.rows(f'{table.select} WHERE "{table.key}" = ?', (key,))
        return table.decode(found[0]) if found else None

    async def _page(
        self, table: Table[R], where: list[str], parameters: list[Any], limit: int, *, by: str, newest_first: bool = False
    ) -> Page[R]:
        """Rows in the order of a time and their key, and the cursor of the next ones."""
        condition = f"WHERE {' AND '.join(where)} " if where else ""
        way = "DESC" if newest_first else "ASC"
        sql = f"{table.select} {condition}ORDER BY {by} {way}, {table.key} {way} LIMIT ?"
        # One more than was asked for, to see whether there is more.
        found = await self._reader.rows(sql, (*parameters, limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        cursor = _cursor(last[table.columns.index(by)], last[0]) if last else None
        return Page(await self._trusted(table, found[:limit]), cursor)

    async def _trusted(self, table: Table[R], found: Sequence[Any]) -> tuple[R, ...]:
        """The rows that are what was stored. A list of many threads must not fail because of one."""
        rows: list[R] = []
        for columns in found:
            try:
                rows.append(table.decode(columns))
            except Tampered as error:
                await self._found(error)
        return tuple(rows)


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


def _cursor(time: object, key: object) -> str:
    """The time and the key as they are stored."""
    return base64.urlsafe_b64encode(orjson.dumps([str(time), str(key)])).decode().rstrip("=")


def _position(cursor: str) -> list[str]:
    """The time and the id that a cursor stands for."""
    try:
        match orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)):
            case [str(time), str(key)]:
                return [time, key]
    except (binascii.Error, ValueError):
        pass
    raise InvalidRequest(f"The cursor {cursor[:100]!r} is none that a page has given. Use a page's own, or begin without one.")
