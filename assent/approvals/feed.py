"""One log for what happens to all approvals: people who decide watch it, rather than every thread.

It is a log like a thread's, so it is numbered without a gap, replayed and followed in the same way;
no thread can have its name. Its events are copies, stored in the same transaction, without what was
asked, answered and said: whoever may see that looks at the approval. So when a thread is erased,
nothing that it held is left here.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from assent.core.events import ApprovalEvent, Event

FEED = "~approvals"
"""The log's id. A thread's id has no `~`."""

_CONTENT = {"args": None, "preview": None, "message": None, "text": ""}


def with_copies(events: Iterable[Event]) -> tuple[Event, ...]:
    """The events, and behind them the feed's copies of those that are about approvals."""
    told = tuple(events)
    return (*told, *(_copy(event) for event in told if isinstance(event, ApprovalEvent)))


def _copy(event: ApprovalEvent) -> ApprovalEvent:
    names = {each.name for each in structs.fields(event)}
    without = {name: nothing for name, nothing in _CONTENT.items() if name in names}
    return structs.replace(event, thread_id=FEED, about=event.thread_id, **without)
