"""LangGraph's store over the SQLite file of everything else: what agents remember beyond their
threads.

It differs from LangGraph's `AsyncSqliteStore` on purpose:

1. Values are sealed, so a filter is applied to what was read, and no key of it gets into SQL. A
   search looks at the items that were written last (`MAX_READ`), and finds the newest first.
2. What a run's node or tool puts is fenced by the run's lease: a worker that has lost the run
   changes nothing any more.
3. An item that has expired is gone at once, and not only after a sweep.
4. An embedding of another model is never compared with a query.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import sqlite3
from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

from assent.core.clock import Clock, time_text
from assent.core.json import JsonObject
from assent.core.rows import Lease
from assent.core.sealing import Part, Seal
from assent.storage.sqlite.handing_over import check_may_wait, from_thread, on_loop
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.writer import Transaction, Writer
from assent.storage.store import (
    FIRST,
    MAX_READ,
    Embedded,
    Index,
    Namespace,
    StoreOptions,
    Vector,
    checked,
    common_prefix,
    current_lease,
    current_root,
    encoded,
    end_of,
    likeness,
    meets,
    namespace_of,
    passes,
    prefix_of,
)

PAGE = 200
"""Items, or their vectors, that are read and compared before the event loop gets its turn."""

PAGE_BYTES = 4 << 20

COLUMNS = """
    number, prefix, "key", created_at, updated_at, ttl_minutes, expires_at, model, vectors, value
"""

BY_KEY = f'SELECT {COLUMNS} FROM store_items WHERE prefix = ? AND "key" = ?'

NEWEST = f"""
    SELECT {COLUMNS} FROM store_items WHERE number IN (
        SELECT number FROM store_items INDEXED BY store_items_by_key
        WHERE prefix >= ? AND prefix < ? AND number < ? ORDER BY number DESC LIMIT ?
    ) ORDER BY number DESC
"""
"""The range of prefixes, the number to begin below, limit. Values are read of one page alone."""

NAMESPACES = f"""
    SELECT DISTINCT prefix FROM store_items
    WHERE prefix > ? AND prefix >= ? AND prefix < ? AND (expires_at IS NULL OR expires_at > ?)
    ORDER BY prefix LIMIT {PAGE}
"""
"""The last prefix of the page before, the range of prefixes, the time."""

LAST_NUMBER = "SELECT coalesce(max(number), 0) FROM store_items"

FIRST_WRITTEN = 'SELECT created_at FROM store_items WHERE prefix = ? AND "key" = ?'

REMOVE = 'DELETE FROM store_items WHERE prefix = ? AND "key" = ?'

INSERT = f"INSERT INTO store_items ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

REFRESH = "UPDATE store_items SET expires_at = ? WHERE number = ? AND expires_at = ?"
"""The new end, the item's number, the end that was read. Without that it might be another item's: a
number is given again once the newest item is gone."""

REMOVE_EXPIRED = """
    DELETE FROM store_items WHERE number IN (
        SELECT number FROM store_items WHERE expires_at < ? LIMIT ?
    )
"""
"""The time at which they had expired, limit."""

ABOVE_ALL = (1 << 63) - 1
"""A number above those of all items."""

NO_SCORE = -2.0
"""Stands for no score: below every likeness, of which -1 is the lowest."""


class Row(NamedTuple):
    """An item as it is stored, without what is sealed. That is bound to all of it but the time of
    its end, which moves when it is read."""

    number: int
    prefix: str
    key: str
    created_at: str
    updated_at: str
    ttl_minutes: float | None
    expires_at: str | None
    model: str | None

    def place(self, column: str) -> tuple[str, str, *tuple[Part, ...]]:
        """The place that the content of the column is sealed for."""
        ttl = None if self.ttl_minutes is None else repr(self.ttl_minutes)
        times = (self.created_at, self.updated_at)
        return ("", "item", self.key, column, self.prefix, self.number, *times, ttl, self.model)


@dataclass(frozen=True, slots=True)
class Found:
    """An item that was read."""

    row: Row
    value: JsonObject
    sealed_vectors: bytes | None
    score: float | None = None

    @property
    def rank(self) -> tuple[float, int]:
        """Its place among others: the likest first, of the same likeness the newest, and last what
        cannot be compared."""
        return NO_SCORE if self.score is None else self.score, self.row.number

    def item(self) -> Item:
        """The item, as `get` returns it."""
        return Item(
            namespace=namespace_of(self.row.prefix),
            key=self.row.key,
            value=self.value,
            created_at=datetime.fromisoformat(self.row.created_at),
            updated_at=datetime.fromisoformat(self.row.updated_at),
        )

    def search_item(self) -> SearchItem:
        """The item, as `search` returns it."""
        return SearchItem(
            namespace=namespace_of(self.row.prefix),
            key=self.row.key,
            value=self.value,
            created_at=datetime.fromisoformat(self.row.created_at),
            updated_at=datetime.fromisoformat(self.row.updated_at),
            score=self.score,
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What one put writes: an item with its vectors, one behind the other; or, without a value,
    none."""

    prefix: str
    key: str
    value: bytes | None
    ttl_minutes: float | None
    vectors: bytes


