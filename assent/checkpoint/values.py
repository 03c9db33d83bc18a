"""The values that a checkpoint is put together from, whichever database they are kept in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assent.checkpoint.bindings import Owner

Blob = tuple[int, str, bytes]
"""A position, and what is there: the encoding and the bytes."""

Refs = dict[str, Any]
"""By channel: the position of a value, or the extents of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A thread's namespace in the file. `stored` is False until its first write is known to have
    committed."""

    k: int
    thread_id: str
    ns: str
    generation: int
    stored: bool

    def owner(self, channel: str) -> Owner:
        """Whose the values of the channel are."""
        return Owner(self.thread_id, self.ns, channel)
