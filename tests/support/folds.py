"""Folds of dialects, without a server: what they make of a log's entries, and what somebody gets who
comes back in the middle.

    frames = frames_of(dialect, entries_of(RunStart(…), Done(…)))
    replays(dialect, entries)
    replays(dialect, entries_of(*every_event()))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from assent.api.dialects.base import Dialect, Fold, Frame, past
from assent.api.dialects.positions import read_position
from assent.core.events import EVENT_TYPES, ErrorInfo, Event, encode, event_type
from assent.storage.base import LogEntry


def entries_of(*events: Event, thread_id: str = "t") -> list[LogEntry]:
    """The events as the log of a thread has them."""
    entries = []
    for seq, event in enumerate(events, 1):
        numbered = structs.replace(event, thread_id=thread_id, seq=seq)
        entries.append(LogEntry(seq, event_type(event), event.run_id, encode(numbered)))
    return entries


def every_event(run_id: str = "r") -> list[Event]:
    """An event of each type, with nothing but what every event of it has."""
    return [_bare(kind, run_id) for kind in EVENT_TYPES.values()]


def _bare(kind: type[Event], run_id: str) -> Event:
    values: dict[Any, Any] = {str: "x", int: 1, float: 0.5, ErrorInfo: ErrorInfo("ValueError")}
    required = [field for field in structs.fields(kind) if field.required]
    return kind(run_id=run_id, **{field.name: values[field.type] for field in required})


def frames_of(dialect: Dialect, entries: Sequence[LogEntry]) -> list[Frame]:
    """What the dialect makes of the entries."""
    return _folded(dialect.fold(), entries)


def replays(dialect: Dialect, entries: Sequence[LogEntry], log_id: str = "t") -> list[Frame]:
    """The frames of the entries. Whoever comes back with the id of any of them gets exactly those
    behind it."""
    frames = frames_of(dialect, entries)
    for at, frame in enumerate(frames):
        position = read_position(frame.id, log_id)
        assert _folded(past(dialect.fold(), position), entries) == frames[at + 1 :], frame
    return frames


def _folded(fold: Fold, entries: Sequence[LogEntry]) -> list[Frame]:
    return [frame for entry in entries for frame in fold(entry)]
