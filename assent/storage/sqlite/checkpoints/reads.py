"""The queries that read checkpoints. They return rows as they are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from langchain_core.runnables import RunnableConfig

from assent.storage.sqlite.checkpoints.tuples import Address, Blobs, address
from assent.storage.sqlite.reader import Reader

PAGE = 32
"""The most checkpoints that one query of a list reads."""

COLUMNS = """
    c.number, t.k, t.generation, t.thread_id, t.ns,
    c.checkpoint_id, c.parent_id, c.type, c.body, c.refs, c.metadata
"""
WIDTH = 11
"""The number of those columns."""

NUMBER = 0
"""The place of `number` among them."""

WRITE_COLUMNS = "w.task_id, w.channel, w.type, w.body, w.task_path, w.idx"
WRITE_WIDTH = 6

CHECKPOINTS = f"""
    SELECT s.key, {COLUMNS}, {WRITE_COLUMNS} FROM json_each(?) s
    CROSS JOIN checkpoint_threads t
    ON t.thread_id = json_extract(s.value, '$[0]') AND t.ns = json_extract(s.value, '$[1]')
    LEFT JOIN checkpoints c ON c.number = CASE
        WHEN json_extract(s.value, '$[2]') IS NULL
        THEN (SELECT max(number) FROM checkpoints WHERE k = t.k)
        ELSE (
            SELECT number FROM checkpoints
            WHERE k = t.k AND checkpoint_id = json_extract(s.value, '$[2]')
        )
    END
    LEFT JOIN checkpoint_writes w ON w.k = c.k AND w.checkpoint_id = c.checkpoint_id
"""
"""The checkpoints at these addresses, and their writes."""

NAMESPACE = "SELECT k, generation FROM checkpoint_threads WHERE thread_id = ? AND ns = ?"

PAGE_OF = f"""
    SELECT {COLUMNS} FROM checkpoint_threads t JOIN checkpoints c ON c.k = t.k
    WHERE t.thread_id IS NOT NULL AND {{}}
    ORDER BY c.number DESC LIMIT ?
"""

PLACES = """
    SELECT t.ns, c.k, c.number FROM checkpoint_threads t
    CROSS JOIN checkpoints c ON c.k = t.k AND c.checkpoint_id = ?
    WHERE t.thread_id = ?
"""

BEFORE_IN_ITS_STEP = """
    coalesce(
        (
            SELECT o.number FROM json_each(iif(json_valid(c.outer_ids), c.outer_ids, '{}')) above
            CROSS JOIN checkpoints o ON o.k = ? AND o.checkpoint_id = above.value
            WHERE above.key = ?
        ),
        c.number
    ) < ?
"""
"""Key, namespace, number. A subgraph's checkpoint comes after the one of the graph around it in
whose step it was made, though it may have been written first: LangGraph waits for a step's
checkpoint only behind the step, unless `durability` is "sync"."""

ANCESTORS = f"""
    WITH RECURSIVE chain (k, checkpoint_id, parent_id, depth) AS (
        SELECT c.k, c.checkpoint_id, c.parent_id, 1
        FROM checkpoint_threads t JOIN checkpoints c ON c.k = t.k
        WHERE t.thread_id = ? AND t.ns = ? AND c.checkpoint_id = ?
        UNION ALL
        SELECT c.k, c.checkpoint_id, c.parent_id, depth + 1
        FROM chain CROSS JOIN checkpoints c
        ON c.k = chain.k AND c.checkpoint_id = chain.parent_id WHERE depth < {PAGE}
    )
    SELECT {COLUMNS} FROM chain CROSS JOIN checkpoint_threads t ON t.k = chain.k
    CROSS JOIN checkpoints c ON c.k = chain.k AND c.checkpoint_id = chain.checkpoint_id
    ORDER BY depth
"""

WRITES = f"""
    SELECT w.k, w.checkpoint_id, {WRITE_COLUMNS}
    FROM json_each(?) s CROSS JOIN checkpoint_writes w
    ON w.k = json_extract(s.value, '$[0]') AND w.checkpoint_id = json_extract(s.value, '$[1]')
"""

BLOBS = """
    SELECT b.position, b.type, b.body FROM json_each(?) s CROSS JOIN checkpoint_blobs b
    WHERE b.position >= (
        SELECT max(position) FROM checkpoint_blobs WHERE position <= json_extract(s.value, '$[0]')
    )
    AND b.position < json_extract(s.value, '$[1]')
"""
"""The blobs of these stretches. The blob that a stretch begins in may begin before it."""

HAS_METADATA = """
    EXISTS (
        SELECT 1 FROM json_each(iif(json_valid(c.metadata), c.metadata, '{}'))
        WHERE key = ? AND value = ?
    )
