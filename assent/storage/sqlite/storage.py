"""The door: `Storage` over one SQLite file."""

from __future__ import annotations

import base64
import binascii
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import orjson

from assent.core.clock import Clock, time_text
from assent.core.errors import Gone, InvalidRequest, Tampered, Unavailable
from assent.core.events import Event
from assent.core.rows import (
    Answer,
    Approval,
    ApprovalStatus,
    AuditHead,
    AuditRecord,
    Effect,
    Lease,
    Link,
    Notification,
    NotificationStatus,
    Run,
    RunStatus,
    Schedule,
    StandingGrant,
    Thread,
    ThreadStatus,
    Timer,
)
from assent.core.sealing import Seal, parse_keys, tampered
from assent.storage.base import Change, Doorbell, LogEntry, Page, Storage
from assent.storage.sqlite import audit_chain as audit
from assent.storage.sqlite import files, queries, retention
from assent.storage.sqlite.changes import operation
from assent.storage.sqlite.distrust import distrusting
from assent.storage.sqlite.file_keys import seal_of
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.saver import SqliteSaver
from assent.storage.sqlite.tables import R, Table, Tables
from assent.storage.sqlite.tails import Tails
from assent.storage.sqlite.writer import Transaction, Writer

logger = logging.getLogger(__name__)

REMOVED_AT_ONCE = 200
"""Rows that are removed in one transaction, so that nobody has to wait long for it."""


