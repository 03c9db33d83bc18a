"""The audit entries of what happens to approvals.

An entry outlives its thread. So it says who did what to which approval, but has digests in place of
what people and models wrote: whoever has the words can prove them, and nobody else can read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from assent.core import events
from assent.core.audit import AuditAction, AuditEntry, Authentication
from assent.core.clock import time_text
from assent.core.digest import call_digest
from assent.core.events import ApprovalEvent, Event
from assent.core.json import Json

ACTIONS: dict[type[ApprovalEvent], AuditAction] = {
    events.ApprovalRequired: AuditAction.ASKED,
    events.ApprovalVoted: AuditAction.VOTED,
    events.ApprovalDecided: AuditAction.DECIDED,
    events.ApprovalEdited: AuditAction.EDITED,
    events.ApprovalWithdrawn: AuditAction.WITHDRAWN,
    events.ApprovalDelegated: AuditAction.DELEGATED,
    events.ApprovalCommented: AuditAction.COMMENTED,
    events.ApprovalReminder: AuditAction.REMINDED,
    events.ApprovalEscalated: AuditAction.ESCALATED,
    events.ApprovalExpired: AuditAction.EXPIRED,
    events.ApprovalSuperseded: AuditAction.SUPERSEDED,
    events.ApprovalCancelled: AuditAction.CANCELLED,
}
"""The entry of every event of an approval."""

UNATTENDED = {
    events.ApprovalRequired: Authentication.ASSENT,
    events.ApprovalSuperseded: Authentication.ASSENT,
    events.ApprovalReminder: Authentication.TIME,
    events.ApprovalEscalated: Authentication.TIME,
    events.ApprovalExpired: Authentication.TIME,
}
"""Events that no person causes, whoever acts in the same change."""


def audit_entries(
    reported: Iterable[Event],
    *,
    authentication: Authentication,
    digest: str = "",
    policy: str = "",
    tenant: str | None = None,
) -> tuple[AuditEntry, ...]:
    """One entry for each of these events that is about an approval, in order.

    `authentication` says how it is known who acted. `digest` is of what they were shown or, where
    nobody acted, of what is asked; a new question carries its own. `policy` is the digest of the
    policy that applied, and `tenant` that of the approval.
    """
    entries: list[AuditEntry] = []
    for event in reported:
        if isinstance(event, ApprovalEvent):
            entry = _entry(event, authentication, digest, policy)
            entries.append(replace(entry, tenant=tenant))
    return tuple(entries)


def _entry(
    event: ApprovalEvent, authentication: Authentication, digest: str, policy: str
) -> AuditEntry:
    actor = getattr(event, "by", "")
    if type(event) in UNATTENDED:
        authentication = UNATTENDED[type(event)]
    elif getattr(event, "grant", ""):
        authentication = Authentication.GRANT
    elif not actor:
        authentication = Authentication.ASSENT
    detail = {"kind": event.kind, "tool": event.tool, **_detail(event)}
    return AuditEntry(
        at=event.ts,
        action=ACTIONS[type(event)],
        actor=actor,
        authentication=authentication,
        thread_id=event.thread_id,
        approval_id=event.approval_id,
        run_id=event.run_id,
        digest=event.digest if isinstance(event, events.ApprovalRequired) else digest,
        policy=policy,
        detail={name: value for name, value in detail.items() if value},
    )


def _detail(event: ApprovalEvent) -> dict[str, Json]:
    """The details of the event, without a word of what somebody wrote."""
    match event:
        case events.ApprovalRequired():
            return {
                "allowed": list(event.allowed),
                "expires_at": event.expires_at and time_text(event.expires_at),
                "requested_by": list(event.requested_by),
            }
        case events.ApprovalDecided():
            args = None if event.args is None else call_digest(event.tool, event.args)
            return {
                "decision": event.decision,
                "args_digest": args,
                "message_digest": _digest(event.message),
                "grant": event.grant,
            }
        case events.ApprovalVoted():
            said = {
                "decision": event.decision,
                "message_digest": _digest(event.message),
                "grant": event.grant,
            }
            return {**said, "votes": event.votes, "quorum": event.quorum}
        case events.ApprovalEdited():
            return {"args_digest": event.digest}
        case events.ApprovalDelegated():
            return {"to": event.to, "role": event.role}
        case events.ApprovalCommented():
            return {"message_digest": _digest(event.text)}
        case events.ApprovalEscalated():
            return {
                "to": list(event.to),
                "expires_at": event.expires_at and time_text(event.expires_at),
            }
        case events.ApprovalSuperseded():
            return {"reason": event.reason}
        case _:
            return {}


def _digest(message: Json) -> str | None:
    """The digest of a text or an answer, as if a tool 'message' were called with it. None if there
    is nothing."""
    return call_digest("message", message) if message not in (None, "") else None
