"""A dialect turns the entries of a log into frames. It knows no transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from assent.api.dialects.positions import Position
from assent.storage.base import LogEntry


class Frame(Struct, frozen=True, gc=False):
    """One message for a client. `data` is one line, mostly of JSON. `event` names its type: empty
    if it goes without a name, also where the others have theirs. `id` is the cursor behind it:
    empty if it has no number."""

    id: str
    event: str
    data: bytes


STATE = "~state"
"""The type of an entry that no log has: a checkpoint together with the state that it names, or a
run that goes on and the state that it has found, for dialects that show states
(`streams/states.py`)."""


class StateEntry(Struct, frozen=True, gc=False):
    """The body of such an entry: the event, and the state as `GET
    /threads/{id}/state/{checkpoint_id}` shows it, both as JSON."""

    event: Raw
    state: Raw

    def encoded(self) -> bytes:
        """The body as bytes."""
        return msgspec.json.encode(self)


read_state_entry = msgspec.json.Decoder(StateEntry).decode


Fold = Callable[[LogEntry], Sequence[Frame]]
"""The frames of an entry. It is given entries of other types than the dialect's too, and makes
nothing of those."""


class Dialect(Protocol):
    """A form in which clients read a log.

    `name` is what operators see. One that `is_shared` has no options of a reader, and one fold of
    it does for all. One that `has_state` makes of an entry what the earlier ones have said, so that
    whoever comes back needs those read again. `types` are those of the events that it looks at,
    None for all.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_shared(self) -> bool: ...

    @property
    def has_state(self) -> bool: ...

    @property
    def types(self) -> frozenset[str] | None: ...

    def fold(self) -> Fold:
        """A fold that has seen nothing yet."""

    def heartbeat(self, now: datetime) -> Frame | None:
        """The sign of life; None for the transport's own."""

    def end(self, reason: str) -> Frame | None:
        """The last frame of a stream that ends for this reason; None for nothing but a comment."""


class Foreign:
    """The common part of dialects that a document has described: each reader has a fold of their
    own, and signs of life and the end are the transport's, unless the document says otherwise."""

    is_shared = False
    has_state = True
    types: frozenset[str] | None = None

    def heartbeat(self, now: datetime) -> Frame | None:
        return None

    def end(self, reason: str) -> Frame | None:
        return None


def past(fold: Fold, position: Position) -> Fold:
    """The fold for a reader who has all frames up to the position. It is given every entry all the
    same, and leaves out what the reader has."""

    def fold_past(entry: LogEntry) -> Sequence[Frame]:
        frames = fold(entry)
        # What everybody is told has no number, and no reader has it.
        if entry.seq == 0 or entry.seq > position.seq:
            return frames
        if entry.seq < position.seq or position.part == 0:
            return ()
        return frames[position.part :]

    return fold_past


@dataclass(frozen=True, slots=True)
class Past:
    """A dialect for a reader who has all frames up to the position."""

    dialect: Dialect
    position: Position
    is_shared: bool = False

    @property
    def name(self) -> str:
        return self.dialect.name

    @property
    def has_state(self) -> bool:
        return self.dialect.has_state

    @property
    def types(self) -> frozenset[str] | None:
        return self.dialect.types

    def fold(self) -> Fold:
        return past(self.dialect.fold(), self.position)

    def heartbeat(self, now: datetime) -> Frame | None:
        return self.dialect.heartbeat(now)

    def end(self, reason: str) -> Frame | None:
        return self.dialect.end(reason)
