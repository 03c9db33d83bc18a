"""One log line for each thing that an operator wants to know about runs and approvals.

The lines are made from changes that were committed, in one place: so nothing happens without its
line, and no line reports what was rolled back. They carry ids, names and numbers. They never carry
content: no message, argument, answer, tool output or model text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias, cast

import structlog

from assent.approvals.feed import is_copy
from assent.approvals.people import People
from assent.core.approval import Approval
from assent.core.events import (
    ApprovalCancelled,
    ApprovalDecided,
    ApprovalDelegated,
    ApprovalEdited,
    ApprovalEscalated,
    ApprovalEvent,
    ApprovalExpired,
    ApprovalRequired,
    ApprovalSuperseded,
    Done,
    Error,
    Event,
    RunCancelled,
    RunPaused,
    RunRecovered,
    RunResumed,
    RunStart,
)
from assent.core.json import JsonObject
from assent.core.rows import Notification, NotificationStatus, Run
from assent.storage.base import Change, Storage
from assent.storage.wrapped import Wrapped

log = structlog.get_logger(__name__)

Level: TypeAlias = Literal["info", "warning", "error"]

LINES: Mapping[type[Event], tuple[Level, str]] = {
    RunStart: ("info", "run started"),
    RunResumed: ("info", "run resumed"),
    RunRecovered: ("info", "run recovered"),
    RunPaused: ("info", "run paused"),
    Done: ("info", "run succeeded"),
    RunCancelled: ("info", "run cancelled"),
    Error: ("error", "run failed"),
    ApprovalRequired: ("info", "approval required"),
    ApprovalDecided: ("info", "approval decided"),
    ApprovalEscalated: ("warning", "approval escalated"),
    ApprovalExpired: ("warning", "approval expired"),
    ApprovalCancelled: ("info", "approval cancelled"),
    ApprovalSuperseded: ("warning", "approval superseded"),
}
"""The level and the name of the line for each type of event. Other events have none."""

MAY_LEAVE_TOO_FEW = (ApprovalRequired, ApprovalEdited, ApprovalDelegated)
"""The events after which too few people may be left to decide."""

SHORT = "approval short of people"

SAFE_FIELDS = frozenset(
    {"approval_id", "attempt", "by", "code", "decision", "grant", "kind", "node", "tool"}
)
"""The fields of events that are copied to their lines. No field with content is among them."""

OUTAGE_SECONDS = 60.0
"""The time between two lines about a storage that is away."""


class LogLine(NamedTuple):
    level: Level
    event: str
    values: JsonObject


def with_log_lines(storage: Storage, people: People = People()) -> Storage:
    """The same storage, but each commit also logs what it did, and that too few of the `people`
    are left to decide."""
    return cast(Storage, _Logging(storage, people))


class _Logging(Wrapped):
    def __init__(self, inner: Storage, people: People) -> None:
        super().__init__(inner)
        self._people = people

    async def commit(self, change: Change) -> tuple[int, ...]:
        numbers = await self.inner.commit(change)
        for level, event, values in log_lines(change, self._people):
            getattr(log, level)(event, **values)
        return numbers

    async def distrust(self, thread_id: str, reason: str, *, stopped: bool = False) -> None:
        await self.inner.distrust(thread_id, reason, stopped=stopped)
        if stopped:
            log.error("thread distrusted", thread_id=thread_id, reason=reason)


def log_lines(change: Change, people: People = People()) -> Iterator[LogLine]:
    """The lines to log once the change is committed."""
    rows: dict[str, Run | Approval] = {}
    for row in change.rows:
        if isinstance(row, Run):
            rows[row.run_id] = row
        elif isinstance(row, Approval):
            rows[row.approval_id] = row
        elif isinstance(row, Notification) and row.status is NotificationStatus.DEAD:
            yield _dead_letter(row)

    for event in change.events:
        if is_copy(event):
            continue
        if type(event) in LINES:
            about = event.approval_id if isinstance(event, ApprovalEvent) else event.run_id
            yield LogLine(*LINES[type(event)], _values(event, rows.get(about)))
        if isinstance(event, MAY_LEAVE_TOO_FEW):
            approval = rows.get(event.approval_id)
            shortage = people.shortage(approval) if isinstance(approval, Approval) else None
            if shortage is not None:
                short = {"left": list(shortage.names), "needed": shortage.needed}
                yield LogLine("warning", SHORT, {**_values(event, approval), **short})


def _values(event: Event, row: Run | Approval | None) -> JsonObject:
    values: JsonObject = {"thread_id": event.thread_id, "run_id": event.run_id}
    if row is not None:
        values["agent"] = row.agent
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name in SAFE_FIELDS and value:
            values[name] = value
    if isinstance(event, RunPaused | RunResumed):
        values["approval_ids"] = list(event.approvals)
    if isinstance(row, Run) and row.started_at is not None and row.ended_at is not None:
        values["duration"] = round((row.ended_at - row.started_at).total_seconds(), 3)
    return values


def _dead_letter(row: Notification) -> LogLine:
    values = {
        "thread_id": row.thread_id,
        "run_id": row.run_id,
        "approval_id": row.approval_id,
        "notification_id": row.notification_id,
        "endpoint": row.endpoint,
        "attempts": row.attempts,
    }
    return LogLine("error", "notification given up", values)


class OutageLines:
    """Logs that the storage is away: at first, once a minute while that lasts, and at its end.
    `now` is a clock that never jumps, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since: float | None = None
        self._next = now()
        self._is_told = False

    def away(self, reason: str) -> None:
        """The storage has refused a change, or could not be read."""
        now = self._now()
        if self._since is None:
            self._since, self._is_told = now, False
        if now >= self._next:
            log.error("storage away", reason=reason, seconds=round(now - self._since))
            self._next, self._is_told = now + OUTAGE_SECONDS, True

    def back(self) -> None:
        """The storage serves."""
        if self._since is not None and self._is_told:
            log.info("storage back", seconds=round(self._now() - self._since))
        self._since = None
