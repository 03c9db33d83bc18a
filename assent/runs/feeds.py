"""Feeds: what happens to the runs of an agent, and to those that a person started, for dashboards
that need not follow every thread.

A feed is a log like a thread's: numbered without a gap, replayed and followed in the same way. Its
events are copies, stored in the transaction of what they copy, without anything that was said,
asked, given or answered. So when a thread is erased, nothing of its content is left here.

Only changes have copies. The pieces of messages, which are a thousand to one, go by another way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

from msgspec import structs

from assent.approvals.feed import copied_to, is_copy
from assent.approvals.requesters import each_once
from assent.core.approval import Approval
from assent.core.events import ApprovalEvent, Event, RunEvent
from assent.core.logs import feed_of_agent, feed_of_user
from assent.core.rows import Row, Run
from assent.storage.base import Change, Storage
from assent.storage.wrapped import Wrapped


def with_feeds(storage: Storage) -> Storage:
    """The same storage, but each commit also adds to the feeds of agents and people."""
    return cast(Storage, _Feeding(storage))


class _Feeding(Wrapped):
    async def commit(self, change: Change) -> tuple[int, ...]:
        copies = tuple(copies_for(change))
        if not copies:
            return await self.inner.commit(change)
        numbers = await self.inner.commit(replace(change, events=(*change.events, *copies)))
        return numbers[: len(change.events)]


def copies_for(change: Change) -> Iterator[Event]:
    """The copies to commit together with the change, one for each feed. Of a run or an approval
    whose row the change has not read, none."""
    about = [event for event in change.events if isinstance(event, RunEvent | ApprovalEvent)]
    if not about:
        return
    rows = _rows_by_id((*change.unchanged, *change.rows))
    for event in about:
        id = event.approval_id if isinstance(event, ApprovalEvent) else event.run_id
        row = rows.get(id)
        if row is None or is_copy(event):
            continue
        for feed in _feeds_of(row):
            yield _copy(event, feed, row.agent)


def _rows_by_id(rows: Iterable[Row]) -> dict[str, Run | Approval]:
    found: dict[str, Run | Approval] = {}
    for row in rows:
        if isinstance(row, Run):
            found[row.run_id] = row
        elif isinstance(row, Approval):
            found[row.approval_id] = row
    return found


def _feeds_of(row: Run | Approval) -> Iterator[str]:
    if row.agent:
        yield feed_of_agent(row.agent, row.tenant)
    # A run is told to who started it; an approval also to those whose words it can be traced to.
    others = row.requested_by if isinstance(row, Approval) else ()
    for name in each_once([row.owner], others):
        yield feed_of_user(name, row.tenant)


def _copy(event: RunEvent | ApprovalEvent, feed: str, agent: str) -> Event:
    if isinstance(event, ApprovalEvent):
        return copied_to(feed, event)
    return structs.replace(copied_to(feed, event), agent=agent)
