"""What shapes share, and the problem document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypedDict

from msgspec import Meta

from assent.core.events import AnyEvent

Time = Annotated[datetime, Meta(tz=True)]
"""A time, as RFC 3339."""


class Problem(TypedDict):
    """A problem document (RFC 9457): what was wrong, where, and what to do. Some have more members,
    such as the `thread_id` of the thread that it is about."""

    type: str
    title: str
    status: int
    detail: str


class ErrorView(TypedDict):
    """Why a run failed: the kind of the error, and a sentence without secrets."""

    code: str
    message: str


class EventsPage(TypedDict):
    """A page of events. `next` is the number to go on after, and `more` says that there are others
    already."""

    events: list[AnyEvent]
    next: int
    more: bool
