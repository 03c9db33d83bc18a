"""`Storage` over one SQLite file."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

from assent.core.access import Owner, Sight
from assent.core.clock import Clock, time_text
from assent.core.errors import Tampered, Unavailable
from assent.core.events import Event
from assent.core.grant import Grant
from assent.core.rows import (
    Effect,
    File,
    FileUse,
    Lease,
    Link,
    Notification,
    NotificationStatus,
    Run,
    Thread,
    Ticket,
    Timer,
)
from assent.core.sealing import Seal, parse_keys
from assent.storage.base import Change, Load, Outage, Page, Reads, Storage
from assent.storage.chain import Heads, Verification
from assent.storage.files import Files
from assent.storage.folder_files import FolderFiles, folder_of
from assent.storage.sqlite import audit_chain, database, queries, retention
from assent.storage.sqlite.audit_chain import AuditFile
from assent.storage.sqlite.changes import operation
from assent.storage.sqlite.distrust import distrusting
from assent.storage.sqlite.erasing import Erased, Eraser, StillErased
from assent.storage.sqlite.file_keys import seal_of
from assent.storage.sqlite.queries import Where
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.reads import SqliteReads
from assent.storage.sqlite.saver import SqliteSaver
from assent.storage.sqlite.seen_reads import SeenReads
from assent.storage.sqlite.store import REMOVE_EXPIRED, SqliteStore
from assent.storage.sqlite.tables import IS_VISIBLE, Tables
from assent.storage.sqlite.tails import Tails
from assent.storage.sqlite.writer import Transaction, Writer
from assent.storage.store import StoreOptions

logger = logging.getLogger(__name__)

REMOVED_AT_ONCE = 200
"""Notifications, or uploads, whose rows are removed in one transaction, so that nobody has to wait
long for it."""


class SqliteStorage(SqliteReads, Storage):
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
        audit_file: Callable[[], AbstractContextManager[AuditFile]],
    ) -> None:
        super().__init__(reader, tails, seal, tables, self._distrust_thread_of)
        self.checkpointer: SqliteSaver = checkpointer
        self.files = files
        self._writer = writer
        self._erased = erased
        self._eraser = eraser
        self._clock = clock
        self._audit_file = audit_file
        self._verifying = asyncio.Lock()
        self._logged: set[str] = set()
        # None until it was asked for. Nobody else writes to the file.
        self._has_file_uses: bool | None = None

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
            audit_file = partial(
                AuditFile.open, path, audit_key=audit_key, encryption_key=encryption_key
            )
            yield cls(
                *(writer, reader, tails, saver, seal, clock, tables, erased, eraser, uploads),
                audit_file=audit_file,
            )

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

    def seen_by(self, sight: Sight) -> Reads:
        if sight.reach == "everything":
            return self
        return SeenReads(
            self._reader, self._tails, self._seal, self._tables, self._distrust_thread_of, sight
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
            elif isinstance(row, FileUse):
                self._has_file_uses = True
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

    async def file_uses(self, thread_id: str) -> tuple[FileUse, ...]:
        if self._has_file_uses is None:
            ((found,),) = await self._reader.rows(queries.HAS_FILE_USES)
            # One may have been committed since.
            self._has_file_uses = self._has_file_uses or bool(found)
        # Every run asks, and where nothing was ever uploaded there is nothing to read.
        return await super().file_uses(thread_id) if self._has_file_uses else ()

    def append(
        self,
        events: Sequence[Event],
        on_error: Callable[[Exception], None],
        lease: Lease | None = None,
    ) -> None:
        # A copy, because the caller may go on to fill its list.
        self._writer.append(tuple(events), on_error, lease)

    # ── the event log ──

    def end_listening(self) -> None:
        self._tails.end()

    # ── threads ──

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

    # ── approvals ──

    async def open_grants(
        self, tenant: str | None, agent: str, tools: Collection[str], now: datetime
    ) -> tuple[Grant, ...]:
        asked = map(queries.parameter, (agent, tools, now))
        found = await self._found(self._tables.grants, queries.OPEN_GRANTS, (*asked, tenant))
        return await self._trusted(self._tables.grants, found)

    async def effect(self, key: str) -> Effect | None:
        return await self._one(self._tables.effects, key)

    async def effects(self, thread_id: str, tool_call_id: str) -> tuple[Effect, ...]:
        table = self._tables.effects
        where = Where(thread_id=thread_id, tool_call_id=tool_call_id)
        found = await self._found(table, f"{where} ORDER BY number", where.parameters)
        return tuple(table.decode(columns) for columns in found)

    async def verify_audit(self, heads: Heads | None = None) -> Verification:
        def verify() -> Verification:
            with self._audit_file() as chain:
                return chain.verify(heads)

        async with self._verifying:
            return await asyncio.to_thread(verify)

    # ── uploads ──

    async def links_of(self, thread_id: str) -> tuple[Link, ...]:
        return await self._all(self._tables.links, queries.LINKS_OF_THREAD, thread_id, few=True)

    async def uploads_of(
        self, owner: Owner, *, limit: int = 100, cursor: str | None = None
    ) -> Page[File]:
        where = Where(owner=owner.name)
        where.require("tenant IS ?", owner.tenant)
        return await self._latest(self._tables.files, "created_at", where, limit, cursor)

    async def size_of_files(self) -> int:
        ((size,),) = await self._reader.rows(queries.SIZE_OF_FILES)
        return int(size)

    async def size_of_files_of(self, owner: Owner) -> tuple[int, int]:
        tenant = owner.tenant or ""
        own = await self._reader.rows(queries.HOLDING, (tenant, owner.name, "file_bytes"))
        whole = await self._reader.rows(queries.HOLDING, (tenant, "", "tenant_file_bytes"))
        return sum(size for (size,) in own), sum(size for (size,) in whole)

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

    async def due_notifications(
        self, endpoint: str, now: datetime, *, limit: int = 100
    ) -> tuple[Notification, ...]:
        table = self._tables.notifications
        return await self._limited(table, queries.DUE_NOTIFICATIONS, endpoint, now, limit=limit)

    async def next_notification(self, endpoint: str) -> datetime | None:
        found = await self._reader.rows(queries.NEXT_NOTIFICATION, (endpoint,))
        return datetime.fromisoformat(found[0][0]) if found else None

    # ── what lets people in ──

    async def ticket(self, ticket_id: str) -> Ticket | None:
        return await self._one(self._tables.tickets, ticket_id)

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


def _forget_workers(connection: sqlite3.Connection, path: Path) -> None:
    """The file's lock proves that every process that had it before is dead."""
    try:
        connection.execute("DELETE FROM workers")
    except sqlite3.Error as error:
        raise database.unusable(path, error) from error
