"""Reading a SQLite file with a sight: the same queries for everybody, over the rows and logs that
each may see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import msgspec

from assent.core.access import EVERYTHING, Owner, Sight
from assent.core.approval import Approval, ApprovalStatus
from assent.core.audit import AuditAction, AuditHead, AuditRecord
from assent.core.errors import Gone, Tampered
from assent.core.grant import Grant
from assent.core.logs import named
from assent.core.policy import Risk
from assent.core.rows import (
    Answer,
    ApiKey,
    Assistant,
    AssistantVersion,
    File,
    FileUse,
    Link,
    Notification,
    NotificationStatus,
    Run,
    RunStatus,
    Schedule,
    Session,
    Thread,
    ThreadStatus,
)
from assent.core.sealing import Seal, tampered
from assent.storage.base import (
    ApprovalOrder,
    AuditOrder,
    Doorbell,
    LogEntry,
    Page,
    Reads,
    ThreadTime,
)
from assent.storage.sqlite import audit_chain, paging, queries
from assent.storage.sqlite.queries import Where, owner_where, runs_where, where_few
from assent.storage.sqlite.reader import Reader, bytes_of
from assent.storage.sqlite.tables import Column, R, Table, Tables, visible
from assent.storage.sqlite.tails import Tails

PAGE_BYTES = 4 << 20
"""The most bytes of a page of rows, unless a single one is larger: rows may have a mebibyte each,
and a thousand of them would take the server seconds."""

NEVER = "9999"
"""Behind every time, in lists of what happens next."""

READ_BYTES = 4 << 20
"""The most bytes of events that are read at once, unless a single one is larger. A thousand of the
usual size are 300 KiB; this much of large ones is there in a few milliseconds."""


class SqliteReads(Reads):
    """What can be read of a file with a sight. `on_tampered` is given the error of a row that a
    list leaves out."""

    def __init__(
        self,
        reader: Reader,
        tails: Tails,
        seal: Seal,
        tables: Tables,
        on_tampered: Callable[[Tampered], Awaitable[object]],
        sight: Sight = EVERYTHING,
    ) -> None:
        self._reader = reader
        self._tails = tails
        self._seal = seal
        self._tables = tables
        self._on_tampered = on_tampered
        self._sight = sight

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

        sql = queries.log_page(types, run_id)
        parameters = queries.log_parameters(thread_id, after, limit, types, run_id)
        entries = await self._entries(thread_id, sql, parameters, most_bytes)
        follows = bool(entries) and entries[0].seq == after + 1
        if after > 0 and not follows:
            # Asked after the events were read: any removal before that read is known by now.
            _check_not_removed(thread_id, after, await self._log_head(thread_id))
        return entries

    async def read_log_back(
        self,
        thread_id: str,
        before: int | None = None,
        *,
        limit: int = 1000,
        types: Collection[str] | None = None,
        run_id: str | None = None,
        most_bytes: int | None = None,
    ) -> tuple[LogEntry, ...]:
        paging.check_limit(limit)
        sql = queries.log_page(types, run_id, back=True)
        parameters = queries.log_parameters(thread_id, 0, limit, types, run_id, before)
        most_bytes = READ_BYTES if most_bytes is None else most_bytes
        newest_first = await self._entries(thread_id, sql, parameters, most_bytes)
        return newest_first[::-1]

    async def newest_event(self, thread_id: str, run_id: str) -> LogEntry | None:
        found = await self._of_log(queries.NEWEST_EVENT, thread_id=thread_id, run_id=run_id)
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

    async def _log_head(self, thread_id: str) -> tuple[int, int]:
        """The last number of the thread's log, and the last number that was removed from it."""
        found = await self._reader.rows(queries.LOG_HEAD, (thread_id,))
        return found[0] if found else (0, 0)

    async def _of_log(
        self, sql: str, most_bytes: int | None = None, **parameters: Column
    ) -> list[Any]:
        """The rows of a query of one log."""
        return await self._reader.rows(sql, parameters, most_bytes=most_bytes)

    async def _entries(
        self, thread_id: str, sql: str, parameters: Mapping[str, Column], most_bytes: int
    ) -> tuple[LogEntry, ...]:
        """The entries of a page of the log, in the order of its query."""
        entries: list[LogEntry] = []
        for columns in await self._of_log(sql, most_bytes, **parameters):
            try:
                entries.append(self._entry(thread_id, *columns))
            except Tampered:
                # What came until then is still returned, and the next read begins with it.
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
        self,
        *,
        status: ThreadStatus | None = None,
        agent: str | None = None,
        by: ThreadTime = "created_at",
        newest_first: bool = True,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Thread]:
        where = Where()
        # Those of one status are in the order in which they were made.
        where.add(f"{'' if by == 'created_at' else '+'}status = ?", status)
        where.add("(agent = ? OR agent IS NULL)", agent)
        return await self._page(
            self._tables.threads,
            by,
            where,
            limit,
            cursor,
            newest_first=newest_first,
            most_bytes=PAGE_BYTES,
        )

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
        few = thread_id is not None
        page = await self._page(self._tables.runs, "number", where, limit, None, few=few)
        return page.rows

    async def latest_runs(
        self,
        *,
        thread_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        agent: str | None = None,
        owner: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        due_by: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Run]:
        where = runs_where(thread_id, status, due_by)
        few = thread_id is not None
        # A thread, and a person, have fewer runs than an agent.
        plus = "+" if few or owner or self._sight.reach == "own" else ""
        where.add(f"{plus}agent = ?", agent)
        where.add("owner = ?", owner)
        where.add("created_at >= ?", since)
        where.add("created_at <= ?", until)
        if not few:
            where.add(queries.RUNS_SINCE, since)
            where.add(queries.RUNS_UNTIL, until)
        return await self._latest(self._tables.runs, "number", where, limit, cursor, few=few)

    # ── timers and schedules ──

    async def schedule(self, schedule_id: str) -> Schedule | None:
        return await self._one(self._tables.schedules, schedule_id)

    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[Schedule]:
        return await self._latest(self._tables.schedules, "created_at", Where(), limit, cursor)

    # ── assistants ──

    async def assistant(self, assistant_id: str) -> Assistant | None:
        return await self._one(self._tables.assistants, assistant_id)

    async def assistants(self, *, limit: int = 100, cursor: str | None = None) -> Page[Assistant]:
        return await self._latest(self._tables.assistants, "created_at", Where(), limit, cursor)

    async def assistant_version(self, version_id: str) -> AssistantVersion | None:
        return await self._one(self._tables.assistant_versions, version_id)

    async def assistant_versions(
        self, assistant_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[AssistantVersion]:
        table, where = self._tables.assistant_versions, Where(assistant_id=assistant_id)
        return await self._latest(table, "number", where, limit, cursor, few=True)

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
        risk: Risk | None = None,
        before: datetime | None = None,
        sort: ApprovalOrder = "oldest",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Approval]:
        few = {"thread_id": thread_id, "run_id": run_id}
        where = where_few(few, status=status, agent=agent, tool=tool, risk=risk)
        where.add("? IN (SELECT value FROM json_each(roles))", role)
        where.add(
            "? IN (SELECT value FROM json_each(names)"
            " UNION ALL SELECT value FROM json_each(assignees))",
            assignee,
        )
        where.add("requested_at < ?", before)
        is_few = thread_id is not None or run_id is not None
        return await self._page(
            self._tables.approvals,
            "expires_at" if sort == "expiring" else "requested_at",
            where,
            limit,
            cursor,
            newest_first=sort == "newest",
            few=is_few,
            most_bytes=PAGE_BYTES,
        )

    async def grant(self, grant_id: str) -> Grant | None:
        return await self._one(self._tables.grants, grant_id)

    async def grants(self, *, limit: int = 100, cursor: str | None = None) -> Page[Grant]:
        return await self._latest(self._tables.grants, "given_at", Where(), limit, cursor)

    async def answer(self, answer_id: str) -> Answer | None:
        return await self._one(self._tables.answers, answer_id)

    async def audit(
        self,
        *,
        thread_id: str | None = None,
        approval_id: str | None = None,
        actor: str | None = None,
        action: AuditAction | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        sort: AuditOrder = "oldest",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[AuditRecord]:
        paging.check_limit(limit)
        few = {"thread_id": thread_id, "approval_id": approval_id}
        where = where_few(few, actor=actor, action=action)
        where.add("at >= ?", since)
        where.add("at <= ?", until)
        is_newest_first = sort == "newest"
        if cursor is not None:
            where.add("number < ?" if is_newest_first else "number > ?", paging.number(cursor))
        where.add(queries.AUDIT_SINCE, since)
        where.add(queries.AUDIT_UNTIL, until)
        if self._sight.reach == "tenant":
            # A list by anything else is in the order of its own index.
            plus = "+" if thread_id or approval_id or actor or action else ""
            where.require(f"{plus}tenant IS ?", self._sight.owner.tenant)
        elif self._sight.reach != "everything":
            where.require("false")
        order = "number DESC" if is_newest_first else "number"
        sql = f"{audit_chain.SELECT} {where} ORDER BY {order} LIMIT ?"
        found = await self._reader.rows(sql, (*where.parameters, limit + 1))

        records = [audit_chain.decode(columns, self._seal) for columns in found[:limit]]
        readable = tuple(record for record in records if record is not None)
        has_more = len(found) > limit
        return Page(readable, str(found[limit - 1][0]) if has_more else None)

    async def audit_head(self) -> AuditHead | None:
        if self._sight.reach not in ("everything", "tenant"):
            return None
        found = await self._reader.rows(audit_chain.LAST)
        return audit_chain.head_from(found[0]) if found else None

    # ── uploads ──

    async def file(self, file_id: str) -> File | None:
        return await self._one(self._tables.files, file_id)

    async def file_uses(self, thread_id: str) -> tuple[FileUse, ...]:
        return await self._all(self._tables.file_uses, queries.USES_OF_THREAD, thread_id, few=True)

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
        few = approval_id is not None
        return await self._latest(
            self._tables.notifications, "created_at", where, limit, cursor, few=few
        )

    async def link(self, link_id: str) -> Link | None:
        return await self._one(self._tables.links, link_id)

    # ── what lets people in ──

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

    # ── rows of any table ──

    async def _found(
        self,
        table: Table[Any],
        tail: str,
        parameters: Sequence[Column],
        *,
        few: bool = False,
        only: str | None = None,
        page_bytes: int | None = None,
    ) -> list[Any]:
        """The rows of the table that are seen, and that the rest of the query finds; or `only` one
        column of theirs; or a page of so many bytes, with a row behind it. There is no other way to
        read rows."""
        seen = visible(table, self._sight, few=few)
        return await self._reader.rows(
            f"SELECT {only or table.read} FROM {seen.sql} {tail}",
            (*seen.parameters, *parameters),
            most_bytes=page_bytes,
            is_page=page_bytes is not None,
        )

    async def _one(self, table: Table[R], key: str) -> R | None:
        found = await self._found(table, f'WHERE "{table.key}" = ?', (key,), few=True)
        return table.decode(found[0]) if found else None

    async def _all(
        self, table: Table[R], query: str, *values: object, few: bool = False
    ) -> tuple[R, ...]:
        parameters = [queries.parameter(value) for value in values]
        return await self._trusted(table, await self._found(table, query, parameters, few=few))

    async def _limited(
        self, table: Table[R], query: str, *values: object, limit: int
    ) -> tuple[R, ...]:
        paging.check_limit(limit)
        return await self._all(table, query, *values, limit)

    async def _latest(
        self,
        table: Table[R],
        by: str,
        where: Where,
        limit: int,
        cursor: str | None,
        *,
        few: bool = False,
    ) -> Page[R]:
        return await self._page(
            table, by, where, limit, cursor, newest_first=True, few=few, most_bytes=PAGE_BYTES
        )

    async def _page(
        self,
        table: Table[R],
        by: str,
        where: Where,
        limit: int,
        cursor: str | None,
        *,
        newest_first: bool = False,
        few: bool = False,
        most_bytes: int | None = None,
    ) -> Page[R]:
        """One page of the rows, in the order of the column `by`, a time or the number, and of the
        key; those without a time come last. It may end before the limit where the rows have more
        than `most_bytes`."""
        paging.check_limit(limit)
        comparison, direction = ("<", "DESC") if newest_first else (">", "ASC")
        place = f"ifnull({by}, '{NEVER}')" if by == "expires_at" else by
        if cursor is not None:
            where.add(f"({place}, {table.key}) {comparison} (?, ?)", *paging.position(cursor))
        order = f"ORDER BY {place} {direction}, {table.key} {direction}"
        # One row more than was asked for shows whether there is another page.
        found = await self._found(
            table,
            f"{where} {order} LIMIT ?",
            (*where.parameters, limit + 1),
            few=few,
            page_bytes=most_bytes,
        )
        is_large = most_bytes is not None and sum(map(bytes_of, found)) > most_bytes
        following = None
        if len(found) > limit or (is_large and len(found) > 1):
            found.pop()
            last = found[-1]
            at = last[table.selected.index(by)]
            following = paging.cursor_behind(NEVER if at is None else at, last[0])
        return Page(await self._trusted(table, found), following)

    async def _trusted(self, table: Table[R], found: Sequence[Any]) -> tuple[R, ...]:
        """The rows that nobody has tampered with. A list of many threads must not fail because of
        one of them."""
        rows: list[R] = []
        for columns in found:
            try:
                rows.append(table.decode(columns))
            except Tampered as error:
                await self._on_tampered(error)
        return tuple(rows)


class _RunOfEvent(msgspec.Struct):
    run_id: str = ""


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