class SqliteStore(BaseStore):
    """A store for any graph. Made by `SqliteStorage.store`.

    What was put is durable when the call returns. As in LangGraph's stores, the reads of a batch
    see what was there before its puts, and of several puts of one item the last one counts. All
    puts of a batch are stored together, or none.

    Methods raise `ValueError` for what the store does not take, `Tampered` for an item that another
    program has changed, `StaleLease` if the calling run has lost its lease, and `Unavailable`. The
    methods that are not async raise `asyncio.InvalidStateError` on the event loop.
    """

    supports_ttl = True

    def __init__(
        self, writer: Writer, reader: Reader, seal: Seal, clock: Clock, options: StoreOptions
    ) -> None:
        self.ttl_config = options.ttl
        self._index = Index(options.index) if options.index is not None else None
        self._writer = writer
        self._reader = reader
        self._seal = seal
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        listed = checked(ops)
        embedded = await self._index.aembedded(listed) if self._index else Embedded()
        run = self._run(listed, embedded, current_lease(), current_root())
        return await on_loop(self._loop, run)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        check_may_wait(self._loop)
        if self._index is None or not self._index.waits_in_thread:
            return from_thread(self._loop, self.abatch(ops))
        # In this thread: the loop would do it in another one of those that are for sync nodes, and
        # each of them may be waiting here.
        listed = checked(ops)
        embedded = self._index.embedded(listed)
        run = self._run(listed, embedded, current_lease(), current_root())
        return from_thread(self._loop, run)

    # ── on the loop ──

    async def _run(
        self, ops: Sequence[Op], embedded: Embedded, lease: Lease | None, root: str
    ) -> list[Result]:
        written = self._written(ops, embedded, root)
        results: list[Result] = []
        read: list[Row] = []
        for op in ops:
            match op:
                case GetOp():
                    found = await self._get(op, root)
                    results.append(found.item() if found else None)
                    read += [found.row] if found and op.refresh_ttl else []
                case SearchOp():
                    several = await self._search(op, embedded, root)
                    results.append([each.search_item() for each in several])
                    read += [each.row for each in several if op.refresh_ttl]
                case ListNamespacesOp():
                    results.append(await self._namespaces(op, root))
                case PutOp():
                    results.append(None)
        ends = self._new_ends(read)
        if written or ends:
            write = self._writing(written, ends, lease)
            await self._writer.write(write, threads=(), waits=lease is not None)
        return results

    # ── reading ──

    async def _get(self, op: GetOp, root: str) -> Found | None:
        rows = await self._reader.rows(BY_KEY, (root + prefix_of(op.namespace), op.key))
        return next(iter(self._living(rows)), None)

    async def _search(self, op: SearchOp, embedded: Embedded, root: str) -> list[Found]:
        wanted = min(op.offset + op.limit, MAX_READ)
        query = embedded.queries.get(op.query or "")
        if query is not None:
            return (await self._likest(op, query, wanted, root))[op.offset :]
        found: list[Found] = []
        async for page in self._newest(op, root):
            found += page[: wanted - len(found)]
            if len(found) == wanted:
                break
        return found[op.offset :]

    async def _likest(self, op: SearchOp, query: Vector, wanted: int, root: str) -> list[Found]:
        """The items that are most like the query, and behind them those without a vector."""
        best: list[Found] = []
        async for page in self._newest(op, root):
            best += [replace(each, score=self._score(each, query)) for each in page]
            best = heapq.nlargest(wanted, best, key=lambda each: each.rank)
        return best

    async def _newest(self, op: SearchOp, root: str) -> AsyncIterator[list[Found]]:
        """The items below the namespace that pass the filter, in pages, the newest first."""
        prefix = root + prefix_of(op.namespace_prefix)
        below, left = ABOVE_ALL, MAX_READ
        while left > 0:
            parameters = (prefix or FIRST, end_of(prefix), below, min(left, PAGE))
            rows = await self._reader.rows(NEWEST, parameters, most_bytes=PAGE_BYTES)
            if not rows:
                return
            yield [each for each in self._living(rows) if passes(each.value, op.filter)]
            below, left = rows[-1][0], left - len(rows)

    def _score(self, found: Found, query: Vector) -> float | None:
        """The likeness of the item's likest text; None without a vector of the query's model."""
        row = found.row
        if self._index is None or row.model != self._index.model:
            return None
        vectors: Vector = array("f")
        vectors.frombytes(self._seal.open(found.sealed_vectors, *row.place("vectors")))
        size = len(query)
        starts = range(0, len(vectors), size)
        return max(likeness(vectors[start : start + size], query) for start in starts)

    async def _namespaces(self, op: ListNamespacesOp, root: str) -> list[Namespace]:
        conditions = op.match_conditions or ()
        prefix = root + common_prefix(conditions)
        now = time_text(self._clock.now())
        found: list[Namespace] = []
        last = ""
        while len(found) < op.offset + op.limit:
            parameters = (last, prefix or FIRST, end_of(prefix), now)
            page = await self._reader.rows(NAMESPACES, parameters)
            if not page:
                break
            ((last,),) = page[-1:]
            for namespace in (namespace_of(each) for (each,) in page):
                if all(meets(namespace, condition) for condition in conditions):
                    cut = namespace[: op.max_depth]
                    # In their order, so those that are the same follow one another.
                    if found[-1:] != [cut]:
                        found.append(cut)
        return found[op.offset : op.offset + op.limit]

    def _living(self, rows: Iterable[Any]) -> list[Found]:
        """The items of these rows that have not expired."""
        now = time_text(self._clock.now())
        found: list[Found] = []
        for *columns, vectors, value in rows:
            row = Row(*columns)
            if row.expires_at is None or row.expires_at > now:
                opened = self._seal.open(value, *row.place("value"))
                found.append(Found(row, json.loads(opened), vectors))
        return found

    # ── writing ──

    def _written(self, ops: Sequence[Op], embedded: Embedded, root: str) -> list[Written]:
        """What the puts among the operations write, the last of each item."""
        puts = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        written: list[Written] = []
        for op in puts.values():
            texts = self._index.texts_of(op) if self._index else ()
            vectors = b"".join(embedded.texts[text].tobytes() for text in texts)
            value = None if op.value is None else encoded(op)
            # A float, as the file will have it.
            ttl = None if op.ttl is None else float(op.ttl)
            written.append(Written(root + prefix_of(op.namespace), op.key, value, ttl, vectors))
        return written

    def _new_ends(self, read: Iterable[Row]) -> list[tuple[str, int, str]]:
        """When the items that were read expire from now on: the parameters of `REFRESH`."""
        now = self._clock.now()
        ends: list[tuple[str, int, str]] = []
        for row in read:
            if row.ttl_minutes is not None and row.expires_at is not None:
                ttl = timedelta(minutes=row.ttl_minutes)
                # So that reading again and again does not write each time.
                if now + ttl - datetime.fromisoformat(row.expires_at) > ttl / 100:
                    ends.append((time_text(now + ttl), row.number, row.expires_at))
        return ends

    def _writing(
        self,
        written: Sequence[Written],
        ends: Sequence[tuple[str, int, str]],
        lease: Lease | None,
    ) -> Callable[[Transaction], None]:
        now = self._clock.now()

        def write(transaction: Transaction) -> None:
            transaction.leases.check(lease)
            connection = transaction.connection
            connection.executemany(REFRESH, ends)
            ((last,),) = connection.execute(LAST_NUMBER)
            for number, each in enumerate(written, last + 1):
                self._write(connection, each, number, now)

        return write

    def _write(
        self, connection: sqlite3.Connection, written: Written, number: int, now: datetime
    ) -> None:
        key = (written.prefix, written.key)
        before = connection.execute(FIRST_WRITTEN, key).fetchone()
        connection.execute(REMOVE, key)
        if written.value is None:
            return
        at = time_text(now)
        ttl = written.ttl_minutes
        end = None if ttl is None else time_text(now + timedelta(minutes=ttl))
        model = self._index.model if self._index and written.vectors else None
        row = Row(number, *key, before[0] if before else at, at, ttl, end, model)
        vectors = self._seal.seal(written.vectors, *row.place("vectors")) if model else None
        value = self._seal.seal(written.value, *row.place("value"))
        connection.execute(INSERT, (*row, vectors, value))