class SqliteStorage(Storage):
    """Everything durable in one file. Made by `open`; used on the event loop that opened it."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        tails: Tails,
        checkpointer: SqliteSaver,
        seal: Seal,
        clock: Clock,
    ) -> None:
        self.checkpointer: SqliteSaver = checkpointer
        self._writer = writer
        self._reader = reader
        self._tails = tails
        self._seal = seal
        self._tables = Tables(seal)
        self._clock = clock
        self._told: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | Path,
        clock: Clock | None = None,
        *,
        synchronous: Literal["full", "normal"] = "full",
        encryption_key: str | None = None,
        audit_key: str | None = None,
    ) -> AsyncIterator[SqliteStorage]:
        """Open the database at `path`, making it if there is none, and hold it for this process;
        everything queued is committed at the end.

        With `synchronous="normal"` a commit does not wait for the disk: a kill of the process loses
        nothing, but a power cut may lose the last commits, those acknowledged too.

        `encryption_key` holds the keys, `id:base64,id:base64`, that what is stored is sealed with:
        the first one seals, all of them open. `audit_key` holds those of the audit chain in the
        same form; without it, one is made and kept in a file beside the database.

        Raises `ConfigurationError` if another process has it open, or if it cannot be opened, is no
        Assent database, or a newer one's, or is not sealed, or its audit chain not signed, with
        these keys.
        """
        path = files.resolved(path)
        keys = parse_keys(encryption_key) if encryption_key is not None else ()
        audit_keys = audit.parse_audit_keys(audit_key) if audit_key is not None else ()
        clock = clock or Clock()
        tails = Tails()
        async with AsyncExitStack() as stack:
            files.create(path)
            stack.enter_context(files.locked(path))
            connection = stack.enter_context(files.connected(path, clock, synchronous))
            seal = seal_of(connection, path, keys)
            _forget_workers(connection, path)
            writer = Writer(
                connection,
                path.name,
                tails.store,
                seal,
                audit.signing_key(connection, path, audit_keys),
            )
            stack.push_async_callback(writer.close)
            reader = await stack.enter_async_context(Reader.open(path))
            yield cls(
                writer,
                reader,
                tails,
                await SqliteSaver.over(writer, reader, seal=seal),
                seal,
                clock,
            )

    # ── writing ──

    async def commit(self, change: Change) -> tuple[int, ...]:
        threads = {event.thread_id for event in change.events} | (
            {change.erase} if change.erase is not None else set()
        )
        # What comes with a run's lease must not be stored before what ends the lease.
        threads |= {
            row.thread_id for row in (*change.rows, *change.removed) if isinstance(row, Run)
        }
        return await self._writer.write(operation(change, self._tables), threads=threads)

    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        # A copy, because the caller may go on to fill the list that it handed over.
        self._writer.append(tuple(events), on_error, lease)

    async def heartbeat(self, worker: str, until: datetime) -> None:
        await self._writer.write(_statement(queries.BEAT, worker, time_text(until)), threads=())

    async def retire(self, worker: str) -> None:
        await self._writer.write(_statement(queries.RETIRE, worker), threads=())

    # ── the log ──

    async def read_log(
        self,
        thread_id: str,
        after: int = 0,
        *,
        limit: int = 1000,
        types: Collection[str] | None = None,
        run_id: str | None = None,
    ) -> tuple[LogEntry, ...]:
        _check_limit(limit)
        tail = self._tails.get(thread_id)
        if tail is not None and tail.base is None:
            tail.prime(await self._head(thread_id))
            tail = self._tails.get(thread_id)
        if tail is not None and tail.covers(after):
            return tail.read(after, limit, types, run_id)
        entries = await self._read_file(thread_id, after, limit, types, run_id)
        if after > 0 and not _follows(entries, after):
            await self._check_not_removed(thread_id, after)
        return entries

    async def last_seq(self, thread_id: str) -> int:
        ((newest,),) = await self._reader.rows(
            "SELECT max(seq) FROM events WHERE thread_id = ?", (thread_id,)
        )
        return newest or 0

    async def remove_events(self, before: datetime) -> int:
        return await retention.remove_events(self._writer, self._reader, before)

    async def prune_checkpoints(self, thread_ids: Sequence[str], keep: int) -> None:
        try:
            await self.checkpointer.aprune(thread_ids, keep=keep)
        except Tampered as error:
            # Nothing of the thread is read any more, so nothing of it is removed either; and the
            # others are pruned without it.
            thread_id = await self._found(error)
            if others := [each for each in thread_ids if each != thread_id]:
                await self.prune_checkpoints(others, keep)

    async def distrust(self, thread_id: str, reason: str, *, stopped: bool = False) -> None:
        operation = distrusting(thread_id, reason, self._clock.now(), self._tables, stopped=stopped)
        await self._writer.write(operation, threads=(thread_id,))

    async def _found(self, error: Tampered) -> str:
        """Distrust the thread that the error names; return its id. What belongs to no thread can
        only be told of, and that once."""
        thread_id = str(error.details["thread_id"])
        if error.message not in self._told:
            self._told.add(error.message)
            logger.error("%s", error)
        # A disk that is full now does not make the row any better: whoever reads it next will try
        # again.
        with suppress(Unavailable):
            await self.distrust(thread_id, error.message)
        return thread_id

    async def shrink(self) -> None:
        await retention.shrink(self._writer)

    def listen(self, thread_id: str) -> AbstractContextManager[Doorbell]:
        return self._tails.listen(thread_id)

    def end_listening(self) -> None:
        self._tails.end()

    async def _head(self, thread_id: str) -> int:
        found = await self._reader.rows(
            "SELECT seq FROM log_heads WHERE thread_id = ?", (thread_id,)
        )
        return found[0][0] if found else 0

    async def _check_not_removed(self, thread_id: str, after: int) -> None:
        # Asked after the events were read: what was removed before that read is known by now.
        found = await self._reader.rows(
            "SELECT removed FROM log_heads WHERE thread_id = ?", (thread_id,)
        )
        removed = found[0][0] if found else 0
        if removed > after:
            raise Gone(
                f"The events of the thread '{thread_id}' up to number {removed} have been removed, and you asked for those after {after}. "
                f"Begin after {removed}, or after 0 for all that are left.",
                first=removed + 1,
            )

    async def _read_file(
        self,
        thread_id: str,
        after: int,
        limit: int,
        types: Collection[str] | None,
        run_id: str | None,
    ) -> tuple[LogEntry, ...]:
        where, parameters = ["thread_id = ?", "seq > ?"], [thread_id, after]
        if types is not None:
            where.append(_among("type"))
            parameters.append(_list(types))
        if run_id is not None:
            where.append("run_id = ?")
            parameters.append(run_id)
        sql = f"SELECT seq, type, run_id, body FROM events WHERE {' AND '.join(where)} ORDER BY seq LIMIT ?"
        entries: list[LogEntry] = []
        for row in await self._reader.rows(sql, (*parameters, limit)):
            try:
                entries.append(self._entry(thread_id, *row))
            except Tampered:
                # What stands before it is still told. The next read begins with it.
                if not entries:
                    raise
                break
        return tuple(entries)

    def _entry(self, thread_id: str, seq: int, type_: str, run_id: str, body: Any) -> LogEntry:
        opened = self._seal.open(body, thread_id, "event", seq, type_)
        # The body is not bound to the column that says whose it is, but has it too.
        if self._seal.is_on and msgspec.json.decode(opened, type=_OfRun).run_id != run_id:
            raise tampered(thread_id, "event", seq)
        return LogEntry(seq, type_, run_id, opened)

    # ── the rows ──

    async def thread(self, thread_id: str) -> Thread | None:
        return await self._one(self._tables.threads, thread_id)

    async def threads(
        self, *, status: ThreadStatus | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Thread]:
        _check_limit(limit)
        where, parameters = _wheres(status=status)
        if cursor is not None:
            where.append("(created_at, thread_id) < (?, ?)")
            parameters += _position(cursor)
        return await self._page(
            self._tables.threads, where, parameters, limit, by="created_at", newest_first=True
        )

    async def run(self, run_id: str) -> Run | None:
        return await self._one(self._tables.runs, run_id)

    async def runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        limit: int = 1000,
    ) -> tuple[Run, ...]:
        _check_limit(limit)
        where, parameters = _runs_where(thread_id, status)
        return (await self._page(self._tables.runs, where, parameters, limit, by="created_at")).rows

    async def latest_runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Run]:
        _check_limit(limit)
        where, parameters = _runs_where(thread_id, status)
        if cursor is not None:
            where.append("(created_at, run_id) < (?, ?)")
            parameters += _position(cursor)
        return await self._page(
            self._tables.runs, where, parameters, limit, by="created_at", newest_first=True
        )

    async def due_runs(self, now: datetime, *, limit: int = 100) -> tuple[Run, ...]:
        _check_limit(limit)
        table = self._tables.runs
        found = await self._reader.rows(f"{table.select} {queries.DUE}", (time_text(now), limit))
        return await self._trusted(table, found)

    async def orphaned_runs(self, now: datetime, *, limit: int = 1000) -> tuple[Run, ...]:
        _check_limit(limit)
        table = self._tables.runs
        found = await self._reader.rows(
            f"{table.select} {queries.ORPHANED}", (time_text(now), limit)
        )
        return await self._trusted(table, found)

    async def usage(
        self,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
    ) -> Mapping[str, float]:
        where, parameters = _wheres(thread_id=thread_id, agent=agent)
        if since is not None:
            where.append("created_at >= ?")
            parameters.append(time_text(since))
        return dict(await self._reader.rows(queries.used(where), parameters))

    async def ended_runs(
        self, since: datetime | None = None, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[Run]:
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
        agent: str | None = None,
        tool: str | None = None,
        role: str | None = None,
        assignee: str | None = None,
        before: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Approval]:
        _check_limit(limit)
        where, parameters = _wheres(
            thread_id=thread_id, run_id=run_id, status=status, agent=agent, tool=tool
        )
        if role is not None:
            where.append(_holds("roles"))
            parameters.append(role)
        if assignee is not None:
            where.append(f"({_holds('names')} OR {_holds('assignees')})")
            parameters += [assignee, assignee]
        if before is not None:
            where.append("requested_at < ?")
            parameters.append(time_text(before))
        if cursor is not None:
            where.append("(requested_at, approval_id) > (?, ?)")
            parameters += _position(cursor)
        return await self._page(self._tables.approvals, where, parameters, limit, by="requested_at")

    async def grant(self, grant_id: str) -> StandingGrant | None:
        return await self._one(self._tables.grants, grant_id)

    async def grants(
        self, *, thread_id: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[StandingGrant]:
        _check_limit(limit)
        where, parameters = _wheres(thread_id=thread_id)
        if cursor is not None:
            where.append("(given_at, grant_id) < (?, ?)")
            parameters += _position(cursor)
        return await self._page(
            self._tables.grants, where, parameters, limit, by="given_at", newest_first=True
        )

    async def open_grants(
        self, agent: str, tools: Collection[str], now: datetime
    ) -> tuple[StandingGrant, ...]:
        table = self._tables.grants
        sql = f"""{table.select} WHERE agent = ? AND {_among("tool")} AND revoked_at IS NULL AND "until" > ? AND used < uses
            ORDER BY given_at, grant_id"""
        return await self._trusted(
            table, await self._reader.rows(sql, (agent, _list(tools), time_text(now)))
        )

    async def answer(self, answer_id: str) -> Answer | None:
        return await self._one(self._tables.answers, answer_id)

    async def remove_answers(self, before: datetime) -> int:
        return await retention.remove_answers(self._writer, time_text(before))

    async def effect(self, key: str) -> Effect | None:
        return await self._one(self._tables.effects, key)

    async def effects(self, thread_id: str, tool_call_id: str) -> tuple[Effect, ...]:
        table = self._tables.effects
        sql = f'{table.select} WHERE thread_id = ? AND tool_call_id = ? ORDER BY started_at, "key"'
        # None is left out: whoever does not see what was done does it again.
        return tuple(
            table.decode(columns)
            for columns in await self._reader.rows(sql, (thread_id, tool_call_id))
        )

    async def timer(self, timer_id: str) -> Timer | None:
        return await self._one(self._tables.timers, timer_id)

    async def due_timers(self, now: datetime, *, limit: int = 100) -> tuple[Timer, ...]:
        _check_limit(limit)
        table = self._tables.timers
        found = await self._reader.rows(
            f"{table.select} {queries.DUE_TIMERS}", (time_text(now), limit)
        )
        return await self._trusted(table, found)

    async def next_due(self, after: datetime) -> datetime | None:
        time = time_text(after)
        ((due,),) = await self._reader.rows(queries.NEXT_DUE, (time, time))
        return datetime.fromisoformat(due) if due else None

    async def schedule(self, schedule_id: str) -> Schedule | None:
        return await self._one(self._tables.schedules, schedule_id)

    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[Schedule]:
        _check_limit(limit)
        where, parameters = _wheres()
        if cursor is not None:
            where.append("(created_at, schedule_id) < (?, ?)")
            parameters += _position(cursor)
        return await self._page(
            self._tables.schedules, where, parameters, limit, by="created_at", newest_first=True
        )

    async def audit(
        self,
        *,
        thread_id: str | None = None,
        approval_id: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[AuditRecord]:
        _check_limit(limit)
        where, parameters = _wheres(thread_id=thread_id, approval_id=approval_id, actor=actor)
        if since is not None:
            where.append("at >= ?")
            parameters.append(time_text(since))
        if cursor is not None:
            where.append("number > ?")
            parameters.append(_number(cursor))
        condition = f"WHERE {' AND '.join(where)} " if where else ""
        found = await self._reader.rows(
            f"{audit.SELECT} {condition}ORDER BY number LIMIT ?", (*parameters, limit + 1)
        )
        records = (audit.decode(columns, self._seal) for columns in found[:limit])
        return Page(
            tuple(record for record in records if record is not None),
            str(found[limit - 1][0]) if len(found) > limit else None,
        )

    async def audit_head(self) -> AuditHead | None:
        found = await self._reader.rows(audit.LAST)
        return audit.head_from(found[0]) if found else None

    async def notification(self, notification_id: str) -> Notification | None:
        return await self._one(self._tables.notifications, notification_id)

    async def notifications(
        self,
        *,
        status: NotificationStatus | None = None,
        endpoint: str | None = None,
        approval_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Notification]:
        _check_limit(limit)
        where, parameters = _wheres(status=status, endpoint=endpoint, approval_id=approval_id)
        if cursor is not None:
            where.append("(created_at, notification_id) < (?, ?)")
            parameters += _position(cursor)
        return await self._page(
            self._tables.notifications, where, parameters, limit, by="created_at", newest_first=True
        )

    async def due_notifications(
        self, endpoint: str, now: datetime, *, limit: int = 100
    ) -> tuple[Notification, ...]:
        _check_limit(limit)
        table = self._tables.notifications
        found = await self._reader.rows(
            f"{table.select} {queries.DUE_NOTIFICATIONS}", (endpoint, time_text(now), limit)
        )
        return await self._trusted(table, found)

    async def next_notification(self, endpoint: str) -> datetime | None:
        found = await self._reader.rows(queries.NEXT_NOTIFICATION, (endpoint,))
        return datetime.fromisoformat(found[0][0]) if found else None

    async def remove_notifications(self, status: NotificationStatus, before: datetime) -> int:
        parameters = (status.value, time_text(before), REMOVED_AT_ONCE)
        return await self._writer.write(
            lambda transaction: (
                transaction.connection.execute(queries.REMOVE_NOTIFICATIONS, parameters).rowcount
            ),
            threads=(),
        )

    async def link(self, link_id: str) -> Link | None:
        return await self._one(self._tables.links, link_id)

    async def integrity_check(self) -> tuple[str, ...]:
        """What is wrong with the file, a sentence each; empty if nothing is. Reads all of it."""
        found = await self._reader.rows("PRAGMA integrity_check")
        return tuple(problem for (problem,) in found if problem != "ok")

    async def _one(self, table: Table[R], key: str) -> R | None:
        found = await self._reader.rows(f'{table.select} WHERE "{table.key}" = ?', (key,))
        return table.decode(found[0]) if found else None

    async def _page(
        self,
        table: Table[R],
        where: list[str],
        parameters: list[Any],
        limit: int,
        *,
        by: str,
        newest_first: bool = False,
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
        """The rows that are what was stored. A list of many threads must not fail because of
        one."""
        rows: list[R] = []
        for columns in found:
            try:
                rows.append(table.decode(columns))
            except Tampered as error:
                await self._found(error)
        return tuple(rows)


class _OfRun(msgspec.Struct):
    """What of an event says whose it is."""

    run_id: str = ""


def _forget_workers(connection: sqlite3.Connection, path: Path) -> None:
    """The file's lock proves that every process that had it before is dead."""
    try:
        connection.execute("DELETE FROM workers")
    except sqlite3.Error as error:
        raise files.unusable(path, error) from error


