"""A dialect turns the entries of a log into frames. It knows no transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from assent.storage.base import LogEntry


class Frame(NamedTuple):
    """One message for a client. `data` is JSON, `event` names its type, and `id` is the cursor
    behind it: empty if it has no number."""

    id: str
    event: str
    data: bytes


Fold = Callable[[LogEntry], Sequence[Frame]]
"""The frames of an entry."""


class Dialect(Protocol):
    """A form in which clients read a log. `name` names it with its options."""

    @property
    def name(self) -> str: ...

    def fold(self) -> Fold:
        """A fold that has seen nothing yet."""
