"""Giving and revoking standing grants: what is stored, and what the audit chain is told."""

from __future__ import annotations

from assent.approvals.grants import Grant, check_may_grant, revoked
from assent.approvals.rows import grant_of, grant_row
from assent.core.clock import Clock
from assent.core.digest import call_digest
from assent.core.errors import Conflict, Forbidden, NotFound
from assent.core.policy import Person, Policy, policy_digest
from assent.core.rows import AuditAction, AuditEntry, Authentication, StandingGrant
from assent.storage.base import Change, Storage


async def give(
    storage: Storage, grant: Grant, policy: Policy, authentication: Authentication
) -> StandingGrant:
    """Give the grant, which is for calls that are approved under this policy. Raises `Forbidden` if
    its giver could not approve them."""
    check_may_grant(policy, grant)
    row = grant_row(grant)
    await storage.commit(
        Change(
            rows=(row,),
            audit=(_entry(row, AuditAction.GRANTED, grant.given_by.name, authentication, policy),),
        )
    )
    return row


async def revoke(
    storage: Storage,
    clock: Clock,
    grant_id: str,
    by: Person,
    policy: Policy,
    authentication: Authentication,
) -> StandingGrant:
    """Revoke it; to do so again changes nothing. Whoever gave it may, and whoever may decide such
    calls. Raises `NotFound`, `Forbidden`."""
    while True:
        row = await storage.grant(grant_id)
        if row is None:
            raise NotFound(
                f"There is no grant '{grant_id}'. GET /grants lists those that there are."
            )
        if by.name != row.given_by and not policy.asks(by):
            raise Forbidden(
                f"{by.name} did not give the grant {grant_id}, and may not decide calls of '{row.tool}' either."
            )
        if row.revoked_at is not None:
            return row
        after = grant_row(revoked(grant_of(row), by.name, clock.now()), row.version + 1)
        entry = _entry(after, AuditAction.REVOKED, by.name, authentication, policy)
        try:
            await storage.commit(Change(rows=(after,), audit=(entry,)))
            return after
        except Conflict:
            continue


def _entry(
    row: StandingGrant,
    action: AuditAction,
    actor: str,
    authentication: Authentication,
    policy: Policy,
) -> AuditEntry:
    detail = {
        "grant": row.grant_id,
        "agent": row.agent,
        "tool": row.tool,
        "user": row.user,
        "uses": row.uses,
        "used": row.used,
    }
    return AuditEntry(
        at=row.revoked_at or row.given_at,
        action=action,
        actor=actor,
        authentication=authentication,
        thread_id=row.thread_id,
        digest=call_digest("grant", dict(row.bounds)),
        policy=policy_digest(policy),
        detail={**detail, "until": row.until.isoformat()},
    )
