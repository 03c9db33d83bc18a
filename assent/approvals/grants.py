"""Standing grants: one tool, within bounds, for one thread or user, until a time, at most n times.

A grant is a vote of the person who gave it. It is cast when a call is asked about, and counts as
theirs would: of a quorum of two it is one, with four eyes it counts for nobody who gave it to
themselves, and whoever may not decide the call has granted nothing. It does not count any more once
its giver may not decide the call.

Bounds are closed: an argument that they do not name is out of bounds, so a grant never covers more
than its giver thought of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from msgspec import to_builtins
from msgspec.structs import replace

from assent.approvals.rules import Advanced, needs_another, vote
from assent.core.approval import Approval, ApprovalKind
from assent.core.audit import Actor, AuditAction, AuditEntry, Authentication
from assent.core.clock import Clock
from assent.core.decisions import Approve
from assent.core.digest import call_digest
from assent.core.errors import Conflict, Forbidden, NotFound
from assent.core.grant import Grant
from assent.core.policy import Person, Policy, policy_digest
from assent.storage.base import Change, Storage

# ── voting ────────────────────────────────────────────────────────────────────────────────────────


WhyNoVote = Callable[[Grant, Approval], str]
"""Why a grant gives no vote on an approval any more, as the end of a sentence; empty if it does."""


class Cast(NamedTuple):
    """An approval after grants have voted: the grants that were `used`, and those that would have
    voted while their givers might approve it themselves, each with the reason why it did not."""

    done: Advanced
    used: tuple[Grant, ...] = ()
    void: tuple[tuple[Grant, str], ...] = ()


def cast_grants(
    approval: Approval,
    grants: Iterable[Grant],
    now: datetime,
    why_no_vote: WhyNoVote = lambda grant, approval: "",
) -> Cast:
    """The approval, which was asked just now, after the grants have voted, the oldest first. No
    more are used than are needed."""
    done, used, void = Advanced(approval), [], []
    for grant in sorted(grants, key=lambda each: each.given_at):
        if not done.approval.is_pending:
            break
        by = grant.giver
        if not (grant.is_open(now) and covers(grant, approval) and _may_vote(done.approval, by)):
            continue
        if why := why_no_vote(grant, done.approval):
            void.append((grant, why))
            continue
        voted = vote(done.approval, by, Approve(), by.name, now, grant=grant.grant_id)
        done = Advanced(voted.approval, (*done.events, *voted.events))
        used.append(replace(grant, used=grant.used + 1))
    return Cast(done, tuple(used), tuple(void))


def void_entry(grant: Grant, approval: Approval, why: str) -> AuditEntry:
    """The audit entry of a grant that gave no vote on the approval."""
    return AuditEntry(
        at=approval.requested_at,
        action=AuditAction.REFUSED,
        authentication=Authentication.GRANT,
        actor=grant.given_by,
        tenant=approval.tenant,
        thread_id=approval.thread_id,
        approval_id=approval.approval_id,
        run_id=approval.run_id,
        digest=approval.digest,
        policy=policy_digest(approval.policy),
        detail={"grant": grant.grant_id, "why": why},
    )


def covers(grant: Grant, approval: Approval) -> bool:
    """True if the grant answers the approval, as far as agent, tool, scope and bounds go."""
    if approval.kind is not ApprovalKind.TOOL or approval.tenant != grant.tenant:
        return False
    if (approval.agent, approval.tool) != (grant.agent, grant.tool):
        return False
    if grant.thread_id not in ("", approval.thread_id):
        return False
    # What others had a part in is not for this user alone.
    if grant.user and set(approval.requested_by) != {grant.user}:
        return False

    args = approval.current_args
    if not isinstance(args, Mapping):
        return False
    for name, value in args.items():
        if name not in grant.bounds or not grant.bounds[name].holds(value):
            return False
    # An argument that is left out gets the tool's default, and nobody has bounded that.
    return all(bound.any or name in args for name, bound in grant.bounds.items())


def _may_vote(approval: Approval, person: Person) -> bool:
    if "approve" not in approval.allowed or not approval.policy.asks(person, approval.step):
        return False
    if not person.approves.takes(approval):
        return False
    has_voted = any(each.by == person.name for each in approval.votes)
    return not has_voted and not needs_another(approval, person.name)


# ── giving and revoking ───────────────────────────────────────────────────────────────────────────


async def give(storage: Storage, grant: Grant, policy: Policy, actor: Actor) -> Grant:
    """Store the grant, which is for calls under this policy. Raises `Forbidden` if its giver could
    not approve such calls."""
    check_may_grant(policy, grant)
    entry = _entry(grant, AuditAction.GRANTED, grant.given_at, actor, policy)
    await storage.commit(Change(rows=(grant,), audit=(entry,)))
    return grant


def check_may_grant(policy: Policy, grant: Grant) -> None:
    """Raise `Forbidden` if whoever gives the grant could not approve such calls."""
    giver = grant.giver
    roles, _ = policy.asked(0)
    may_approve = policy.asks(giver) and giver.approves.covers(grant.tool, roles)
    if not may_approve or "approve" not in policy.allowed:
        raise Forbidden(
            f"{grant.given_by} may not approve calls of '{grant.tool}', "
            "so they cannot grant them either."
        )
    if policy.needs_another and grant.user == grant.given_by:
        raise Forbidden(
            f"Calls of '{grant.tool}' need somebody other than who asks for them. "
            f"{grant.user} cannot grant them to themselves."
        )


async def revoke(
    storage: Storage, clock: Clock, grant: Grant, person: Person, policy: Policy, actor: Actor
) -> Grant:
    """Revoke the grant. What it has decided stays decided. Revoking is idempotent.

    Whoever gave it may, and whoever may decide such calls. Raises `NotFound` or `Forbidden`.
    """
    if person.name != grant.given_by and not policy.asks(person):
        raise Forbidden(
            f"{person.name} did not give the grant {grant.grant_id}, "
            f"and may not decide calls of '{grant.tool}' either."
        )
    while grant.revoked_at is None:
        now = clock.now()
        revoked = replace(grant, revoked_by=person.name, revoked_at=now, version=grant.version + 1)
        entry = _entry(revoked, AuditAction.REVOKED, now, actor, policy)
        try:
            await storage.commit(Change(rows=(revoked,), audit=(entry,)))
            return revoked
        except Conflict:
            # It was used or revoked meanwhile.
            grant = await stored_grant(storage, grant.grant_id)
    return grant


async def stored_grant(storage: Storage, grant_id: str) -> Grant:
    """The grant with this id. Raises `NotFound`."""
    grant = await storage.grant(grant_id)
    if grant is None:
        raise NotFound(f"There is no grant '{grant_id}'. GET /grants lists those that there are.")
    return grant


def _entry(
    grant: Grant, action: AuditAction, at: datetime, actor: Actor, policy: Policy
) -> AuditEntry:
    detail = {
        "grant": grant.grant_id,
        "agent": grant.agent,
        "tool": grant.tool,
        "user": grant.user,
        "uses": grant.uses,
        "used": grant.used,
        "until": grant.until.isoformat(),
    }
    return AuditEntry(
        at=at,
        action=action,
        actor=actor.name,
        authentication=actor.authentication,
        thread_id=grant.thread_id,
        tenant=grant.tenant,
        digest=call_digest("grant", to_builtins(grant.bounds)),
        policy=policy_digest(policy),
        detail=detail,
    )
