"""The rules of approvals, as one pure function: `advance` takes an approval, what somebody does and
the time, and returns the approval as it stands then.

It knows no storage and no clock. It returns the approval with the events that report what happened,
or raises an error, and then nothing has happened. `next_deadline` says when time itself will next
change the approval. The rules:

1. Time never approves. When time is up the approval expires, others are asked as well, or it waits
   on, as its policy says.
2. Time comes first. Whoever acts at or after a deadline meets an approval whose deadline has
   passed, even if nobody had checked it.
3. One reject is enough. Approving, and answering in place of the tool (`respond`), take the
   policy's quorum of people who say the same about exactly the arguments that are asked now.
   People whose names read the same, without case and in one form of their letters, count as one.
4. Each person has one vote. A later one replaces it, the same one again changes nothing, and it can
   be withdrawn while the approval is pending. Votes that one person may have given in the name of
   others are one of the quorum.
5. An edit asks anew. No earlier vote counts; the editor's own counts as one for the new arguments
   if they may approve those. The tool cannot be changed. The new arguments get the policy that
   they need: if it is the one they had, who is asked and until when stays; if it is another,
   everything but the comments begins again; if they need nobody, the edit decides.
6. With four eyes, whoever it can be traced to (`requested_by`) and whoever edited it may reject,
   and nothing else. None of them may delegate. Whoever shares a secret with one of them is one, and
   so is whoever has a name that reads the same.
7. An edited approval is approved only with the digest of the new arguments: whoever has not seen
   the edit has not agreed to it. Any decision with another digest raises `Superseded`.
8. Escalation asks others as well: whoever could decide still can, and votes stand. The time of the
   new people begins when they are asked, so a server that was down takes nothing from it.
9. Delegation hands over one's own voting right, so it never makes two votes of one: whoever hands
   it over has none until it comes back. A right that was delegated to a role is used by one of its
   people.
10. Reminders that were missed are sent as one. None is sent at or after the deadline that it counts
    back from.
11. A standing grant is a vote in advance by the person who gave it, and counts exactly as theirs
    would (`assent.approvals.grants`).
12. Whoever decides must be asked by the policy, or have a voting right from somebody who is, and
    must be an approver of such calls themselves (`Person.approves`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from assent.core import events
from assent.core.approval import (
    Approval,
    ApprovalStatus,
    Comment,
    Delegation,
    Edited,
    Target,
    Vote,
    approval_event,
    decided_event,
    people_behind,
)
from assent.core.decisions import (
    Approve,
    Decision,
    Edit,
    Reject,
    Respond,
    check_allowed,
    decision_to_json,
    decision_type,
)
from assent.core.digest import call_digest
from assent.core.errors import (
    AlreadyDecided,
    Forbidden,
    InvalidRequest,
    Superseded,
)
from assent.core.json import numbers_as_in
from assent.core.names import folded, reads_as_one
from assent.core.policy import OnTimeout, Person, Policy, plain_policy

MAX_COMMENTS = 200
MAX_COMMENT_CHARACTERS = 4_000


# ── actions ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Requirement:
    """The policy under which other arguments would be asked; None if they need nobody."""

    policy: Policy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Take a decision. `digest` is of what the person was shown. An edit comes with what its
    arguments require."""

    by: Person
    decision: Decision
    digest: str | None = None
    requires: Requirement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Take one's vote back."""

    by: Person


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """Hand one's voting right to another, or take it back by handing it to oneself."""

    by: Person
    to: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class AddComment:
    """Comment. Whoever may see the approval may; the caller judges who may see it."""

    by: Person
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDeadline:
    """Apply what time has done. It does nothing to an approval that is not pending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End the approval because the run that asked was cancelled."""

    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supersede:
    """End the approval because what was asked no longer stands, for this `reason`: a sentence."""

    reason: str


PersonalAction = Decide | Withdraw | Delegate | AddComment
Action = PersonalAction | CheckDeadline | Cancel | Supersede


