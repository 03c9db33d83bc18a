"""The native dialect: each event as it is stored, under its own number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from msgspec import structs

from assent.api.dialects.base import Fold, Frame
from assent.storage.base import LogEntry


@dataclass(frozen=True, slots=True)
class Native:
    """Each event as it is stored. With `about_others` the log is a feed, whose events are shown as
    if they were in the logs that they are about."""

    name: str
    about_others: bool = False
    is_shared: bool = True
    has_state: bool = False
    types: frozenset[str] | None = None

    def fold(self) -> Fold:
        return _of_its_thread if self.about_others else _as_stored

    def heartbeat(self, now: datetime) -> Frame | None:
        return None

    def end(self, reason: str) -> Frame | None:
        return Frame("", "end", json.dumps({"reason": reason}).encode())


NATIVE = Native("native")
FEED = Native("native-feed", about_others=True)


def with_its_thread(entry: LogEntry) -> LogEntry:
    """The event as if it were its thread's. Only its number is the feed's."""
    event = msgspec.json.decode(entry.body)
    event["thread_id"] = event.pop("about", "")
    return structs.replace(entry, body=msgspec.json.encode(event))


def _as_stored(entry: LogEntry) -> Sequence[Frame]:
    return (Frame(str(entry.seq) if entry.seq else "", entry.type, entry.body),)


def _of_its_thread(entry: LogEntry) -> Sequence[Frame]:
    return _as_stored(with_its_thread(entry))
