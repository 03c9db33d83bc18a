"""Approvals and links as people are told of them, and who they are told by."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from msgspec import structs

from assent.core.approval import ApprovalStatus
from assent.core.events import EVENT_TYPES, Event
from assent.core.policy import Policy, Risk
from assent.notify.endpoints import Endpoint, endpoints_from_json
from tests.storage.samples import NOON, approval, link
from tests.support.keys import NEW_SECRET
from tests.support.receiver import Receiver

PENDING = approval(
    status=ApprovalStatus.PENDING,
    policy=Policy(roles=("lead",), names=("bob", "cy"), risk=Risk.HIGH),
    step=0,
    edit=None,
    votes=(),
    delegations=(),
    comments=(),
    requested_by=("ann", "dee"),
    decision=None,
    decided_by=None,
    decided_at=None,
    allowed=("approve", "edit", "reject"),
)
UNUSED_LINK = replace(link(), used_at=None)
NOW = NOON + timedelta(minutes=1)


def event(kind: str, **changes: Any) -> Event:
    """An event of the approval `a`, of this type."""
    required = {
        "approval_decided": {"decision": "approve"},
        "approval_voted": {"decision": "approve"},
    }.get(kind, {})
    made = EVENT_TYPES[kind](
        ts=NOW,
        thread_id="t",
        run_id="r",
        approval_id="a",
        kind="tool",
        tool="pay",
        tool_call_id="call",
        **required,
    )  # type: ignore[call-arg]
    return structs.replace(made, **changes)


def webhook(receiver: Receiver, name: str = "hook", *secrets: str) -> Endpoint:
    """The endpoint that sends to this receiver."""
    written = {
        "url": f"http://127.0.0.1:{receiver.port}/in",
        "secrets": secrets or (NEW_SECRET,),
        "allow_http": True,
    }
    (endpoint,) = endpoints_from_json({name: written}, {})
    return endpoint
