"""`Storage` over one SQLite file."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from assent.core.access import Owner
from assent.core.approval import Approval, ApprovalStatus
from assent.core.audit import AuditHead, AuditRecord
from assent.core.clock import Clock, time_text
from assent.core.errors import Gone, Tampered, Unavailable
from assent.core.events import Event
from assent.core.grant import Grant
from assent.core.logs import named
from assent.core.rows import (
    Answer,
    ApiKey,
    Effect,
    File,
    FileUse,
    Lease,
    Link,
    Notification,
    NotificationStatus,
    Run,
    RunStatus,
    Schedule,
    Session,
    Thread,
    ThreadStatus,
    Timer,
)
from assent.core.sealing import Seal, parse_keys, tampered
from assent.storage.base import Change, Doorbell, Load, LogEntry, Outage, Page, Storage
from assent.storage.files import Files
from assent.storage.folder_files import FolderFiles, folder_of
from assent.storage.sqlite import audit_chain, database, paging, queries, retention
from assent.storage.sqlite.changes import operation
from assent.storage.sqlite.distrust import distrusting
from assent.storage.sqlite.erasing import Erased, Eraser, StillErased
from assent.storage.sqlite.file_keys import seal_of
from assent.storage.sqlite.queries import Where, owner_where, runs_where, where_few
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.saver import SqliteSaver
from assent.storage.sqlite.store import REMOVE_EXPIRED, SqliteStore
from assent.storage.sqlite.tables import IS_VISIBLE, R, Table, Tables
from assent.storage.sqlite.tails import Tails
from assent.storage.sqlite.writer import Transaction, Writer
from assent.storage.store import StoreOptions

logger = logging.getLogger(__name__)

READ_BYTES = 4 << 20
"""The most bytes of events that are read at once, unless a single one is larger. A thousand of the
usual size are 300 KiB; this much of large ones is there in a few milliseconds."""

REMOVED_AT_ONCE = 200
"""Notifications, or uploads, whose rows are removed in one transaction, so that nobody has to wait
long for it."""


class SqliteStorage(Storage):
    """Everything durable in one file. Made by `open`, and used on the event loop that opened it."""

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        tails: Tails,
        checkpointer: SqliteSaver,
        seal: Seal,
        clock: Clock,
        tables: Tables,
        erased: Erased,
        eraser: Eraser,
        files: Files,
    ) -> None:
        self.checkpointer: SqliteSaver = checkpointer
        self.files = files
        self._writer = writer
        self._reader = reader
        self._tails = tails
        self._seal = seal
        self._tables = tables
        self._erased = erased
        self._eraser = eraser
        self._clock = clock
        self._logged: set[str] = set()

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
        """Open the database at `path`, making it if there is none, and hold it for this process.
        Everything queued is committed at the end.

        With `synchronous="normal"` a commit does not wait for the disk: killing the process loses
        nothing, but a power cut may lose the last commits, even acknowledged ones.

        `encryption_key` holds the keys that values are sealed with, as `id:base64,id:base64`: the
        first one seals, and all of them open. `audit_key` holds the keys of the audit chain in the
        same form; without it, one is made and kept in a file beside the database.

        Raises `ConfigurationError` if another process has the file open; if it cannot be opened, is
        not an Assent database or that of a newer Assent; or if it is not sealed, or its audit chain
        not signed, with these keys.
        """
        path = database.resolved(path)
        keys = parse_keys(encryption_key)
        audit_keys = audit_chain.parse_audit_keys(audit_key)
        clock = clock or Clock()
        tails = Tails()
        async with AsyncExitStack() as stack:
            connection = stack.enter_context(database.opened(path, clock, synchronous))
            seal = seal_of(connection, path, keys)
            _forget_workers(connection, path)
            tables = Tables(seal)
            erased = Erased(connection, tables)
            signing_key = audit_chain.signing_key(connection, path, audit_keys)
            writer = Writer(connection, path.name, tails.store, seal, signing_key)
            stack.push_async_callback(writer.close)
            reader = await stack.enter_async_context(Reader.open(path))
            saver = await SqliteSaver.over(writer, reader, seal=seal, now=clock.now)
            eraser = await stack.enter_async_context(Eraser.open(writer, reader, erased))
            uploads = await stack.enter_async_context(FolderFiles.open(folder_of(path), seal))
            yield cls(writer, reader, tails, saver, seal, clock, tables, erased, eraser, uploads)

    def store(self, options: StoreOptions = StoreOptions()) -> SqliteStore:
        return SqliteStore(self._writer, self._reader, self._seal, self._clock, options)

    def outage(self) -> Outage | None:
        return self._writer.outage

    async def load(self) -> Load:
        runs = dict(await self._reader.rows(queries.RUNS_BY_STATUS))
        ((pending, oldest),) = await self._reader.rows(queries.PENDING_APPROVALS)
        return Load(
            runs=runs,
            pending=pending,
            oldest=datetime.fromisoformat(oldest) if oldest is not None else None,
            operations=self._writer.waiting,
            commits=self._writer.commits,
            sizes=self._writer.sizes,
        )

    # ── changes ──

    async def commit(self, change: Change) -> tuple[int, ...]:
        threads = {event.thread_id for event in change.events}
        if change.erase is not None:
            threads.add(change.erase)
        for row in (*change.rows, *change.removed):
            # Events under a run's lease must be stored before the change that ends the lease.
            if isinstance(row, Run):
                threads.add(row.thread_id)
        apply = operation(change, self._tables, self._erased)
        numbers = None
        while numbers is None:
            try:
                numbers = await self._writer.write(
                    apply, threads=threads, waits=change.lease is not None
                )
            except StillErased as error:
                await self._eraser.finish_rows(error.thread_id)
        if change.erase is not None:
            self.checkpointer.forget_thread(change.erase)
            self._eraser.wake()
        return numbers

    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        # A copy, because the caller may go on to fill its list.
        self._writer.append(tuple(events), on_error, lease)

    # ── the event log ──

    async def read_log(
        self,
        thread_id: str,
        after: int = 0,
        *,
        limit: int = 1000,
        types: Collection[str] | None = None,
        run_id: str | None = None,
        most_bytes: int | None = None,
    ) -> tuple[LogEntry, ...]:
        paging.check_limit(limit)
        most_bytes = READ_BYTES if most_bytes is None else most_bytes
        tail = self._tails.get(thread_id)
        if tail is not None and tail.base is None:
            last, _ = await self._log_head(thread_id)
            tail.prime(last)
            tail = self._tails.get(thread_id)
        if tail is not None and tail.covers(after):
            return tail.read(after, limit, types, run_id, most_bytes)

        entries = await self._read_file(thread_id, after, limit, types, run_id, most_bytes)
        follows = bool(entries) and entries[0].seq == after + 1
        if after > 0 and not follows:
            # Asked after the events were read: any removal before that read is known by now.
            _check_not_removed(thread_id, after, await self._log_head(thread_id))
        return entries

    async def newest_event(self, thread_id: str, run_id: str) -> LogEntry | None:
        found = await self._reader.rows(queries.NEWEST_EVENT, (thread_id, run_id))
        return self._entry(thread_id, *found[0]) if found else None

    async def check_cursor(self, thread_id: str, after: int) -> None:
        last, _ = head = await self._log_head(thread_id)
        _check_not_removed(thread_id, after, head)
        if after > last:
            raise Gone(
                f"The {named(thread_id)} has no event number {after}: its last is {last}. The "
                "number may be that of another, or the database an older copy. "
                f"Begin after {last}, or after 0 for all that are left.",
                first=last + 1,
            )

    async def last_seq(self, thread_id: str) -> int:
        newest, removed = await self._log_head(thread_id)
        return newest if newest > removed else 0

    def listen(self, thread_id: str) -> AbstractContextManager[Doorbell]:
        return self._tails.listen(thread_id)

    def end_listening(self) -> None:
        self._tails.end()

    async def _log_head(self, thread_id: str) -> tuple[int, int]:
        """The last number of the thread's log, and the last number that was removed from it."""
        found = await self._reader.rows(
            "SELECT seq, removed FROM log_heads WHERE thread_id = ?", (thread_id,)
        )
        return found[0] if found else (0, 0)

    async def _read_file(
        self,
        thread_id: str,
        after: int,
        limit: int,
        types: Collection[str] | None,
        run_id: str | None,
        most_bytes: int,
    ) -> tuple[LogEntry, ...]:
        sql = queries.log_page(types, run_id)
        parameters = queries.log_parameters(thread_id, after, limit, types, run_id)
        entries: list[LogEntry] = []
        for columns in await self._reader.rows(sql, parameters, most_bytes=most_bytes):
            try:
                entries.append(self._entry(thread_id, *columns))
            except Tampered:
                # The events before it are still returned, and the next read begins with it.
                if not entries:
                    raise
                break
        return tuple(entries)

    def _entry(self, thread_id: str, seq: int, type_: str, run_id: str, body: Any) -> LogEntry:
        opened = self._seal.open(body, thread_id, "event", seq, type_)
        # The sealed body is not bound to the column `run_id`, but has the id inside.
        if self._seal.is_on and msgspec.json.decode(opened, type=_RunOfEvent).run_id != run_id:
            raise tampered(thread_id, "event", seq)
        return LogEntry(seq, type_, run_id, opened)

    # ── threads ──

    async def thread(self, thread_id: str) -> Thread | None:
        return await self._one(self._tables.threads, thread_id)

    async def threads(
        self, *, status: ThreadStatus | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Thread]:
        where = Where(status=status)
        return await self._latest(self._tables.threads, "created_at", where, limit, cursor)

    async def distrust(self, thread_id: str, reason: str, *, stopped: bool = False) -> None:
        now = self._clock.now()
        mark = distrusting(thread_id, reason, now, self._tables, stopped=stopped)
        await self._writer.write(mark, threads=(thread_id,))

    async def _distrust_thread_of(self, error: Tampered) -> str:
        """Log the error once, distrust the thread that it names, if any, and return its id."""
        thread_id = str(error.details["thread_id"])
        if error.message not in self._logged:
            self._logged.add(error.message)
            logger.error("%s", error)
        # If the disk is full now, the next reader of the row will try again.
        with suppress(Unavailable):
            await self.distrust(thread_id, error.message)
        return thread_id

    # ── runs ──

    async def run(self, run_id: str) -> Run | None:
        return await self._one(self._tables.runs, run_id)

    async def runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        due_by: datetime | None = None,
        limit: int = 1000,
    ) -> tuple[Run, ...]:
        where = runs_where(thread_id, status, due_by)
        page = await self._page(self._tables.runs, "number", where, limit, None)
        return page.rows

    async def latest_runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        due_by: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Run]:
        where = runs_where(thread_id, status, due_by)
        return await self._latest(self._tables.runs, "number", where, limit, cursor)

    async def ended_runs(
        self, since: datetime | None = None, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[Run]:
        where = Where()
        where.add("ended_at >= ?", since or "")
        return await self._page(self._tables.runs, "ended_at", where, limit, cursor)

    async def due_runs(
        self, now: datetime, *, agents: Collection[str], limit: int = 100
    ) -> tuple[Run, ...]:
        return await self._limited(self._tables.runs, queries.DUE_RUNS, now, agents, limit=limit)

    async def orphaned_runs(self, *, agents: Collection[str], limit: int = 1000) -> tuple[Run, ...]:
        return await self._limited(self._tables.runs, queries.ORPHANED_RUNS, agents, limit=limit)

    async def unfinished_runs(self) -> Mapping[str, int]:
        return dict(await self._reader.rows(queries.UNFINISHED_RUNS))

    async def usage(
        self,
        *,
        thread_id: str | None = None,
        agent: str | None = None,
        since: datetime | None = None,
    ) -> Mapping[str, float]:
        runs, past = (Where(thread_id=thread_id, agent=agent) for _ in range(2))
        runs.add("created_at >= ?", since)
        runs.add(queries.IS_NUMBER)
        if thread_id is not None:
            runs.add(IS_VISIBLE)
        past.add(queries.IN_PAST, since)
        sql = queries.USAGE.format(runs, past)
        return dict(await self._reader.rows(sql, (*runs.parameters, *past.parameters)))

    async def heartbeat(self, worker: str, *, agents: Collection[str]) -> None:
        served = queries.parameter(sorted(agents))
        await self._writer.execute(queries.HEARTBEAT, worker, served)

    async def workers(self) -> Mapping[str, int]:
        return dict(await self._reader.rows("SELECT worker, heartbeats FROM workers"))

    async def retire(self, worker: str, heartbeats: int | None = None) -> None:
        if heartbeats is None:
            await self._writer.execute(queries.RETIRE, worker)
        else:
            await self._writer.execute(queries.RETIRE_SILENT, worker, heartbeats)

    # ── timers and schedules ──

    async def timer(self, timer_id: str) -> Timer | None:
        return await self._one(self._tables.timers, timer_id)

    async def due_timers(self, now: datetime, *, limit: int = 100) -> tuple[Timer, ...]:
        return await self._limited(self._tables.timers, queries.DUE_TIMERS, now, limit=limit)

    async def next_due(self, after: datetime) -> datetime | None:
        time = time_text(after)
        ((due,),) = await self._reader.rows(queries.NEXT_DUE, (time, time))
        return datetime.fromisoformat(due) if due else None

    async def schedule(self, schedule_id: str) -> Schedule | None:
        return await self._one(self._tables.schedules, schedule_id)

    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[Schedule]:
        return await self._latest(self._tables.schedules, "created_at", Where(), limit, cursor)

    # ── approvals ──

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
        few = {"thread_id": thread_id, "run_id": run_id}
        where = where_few(few, status=status, agent=agent, tool=tool)
        where.add("? IN (SELECT value FROM json_each(roles))", role)
        where.add(
            "? IN (SELECT value FROM json_each(names)"
            " UNION ALL SELECT value FROM json_each(assignees))",
            assignee,
        )
        where.add("requested_at < ?", before)
        return await self._page(self._tables.approvals, "requested_at", where, limit, cursor)

    async def grant(self, grant_id: str) -> Grant | None:
        return await self._one(self._tables.grants, grant_id)

    async def grants(self, *, limit: int = 100, cursor: str | None = None) -> Page[Grant]:
        return await self._latest(self._tables.grants, "given_at", Where(), limit, cursor)

    async def open_grants(
        self, agent: str, tools: Collection[str], now: datetime
    ) -> tuple[Grant, ...]:
        return await self._all(self._tables.grants, queries.OPEN_GRANTS, agent, tools, now)

    async def answer(self, answer_id: str) -> Answer | None:
        return await self._one(self._tables.answers, answer_id)

    async def effect(self, key: str) -> Effect | None:
        return await self._one(self._tables.effects, key)

    async def effects(self, thread_id: str, tool_call_id: str) -> tuple[Effect, ...]:
        table = self._tables.effects
        where = Where(thread_id=thread_id, tool_call_id=tool_call_id)
        sql = f"{table.select} {where} ORDER BY number"
        found = await self._reader.rows(sql, where.parameters)
        return tuple(table.decode(columns) for columns in found)

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
        paging.check_limit(limit)
        few = {"thread_id": thread_id, "approval_id": approval_id}
        where = where_few(few, actor=actor)
        where.add("at >= ?", since)
        if cursor is not None:
            where.add("number > ?", paging.number(cursor))
        else:
            # The records are in the order of their numbers, and may be years old before that time.
            where.add("number >= (SELECT min(number) FROM audit WHERE at >= ?)", since)
        sql = f"{audit_chain.SELECT} {where} ORDER BY number LIMIT ?"
        found = await self._reader.rows(sql, (*where.parameters, limit + 1))

        records = [audit_chain.decode(columns, self._seal) for columns in found[:limit]]
        readable = tuple(record for record in records if record is not None)
        has_more = len(found) > limit
        return Page(readable, str(found[limit - 1][0]) if has_more else None)

    async def audit_head(self) -> AuditHead | None:
        found = await self._reader.rows(audit_chain.LAST)
        return audit_chain.head_from(found[0]) if found else None

    # ── uploads ──

    async def file(self, file_id: str) -> File | None:
        return await self._one(self._tables.files, file_id)

    async def file_uses(self, thread_id: str) -> tuple[FileUse, ...]:
        return await self._all(self._tables.file_uses, queries.USES_OF_THREAD, thread_id)

    async def size_of_files(self) -> int:
        ((size,),) = await self._reader.rows(queries.SIZE_OF_FILES)
        return int(size)

    async def known_files(self, file_ids: Sequence[str]) -> frozenset[str]:
        asked = (queries.parameter(list(file_ids)),)
        return frozenset(id for (id,) in await self._reader.rows(queries.KNOWN_FILES, asked))

    async def remove_file(self, file_id: str) -> bool:
        return await self._writer.execute(queries.REMOVE_FILE, file_id) > 0

    async def remove_unused_files(self, before: datetime) -> tuple[str, ...]:
        asked = (time_text(before), REMOVED_AT_ONCE)
        found = await self._reader.rows(queries.UNUSED_FILES, asked)

        def remove(transaction: Transaction) -> tuple[str, ...]:
            execute = transaction.connection.execute
            return tuple(id for (id,) in found if execute(queries.REMOVE_FILE, (id,)).rowcount)

        return await self._writer.write(remove, threads=()) if found else ()

    # ── notifications ──

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
        where = where_few({"approval_id": approval_id}, status=status, endpoint=endpoint)
        return await self._latest(self._tables.notifications, "created_at", where, limit, cursor)

    async def due_notifications(
        self, endpoint: str, now: datetime, *, limit: int = 100
    ) -> tuple[Notification, ...]:
        table = self._tables.notifications
        return await self._limited(table, queries.DUE_NOTIFICATIONS, endpoint, now, limit=limit)

    async def next_notification(self, endpoint: str) -> datetime | None:
        found = await self._reader.rows(queries.NEXT_NOTIFICATION, (endpoint,))
        return datetime.fromisoformat(found[0][0]) if found else None

    async def link(self, link_id: str) -> Link | None:
        return await self._one(self._tables.links, link_id)

    # ── keys and sessions ──

    async def api_key(self, key_id: str) -> ApiKey | None:
        return await self._one(self._tables.keys, key_id)

    async def api_keys(
        self, *, owner: Owner | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[ApiKey]:
        where = owner_where(owner)
        return await self._latest(self._tables.keys, "created_at", where, limit, cursor)

    async def session(self, session_id: str) -> Session | None:
        return await self._one(self._tables.sessions, session_id)

    async def sessions(
        self, *, owner: Owner | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Session]:
        where = owner_where(owner)
        return await self._latest(self._tables.sessions, "created_at", where, limit, cursor)

    # ── retention ──

    async def idle_threads(
        self, since: datetime, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Thread]:
        recent = await retention.first_recent_run(self._reader, since, self._clock.now())
        where = Where()
        where.add(queries.IDLE_SINCE, since, since, since, recent)
        return await self._page(self._tables.threads, "updated_at", where, limit, cursor)

    async def remove_runs(self, before: datetime) -> int:
        now = self._clock.now()
        return await retention.remove_runs(self._writer, self._reader, before, now)

    async def remove_events(self, before: datetime, *, feeds_only: bool = False) -> int:
        return await retention.remove_events(
            self._writer, self._reader, before, feeds_only=feeds_only
        )

    async def remove_answers(self, before: datetime) -> int:
        return await retention.remove_over(self._writer, queries.REMOVE_ANSWERS, before)

    async def remove_grants(self, before: datetime) -> int:
        return await retention.remove_over(self._writer, queries.REMOVE_GRANTS, before)

    async def remove_links(self, before: datetime) -> int:
        return await retention.remove_over(self._writer, queries.REMOVE_LINKS, before)

    async def remove_sign_ins(self, before: datetime) -> int:
        removed = 0
        for sql in (queries.REMOVE_SESSIONS, queries.REMOVE_TICKETS):
            removed += await retention.remove_over(self._writer, sql, before)
        return removed

    async def remove_items(self, before: datetime) -> int:
        return await retention.remove_over(self._writer, REMOVE_EXPIRED, before)

    async def forget_times_of_usage(self, before: datetime) -> None:
        await retention.forget_times_of_usage(self._writer, before)

    async def remove_notifications(
        self,
        status: NotificationStatus,
        before: datetime,
        *,
        other_than: Collection[str] = (),
    ) -> int:
        return await self._writer.execute(
            queries.REMOVE_NOTIFICATIONS,
            status.value,
            time_text(before),
            queries.parameter(sorted(other_than)),
            REMOVED_AT_ONCE,
        )

    async def prune_checkpoints(self, thread_ids: Sequence[str], keep: int) -> None:
        try:
            await self.checkpointer.aprune(thread_ids, keep=keep)
        except Tampered as error:
            # Nothing of a distrusted thread is read any more, so its checkpoints stay, and the
            # other threads are pruned without it.
            distrusted = await self._distrust_thread_of(error)
            others = [thread_id for thread_id in thread_ids if thread_id != distrusted]
            if others:
                await self.prune_checkpoints(others, keep)

    async def shrink(self) -> None:
        await retention.shrink(self._writer)

    # ── rows of any table ──

    async def _one(self, table: Table[R], key: str) -> R | None:
        found = await self._reader.rows(f'{table.select} WHERE "{table.key}" = ?', (key,))
        return table.decode(found[0]) if found else None

    async def _all(self, table: Table[R], query: str, *values: object) -> tuple[R, ...]:
        parameters = [queries.parameter(value) for value in values]
        return await self._trusted(
            table, await self._reader.rows(f"{table.select} {query}", parameters)
        )

    async def _limited(
        self, table: Table[R], query: str, *values: object, limit: int
    ) -> tuple[R, ...]:
        paging.check_limit(limit)
        return await self._all(table, query, *values, limit)

    async def _latest(
        self, table: Table[R], by: str, where: Where, limit: int, cursor: str | None
    ) -> Page[R]:
        return await self._page(table, by, where, limit, cursor, newest_first=True)

    async def _page(
        self,
        table: Table[R],
        by: str,
        where: Where,
        limit: int,
        cursor: str | None,
        *,
        newest_first: bool = False,
    ) -> Page[R]:
        """One page of the rows, in the order of the column `by`, a time or the number, and of the
        key."""
        paging.check_limit(limit)
        comparison, direction = ("<", "DESC") if newest_first else (">", "ASC")
        if cursor is not None:
            where.add(f"({by}, {table.key}) {comparison} (?, ?)", *paging.position(cursor))
        order = f"ORDER BY {by} {direction}, {table.key} {direction}"
        # One row more than was asked for shows whether there is another page.
        found = await self._reader.rows(
            f"{table.select} {where} {order} LIMIT ?", (*where.parameters, limit + 1)
        )
        following = None
        if len(found) > limit:
            last = found[limit - 1]
            following = paging.cursor_behind(last[table.selected.index(by)], last[0])
        return Page(await self._trusted(table, found[:limit]), following)

    async def _trusted(self, table: Table[R], found: Sequence[Any]) -> tuple[R, ...]:
        """The rows that nobody has tampered with. A list of many threads must not fail because of
        one of them."""
        rows: list[R] = []
        for columns in found:
            try:
                rows.append(table.decode(columns))
            except Tampered as error:
                await self._distrust_thread_of(error)
        return tuple(rows)


class _RunOfEvent(msgspec.Struct):
    run_id: str = ""


def _forget_workers(connection: sqlite3.Connection, path: Path) -> None:
    """The file's lock proves that every process that had it before is dead."""
    try:
        connection.execute("DELETE FROM workers")
    except sqlite3.Error as error:
        raise database.unusable(path, error) from error


def _check_not_removed(thread_id: str, after: int, head: tuple[int, int]) -> None:
    """Raise `Gone` if events above the number were removed from the log with this head."""
    _, removed = head
    if 0 < after < removed:
        raise Gone(
            f"The events of the {named(thread_id)} up to number {removed} have been "
            f"removed, and you asked for those after {after}. Begin after {removed}, or "
            "after 0 for all that are left.",
            first=removed + 1,
        )
