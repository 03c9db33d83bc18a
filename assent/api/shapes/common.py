"""What shapes share, and the problem document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NotRequired, TypedDict

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


_EVENT_OR_END = {
    "anyOf": [
        {"$ref": "#/components/schemas/Event"},
        {"type": "object", "properties": {"reason": {"type": "string"}}, "required": ["reason"]},
    ]
}


class EventFrame(TypedDict):
    """A Server-Sent Event: its `data` is an event as JSON, and its `id` the number of that. The
    last one, `end`, says for what `reason` nothing follows."""

    id: NotRequired[str]
    event: NotRequired[str]
    data: Annotated[
        str,
        Meta(
            extra_json_schema={
                "contentMediaType": "application/json",
                "contentSchema": _EVENT_OR_END,
            }
        ),
    ]


class ForeignFrame(TypedDict):
    """A Server-Sent Event in the form of the dialect: its `data` is JSON, or a mark of the end."""

    id: NotRequired[str]
    event: NotRequired[str]
    data: str


class EventsPage(TypedDict):
    """A page of events, in order. `next` is the number to go on after, or, of a page before one, to
    go on before, and `more` says that there are others already. A page before a number has the
    `last` one: who has begun at the end follows the log after that."""

    events: list[AnyEvent]
    next: int
    more: bool
    last: NotRequired[int]
