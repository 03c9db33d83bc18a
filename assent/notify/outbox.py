"""What of a change is told to whom: a pure function from the change to the notifications that are
stored with it.

An event in the life of an approval cannot be stored without its notifications, for `notifying`
stands before the storage. What is stored is sent later (`assent.notify.delivery`), so that a
receiver that does not answer keeps nobody from deciding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import msgspec

from assent.approvals.feed import FEED
from assent.approvals.rows import question_of
from assent.core.clock import Clock
from assent.core.events import ApprovalEvent, event_type
from assent.core.rows import Approval, ApprovalStatus, Notification, NotificationStatus, Row
from assent.notify.endpoints import Endpoint
from assent.notify.links import BY_LINK, new_link
from assent.storage.base import Change, Storage

Json = Any
"""Any JSON value."""

MAX_PAYLOAD_BYTES = 62 * 1024
"""Of what is told, as JSON. With what is put around it and a link, it is no more than 64 KiB."""

CUT_TO_CHARACTERS = 4_000

ASKS = frozenset(
    {
        "approval_required",
        "approval_edited",
        "approval_reminder",
        "approval_escalated",
        "approval_delegated",
    }
)
"""After these, somebody may be asked to decide: who can by a link is sent one."""

encode = msgspec.json.Encoder().encode


def notifying(
    storage: Storage, endpoints: Sequence[Endpoint], clock: Clock, on_stored: Callable[[], None]
) -> Storage:
    """The same storage, whose every change also has what endpoints are told of it. `on_stored` is
    called when there is something new."""
    return cast(Storage, _Notifying(storage, endpoints, clock, on_stored)) if endpoints else storage


class _Notifying:
    """A storage but for `commit`: whatever else a storage does, it does."""

    def __init__(
        self,
        storage: Storage,
        endpoints: Sequence[Endpoint],
        clock: Clock,
        on_stored: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._endpoints = endpoints
        self._clock = clock
        self._on_stored = on_stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def commit(self, change: Change) -> tuple[int, ...]:
        rows = told(change, self._endpoints, self._clock.now(), self._clock.new_id)
        numbers = await self._storage.commit(
            replace(change, rows=(*change.rows, *rows)) if rows else change
        )
        if rows:
            self._on_stored()
        return numbers


def told(
    change: Change, endpoints: Iterable[Endpoint], now: datetime, new_id: Callable[[], str]
) -> tuple[Row, ...]:
    """The notifications, and the links that go with them, which belong into the change."""
    # What is copied into the feed is told once, from the thread's own log.
    events = [
        event
        for event in change.events
        if isinstance(event, ApprovalEvent) and event.thread_id != FEED
    ]
    if not events:
        return ()
    approvals = {
        row.approval_id: row for row in (*change.unmoved, *change.rows) if isinstance(row, Approval)
    }
    return tuple(
        row
        for endpoint in endpoints
        for event in events
        if not _is_over(event, approvals.get(event.approval_id))
        and endpoint.wants(event, approvals.get(event.approval_id))
        for row in _rows(endpoint, event, approvals.get(event.approval_id), now, new_id)
    )


def _rows(
    endpoint: Endpoint,
    event: ApprovalEvent,
    approval: Approval | None,
    now: datetime,
    new_id: Callable[[], str],
) -> Iterator[Row]:
    payload = payload_of(event, approval)
    name = event_type(event)
    if approval is not None and endpoint.recipient and name in ASKS and _takes_links(approval, now):
        link = new_link(
            approval, endpoint.recipient, link_id=new_id(), now=now, by=f"notify:{endpoint.name}"
        )
        payload["link_id"] = link.link_id
        yield link
    yield Notification(
        notification_id=new_id(),
        endpoint=endpoint.name,
        event=name,
        thread_id=event.thread_id,
        approval_id=event.approval_id,
        run_id=event.run_id,
        payload=payload,
        status=NotificationStatus.PENDING,
        created_at=now,
        next_at=now,
    )


def _is_over(event: ApprovalEvent, approval: Approval | None) -> bool:
    """Whether somebody would be asked for what is decided already, such as by a standing grant in
    the same moment."""
    return (
        approval is not None
        and event_type(event) in ASKS
        and approval.status is not ApprovalStatus.PENDING
    )


def _takes_links(approval: Approval, now: datetime) -> bool:
    in_time = approval.expires_at is None or now < approval.expires_at
    return (
        approval.status is ApprovalStatus.PENDING
        and in_time
        and not set(BY_LINK).isdisjoint(approval.allowed)
    )


# ── what is said ──────────────────────────────────────────────────────────────────────────────────


def payload_of(event: ApprovalEvent, approval: Approval | None) -> dict[str, Json]:
    """`{"approval": …, "event": …}`: the approval as the approver sees it, and what of the event is
    not said there.

    Where that would be too much, the largest parts are cut: each is then the beginning of its JSON,
    as text, and named in `cut`.
    """
    shown = _approval(approval) if approval is not None else {}
    said = {
        name: value
        for name, value in msgspec.to_builtins(event).items()
        if name not in ("type", "seq") and value != shown.get(name)
    }
    return _bounded({"approval": shown, "event": said})


def _approval(approval: Approval) -> dict[str, Json]:
    question = question_of(approval)
    shown = {
        "approval_id": approval.approval_id,
        "thread_id": approval.thread_id,
        "run_id": approval.run_id,
        "agent": approval.agent,
        "kind": approval.kind,
        "tool": approval.tool,
        "tool_call_id": approval.tool_call_id,
        "node": approval.node,
        "args": question.asked_args,
        "digest": question.asked_digest,
        "edited_by": question.edit.by if question.edit else None,
        "allowed": approval.allowed,
        "preview": approval.preview,
        "status": approval.status,
        "risk": approval.risk,
        "roles": approval.roles,
        "names": approval.names,
        "requested_by": approval.requested_by or approval.owner,
        "requested_at": approval.requested_at,
        "expires_at": approval.expires_at,
        "decision": approval.decision,
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at,
        "shown": approval.shown,
    }
    return dict(msgspec.to_builtins(shown))


def _bounded(payload: dict[str, Json]) -> dict[str, Json]:
    """The payload, no larger than it may be."""
    cut: list[str] = []
    while len(encode(payload)) > MAX_PAYLOAD_BYTES:
        sizes = {
            (part, name): len(encode(value))
            for part in ("approval", "event")
            for name, value in payload[part].items()
        }
        part, name = max(sizes, key=sizes.__getitem__)
        if f"{part}.{name}" in cut:
            # Many fields, each of which is small enough: nothing that Assent makes.
            return {"approval": {}, "event": {}, "cut": ["approval", "event"]}
        cut.append(f"{part}.{name}")
        payload = {
            **payload,
            part: {**payload[part], name: _beginning(payload[part][name])},
            "cut": cut,
        }
    return payload


def _beginning(value: Json) -> str:
    text = encode(value).decode()
    return f"{text[:CUT_TO_CHARACTERS]}… (cut: {len(text)} characters in all)"
