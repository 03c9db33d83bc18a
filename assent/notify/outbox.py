"""The outbox: notifications are committed in the same transaction as the event they report.

They are delivered later, and retried (`assent.notify.delivery`), so that a receiver that does not
answer delays no decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast

import msgspec

from assent.approvals.feed import is_copy
from assent.core.approval import Approval
from assent.core.clock import Clock
from assent.core.events import ApprovalEvent, event_type
from assent.core.json import JsonObject, encode_json
from assent.core.rows import Notification, NotificationStatus, Row
from assent.core.text import shortened
from assent.notify.endpoints import Endpoint
from assent.notify.links import decisions_by_link, new_link
from assent.storage.base import Change, Storage
from assent.storage.wrapped import Wrapped

MAX_PAYLOAD_BYTES = 62 * 1024
"""The size of a payload as JSON. With its envelope and a link it stays within 64 KiB."""

CUT_TO_CHARACTERS = 4_000

ASKING_EVENTS = frozenset(
    {
        "approval_required",
        "approval_edited",
        "approval_reminder",
        "approval_escalated",
        "approval_delegated",
    }
)
"""Events that may ask somebody to decide. An endpoint's recipient gets a link with them."""

LINK_ID = "link_id"
RECEIPT = "receipt"
WEBHOOK = "webhook"
"""Fields of a payload that receivers do not see: the id of its link, where its message is, and the
URL that it is for, if its run has named one."""


def with_outbox(
    storage: Storage, endpoints: Sequence[Endpoint], clock: Clock, on_stored: Callable[[], None]
) -> Storage:
    """The same storage, but each commit of approval events also stores their notifications.

    `on_stored` is called after a commit that stored some.
    """
    return cast(Storage, _Outbox(storage, endpoints, clock, on_stored)) if endpoints else storage


class _Outbox(Wrapped):
    def __init__(
        self,
        inner: Storage,
        endpoints: Sequence[Endpoint],
        clock: Clock,
        on_stored: Callable[[], None],
    ) -> None:
        super().__init__(inner)
        self._endpoints = endpoints
        self._clock = clock
        self._on_stored = on_stored

    async def commit(self, change: Change) -> tuple[int, ...]:
        rows = notifications_for(change, self._endpoints, self._clock.now(), self._clock.new_id)
        if not rows:
            return await self.inner.commit(change)

        numbers = await self.inner.commit(replace(change, rows=(*change.rows, *rows)))
        self._on_stored()
        return numbers


def notifications_for(
    change: Change, endpoints: Sequence[Endpoint], now: datetime, new_id: Callable[[], str]
) -> list[Row]:
    """The notifications to commit together with the change, and the links that they carry."""
    events = list(_approval_events(change))
    if not events:
        return []

    approvals: dict[str, Approval] = {}
    for row in (*change.unchanged, *change.rows):
        if isinstance(row, Approval):
            approvals[row.approval_id] = row
    rows: list[Row] = []
    for event in events:
        approval = approvals.get(event.approval_id)
        if _already_answered(event, approval):
            continue
        for endpoint in endpoints:
            if endpoint.wants(event, approval):
                rows += _rows_for(endpoint, event, approval, now, new_id)
    return rows


def _approval_events(change: Change) -> Iterator[ApprovalEvent]:
    for event in change.events:
        if isinstance(event, ApprovalEvent) and not is_copy(event):
            yield event


def _already_answered(event: ApprovalEvent, approval: Approval | None) -> bool:
    """True if the event asks for a decision that was made in the same change, as by a standing
    grant."""
    return approval is not None and event_type(event) in ASKING_EVENTS and not approval.is_pending


def _rows_for(
    endpoint: Endpoint,
    event: ApprovalEvent,
    approval: Approval | None,
    now: datetime,
    new_id: Callable[[], str],
) -> Iterator[Row]:
    payload = payload_of(event, approval)
    kind = event_type(event)
    asks_recipient = endpoint.recipient and kind in ASKING_EVENTS
    if asks_recipient and approval is not None and _takes_links(approval, now):
        link = new_link(
            approval, endpoint.recipient, link_id=new_id(), now=now, by=f"notify:{endpoint.name}"
        )
        payload[LINK_ID] = link.link_id
        yield link
    yield Notification(
        notification_id=new_id(),
        endpoint=endpoint.name,
        event=kind,
        thread_id=event.thread_id,
        approval_id=event.approval_id,
        run_id=event.run_id,
        tenant=approval.tenant if approval is not None else None,
        payload=payload,
        status=NotificationStatus.PENDING,
        created_at=now,
        next_at=now,
    )


def _takes_links(approval: Approval, now: datetime) -> bool:
    in_time = approval.expires_at is None or now < approval.expires_at
    return approval.is_pending and in_time and bool(decisions_by_link(approval))


# ── payloads ──────────────────────────────────────────────────────────────────────────────────────


def payload_of(event: ApprovalEvent, approval: Approval | None) -> JsonObject:
    """`{"approval": …, "event": …}`: the approval as approvers see it, and whatever the event adds.

    A payload that is too large has its largest fields cut to the beginning of their JSON, as text,
    and names them in `cut`.
    """
    shown = {} if approval is None else _approval_view(approval)
    added: JsonObject = {}
    for name, value in msgspec.to_builtins(event).items():
        if name not in ("type", "seq") and value != shown.get(name):
            added[name] = value
    return _bounded({"approval": shown, "event": added})


_FIELDS = (
    *("approval_id", "thread_id", "run_id", "agent", "kind", "tool", "tool_call_id", "node"),
    *("allowed", "preview", "status", "risk", "roles", "names", "requested_at", "expires_at"),
    *("decision", "decided_by", "decided_at", "conversation"),
)


def _approval_view(approval: Approval) -> JsonObject:
    shown = {name: getattr(approval, name) for name in _FIELDS}
    shown["args"] = approval.current_args
    shown["digest"] = approval.current_digest
    shown["edited_by"] = approval.edit.by if approval.edit else None
    shown["requested_by"] = approval.requested_by or (approval.owner,)
    return dict(msgspec.to_builtins(shown))


def _bounded(payload: JsonObject) -> JsonObject:
    cut: list[str] = []
    while len(encode_json(payload)) > MAX_PAYLOAD_BYTES:
        sizes: dict[tuple[str, str], int] = {}
        for part in ("approval", "event"):
            for name, value in payload[part].items():
                sizes[part, name] = len(encode_json(value))
        part, name = max(sizes, key=sizes.__getitem__)
        if f"{part}.{name}" in cut:
            # Too many fields, each of which is small. Assent makes no such payload.
            return {"approval": {}, "event": {}, "cut": ["approval", "event"]}

        text = encode_json(payload[part][name]).decode()
        payload[part][name] = shortened(text, CUT_TO_CHARACTERS)
        cut.append(f"{part}.{name}")
        payload["cut"] = cut
    return payload


def data_of(notification: Notification) -> JsonObject:
    """The payload as receivers see it."""
    hidden = (LINK_ID, RECEIPT, WEBHOOK)
    return {name: value for name, value in notification.payload.items() if name not in hidden}
