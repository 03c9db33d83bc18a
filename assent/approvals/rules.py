"""What becomes of a question that people answer: one pure function from the question, what somebody
does and the time to the question as it stands then.

`advance` knows no storage and no clock. It returns the question and the events that tell what
happened, or raises a sentence and then nothing has happened. `look_again` says when time itself
will next do something. What it holds to:

1. Time never approves. At its end the question expires, others are asked as well, or it waits on;
   as the policy says.
2. Time comes first. What people do at or after a deadline meets a question whose deadline has
   passed, whether or not anybody had looked.
3. A no is enough: one reject ends the question. Approving, and answering in place of the tool
   (`respond`), take the policy's quorum of people who say the same on exactly the arguments that
   are asked now.
4. A person has one vote; a later one replaces it, the same one again changes nothing, and it can be
   taken back while the question is pending.
5. An edit asks anew. No earlier vote counts; the editor's counts as one for the new arguments if he
   may approve those. It cannot change the tool. The new arguments have the policy that they need:
   if it is the one they had, who is asked and until when stays as it was; if it is another,
   everything but the comments begins again; if they need nobody, the edit decides.
6. With four eyes, who asked and who edited last may reject, and nothing else. Neither may say who
   else decides.
7. Once edited, an approval must carry the digest of what it approves: who has not seen the edit has
   not agreed to it. Any decision that carries another digest is refused with `Superseded`.
8. Escalating asks others as well: who could decide still can, and votes stand. Their time begins
   when they are asked, so a server that was down takes nothing from it.
9. Delegating hands over one's own say, so that it never makes two votes of one: whoever hands it
   over has none until it comes back to him. A say that was handed to a role is used by one of its
   people.
10. Reminders that were missed are sent as one. None is sent at or after the deadline that it counts
    back from.
11. A standing grant is a vote in advance by the person who gave it, and counts exactly as his would
    (`assent.approvals.grants`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from assent.core import events
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
    InvalidDecision,
    InvalidRequest,
    Superseded,
)
from assent.core.policy import OnTimeout, Person, Policy, plain_policy
from assent.core.rows import ApprovalKind, ApprovalStatus

Json = Any
"""Any JSON value."""

MAX_COMMENTS = 200
MAX_COMMENT_CHARACTERS = 4_000

replace = msgspec.structs.replace


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said to what has this `digest`. `say` is whose say he used, his own unless it
    was delegated to him; `grant` names the standing grant that voted for him."""

    by: str
    decision: Decision
    digest: str
    at: datetime
    say: str
    grant: str = ""

    @property
    def meaning(self) -> str:
        """The same for votes that say the same."""
        return call_digest(
            decision_type(self.decision),
            self.decision.message if isinstance(self.decision, Respond) else None,
        )