"""


class Place(NamedTuple):
    """The namespace of a checkpoint, its key, and the number of the write."""

    ns: str
    k: int
    number: int


class Conditions(NamedTuple):
    """The conditions of a list, and their parameters."""

    where: list[str]
    parameters: list[Any]

    def add(self, condition: str, *values: Any) -> None:
        self.where.append(condition)
        self.parameters.extend(values)


class Reads:
    """Runs the queries. Used on the event loop."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._asked: dict[Address, asyncio.Future[list[Any]]] = {}
        self._answering: set[asyncio.Future[None]] = set()

    async def last_numbers(self) -> tuple[int, int]:
        """The highest numbers of a namespace and of a log, or 0."""
        ((key, log),) = await self._reader.rows(
            "SELECT coalesce((SELECT max(k) FROM checkpoint_threads), 0), "
            "coalesce((SELECT max(log) FROM checkpoint_logs), 0)"
        )
        return key, log

    async def namespace(self, at: Address) -> tuple[int, int] | None:
        """The number and the generation of the namespace."""
        found = await self._reader.rows(NAMESPACE, (at.thread_id, at.ns))
        return found[0] if found else None

    async def checkpoint(self, at: Address) -> list[Any]:
        """The checkpoint's row, once with each of its writes and at least once.

        A namespace without the checkpoint has one row without it; a namespace that is not in the
        file has none. All checkpoints that are asked for in one turn of the loop share a query,
        for a trip to the reader's thread costs more than what it brings.
        """
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._start_answer)
        answer = self._asked.get(at)
        if answer is None:
            answer = self._asked[at] = asyncio.get_running_loop().create_future()
        # Others may wait for the same answer when this caller is cancelled.
        return await asyncio.shield(answer)

    def _start_answer(self) -> None:
        asked, self._asked = self._asked, {}
        task = asyncio.ensure_future(self._answer(asked))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, asked: Mapping[Address, asyncio.Future[list[Any]]]) -> None:
        found: dict[int, list[Any]] = {}
        try:
            addresses = orjson.dumps([list(at) for at in asked]).decode()
            for number, *row in await self._reader.rows(CHECKPOINTS, (addresses,)):
                found.setdefault(number, []).append(row)
        except Exception as error:
            for answer in asked.values():
                # An exception for each, so that it gathers only its own raiser's traceback.
                answer.set_exception(type(error)(*error.args))
                # Whoever asked may have been cancelled since.
                answer.exception()
            return
        for number, answer in enumerate(asked.values()):
            answer.set_result(found.get(number, []))

    async def page(
        self,
        conditions: Conditions,
        last: int | None,
        size: int,
    ) -> list[Any]:
        """The newest checkpoints that meet the conditions, from the one behind `last` on."""
        where, values = [*conditions.where], [*conditions.parameters]
        if last is not None:
            where.append("c.number < ?")
            values.append(last)
        sql = PAGE_OF.format(" AND ".join(where or ["1"]))
        return await self._reader.rows(sql, (*values, size))

    async def places(self, thread_id: str, checkpoint_id: str) -> list[Place]:
        """The places of the checkpoint in the thread: one, unless namespaces share an id."""
        rows = await self._reader.rows(PLACES, (checkpoint_id, thread_id))
        return [Place(*row) for row in rows]

    async def ancestors(self, at: Address) -> list[Any]:
        """The checkpoint and those before it, nearest first, as many as make a page."""
        return await self._reader.rows(ANCESTORS, at)

    async def writes(
        self, checkpoints: Sequence[tuple[int, str]], channels: Iterable[str] | None = None
    ) -> dict[tuple[int, str], list[Any]]:
        """Rows of `WRITE_COLUMNS` by checkpoint: all writes, or those to some channels."""
        sql, parameters = WRITES, [orjson.dumps(checkpoints).decode()]
        if channels is not None:
            sql += "AND w.channel IN (SELECT value FROM json_each(?))"
            parameters.append(orjson.dumps(list(channels)).decode())
        writes: dict[tuple[int, str], list[Any]] = {}
        for k, checkpoint_id, *row in await self._reader.rows(sql, parameters):
            writes.setdefault((k, checkpoint_id), []).append(row)
        return writes

    async def blobs(self, stretches: Sequence[tuple[int, int]]) -> Blobs:
        """The blobs that hold something of these stretches of the file."""
        read = await self._reader.rows(BLOBS, (orjson.dumps(stretches).decode(),))
        return {place: (encoding, body) for place, encoding, body in read}


# ── conditions of a list ──


def conditions(config: RunnableConfig | None, filter: Mapping[str, Any]) -> Conditions:
    """The conditions that a list's arguments stand for. Of the filter, what SQLite cannot compare
    is left out."""
    made = Conditions([], [])
    if config is not None:
        at = address(config)
        made.add("t.thread_id = ?", at.thread_id)
        if _namespace(config) is not None:
            made.add("t.ns = ?", at.ns)
        if at.checkpoint_id:
            made.add("c.checkpoint_id = ?", at.checkpoint_id)
    for name, value in filter.items():
        if can_compare(name) and can_compare(value):
            made.add(HAS_METADATA, name, value)
    return made


def add_before(made: Conditions, config: RunnableConfig | None, at: Place) -> None:
    """Add the condition that a checkpoint comes before the one at this place."""
    if config is None or _namespace(config) == at.ns:
        made.add("c.number < ?", at.number)
    else:
        made.add(BEFORE_IN_ITS_STEP, at.k, at.ns, at.number)


def _namespace(config: RunnableConfig) -> str | None:
    """The namespace that the config names; None if it means all."""
    ns = config["configurable"].get("checkpoint_ns")
    return None if ns is None else str(ns)


def can_compare(value: Any) -> bool:
    """True if SQLite compares the value as Python does."""
    return isinstance(value, (str, bool)) or (isinstance(value, int) and abs(value) < 1 << 53)
