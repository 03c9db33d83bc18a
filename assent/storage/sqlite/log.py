"""The event log, as the writer's thread sees it. It numbers events inside a transaction, and stores
them all at once before the commit.

Its state in memory (the last numbers, and the events not yet stored) never runs ahead of the file:
`mark` and `rewind` do for it what a savepoint does for the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, takewhile

from msgspec import Struct
from msgspec.structs import force_setattr

from assent.core.errors import InvalidRequest
from assent.core.events import EVENT_TYPES, Event, encode
from assent.core.sealing import Seal

StoredEvent = tuple[str, int, str, str, int, bytes]
"""`thread_id, seq, run_id, type, at, body`. If `seq` is 0, it means that events of the thread were
removed; all of them, together with the thread, if the type is `ERASED`."""

ERASED = "erased"

INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)"
ROWS = 100
INSERT_ROWS = INSERT + ", (?, ?, ?, ?, ?, ?)" * (ROWS - 1)
"""Many rows in one statement. The driver releases the interpreter for each statement, and then has
to wait for the event loop to get it back."""

UPDATE_HEADS = """
    INSERT INTO log_heads (thread_id, seq, oldest) VALUES (?, ?, ?)
    ON CONFLICT (thread_id)
    DO UPDATE SET seq = excluded.seq, oldest = coalesce(oldest, excluded.oldest)
"""
CUT_HEAD = """
    UPDATE log_heads SET removed = :last, oldest = (
        SELECT at FROM events WHERE thread_id = :thread_id AND seq > :last ORDER BY seq LIMIT 1
    )
    WHERE thread_id = :thread_id
"""
OLDEST = """
    SELECT events.seq, run_id, at FROM log_heads JOIN events USING (thread_id)
    WHERE thread_id = ? AND events.seq > removed ORDER BY events.seq LIMIT ?
"""

REMEMBERED = 10_000
"""The number of threads whose last numbers are kept in memory. The file has them all."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def milliseconds(time: datetime) -> int:
    """The time in milliseconds since 1970."""
    return (time - _EPOCH) // _MILLISECOND


class Mark(Struct, frozen=True, gc=False):
    """A point in a transaction to go back to."""

    moves: int
    rows: int
    stored: int


class Log:
    """The events of one transaction after another. Used by the writer's thread only."""

    def __init__(self, connection: sqlite3.Connection, seal: Seal) -> None:
        self._connection = connection
        self._seal = seal
        self._types = {cls: name for name, cls in EVENT_TYPES.items()}
        self._last: dict[str, int] = {}
        self._moves: list[tuple[str, int]] = []
        self._rows: list[StoredEvent] = []
        self._stored = 0

    def add(self, events: Iterable[Event]) -> list[int]:
        """Number the events, keep them for `flush`, and return their numbers.

        Raises `InvalidRequest` if an event names no thread, and the error of the encoder if one is
        not JSON; call `rewind` then.
        """
        last, types, moves, rows = self._last, self._types, self._moves, self._rows
        numbers = []
        for event in events:
            thread_id = event.thread_id
            before = last[thread_id] if thread_id in last else self._load(thread_id)
            seq = before + 1
            force_setattr(event, "seq", seq)
            type_ = types[type(event)]
            at = (event.ts - _EPOCH) // _MILLISECOND
            rows.append((thread_id, seq, event.run_id, type_, at, encode(event)))
            moves.append((thread_id, before))
            last[thread_id] = seq
            numbers.append(seq)
        return numbers

    def erase(self, thread_id: str) -> None:
        """Show no event of the thread any more, nor those not yet flushed. Its numbering goes on.

        They are still in the file, and no longer needed there.
        """
        self.flush()
        self._connection.execute(
            "UPDATE log_heads SET removed = seq, oldest = NULL WHERE thread_id = ?", (thread_id,)
        )
        self._note_removal(thread_id, ERASED)

    def cut(self, thread_id: str, keeps: Callable[[str, int], bool], limit: int) -> int:
        """Remove events from the log's beginning up to the first that `keeps(run_id, at)`, at most
        `limit`, and return how many."""
        self.flush()
        page = self._connection.execute(OLDEST, (thread_id, limit)).fetchall()
        removed = list(takewhile(lambda row: not keeps(row[1], row[2]), page))
        if removed:
            last = removed[-1][0]
            self._connection.execute(
                "DELETE FROM events WHERE thread_id = ? AND seq <= ?", (thread_id, last)
            )
            self._connection.execute(CUT_HEAD, {"last": last, "thread_id": thread_id})
            self._note_removal(thread_id)
        return len(removed)

    def _note_removal(self, thread_id: str, type_: str = "") -> None:
        self._rows.append((thread_id, 0, "", type_, 0, b""))
        self._stored = len(self._rows)

    def flush(self) -> None:
        """Store the events that were added, and the last number of each of their threads."""
        rows = self._rows[self._stored :]
        if not rows:
            return
        self._stored = len(self._rows)
        # Only the file gets the sealed events: listeners are shown those in memory.
        stored = [self._sealed(row) for row in rows] if self._seal.is_on else rows
        whole = len(stored) - len(stored) % ROWS
        for start in range(0, whole, ROWS):
            values = chain.from_iterable(stored[start : start + ROWS])
            self._connection.execute(INSERT_ROWS, tuple(values))
        self._connection.executemany(INSERT, stored[whole:])
        # Of each thread, the newest number and the oldest time win.
        last = {row[0]: row[1] for row in rows}
        oldest = {row[0]: row[4] for row in reversed(rows)}
        heads = [(thread_id, seq, oldest[thread_id]) for thread_id, seq in last.items()]
        self._connection.executemany(UPDATE_HEADS, heads)

    def _sealed(self, row: StoredEvent) -> StoredEvent:
        thread_id, seq, run_id, type_, at, body = row
        body = self._seal.seal(body, thread_id, "event", seq, type_)
        return thread_id, seq, run_id, type_, at, body

    def mark(self) -> Mark:
        """Return the point to `rewind` to."""
        return Mark(len(self._moves), len(self._rows), self._stored)

    def rewind(self, mark: Mark) -> None:
        """Go back to the mark, after the tables were rolled back to the same point."""
        while len(self._moves) > mark.moves:
            thread_id, before = self._moves.pop()
            self._last[thread_id] = before
        del self._rows[mark.rows :]
        self._stored = mark.stored

    def begin(self) -> None:
        """Forget the transaction before, unless it has committed."""
        self.rewind(Mark(0, 0, 0))

    def committed(self) -> Sequence[StoredEvent]:
        """Return what the transaction stored, in order, now that it has committed."""
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