class Edited(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments that somebody put in place of those that were asked."""

    args: dict[str, Json]
    digest: str
    by: str
    at: datetime


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a say is handed to: the person `name`, or whoever has the `role`. One of the two."""

    name: str = ""
    role: str = ""

    def means(self, person: Person) -> bool:
        return self.name == person.name if self.name else self.role in person.roles


class Delegation(msgspec.Struct, frozen=True, kw_only=True):
    """The `say` of the person with that name is with somebody else; `by` handed it over last."""

    say: str
    to: Target
    by: str
    at: datetime


class Comment(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said. It decides nothing."""

    by: str
    text: str
    at: datetime


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question to people, and how it stands.

    `args` and `digest` are what was asked first, and never change; `edit` is what is asked now, if
    somebody edited them. `requested_by` is the person for whom the agent works, "" if there is
    none. `step` counts the escalations so far; its people were asked at `step_at` and have until
    `expires_at`. `reminded_at` is when people were last reminded. `decided_by` is who gave the last
    vote that was needed.
    """

    approval_id: str
    thread_id: str
    run_id: str
    kind: ApprovalKind
    digest: str
    policy: Policy
    allowed: tuple[str, ...]
    requested_at: datetime
    step_at: datetime
    tool: str = ""
    tool_call_id: str = ""
    args: Json = None
    requested_by: str = ""
    status: ApprovalStatus = ApprovalStatus.PENDING
    edit: Edited | None = None
    step: int = 0
    expires_at: datetime | None = None
    reminded_at: datetime | None = None
    votes: tuple[Vote, ...] = ()
    delegations: tuple[Delegation, ...] = ()
    comments: tuple[Comment, ...] = ()
    decision: dict[str, Json] | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None

    @property
    def is_pending(self) -> bool:
        return self.status is ApprovalStatus.PENDING

    @property
    def asked_digest(self) -> str:
        """The digest of exactly what is asked now."""
        return self.edit.digest if self.edit else self.digest

    @property
    def asked_args(self) -> Json:
        """Exactly what is asked now."""
        return self.edit.args if self.edit else self.args


# ── what can be done ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What arguments need that somebody put in place of others: their `policy`, or None if they
    need nobody."""

    policy: Policy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Somebody decides. `digest` is of what he was shown. An edit comes with what its arguments
    need, and may name the `tool` it means."""

    by: Person
    decision: Decision
    digest: str | None = None
    needs: Needs | None = None
    tool: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """Somebody takes his vote back."""

    by: Person


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """Somebody hands his say to another, or takes it back by handing it to himself."""

    by: Person
    to: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Somebody comments. Whoever may see the question may; seeing is for the caller to judge."""

    by: Person
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Nobody does anything; time may have. On a question that is decided it does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """What asked was cancelled."""

    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supersede:
    """What was asked no longer stands, for this `reason`: a sentence."""

    reason: str


Action = Decide | Withdraw | Delegate | Say | Look | Cancel | Supersede


@dataclass(frozen=True, slots=True)
class Next:
    """The question as it stands then, and what to tell of it, in order. A question that is the same
    object has not changed."""

    question: Question
    events: tuple[events.Event, ...] = ()


# ── the rules ─────────────────────────────────────────────────────────────────────────────────────


def asked(question: Question, now: datetime) -> Question:
    """The question, put to the first people that its policy names: their time begins now."""
    policy = plain_policy(question.policy)
    return replace(
        question,
        policy=policy,
        step=0,
        step_at=now,
        expires_at=_after(now, policy.timeout),
        reminded_at=None,
        votes=(),
        delegations=(),
    )


def advance(question: Question, action: Action, now: datetime) -> Next:
    """What becomes of the question when this is done to it now.

    Raises `AlreadyDecided` if it is no longer pending, `Forbidden` if the person may not do this,
    `Superseded` if he was shown something else, `InvalidDecision` if the question does not take the
    decision, and `InvalidRequest` for what makes no sense.
    """
    if not question.is_pending:
        if isinstance(action, Look):
            return Next(question)
        raise already_decided(question)
    if isinstance(action, Cancel):
        return _cancel(question, action, now)
    if isinstance(action, Supersede):
        return _supersede(question, action, now)
    in_time = _time_passes(question, now)
    if isinstance(action, Look):
        return in_time
    if not in_time.question.is_pending:
        raise already_decided(in_time.question)
    done = _done(in_time.question, action, now)
    return Next(done.question, (*in_time.events, *done.events))


def _done(question: Question, action: Decide | Withdraw | Delegate | Say, now: datetime) -> Next:
    match action:
        case Decide():
            return _decide(question, action, now)
        case Withdraw():
            return _withdraw(question, action, now)
        case Delegate():
            return _delegate(question, action, now)
        case Say():
            return _comment(question, action, now)


def look_again(question: Question) -> datetime | None:
    """When time will next do something to the question, if nobody does; None if never."""
    if not question.is_pending:
        return None
    to_come = [at for at in _reminders(question) if at > _looked_at(question)]
    return min([*to_come, *([question.expires_at] if question.expires_at else [])], default=None)


_ENDED = {
    ApprovalStatus.APPROVED: "was approved",
    ApprovalStatus.EDITED: "was approved with other arguments",
    ApprovalStatus.REJECTED: "was rejected",
    ApprovalStatus.RESPONDED: "was answered",
    ApprovalStatus.EXPIRED: "expired",
    ApprovalStatus.SUPERSEDED: "was superseded",
    ApprovalStatus.CANCELLED: "was cancelled",
}


def already_decided(question: Question) -> AlreadyDecided:
    """Who decided what, and when."""
    decided_at = question.decided_at.isoformat() if question.decided_at else None
    by = f" by {question.decided_by}" if question.decided_by else ""
    at = f" at {decided_at}" if decided_at else ""
    return AlreadyDecided(
        f"The approval {question.approval_id} is no longer pending: it {_ENDED[question.status]}{by}{at}.",
        approval_id=question.approval_id,
        outcome=question.status,
        decided_by=question.decided_by,
        decision=question.decision,
        decided_at=decided_at,
    )


def say_of(question: Question, person: Person) -> str | None:
    """Whose say the person would use: his own, or one that was delegated to him and that nobody
    else has used. None if he has none."""
    if question.policy.asks(person, question.step) and not any(
        each.say == person.name for each in question.delegations
    ):
        return person.name
    used = {vote.say for vote in question.votes if vote.by != person.name}
    return next(
        (
            each.say
            for each in question.delegations
            if each.to.means(person) and each.say not in used
        ),
        None,
    )


def needs_another(question: Question, name: str) -> bool:
    """Whether somebody other than this person must decide: with four eyes, if he asked, or edited
    what is asked now."""
    asked_it = name in (question.requested_by, question.edit.by if question.edit else "")
    return asked_it and name != "" and question.policy.needs_another


# ── time ──────────────────────────────────────────────────────────────────────────────────────────


def _time_passes(question: Question, now: datetime) -> Next:
    if question.expires_at is not None and question.expires_at <= now:
        return _timed_out(question, now)
    if any(_looked_at(question) < at <= now for at in _reminders(question)):
        return _reminded(question, now)
    return Next(question)


def _timed_out(question: Question, now: datetime) -> Next:
    policy = question.policy
    if policy.on_timeout == OnTimeout.PAUSE:
        return _reminded(replace(question, expires_at=None), now)
    if policy.on_timeout == OnTimeout.ESCALATE and question.step < len(policy.escalation):
        return _escalated(question, now)
    decision = Reject(message="Nobody decided in time.")
    expired = _final(question, ApprovalStatus.EXPIRED, decision, None, now)
    return Next(expired, (_event(events.ApprovalExpired, question, now),))


def _escalated(question: Question, now: datetime) -> Next:
    step = question.step + 1
    to = question.policy.escalation[step - 1]
    expires_at = _after(now, to.timeout)
    then = replace(question, step=step, step_at=now, expires_at=expires_at, reminded_at=None)
    return Next(
        then,
        (
            _event(
                events.ApprovalEscalated,
                question,
                now,
                to=(*to.roles, *to.names),
                expires_at=expires_at,
            ),
        ),
    )


def _reminded(question: Question, now: datetime) -> Next:
    return Next(
        replace(question, reminded_at=now),
        (_event(events.ApprovalReminder, question, now, expires_at=question.expires_at),),
    )


def _reminders(question: Question) -> Iterable[datetime]:
    return question.policy.reminds_at(question.step_at, question.expires_at)


def _looked_at(question: Question) -> datetime:
    """Reminders up to then are done with."""
    return question.reminded_at or question.step_at


def _after(now: datetime, timeout: timedelta | None) -> datetime | None:
    return None if timeout is None else now + timeout


# ── deciding ──────────────────────────────────────────────────────────────────────────────────────


def _decide(question: Question, action: Decide, now: datetime) -> Next:
    decision, say = action.decision, _say(question, action.by)
    check_allowed(decision, question.approval_id, question.allowed)
    if isinstance(decision, Reject):
        _check_shown(question, action)
        return _rejected(question, decision, action.by, now)
    _check_four_eyes(question, action.by)
    _check_shown(question, action)
    if isinstance(decision, Edit):
        return _edit(question, action, decision, now)
    return vote(
        question,
        Vote(by=action.by.name, decision=decision, digest=question.asked_digest, at=now, say=say),
    )


def _rejected(question: Question, decision: Reject, by: Person, now: datetime) -> Next:
    final = _final(question, ApprovalStatus.REJECTED, decision, by.name, now)
    return Next(final, (_decided_event(final, now),))


def vote(question: Question, cast_now: Vote) -> Next:
    """The question with this vote, which its voter may give; decided, if it was the last that was
    needed."""
    mine = next((each for each in question.votes if each.by == cast_now.by), None)
    if mine is not None and (mine.meaning, mine.digest) == (cast_now.meaning, cast_now.digest):
        return Next(question)
    votes = (*(each for each in question.votes if each.by != cast_now.by), cast_now)
    question = replace(question, votes=votes)
    agreeing = sum(
        each.meaning == cast_now.meaning and each.digest == question.asked_digest for each in votes
    )
    if agreeing >= question.policy.quorum:
        return _agreed(question, cast_now)
    return Next(question, (_voted_event(question, cast_now, agreeing),))


def _agreed(question: Question, last: Vote) -> Next:
    status: ApprovalStatus
    decision: Decision
    if isinstance(last.decision, Respond):
        status, decision = ApprovalStatus.RESPONDED, last.decision
    elif question.edit:
        status, decision = ApprovalStatus.EDITED, Edit(args=question.edit.args)
    else:
        status, decision = ApprovalStatus.APPROVED, last.decision
    final = _final(question, status, decision, last.by, last.at)
    return Next(final, (_decided_event(final, last.at, grant=last.grant),))


def _edit(question: Question, action: Decide, decision: Edit, now: datetime) -> Next:
    if action.tool not in ("", question.tool):
        raise InvalidDecision(
            f"An edit changes the arguments, and this one the tool: '{question.tool}' to '{action.tool}'. Reject the call instead.",
            approval_id=question.approval_id,
        )
    if action.needs is None:
        raise ValueError("An edit was handed in without the policy that its arguments need.")
    by = action.by
    edit = Edited(
        args=decision.args, digest=call_digest(question.tool, decision.args), by=by.name, at=now
    )
    if action.needs.policy is None:
        final = _final(
            replace(question, edit=edit, votes=()), ApprovalStatus.EDITED, decision, by.name, now
        )
        return Next(final, (_decided_event(final, now),))
    again = _asked_anew(question, edit, plain_policy(action.needs.policy), now)
    done = _editors_vote(again, by, now)
    return (
        done
        if not done.question.is_pending
        else Next(done.question, (_edited_event(again, edit, now), *done.events))
    )


def _asked_anew(question: Question, edit: Edited, policy: Policy, now: datetime) -> Question:
    if policy == question.policy:
        return replace(question, edit=edit, votes=())
    return asked(replace(question, edit=edit, policy=policy, allowed=policy.allowed), now)


def _editors_vote(question: Question, by: Person, now: datetime) -> Next:
    """His edit counts as his vote for it, if he may give one."""
    say = say_of(question, by)
    if say is None or needs_another(question, by.name):
        return Next(question)
    return vote(
        question,
        Vote(by=by.name, decision=Approve(), digest=question.asked_digest, at=now, say=say),
    )


def _final(
    question: Question,
    status: ApprovalStatus,
    decision: Decision | None,
    by: str | None,
    now: datetime,
) -> Question:
    said = None if decision is None else decision_to_json(decision)
    return replace(
        question, status=status, decision=said, decided_by=by, decided_at=now, expires_at=None
    )


def _say(question: Question, person: Person) -> str:
    """Whose say the person uses. Raises `Forbidden` if he has none."""
    say = say_of(question, person)
    if say is not None:
        return say
    if moved := next((each for each in question.delegations if each.say == person.name), None):
        raise Forbidden(
            f"{person.name} has handed his say on the approval {question.approval_id} to {_target_text(moved.to)}. "
            "Take it back first, by delegating it to yourself.",
            approval_id=question.approval_id,
        )
    if any(each.to.means(person) for each in question.delegations):
        raise Forbidden(
            f"The say on the approval {question.approval_id} that was handed to {person.name}'s role has been used by somebody else.",
            approval_id=question.approval_id,
        )
    roles, names = question.policy.asked(question.step)
    raise Forbidden(
        f"{person.name} may not decide the approval {question.approval_id}. It is for {_who(roles, names)}.",
        approval_id=question.approval_id,
        roles=sorted(roles),
        names=sorted(names),
    )


def _check_four_eyes(question: Question, person: Person) -> None:
    if needs_another(question, person.name):
        did = "asked for" if person.name == question.requested_by else "edited"
        raise Forbidden(
            f"{person.name} {did} what the approval {question.approval_id} is about, so somebody else must decide it.",
            approval_id=question.approval_id,
        )


def _check_shown(question: Question, action: Decide) -> None:
    """Raise `Superseded` if what the person was shown is not what is asked now, or nobody knows
    whether it is."""
    now_asked = {
        "approval_id": question.approval_id,
        "digest": question.asked_digest,
        "args": question.asked_args,
    }
    if action.digest is not None and action.digest != question.asked_digest:
        raise Superseded(
            f"What the approval {question.approval_id} asks has been changed since it was shown. Look at it again, and then decide.",
            **now_asked,
        )
    if action.digest is None and question.edit is not None and isinstance(action.decision, Approve):
        raise Superseded(
            f"What the approval {question.approval_id} asks was edited by {question.edit.by}. To approve that, send its digest.",
            **now_asked,
        )


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────


def _withdraw(question: Question, action: Withdraw, now: datetime) -> Next:
    if not any(each.by == action.by.name for each in question.votes):
        raise InvalidRequest(
            f"{action.by.name} has no vote on the approval {question.approval_id} to take back."
        )
    return _without_votes(question, lambda each: each.by == action.by.name, now)


def _without_votes(question: Question, taken: Callable[[Vote], bool], now: datetime) -> Next:
    gone = [each for each in question.votes if taken(each)]
    if not gone:
        return Next(question)
    left = tuple(each for each in question.votes if not taken(each))
    return Next(
        replace(question, votes=left),
        tuple(_event(events.ApprovalWithdrawn, question, now, by=each.by) for each in gone),
    )


def _delegate(question: Question, action: Delegate, now: datetime) -> Next:
    by, to = action.by, action.to
    if bool(to.name) == bool(to.role):
        raise InvalidRequest(
            "A say is handed to one person by name, or to one role. Give one of the two."
        )
    say = by.name if to.name == by.name and _has_handed_over(question, by) else _say(question, by)
    _check_four_eyes(question, by)
    if to.name and needs_another(question, to.name):
        raise Forbidden(
            f"{to.name} asked for or edited what the approval {question.approval_id} is about, so he cannot decide it. Name somebody else.",
            approval_id=question.approval_id,
        )
    if to.name == by.name == say and not _has_handed_over(question, by):
        raise InvalidRequest(
            f"{by.name} has his say on the approval {question.approval_id} already."
        )
    others = tuple(each for each in question.delegations if each.say != say)
    handed = () if to.name == say else (Delegation(say=say, to=to, by=by.name, at=now),)
    freed = _without_votes(question, lambda each: each.say == say or each.by == by.name, now)
    told = _event(events.ApprovalDelegated, question, now, by=by.name, to=to.name, role=to.role)
    return Next(replace(freed.question, delegations=(*others, *handed)), (*freed.events, told))


def _has_handed_over(question: Question, person: Person) -> bool:
    return any(each.say == person.name for each in question.delegations)


def _comment(question: Question, action: Say, now: datetime) -> Next:
    text = action.text.strip()
    if not text or len(text) > MAX_COMMENT_CHARACTERS:
        raise InvalidRequest(
            f"A comment has 1 to {MAX_COMMENT_CHARACTERS} characters, and this one has {len(text)}."
        )
    if len(question.comments) >= MAX_COMMENTS:
        raise InvalidRequest(
            f"The approval {question.approval_id} has {MAX_COMMENTS} comments already, and takes no more."
        )
    comments = (*question.comments, Comment(by=action.by.name, text=text, at=now))
    return Next(
        replace(question, comments=comments),
        (_event(events.ApprovalCommented, question, now, by=action.by.name, text=text),),
    )


def _cancel(question: Question, action: Cancel, now: datetime) -> Next:
    final = _final(question, ApprovalStatus.CANCELLED, None, action.by or None, now)
    return Next(final, (_event(events.ApprovalCancelled, question, now, by=action.by),))


def _supersede(question: Question, action: Supersede, now: datetime) -> Next:
    final = _final(question, ApprovalStatus.SUPERSEDED, None, None, now)
    return Next(final, (_event(events.ApprovalSuperseded, question, now, reason=action.reason),))


# ── what is told ──────────────────────────────────────────────────────────────────────────────────

E = TypeVar("E", bound=events.ApprovalEvent)


def _event(cls: type[E], question: Question, now: datetime, **fields: Any) -> E:
    return cls(
        ts=now,
        thread_id=question.thread_id,
        run_id=question.run_id,
        approval_id=question.approval_id,
        kind=question.kind,
        tool=question.tool,
        tool_call_id=question.tool_call_id,
        **fields,
    )


def _decided_event(final: Question, now: datetime, grant: str = "") -> events.ApprovalDecided:
    said = final.decision or {}
    return _event(
        events.ApprovalDecided,
        final,
        now,
        decision=said["type"],
        by=final.decided_by or "",
        args=said.get("args"),
        message=said.get("message"),
        grant=grant,
    )


def _voted_event(question: Question, given: Vote, agreeing: int) -> events.ApprovalVoted:
    message = given.decision.message if isinstance(given.decision, Respond) else None
    return _event(
        events.ApprovalVoted,
        question,
        given.at,
        decision=decision_type(given.decision),
        by=given.by,
        message=message,
        votes=agreeing,
        quorum=question.policy.quorum,
        grant=given.grant,
    )


def _edited_event(question: Question, edit: Edited, now: datetime) -> events.ApprovalEdited:
    return _event(
        events.ApprovalEdited,
        question,
        now,
        args=edit.args,
        digest=edit.digest,
        by=edit.by,
        allowed=question.allowed,
        expires_at=question.expires_at,
    )


def _target_text(target: Target) -> str:
    return target.name or f"whoever has the role '{target.role}'"


def _who(roles: Iterable[str], names: Iterable[str]) -> str:
    return " or ".join(
        [*sorted(names), *(f"whoever has the role '{role}'" for role in sorted(roles))]
    )