def _statement(sql: str, *parameters: str) -> Callable[[Transaction], None]:
    def apply(transaction: Transaction) -> None:
        transaction.connection.execute(sql, parameters)

    return apply


def _wheres(**equal: str | None) -> tuple[list[str], list[Any]]:
    """Conditions, and their parameters, for every column that was asked for."""
    given = {column: str(value) for column, value in equal.items() if value is not None}
    return [f"{column} = ?" for column in given], list(given.values())


def _runs_where(
    thread_id: str | None, status: Collection[RunStatus] | None
) -> tuple[list[str], list[Any]]:
    where, parameters = _wheres(thread_id=thread_id)
    if status is not None:
        where.append(_among("status"))
        parameters.append(_list(status))
    return where, parameters


def _among(column: str) -> str:
    return f"{column} IN (SELECT value FROM json_each(?))"


def _holds(column: str) -> str:
    return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value = ?)"


def _list(values: Collection[str]) -> str:
    return orjson.dumps([str(value) for value in values]).decode()


def _follows(entries: Sequence[LogEntry], after: int) -> bool:
    """Whether the entries themselves show that nothing is missing after that number: a log is only
    ever cut at its beginning."""
    return bool(entries) and entries[0].seq == after + 1


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise InvalidRequest(f"The limit {limit} asks for nothing. Ask for 1 or more.")


def _cursor(time: object, key: object) -> str:
    """The time and the key as they are stored."""
    return base64.urlsafe_b64encode(orjson.dumps([str(time), str(key)])).decode().rstrip("=")


def _number(cursor: str) -> int:
    """The number that a cursor of the audit chain stands for."""
    if re.fullmatch("[0-9]{1,18}", cursor):
        return int(cursor)
    raise InvalidRequest(
        f"The cursor {cursor[:100]!r} is none that a page has given. Use a page's own, or begin without one."
    )


def _position(cursor: str) -> list[str]:
    """The time and the id that a cursor stands for."""
    try:
        match orjson.loads(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        ):
            case [str(time), str(key)]:
                return [time, key]
    except (binascii.Error, ValueError):
        pass
    raise InvalidRequest(
        f"The cursor {cursor[:100]!r} is none that a page has given. Use a page's own, or begin without one."
    )
