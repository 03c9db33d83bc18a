"""What is removed for its age, and the room that is given back: in steps so small that nobody
notices them.

A step is one operation of the writer's, beside whatever else waits, and after each the others get
their turn.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import datetime

from assent.storage.sqlite.log import milliseconds
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.writer import Transaction, Writer

EVENTS_PER_STEP = 150
"""Events removed in one transaction. With 150 of them, or 16 pages, tokens at 2,000/s arrive within
4 ms (p99) all through a sweep."""

PAGES_PER_STEP = 16
"""Pages of 4 KiB given back in one transaction."""

SPARE_PAGES = 256
"""Free pages that are kept (1 MiB), because what is written next would ask the disk for them
again."""

PAUSE_SECONDS = 0.02
"""Between two steps. It leaves the writer to the others for most of the time."""

QUIET_SECONDS = 1.0
QUIET_ATTEMPTS = 5
"""The write-ahead log is emptied when nothing was written for a second; a busy server tries again
at the next sweep."""

_OLD = """
    SELECT oldest, thread_id FROM log_heads
    WHERE oldest < ? AND (oldest, thread_id) > (?, ?) ORDER BY oldest, thread_id LIMIT 100
"""

_KEPT = """
    SELECT run_id FROM runs WHERE thread_id = ? AND status IN ('pending', 'running', 'cancelling')
    UNION
    SELECT run_id FROM approvals WHERE thread_id = ? AND status = 'pending'
"""


async def remove_events(writer: Writer, reader: Reader, before: datetime) -> int:
    """Cut the log of every thread that has events from before that time; return how many events
    were removed."""
    removed, cutoff = 0, milliseconds(before)
    position = (-(1 << 62), "")
    while page := await reader.rows(_OLD, (cutoff, *position)):
        for _, thread_id in page:
            removed += await _cut(writer, thread_id, cutoff)
        # A thread whose old events must be kept stays where it is in this order, and is passed by.
        position = page[-1]
    return removed


async def _cut(writer: Writer, thread_id: str, cutoff: int) -> int:
    removed, step = 0, _cutting(thread_id, cutoff)
    while True:
        count = await writer.write(step, threads=(thread_id,))
        removed += count
        if count < EVENTS_PER_STEP:
            return removed
        await asyncio.sleep(PAUSE_SECONDS)


def _cutting(thread_id: str, cutoff: int) -> Callable[[Transaction], int]:
    def cut(transaction: Transaction) -> int:
        # Asked for in the transaction that removes, so that no run can begin or pause in between.
        kept = {
            run_id for (run_id,) in transaction.connection.execute(_KEPT, (thread_id, thread_id))
        }
        return transaction.log.cut(
            thread_id, lambda run_id, at: at >= cutoff or run_id in kept, EVENTS_PER_STEP
        )

    return cut


async def remove_answers(writer: Writer, before: str) -> int:
    """Remove the answers that were given before that time, as it is stored; return how many."""
    removed = 0
    while True:
        count = await writer.write(
            lambda transaction: (
                transaction.connection.execute(_ANSWERS, (before, EVENTS_PER_STEP)).rowcount
            ),
            threads=(),
        )
        removed += count
        if count < EVENTS_PER_STEP:
            return removed
        await asyncio.sleep(PAUSE_SECONDS)


_ANSWERS = "DELETE FROM answers WHERE answer_id IN (SELECT answer_id FROM answers WHERE created_at < ? LIMIT ?)"


async def shrink(writer: Writer) -> None:
    """Move what stands at the end of the file into its free pages, cut the file, and empty the
    write-ahead log once nobody writes."""
    more = True
    while more:
        more = await writer.apart(_give_back)
        await asyncio.sleep(PAUSE_SECONDS)
    for _ in range(QUIET_ATTEMPTS):
        if writer.quiet_for() >= QUIET_SECONDS:
            await writer.apart(_empty_log)
            return
        await asyncio.sleep(QUIET_SECONDS / 2)


def _give_back(connection: sqlite3.Connection) -> bool:
    """Whether a step was done, and another may do more."""
    free = _free_pages(connection)
    if free <= SPARE_PAGES:
        return False
    # As a script, because `execute` stops at the pragma's first step, which frees one page; and a
    # script must be outside of a transaction.
    connection.executescript(
        f"PRAGMA incremental_vacuum({min(PAGES_PER_STEP, free - SPARE_PAGES)})"
    )
    # A file that somebody rebuilt without `auto_vacuum` cannot shrink, and must not be tried for
    # ever.
    return _free_pages(connection) < free


def _free_pages(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(count)


def _empty_log(connection: sqlite3.Connection) -> None:
    # This also cuts the database's file. A reader in the middle of a query is not waited for: the
    # next sweep comes.
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0").fetchone()
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}").fetchone()
