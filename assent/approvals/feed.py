"""One log for what happens to all approvals, so that people who decide need not watch every thread.

It is a log like a thread's: numbered without a gap, replayed and followed in the same way. No
thread can have its name. Its events are copies, stored in the same transaction, without arguments,
answers and comments: whoever may see those looks at the approval. So when a thread is erased,
nothing of its content is left here. `runs/feeds.py` makes the feeds of agents and people in the
same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

from msgspec import NODEFAULT, structs

from assent.core.events import ApprovalEvent, Event, RunEvent
from assent.core.logs import FEEDS, feed_of_approvals

EventT = TypeVar("EventT", RunEvent, ApprovalEvent)

CONTENT = frozenset({"args", "preview", "schema", "message", "text", "input", "metadata"})
"""The fields that a copy lacks: whatever was said, asked, given or answered."""


def with_copies(events: Iterable[Event], tenant: str | None) -> tuple[Event, ...]:
    """The events, followed by the copies of those that are about approvals in the feed of the
    tenant."""
    events, feed = tuple(events), feed_of_approvals(tenant)
    copies = [copied_to(feed, event) for event in events if isinstance(event, ApprovalEvent)]
    return (*events, *copies)


def is_copy(event: Event) -> bool:
    """True for a copy in the feed of an event that is in the log of its thread."""
    return event.thread_id.startswith(FEEDS)


def copied_to(feed: str, event: EventT) -> EventT:
    """The feed's copy of the event."""
    blanks = _blanks(type(event))
    return structs.replace(event, thread_id=feed, about=event.thread_id, **blanks)


@cache
def _blanks(kind: type[Event]) -> dict[str, Any]:
    """The fields with content, each as it is if nothing is said; a text if it must be said."""
    found = {field.name: field for field in structs.fields(kind) if field.name in CONTENT}
    return {name: _blank(field) for name, field in found.items()}


def _blank(field: structs.FieldInfo) -> Any:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return "" if field.default is NODEFAULT else field.default
