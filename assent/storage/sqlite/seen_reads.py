"""Reading logs with a sight that does not show everything.

A log in the file is read together with the row of its thread, in one query. A tail is in memory: it
is read only after its thread was seen in the file, and as long as the thread was not erased since.
A feed has what happened to many: of those that are not the reader's own, the entries are left out
whose rows the reader does not see.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import msgspec

from assent.core.approval import Approval
from assent.core.errors import Gone, NotFound, Tampered
from assent.core.logs import BROADCASTS, FEEDS, QUERIES, UNBEGUN, feed_named, named
from assent.core.rows import Run
from assent.storage.base import LogEntry
from assent.storage.sqlite import queries
from assent.storage.sqlite.reads import SqliteReads
from assent.storage.sqlite.tables import Column, R, Table
from assent.storage.sqlite.tails import Tail

FEED_PAGE = 200
"""The least number of a feed's entries that are looked at together."""

Place = tuple[Tail, int] | None
"""The tail of a thread, and how often the thread was erased; None for a thread without a tail."""

Passed = tuple[int, int]
"""The number behind which a reader sees nothing, and the one up to which that is so."""


class SeenReads(SqliteReads):
    """The reads with a sight that does not show everything, for one request or stream."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._admitted: dict[str, Place] = {}
        self._passed: dict[object, Passed] = {}

    # ── logs ──

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
        await self._admit(thread_id, after)
        if thread_id.startswith(FEEDS) and not self._is_whole(thread_id):
            return await self._read_feed(thread_id, after, limit, types, run_id, most_bytes)
        while True:
            entries = await super().read_log(
                thread_id, after, limit=limit, types=types, run_id=run_id, most_bytes=most_bytes
            )
            # Nothing has happened on the event loop since the tail was read.
            if self._is_admitted(thread_id):
                return entries
            await self._admit(thread_id, after)

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
        await self._admit(thread_id)
        read = partial(
            super().read_log_back, thread_id, types=types, run_id=run_id, most_bytes=most_bytes
        )
        if not thread_id.startswith(FEEDS) or self._is_whole(thread_id):
            return await read(before, limit=limit)
        while entries := await read(before, limit=max(limit, FEED_PAGE)):
            if shown := await self._shown(entries):
                return shown[-limit:]
            before = entries[0].seq
        return ()

    async def newest_event(self, thread_id: str, run_id: str) -> LogEntry | None:
        await self._admit(thread_id)
        return await super().newest_event(thread_id, run_id)

    async def check_cursor(self, thread_id: str, after: int) -> None:
        await self._admit(thread_id, after)
        await super().check_cursor(thread_id, after)

    async def last_seq(self, thread_id: str) -> int:
        await self._admit(thread_id)
        return await super().last_seq(thread_id)

    async def _of_log(
        self, sql: str, most_bytes: int | None = None, **parameters: Column
    ) -> list[Any]:
        if str(parameters["thread_id"]).startswith(FEEDS):
            return await super()._of_log(sql, most_bytes, **parameters)
        owner = self._sight.owner
        return await super()._of_log(
            queries.of_seen_thread(sql),
            most_bytes,
            **parameters,
            tenant=owner.tenant,
            owner=owner.name if self._sight.reach == "own" else None,
        )

    # ── rows that are seen by their thread ──

    async def _one(self, table: Table[R], key: str) -> R | None:
        row = await super()._one(table, key)
        return row if row is not None and await self._is_theirs(table, row) else None

    async def _trusted(self, table: Table[R], found: Sequence[Any]) -> tuple[R, ...]:
        rows: list[R] = []
        for row in await super()._trusted(table, found):
            try:
                if await self._is_theirs(table, row):
                    rows.append(row)
            except Tampered as error:
                await self._on_tampered(error)
        return tuple(rows)

    async def _is_theirs(self, table: Table[R], row: R) -> bool:
        """True unless the row is shown for the sake of a thread that is not: its row in the file
        may have been changed, and then it raises `Tampered`."""
        if isinstance(row, Approval):
            by_thread = not self._sight.shows(row)
        elif isinstance(row, Run):
            by_thread = self._sight.reach == "own" and row.owner != self._sight.owner.name
        else:
            by_thread = table.owned == "thread"
        return not by_thread or await self.thread(row.thread_id) is not None

    # ── threads ──

    async def _admit(self, log_id: str, after: int = 0) -> None:
        """Raise `NotFound` unless the log is seen; or `Gone` if it was, and its thread has been
        erased since."""
        if log_id.startswith(FEEDS):
            if not self._shows_feed(log_id):
                raise _no_log(log_id)
            return
        while not self._is_admitted(log_id):
            place = self._place(log_id)
            if await self.thread(log_id) is None:
                if log_id in self._admitted:
                    raise Gone(
                        f"The {named(log_id)} has been erased, with its events up to number "
                        f"{after}.",
                        first=after + 1,
                    )
                raise _no_log(log_id)
            self._admitted[log_id] = place

    def _is_admitted(self, log_id: str) -> bool:
        """True if what is in memory of the log may be read, or nothing of it is there."""
        if log_id.startswith(FEEDS):
            return True
        place = self._place(log_id)
        return log_id in self._admitted and place in (None, self._admitted[log_id])

    def _place(self, log_id: str) -> Place:
        tail = self._tails.get(log_id)
        return None if tail is None else (tail, tail.erasures)

    # ── feeds ──

    def _shows_feed(self, log_id: str) -> bool:
        reach, owner = self._sight.reach, self._sight.owner
        if reach == "nothing":
            return False
        if log_id in (QUERIES, UNBEGUN):
            return True
        if log_id == BROADCASTS:
            return reach == "tenant"
        feed = feed_named(log_id)
        if feed is None or feed.tenant != owner.tenant:
            return False
        return reach == "tenant" or feed.kind != "user" or feed.name == owner.name

    def _is_whole(self, log_id: str) -> bool:
        """True if every entry of the feed is seen."""
        feed = feed_named(log_id)
        if feed is None:
            return log_id != BROADCASTS
        return self._sight.reach == "tenant" or feed.kind == "user"

    async def _read_feed(
        self,
        feed: str,
        after: int,
        limit: int,
        types: Collection[str] | None,
        run_id: str | None,
        most_bytes: int | None,
    ) -> tuple[LogEntry, ...]:
        """The feed's entries that are seen. What was looked at in vain is not looked at again."""
        asked = (feed, None if types is None else frozenset(types), run_id)
        first, behind = self._passed.get(asked, (after, after))
        at = behind if first <= after < behind else after
        while True:
            entries = await super().read_log(
                feed,
                at,
                limit=max(limit, FEED_PAGE),
                types=types,
                run_id=run_id,
                most_bytes=most_bytes,
            )
            shown = await self._shown(entries)
            if shown or not entries:
                return shown[:limit]
            at = entries[-1].seq
            self._passed[asked] = (after, at)

    async def _shown(self, entries: Sequence[LogEntry]) -> tuple[LogEntry, ...]:
        about = [_ABOUT.decode(entry.body) for entry in entries]
        approvals = await self._ids(
            self._tables.approvals, {each.approval_id for each in about if each.approval_id}
        )
        runs = await self._ids(
            self._tables.runs, {each.run_id for each in about if not each.approval_id}
        )
        tenant = self._sight.owner.tenant
        shown: list[LogEntry] = []
        for entry, each in zip(entries, about, strict=True):
            if each.thread_id == BROADCASTS:
                is_shown = each.tenant == tenant
            elif each.approval_id:
                is_shown = each.approval_id in approvals
            else:
                is_shown = each.run_id in runs
            if is_shown:
                shown.append(entry)
        return tuple(shown)

    async def _ids(self, table: Table[Any], ids: set[str]) -> set[str]:
        """Those of the ids whose rows are seen."""
        if not ids:
            return set()
        sql = f"WHERE {table.key} IN (SELECT value FROM json_each(?))"
        if table.is_sealed:
            # Each is opened, or whoever can write to the file could say whose it is.
            return {table.key_of(row) for row in await self._all(table, sql, ids, few=True)}
        asked = (queries.parameter(ids),)
        return {key for (key,) in await self._found(table, sql, asked, few=True, only=table.key)}


class _About(msgspec.Struct):
    thread_id: str = ""
    run_id: str = ""
    approval_id: str = ""
    tenant: str | None = None


_ABOUT = msgspec.json.Decoder(_About)


def _no_log(log_id: str) -> NotFound:
    return NotFound(f"There is no {named(log_id)}.")
