"""Rows that requests ask for all the time: each is read at most once in ten seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from assent.core.errors import Conflict, Unavailable
from assent.core.remembered import Remembered

R = TypeVar("R")

SECONDS = 10.0
MOST = 10_000


class _Read(NamedTuple, Generic[R]):
    row: R
    at: float


class RecentRows(Generic[R]):
    """The rows that `read` gives, by their ids. What this process changes, it drops here, and then
    nobody gets the old row any more. `now` is a monotonic clock."""

    def __init__(
        self, read: Callable[[str], Awaitable[R | None]], now: Callable[[], float]
    ) -> None:
        self._read = read
        self._now = now
        self._rows: Remembered[_Read[R]] = Remembered(MOST)
        self._drops = 0

    async def get(self, id: str) -> R | None:
        """The row, as it was ten seconds ago or later."""
        kept = self._rows.get(id)
        if kept is not None and self._now() - kept.at < SECONDS:
            return kept.row
        drops, at = self._drops, self._now()
        row = await self._read(id)
        # A row that was dropped while it was read may be an old one.
        if row is not None and drops == self._drops:
            self._rows.put(id, _Read(row, at))
        return row

    async def note(self, id: str, old: R, noted: R, store: Callable[[R], Awaitable[R]]) -> None:
        """Have a note on the old row stored, and give `noted` from now on; unless another request
        does that already. `store` returns the row as it is stored then."""
        if not self._swap(id, old, noted):
            return
        try:
            self._swap(id, noted, await store(old))
        except (Conflict, Unavailable):
            # It has changed meanwhile; or nothing can be stored, and whoever only reads goes on.
            self.drop(id)

    def _swap(self, id: str, old: R, new: R) -> bool:
        """Give the new row in place of the old one. False if that is not what is given now."""
        kept = self._rows.get(id)
        if kept is None or kept.row is not old:
            return False
        self._rows.put(id, _Read(new, kept.at))
        return True

    def drop(self, id: str) -> None:
        """Read the row anew when it is asked for."""
        self._drops += 1
        self._rows.drop(id)

    def drop_all(self) -> None:
        """Read every row anew when it is asked for."""
        self._drops += 1
        self._rows.drop_where(lambda kept: True)
