"""Time and ids, passed in so that tests can hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import uuid_utils


def utc_now() -> datetime:
    """The current time, with its zone."""
    return datetime.now(UTC)


def time_text(time: datetime) -> str:
    """RFC 3339 in UTC with six decimals, so that text order is time order."""
    if time.tzinfo is None:
        raise ValueError(f"The time {time} has no zone. Make it with datetime.now(UTC).")
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def uuid7() -> str:
    """A new id that sorts by the time it was made (RFC 9562, version 7)."""
    return str(uuid_utils.uuid7())


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Where the time and new ids come from."""

    now: Callable[[], datetime] = utc_now
    new_id: Callable[[], str] = uuid7
