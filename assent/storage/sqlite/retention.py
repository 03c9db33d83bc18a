"""Retention: what is old is removed, and its space is given back to the disk.

It goes in steps, each so small that nobody notices it. A step is one operation of the writer, and
after each of them the other operations get their turn.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial

from assent.core.clock import time_text
from assent.core.logs import FEEDS
from assent.storage.sqlite import queries
from assent.storage.sqlite.database import column, pragma, waiting_for_locks
from assent.storage.sqlite.log import milliseconds
from assent.storage.sqlite.reader import Reader
from assent.storage.sqlite.writer import Transaction, Writer

ROWS_PER_STEP = 150
"""Rows removed in one transaction. With 150 of them, or 16 pages, tokens at 2,000/s arrive within
4 ms (p99) all through a sweep."""

RUNS_PER_PAGE = 50
"""Old runs that are looked at together. Most have a few rows each."""

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


NO_RUN = 1 << 62
"""A number that no run has: none is recent."""


async def remove_events(
    writer: Writer, reader: Reader, before: datetime, *, feeds_only: bool
) -> int:
    """Cut every log that has events from before that time, or only those that are no thread's, and
    return how many events were removed."""
    removed = 0
    cutoff = milliseconds(before)
    first = FEEDS if feeds_only else ""
    position = (-(1 << 62), "")
    while page := await reader.rows(queries.OLD_LOGS, (cutoff, *position, first)):
        for _, thread_id in page:
            cut = _cutting(thread_id, cutoff)
            removed += await _in_steps(partial(writer.write, cut, threads=(thread_id,)))
        # A thread whose old events must be kept stays where it is in this order, and is passed by.
        position = page[-1]
    return removed


async def first_recent_run(reader: Reader, since: datetime, now: datetime) -> int:
    """The number of the first run that was submitted between the two times. What comes after it is
    recent too, also where a clock that was behind gave it an earlier time."""
    found = await reader.rows(queries.FIRST_RECENT_RUN, (time_text(since), time_text(now)))
    number: int = found[0][0] if found else NO_RUN
    return number


async def remove_runs(writer: Writer, reader: Reader, before: datetime, now: datetime) -> int:
    """Remove the runs of idle threads that ended before that time, and what belongs to them."""
    old = (time_text(before), await first_recent_run(reader, before, now))
    removed = 0
    position = ("", "")
    while page := await reader.rows(queries.OLD_RUNS, (*old, *position, RUNS_PER_PAGE)):
        step = _removing_runs(old, [run_id for _, run_id in page])
        removed += await _in_steps(partial(writer.write, step))
        position = page[-1]
    return removed


def _removing_runs(old: tuple[str, int], run_ids: Sequence[str]) -> Callable[[Transaction], int]:
    def remove(transaction: Transaction) -> int:
        connection = transaction.connection
        # Asked for in the transaction that removes, so that no run can begin in between.
        asked = (queries.parameter(run_ids), *old)
        left = ROWS_PER_STEP
        for run_id, thread_id in connection.execute(queries.STILL_OLD_RUNS, asked).fetchall():
            sql = queries.REMOVE_APPROVALS_OF_RUN
            left -= connection.execute(sql, (run_id, left)).rowcount
            sql = queries.REMOVE_EFFECTS_OF_RUN
            left -= connection.execute(sql, (thread_id, run_id, left)).rowcount
            if not left:
                break
            left -= connection.execute(queries.REMOVE_RUN, (run_id,)).rowcount
            transaction.leases.forget(run_id)
        return ROWS_PER_STEP - left

    return remove


async def remove_over(writer: Writer, sql: str, before: datetime) -> int:
    """Remove the rows that were over at that time, and return how many."""
    return await _in_steps(lambda: writer.execute(sql, time_text(before), ROWS_PER_STEP))


async def forget_times_of_usage(writer: Writer, before: datetime) -> None:
    """Add up what removed runs have used that were created before that time."""

    def forget(transaction: Transaction) -> None:
        for sql in (queries.JOIN_PAST_USAGE, queries.FORGET_PAST_USAGE):
            transaction.connection.execute(sql, (time_text(before),))

    await writer.write(forget, threads=())


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
        kept = set(column(transaction.connection, queries.KEPT_RUNS, thread_id, thread_id))
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
    with waiting_for_locks(connection, 0):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
