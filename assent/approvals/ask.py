"""Asking people: the approvals of a pause as they are stored, and the standing grants that answer
some of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from assent.approvals.grants import WhyNoVote, cast_grants, void_entry
from assent.approvals.record import record, report
from assent.approvals.rules import Advanced, ask_under
from assent.core.approval import Approval, approval_event
from assent.core.events import ApprovalRequired
from assent.core.grant import Grant
from assent.core.rows import Run
from assent.storage.base import Change, together


@dataclass(frozen=True, slots=True)
class Asked:
    """An approval as it was asked, and after the standing grants have voted on it; and those that
    gave no vote, each with the reason."""

    approval: Approval
    voted: Advanced
    void: Sequence[tuple[Grant, str]] = ()

    def change(self, *, with_votes: bool) -> Change:
        """The change that stores it, with the events of the grants' votes or without."""
        required = approval_event(ApprovalRequired, self.approval, self.approval.requested_at)
        votes = self.voted.events if with_votes else ()
        asked = record(self.approval, Advanced(self.voted.approval, (required, *votes)), None)
        void = tuple(void_entry(grant, self.approval, why) for grant, why in self.void)
        return together(asked, Change(audit=void))

    def votes(self, run_id: str) -> Change:
        """The events of the grants' votes, as those of the run that goes on."""
        return report(self.approval, self.voted.events, run_id=run_id)


def new_approval(
    found: Approval,
    run: Run,
    now: datetime,
    conversation: Mapping[str, str],
) -> Approval:
    """The approval that a graph was found to wait for, as the one that `run` asks under its policy.
    It has version 0, since it is not stored yet."""
    approval = replace(
        found,
        thread_id=run.thread_id,
        run_id=run.run_id,
        owner=run.owner,
        tenant=run.tenant,
        agent=run.agent,
        requested_by=run.requested_by,
        requested_at=now,
        allowed=_allowed(found),
        conversation=dict(conversation),
        version=0,
    )
    return ask_under(approval, found.policy, now)


def _allowed(found: Approval) -> tuple[str, ...]:
    """A call held back by our own gate takes what its policy allows. A graph's own question takes
    what it offers and the policy allows too, unless that left nothing to say no with."""
    allowed = found.policy.allowed
    if found.is_gated_call:
        return allowed
    both = tuple(each for each in found.allowed if each in allowed)
    return both if {"reject", "respond"} & set(both) else found.allowed


def ask_all(
    approvals: Iterable[Approval],
    grants: Sequence[Grant],
    why_no_vote: WhyNoVote = lambda grant, approval: "",
) -> tuple[list[Asked], tuple[Grant, ...]]:
    """The approvals as they are asked, in their order, and the grants that voted, to be stored."""
    left = {grant.grant_id: grant for grant in grants}
    stored: dict[str, Grant] = {}
    asked: list[Asked] = []
    for approval in approvals:
        at = approval.requested_at
        voted, used, void = cast_grants(approval, left.values(), at, why_no_vote)
        asked.append(Asked(approval, voted, void))
        for grant in used:
            left[grant.grant_id] = grant
            stored[grant.grant_id] = replace(grant, version=grant.version + 1)
    return asked, tuple(stored.values())
