"""The event log as the writer sees it: numbers events inside a transaction, and stores them in one
go before it commits.

What it keeps in memory (the last numbers, the events not yet stored) never runs ahead of the file:
`mark` and `rewind` do for it what a savepoint does for the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, takewhile

from msgspec.structs import force_setattr

from assent.core.errors import InvalidRequest
from assent.core.events import EVENT_TYPES, Event, encode
from assent.core.sealing import NoSeal, Seal

StoredEvent = tuple[str, int, str, str, int, bytes]
"""`thread_id, seq, run_id, type, at, body`. With `seq` 0 it says instead that events of the thread
were removed."""

INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)"
ROWS = 100
INSERT_ROWS = INSERT + ", (?, ?, ?, ?, ?, ?)" * (ROWS - 1)
"""Many rows in one statement: the driver lets go of the interpreter for each, and then has to wait
until the event loop lets go of it."""

REMEMBERED = 10_000
"""How many threads' last numbers are kept in memory; the file has them all."""


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(time: datetime) -> int:
    """Since 1970."""
    return (time - _EPOCH) // _MILLISECOND


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in a transaction to go back to."""

    moves: int
    rows: int
    stored: int


class Log:
    """The part of one transaction after another that is about events. Used by the writer's thread
    only."""

    def __init__(self, connection: sqlite3.Connection, seal: Seal | None = None) -> None:
        self._connection = connection
        self._seal = seal or NoSeal()
        self._types = {cls: name for name, cls in EVENT_TYPES.items()}
        self._last: dict[str, int] = {}
        self._moves: list[tuple[str, int]] = []
        self._rows: list[StoredEvent] = []
        self._stored = 0

    def add(self, events: Iterable[Event]) -> list[int]:
        """Number the events and keep them for `flush`; return their numbers.

        Raises `InvalidRequest` if one names no thread, and whatever encoding raises if one is not
        JSON; then `rewind`.
        """
        last, types, moves, rows = self._last, self._types, self._moves, self._rows
        numbers = []
        for event in events:
            thread_id = event.thread_id
            before = last[thread_id] if thread_id in last else self._load(thread_id)
            seq = before + 1
            force_setattr(event, "seq", seq)
            rows.append(
                (
                    thread_id,
                    seq,
                    event.run_id,
                    types[type(event)],
                    (event.ts - _EPOCH) // _MILLISECOND,
                    encode(event),
                )
            )
            moves.append((thread_id, before))
            last[thread_id] = seq
            numbers.append(seq)
        return numbers

    def erase(self, thread_id: str) -> None:
        """Remove the thread's events, those not yet flushed too. Its numbering goes on."""
        self.flush()
        self._connection.execute("DELETE FROM events WHERE thread_id = ?", (thread_id,))
        self._connection.execute(
            "UPDATE log_heads SET removed = seq, oldest = NULL WHERE thread_id = ?", (thread_id,)
        )
        self._say_removed(thread_id)

    def cut(self, thread_id: str, keeps: Callable[[str, int], bool], limit: int) -> int:
        """Remove events from the log's beginning up to the first that `keeps(run_id, at)`, at most
        `limit`; return how many."""
        self.flush()
        page = self._connection.execute(
            "SELECT seq, run_id, at FROM events WHERE thread_id = ? ORDER BY seq LIMIT ?",
            (thread_id, limit),
        ).fetchall()
        going = list(takewhile(lambda row: not keeps(row[1], row[2]), page))
        if going:
            last = going[-1][0]
            self._connection.execute(
                "DELETE FROM events WHERE thread_id = ? AND seq <= ?", (thread_id, last)
            )
            self._connection.execute(
                "UPDATE log_heads SET removed = ?, oldest = (SELECT at FROM events WHERE thread_id = ? ORDER BY seq LIMIT 1) "
                "WHERE thread_id = ?",
                (last, thread_id, thread_id),
            )
            self._say_removed(thread_id)
        return len(going)

    def _say_removed(self, thread_id: str) -> None:
        self._rows.append((thread_id, 0, "", "", 0, b""))
        self._stored = len(self._rows)

    def flush(self) -> None:
        """Store what was added, and the last number of each thread it moved."""
        rows = self._rows[self._stored :]
        if not rows:
            return
        self._stored = len(self._rows)
        # Only the file gets what is sealed: listeners are shown what is in memory.
        stored = [self._sealed(row) for row in rows] if self._seal.is_on else rows
        whole = len(stored) - len(stored) % ROWS
        for start in range(0, whole, ROWS):
            self._connection.execute(
                INSERT_ROWS, tuple(chain.from_iterable(stored[start : start + ROWS]))
            )
        self._connection.executemany(INSERT, stored[whole:])
        # A later row of the same thread overwrites the earlier ones, and an earlier one the later.
        last = {row[0]: row[1] for row in rows}
        oldest = {row[0]: row[4] for row in reversed(rows)}
        self._connection.executemany(
            "INSERT INTO log_heads (thread_id, seq, oldest) VALUES (?, ?, ?) "
            "ON CONFLICT (thread_id) DO UPDATE SET seq = excluded.seq, oldest = coalesce(oldest, excluded.oldest)",
            [(thread_id, seq, oldest[thread_id]) for thread_id, seq in last.items()],
        )

    def _sealed(self, row: StoredEvent) -> StoredEvent:
        thread_id, seq, run_id, type_, at, body = row
        return (
            thread_id,
            seq,
            run_id,
            type_,
            at,
            self._seal.seal(body, thread_id, "event", seq, type_),
        )

    def mark(self) -> Mark:
        """Here."""
        return Mark(len(self._moves), len(self._rows), self._stored)

    def rewind(self, mark: Mark) -> None:
        """Back to the mark, after the tables were rolled back to the same point."""
        while len(self._moves) > mark.moves:
            thread_id, before = self._moves.pop()
            self._last[thread_id] = before
        del self._rows[mark.rows :]
        self._stored = mark.stored

    def begin(self) -> None:
        """Forget the transaction before, however it ended."""
        self.rewind(Mark(0, 0, 0))

    def committed(self) -> Sequence[StoredEvent]:
        """What the transaction stored, in order, now that it has committed."""
        rows, self._rows, self._stored = self._rows, [], 0
        self._moves.clear()
        if len(self._last) > REMEMBERED:
            self._last.clear()
        return rows

    def _load(self, thread_id: str) -> int:
        if not thread_id:
            raise InvalidRequest("An event names no thread. Give it a thread_id.")
        found = self._connection.execute(
            "SELECT seq FROM log_heads WHERE thread_id = ?", (thread_id,)
        ).fetchone()
        return found[0] if found else 0
