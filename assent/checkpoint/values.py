"""The types that a checkpoint is put together from, whichever database keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assent.checkpoint.bindings import Owner

Encoded = tuple[str, bytes]
"""The name of an encoding, and bytes in it."""

Blob = tuple[int, str, bytes]
"""A position in the file, the encoding of what is there, and its bytes."""

Refs = dict[str, Any]
"""By channel: the position of a value, or the extents of a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The number of a thread's namespace in the file.

    `generation` counts the removals from the namespace. `stored` is False until the first write
    is known to have committed.
    """

    k: int
    thread_id: str
    ns: str
    generation: int
    stored: bool

    def owner(self, channel: str) -> Owner:
        """The owner of the channel's values."""
        return Owner(self.thread_id, self.ns, channel)
