"""Retention: old events and answers are removed, and their space is given back to the disk.

It goes in steps, each so small that nobody notices it. A step is one operation of the writer, and
after each of them the other operations get their turn.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from assent.core.clock import time_text
from assent.storage.sqlite import queries
from assent.storage.sqlite.files import pragma
from assent.storage.sqlite.log import milliseconds
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.writer import Transaction, Writer

ROWS_PER_STEP = 150
"""Rows removed in one transaction. With 150 of them, or 16 pages, tokens at 2,000/s arrive within
4 ms (p99) all through a sweep."""

PAGES_PER_STEP = 16
"""Pages of 4 KiB given back in one transaction."""

SPARE_PAGES = 256
"""Free pages that are kept (1 MiB), because the next writes would ask the disk for them again."""

PAUSE_SECONDS = 0.02
"""The pause between two steps. It leaves the writer to the others for most of the time."""

QUIET_SECONDS = 1.0
QUIET_ATTEMPTS = 5
"""The write-ahead log is emptied when nothing was written for a second. A busy server tries again
at the next sweep."""


async def remove_events(writer: Writer, reader: Reader, before: datetime) -> int:
    """Cut the log of every thread that has events from before that time, and return how many events
    were removed."""
    removed = 0
    cutoff = milliseconds(before)
    position = (-(1 << 62), "")
    while page := await reader.rows(queries.OLD_LOGS, (cutoff, *position)):
        for _, thread_id in page:
            cut = _cutting(thread_id, cutoff)
            removed += await _in_steps(partial(writer.write, cut, threads=(thread_id,)))
        # A thread whose old events must be kept stays where it is in this order, and is passed by.
        position = page[-1]
    return removed


async def remove_answers(writer: Writer, before: datetime) -> int:
    """Remove the answers that were given before that time, and return how many."""
    return await _in_steps(
        lambda: writer.execute(queries.REMOVE_ANSWERS, time_text(before), ROWS_PER_STEP)
    )


async def _in_steps(step: Callable[[], Awaitable[int]]) -> int:
    """Repeat the step until it removes fewer rows than it may, and return how many were removed."""
    removed = 0
    while True:
        count = await step()
        removed += count
        if count < ROWS_PER_STEP:
            return removed
        await asyncio.sleep(PAUSE_SECONDS)


def _cutting(thread_id: str, cutoff: int) -> Callable[[Transaction], int]:
    def cut(transaction: Transaction) -> int:
        # Asked for in the transaction that removes, so that no run can begin or pause in between.
        found = transaction.connection.execute(queries.KEPT_RUNS, (thread_id, thread_id))
        kept = {run_id for (run_id,) in found}
        return transaction.log.cut(
            thread_id, lambda run_id, at: at >= cutoff or run_id in kept, ROWS_PER_STEP
        )

    return cut


async def shrink(writer: Writer) -> None:
    """Move the end of the file into its free pages, cut the file, and empty the write-ahead log
    once nobody writes."""
    more = True
    while more:
        more = await writer.outside_transaction(_give_back)
        await asyncio.sleep(PAUSE_SECONDS)
    for _ in range(QUIET_ATTEMPTS):
        if writer.quiet_for() >= QUIET_SECONDS:
            await writer.outside_transaction(_empty_log)
            return
        await asyncio.sleep(QUIET_SECONDS / 2)


def _give_back(connection: sqlite3.Connection) -> bool:
    """Do one step, and return whether another may give more back."""
    free: int = pragma(connection, "freelist_count")
    if free <= SPARE_PAGES:
        return False
    pages = min(PAGES_PER_STEP, free - SPARE_PAGES)
    # As a script, because `execute` stops at the pragma's first step, which frees one page; and a
    # script must be outside of a transaction.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")
    # A file that was rebuilt without `auto_vacuum` cannot shrink, and must not be tried for ever.
    return bool(pragma(connection, "freelist_count") < free)


def _empty_log(connection: sqlite3.Connection) -> None:
    # This also cuts the database's file. A reader in the middle of a query is not waited for: the
    # next sweep comes.
    patience = pragma(connection, "busy_timeout")
    connection.execute("PRAGMA busy_timeout = 0").fetchone()
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}").fetchone()
