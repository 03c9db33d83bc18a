"""One log for what happens to all approvals, so that people who decide need not watch every thread.

It is a log like a thread's: numbered without a gap, replayed and followed in the same way. No
thread can have its name. Its events are copies, stored in the same transaction, without arguments,
answers and comments: whoever may see those looks at the approval. So when a thread is erased,
nothing of its content is left here.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from assent.core.events import ApprovalEvent, Event

FEED = "~approvals"
"""The log's id. A thread's id has no `~`."""

_CONTENT = {"args": None, "preview": None, "message": None, "text": ""}
"""The fields that a copy lacks, with the value that they have instead."""


def with_copies(events: Iterable[Event]) -> tuple[Event, ...]:
    """The events, followed by the feed's copies of those that are about approvals."""
    events = tuple(events)
    copies = [_copy(event) for event in events if isinstance(event, ApprovalEvent)]
    return (*events, *copies)


def is_copy(event: Event) -> bool:
    """True for a copy in the feed of an event that is in the log of its thread."""
    return event.thread_id == FEED


def _copy(event: ApprovalEvent) -> ApprovalEvent:
    blanked = {name: blank for name, blank in _CONTENT.items() if name in event.__struct_fields__}
    return structs.replace(event, thread_id=FEED, about=event.thread_id, **blanked)
