"""Time and ids, passed in so that tests can control them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import uuid_utils


def utc_now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def time_text(time: datetime) -> str:
    """RFC 3339 in UTC with six decimals, so that texts sort by time. Raises `ValueError` for a time
    without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"The time {time} has no zone. Make it with datetime.now(UTC).")
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def uuid7() -> str:
    """A new id that sorts by its time (RFC 9562, version 7)."""
    return str(uuid_utils.uuid7())


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The source of the time and of new ids."""

    now: Callable[[], datetime] = utc_now
    new_id: Callable[[], str] = uuid7