@dataclass(frozen=True, slots=True)
class Advanced:
    """The approval after an action, and the events that report it, in order. If the approval is the
    same object as before, nothing has changed."""

    approval: Approval
    events: tuple[events.ApprovalEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What somebody may do about an approval: the types of decision that they `may` give, and the
    sentence `why_not` all that it takes, None if they may."""

    may: tuple[str, ...]
    why_not: str | None = None


# ── the rules ─────────────────────────────────────────────────────────────────────────────────────


def ask_under(approval: Approval, policy: Policy, now: datetime) -> Approval:
    """The approval, put to the first people that the policy names: their time begins now."""
    return replace(
        approval,
        policy=plain_policy(policy),
        step=0,
        step_at=now,
        expires_at=_after(now, policy.timeout),
        reminded_at=None,
        votes=(),
        delegations=(),
    )


def advance(approval: Approval, action: Action, now: datetime) -> Advanced:
    """The approval after this action at this time.

    Raises `AlreadyDecided` if it is no longer pending, `Forbidden` if the person may not do this,
    `Superseded` if they were shown something else, `InvalidDecision` if the approval does not take
    the decision, and `InvalidRequest` for what makes no sense.
    """
    if not approval.is_pending:
        if isinstance(action, CheckDeadline):
            return Advanced(approval)
        raise already_decided(approval)
    if isinstance(action, Cancel):
        return _cancel(approval, action, now)
    if isinstance(action, Supersede):
        return _supersede(approval, action, now)

    on_time = _apply_time(approval, now)
    if isinstance(action, CheckDeadline):
        return on_time
    if not on_time.approval.is_pending:
        raise already_decided(on_time.approval)
    done = _act(on_time.approval, action, now)
    return Advanced(done.approval, (*on_time.events, *done.events))


def _act(approval: Approval, action: PersonalAction, now: datetime) -> Advanced:
    match action:
        case Decide():
            return _decide(approval, action, now)
        case Withdraw():
            return _withdraw(approval, action, now)
        case Delegate():
            return _delegate(approval, action, now)
        case AddComment():
            return _comment(approval, action, now)


def next_deadline(approval: Approval) -> datetime | None:
    """The moment at which time will next change the approval if nobody acts; None if never."""
    if not approval.is_pending:
        return None
    reminded_until = approval.reminded_at or approval.asked_at
    moments = [at for at in _reminders(approval) if at > reminded_until]
    if approval.expires_at is not None:
        moments.append(approval.expires_at)
    return min(moments, default=None)


_ENDED = {
    ApprovalStatus.APPROVED: "was approved",
    ApprovalStatus.EDITED: "was approved with other arguments",
    ApprovalStatus.REJECTED: "was rejected",
    ApprovalStatus.RESPONDED: "was answered",
    ApprovalStatus.EXPIRED: "expired",
    ApprovalStatus.SUPERSEDED: "was superseded",
    ApprovalStatus.CANCELLED: "was cancelled",
}


def already_decided(approval: Approval) -> AlreadyDecided:
    """The error that says who decided what, and when."""
    decided_at = approval.decided_at.isoformat() if approval.decided_at else None
    by = f" by {approval.decided_by}" if approval.decided_by else ""
    at = f" at {decided_at}" if decided_at else ""
    decision = decision_to_json(approval.decision) if approval.decision else None
    return AlreadyDecided(
        f"The approval {approval.approval_id} is no longer pending: "
        f"it {_ENDED[approval.status]}{by}{at}.",
        approval_id=approval.approval_id,
        outcome=approval.status,
        decided_by=approval.decided_by,
        decision=decision,
        decided_at=decided_at,
    )


def voting_right(approval: Approval, person: Person) -> str | None:
    """The name of the person whose voting right this one would use: their own, or one that was
    delegated to them and that nobody else has used. None if they have none, or are no approver of
    such calls."""
    if not person.approves.takes(approval):
        return None
    has_own = approval.policy.asks(person, approval.step)
    if has_own and not _has_delegated(approval, person):
        return person.name
    used = {vote.voting_right for vote in approval.votes if vote.by != person.name}
    for delegation in approval.delegations:
        if delegation.to.includes(person) and delegation.voting_right not in used:
            return delegation.voting_right
    return None


def standing(approval: Approval, person: Person, now: datetime) -> Standing:
    """What the person may do about the approval at this time. Whoever needs somebody else by four
    eyes may still reject."""
    if approval.is_pending:
        approval = _apply_time(approval, now).approval
    if not approval.is_pending:
        return Standing((), already_decided(approval).message)
    try:
        _required_right(approval, person)
    except Forbidden as error:
        return Standing((), error.message)
    try:
        _check_four_eyes(approval, person)
    except Forbidden as error:
        return Standing(tuple({*approval.allowed} & {"reject"}), error.message)
    return Standing(approval.allowed)


def needs_another(approval: Approval, *names: str) -> bool:
    """True if somebody other than these people must decide: with four eyes, if one of them asked
    for what is asked now, or edited it."""
    return bool(_with_a_part(approval, names))


def _with_a_part(approval: Approval, names: Iterable[str]) -> list[str]:
    """Those of the people who have a part in what is asked now, if that counts."""
    if not approval.policy.needs_another:
        return []
    editors = approval.edit.editors if approval.edit is not None else ()
    having_part = {folded(name) for name in (*approval.requested_by, *editors)}
    return [name for name in names if name and folded(name) in having_part]


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


def _apply_time(approval: Approval, now: datetime) -> Advanced:
    if approval.expires_at is not None and approval.expires_at <= now:
        return _time_out(approval, now)
    reminded_until = approval.reminded_at or approval.asked_at
    if any(reminded_until < at <= now for at in _reminders(approval)):
        return _remind(approval, now)
    return Advanced(approval)


def _time_out(approval: Approval, now: datetime) -> Advanced:
    policy = approval.policy
    if policy.on_timeout == OnTimeout.PAUSE:
        return _remind(replace(approval, expires_at=None), now)
    if policy.on_timeout == OnTimeout.ESCALATE and approval.step < len(policy.escalation):
        return _escalate(approval, now)
    decision = Reject(message="Nobody decided in time.")
    expired = _end(approval, ApprovalStatus.EXPIRED, decision, None, now)
    return Advanced(expired, (approval_event(events.ApprovalExpired, approval, now),))


def _escalate(approval: Approval, now: datetime) -> Advanced:
    people = approval.policy.escalation[approval.step]
    expires_at = _after(now, people.timeout)
    escalated = replace(
        approval, step=approval.step + 1, step_at=now, expires_at=expires_at, reminded_at=None
    )
    to = (*people.roles, *people.names)
    event = approval_event(events.ApprovalEscalated, approval, now, to=to, expires_at=expires_at)
    return Advanced(escalated, (event,))


def _remind(approval: Approval, now: datetime) -> Advanced:
    event = approval_event(events.ApprovalReminder, approval, now)
    return Advanced(replace(approval, reminded_at=now), (event,))


def _reminders(approval: Approval) -> Iterable[datetime]:
    return approval.policy.reminds_at(approval.asked_at, approval.expires_at)


def _after(now: datetime, timeout: timedelta | None) -> datetime | None:
    return None if timeout is None else now + timeout


# ── deciding ──────────────────────────────────────────────────────────────────────────────────────


def _decide(approval: Approval, action: Decide, now: datetime) -> Advanced:
    decision, by = action.decision, action.by
    right = _required_right(approval, by)
    check_allowed(decision, approval.approval_id, approval.allowed)
    if isinstance(decision, Reject):
        _check_shown(approval, action)
        rejected = _end(approval, ApprovalStatus.REJECTED, decision, by.name, now)
        return Advanced(rejected, (_decided_event(rejected, now),))
    _check_four_eyes(approval, by)
    _check_shown(approval, action)
    if isinstance(decision, Edit):
        return _edit(approval, action, decision, now)
    return vote(approval, by, decision, right, now)


def vote(
    approval: Approval,
    by: Person,
    decision: Decision,
    right: str,
    now: datetime,
    *,
    grant: str = "",
) -> Advanced:
    """The approval with a vote, which its voter must be entitled to; decided, if it was the last
    that was needed."""
    cast = Vote(
        by=by.name,
        decision=decision,
        digest=approval.current_digest,
        at=now,
        voting_right=right,
        grant=grant,
        known_to=by.known_to,
        sent_by=by.sent_by,
    )
    others: list[Vote] = []
    for earlier in approval.votes:
        if earlier.by != by.name:
            others.append(earlier)
        elif _agree(earlier, cast):
            return Advanced(approval)

    votes = (*others, cast)
    voted = replace(approval, votes=votes)
    agreeing = people_behind(each for each in votes if _agree(each, cast))
    if agreeing >= approval.policy.quorum:
        return _agreed(voted, cast)
    return Advanced(voted, (_voted_event(voted, cast, agreeing),))


def _agree(vote: Vote, other: Vote) -> bool:
    return (vote.meaning, vote.digest) == (other.meaning, other.digest)


def _agreed(approval: Approval, last: Vote) -> Advanced:
    status, decision = ApprovalStatus.APPROVED, last.decision
    if isinstance(last.decision, Respond):
        status = ApprovalStatus.RESPONDED
    elif approval.edit:
        status, decision = ApprovalStatus.EDITED, Edit(args=approval.edit.args)
    decided = _end(approval, status, decision, last.by, last.at)
    return Advanced(decided, (_decided_event(decided, last.at, grant=last.grant),))


def _edit(approval: Approval, action: Decide, decision: Edit, now: datetime) -> Advanced:
    if action.requires is None:
        raise ValueError("An edit came without the policy that its arguments require.")
    by = action.by
    before = approval.edit
    # Whoever changed something else has not changed a number.
    asked = before.args if before else approval.args
    decision = Edit(args=numbers_as_in(asked, decision.args))
    digest = call_digest(approval.tool, decision.args)
    earlier = before.editors if before else ()
    earlier = tuple(dict.fromkeys((*earlier, *by.others)))
    edit = Edited(args=decision.args, digest=digest, by=by.name, at=now, earlier=earlier)
    edited = replace(approval, edit=edit, votes=())
    policy = action.requires.policy
    if policy is None:
        decided = _end(edited, ApprovalStatus.EDITED, decision, by.name, now)
        return Advanced(decided, (_decided_event(decided, now),))

    if plain_policy(policy) != approval.policy:
        edited = ask_under(replace(edited, allowed=policy.allowed), policy, now)
    done = _vote_of_editor(edited, by, now)
    if not done.approval.is_pending:
        return done
    event = approval_event(
        events.ApprovalEdited, edited, now, args=edit.args, digest=edit.digest, by=edit.by
    )
    return Advanced(done.approval, (event, *done.events))


def _vote_of_editor(approval: Approval, by: Person, now: datetime) -> Advanced:
    """An edit counts as its editor's vote, if they may give one."""
    right = voting_right(approval, by)
    if right is None or needs_another(approval, *by.people):
        return Advanced(approval)
    return vote(approval, by, Approve(), right, now)


def _end(
    approval: Approval,
    status: ApprovalStatus,
    decision: Decision | None,
    by: str | None,
    now: datetime,
) -> Approval:
    return replace(
        approval,
        status=status,
        decision=decision,
        decided_by=by,
        decided_at=now,
        expires_at=None,
    )


def _required_right(approval: Approval, person: Person) -> str:
    """The voting right that the person uses. Raises `Forbidden` if they have none."""
    right = voting_right(approval, person)
    if right is not None:
        return right

    id = approval.approval_id
    if not person.approves.takes(approval):
        raise Forbidden(
            f"{person.name} may not decide the approval {id}: it takes the role 'approver', "
            f"'approver:tool:{approval.tool}', or 'approver:role:' and one that it asks.",
            approval_id=id,
        )
    for delegation in approval.delegations:
        if delegation.voting_right == person.name:
            to = delegation.to.name or _anyone_with(delegation.to.role)
            raise Forbidden(
                f"{person.name} has delegated their voting right on the approval {id} to {to}. "
                "Take it back first, by delegating it to yourself.",
                approval_id=id,
            )
    if any(each.to.includes(person) for each in approval.delegations):
        raise Forbidden(
            f"The voting right on the approval {id} that was delegated to the role of "
            f"{person.name} has been used by somebody else.",
            approval_id=id,
        )
    roles, names = approval.policy.asked(approval.step)
    entitled = [*sorted(names), *map(_anyone_with, sorted(roles))]
    raise Forbidden(
        f"{person.name} may not decide the approval {id}. It is for {' or '.join(entitled)}.",
        approval_id=id,
        roles=sorted(roles),
        names=sorted(names),
    )


def _check_four_eyes(approval: Approval, person: Person) -> None:
    for name in _with_a_part(approval, person.people):
        asked = any(reads_as_one(name, each) for each in approval.requested_by)
        did = "asked for" if asked else "edited"
        shared = "" if name == person.name else f", and may have acted for {person.name}"
        raise Forbidden(
            f"{name} {did} what the approval {approval.approval_id} is about{shared}, "
            "so somebody else must decide it.",
            approval_id=approval.approval_id,
        )


def _check_shown(approval: Approval, action: Decide) -> None:
    """Raise `Superseded` if the person was shown something else than what is asked now, or if they
    approve an edit without saying what they were shown."""
    id, digest = approval.approval_id, approval.current_digest
    if action.digest is not None and action.digest != digest:
        problem = (
            f"What the approval {id} asks has been changed since it was shown. "
            "Look at it again, and then decide."
        )
    elif action.digest is None and approval.edit and isinstance(action.decision, Approve):
        problem = (
            f"What the approval {id} asks was edited by {approval.edit.by}. "
            "To approve that, send its digest."
        )
    else:
        return
    raise Superseded(problem, approval_id=id, digest=digest, args=approval.current_args)


# ── withdrawing, delegating, commenting ───────────────────────────────────────────────────────────


def _withdraw(approval: Approval, action: Withdraw, now: datetime) -> Advanced:
    by = action.by.name
    withdrawn = _remove_votes(approval, lambda vote: vote.by == by, now)
    if not withdrawn.events:
        raise InvalidRequest(
            f"{by} has no vote on the approval {approval.approval_id} to take back."
        )
    return withdrawn


def _remove_votes(approval: Approval, removes: Callable[[Vote], bool], now: datetime) -> Advanced:
    left: list[Vote] = []
    withdrawn: list[events.ApprovalEvent] = []
    for each in approval.votes:
        if removes(each):
            withdrawn.append(approval_event(events.ApprovalWithdrawn, approval, now, by=each.by))
        else:
            left.append(each)
    if not withdrawn:
        return Advanced(approval)
    return Advanced(replace(approval, votes=tuple(left)), tuple(withdrawn))


def _delegate(approval: Approval, action: Delegate, now: datetime) -> Advanced:
    by, to, id = action.by, action.to, approval.approval_id
    if bool(to.name) == bool(to.role):
        raise InvalidRequest(
            "A voting right is delegated to one person by name, or to one role. "
            "Give one of the two."
        )
    takes_back = to.name == by.name and _has_delegated(approval, by)
    right = by.name if takes_back else _required_right(approval, by)
    _check_four_eyes(approval, by)
    if to.name and needs_another(approval, to.name):
        raise Forbidden(
            f"{to.name} asked for or edited what the approval {id} is about, "
            "so they cannot decide it. Name somebody else.",
            approval_id=id,
        )
    if to.name == by.name == right and not takes_back:
        raise InvalidRequest(f"{by.name} has their voting right on the approval {id} already.")

    delegations = [each for each in approval.delegations if each.voting_right != right]
    if to.name != right:
        delegations.append(Delegation(voting_right=right, to=to, by=by.name, at=now))
    freed = _remove_votes(
        approval, lambda vote: vote.voting_right == right or vote.by == by.name, now
    )
    event = approval_event(
        events.ApprovalDelegated, approval, now, by=by.name, to=to.name, role=to.role
    )
    delegated = replace(freed.approval, delegations=tuple(delegations))
    return Advanced(delegated, (*freed.events, event))


def _has_delegated(approval: Approval, person: Person) -> bool:
    return any(each.voting_right == person.name for each in approval.delegations)


def _comment(approval: Approval, action: AddComment, now: datetime) -> Advanced:
    text = action.text.strip()
    if not text or len(text) > MAX_COMMENT_CHARACTERS:
        raise InvalidRequest(
            f"A comment has 1 to {MAX_COMMENT_CHARACTERS} characters, and this one has {len(text)}."
        )
    if len(approval.comments) >= MAX_COMMENTS:
        raise InvalidRequest(
            f"The approval {approval.approval_id} has {MAX_COMMENTS} comments already, "
            "and takes no more."
        )
    by = action.by.name
    comment = Comment(by=by, text=text, at=now)
    event = approval_event(events.ApprovalCommented, approval, now, by=by, text=text)
    return Advanced(replace(approval, comments=(*approval.comments, comment)), (event,))


def _cancel(approval: Approval, action: Cancel, now: datetime) -> Advanced:
    cancelled = _end(approval, ApprovalStatus.CANCELLED, None, action.by or None, now)
    event = approval_event(events.ApprovalCancelled, approval, now, by=action.by)
    return Advanced(cancelled, (event,))


def _supersede(approval: Approval, action: Supersede, now: datetime) -> Advanced:
    superseded = _end(approval, ApprovalStatus.SUPERSEDED, None, None, now)
    event = approval_event(events.ApprovalSuperseded, approval, now, reason=action.reason)
    return Advanced(superseded, (event,))


# ── events ────────────────────────────────────────────────────────────────────────────────────────


def _decided_event(approval: Approval, now: datetime, grant: str = "") -> events.ApprovalDecided:
    assert approval.decision is not None
    by = approval.decided_by or ""
    return decided_event(approval, approval.decision, now, by=by, grant=grant)


def _voted_event(approval: Approval, cast: Vote, agreeing: int) -> events.ApprovalVoted:
    return approval_event(
        events.ApprovalVoted,
        approval,
        cast.at,
        decision=decision_type(cast.decision),
        by=cast.by,
        message=cast.decision.message if isinstance(cast.decision, Respond) else None,
        votes=agreeing,
        quorum=approval.policy.quorum,
        grant=cast.grant,
    )


def _anyone_with(role: str) -> str:
    return f"anyone with the role '{role}'"
