"""Standing grants: what a person approves in advance. This tool, within these bounds, for this
thread or user, until then, at most n times.

A grant is a vote of the person who gave it. It is cast when a call is asked about, and counts as
his would: of a quorum of two it is one, with four eyes it counts for nobody who gave it to himself,
and whoever may not decide the call has granted nothing.

Bounds are closed. An argument that they do not name is out of bounds, so a grant never covers more
than was thought of when it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from assent.approvals.rules import Next, Question, Vote, needs_another, vote
from assent.core.decisions import Approve
from assent.core.digest import call_digest
from assent.core.errors import Forbidden, InvalidRequest
from assent.core.policy import Person, Policy
from assent.core.rows import ApprovalKind

Json = Any
"""Any JSON value."""


class Bound(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What one argument may be: a number from `min` to `max`, both included; one of the values in
    `among`; or with `any`, anything."""

    min: int | float | None = None
    max: int | float | None = None
    among: tuple[Json, ...] | None = None
    any: bool = False

    def __post_init__(self) -> None:
        if [self.min is not None or self.max is not None, self.among is not None, self.any].count(
            True
        ) != 1:
            raise InvalidRequest(
                'A bound is {"min": …, "max": …}, {"among": […]} or {"any": true}: one of the three.'
            )

    def holds(self, value: Json) -> bool:
        """Whether the value is within the bound. Text that looks like a number is none, and neither
        are true and false."""
        if self.any:
            return True
        if self.among is not None:
            return call_digest("", value) in {call_digest("", each) for each in self.among}
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # Written so that NaN, of which nothing is true, is outside.
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What `given_by`, with the roles that he had then, approves in advance: calls of the agent's
    tool whose arguments are all within `bounds`, in the thread or for the user or both, before
    `until`, at most `uses` times.

    Raises `InvalidRequest` if it has no scope, or could never be used.
    """

    grant_id: str
    agent: str
    tool: str
    bounds: Mapping[str, Bound]
    given_by: Person
    given_at: datetime
    until: datetime
    uses: int
    thread_id: str = ""
    user: str = ""
    used: int = 0
    revoked_by: str | None = None
    revoked_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.tool or not (self.thread_id or self.user):
            raise InvalidRequest("A grant is for one tool, and for a thread or a user. Name them.")
        if self.uses < 1:
            raise InvalidRequest(
                f"A grant says how often it may be used, and this one says {self.uses}."
            )
        if self.until <= self.given_at:
            raise InvalidRequest("A grant's end is in the past. Say until when it holds.")

    def is_open(self, now: datetime) -> bool:
        """Whether it can be used at all."""
        return self.revoked_at is None and now < self.until and self.used < self.uses

    def covers(self, agent: str, question: Question) -> bool:
        """Whether the question is one that this grant answers."""
        if question.kind is not ApprovalKind.TOOL or (agent, question.tool) != (
            self.agent,
            self.tool,
        ):
            return False
        if self.thread_id not in ("", question.thread_id) or self.user not in (
            "",
            question.requested_by,
        ):
            return False
        args = question.asked_args
        if not isinstance(args, Mapping) or not all(
            name in self.bounds and self.bounds[name].holds(value) for name, value in args.items()
        ):
            return False
        # One that is left out gets the tool's default, and what that is nobody has bounded.
        return all(bound.any or name in args for name, bound in self.bounds.items())


def check_may_grant(policy: Policy, grant: Grant) -> None:
    """Raise `Forbidden` if whoever gives the grant could not approve such calls himself, and so has
    nothing to grant."""
    if not policy.asks(grant.given_by) or "approve" not in policy.allowed:
        raise Forbidden(
            f"{grant.given_by.name} may not approve calls of '{grant.tool}', so he cannot grant them either."
        )
    if policy.needs_another and grant.user == grant.given_by.name:
        raise Forbidden(
            f"Calls of '{grant.tool}' need somebody other than who asks for them. {grant.user} cannot grant them to himself."
        )


def cast_grants(
    question: Question, agent: str, grants: Iterable[Grant], now: datetime
) -> tuple[Next, tuple[Grant, ...]]:
    """What becomes of a question that was asked just now when the grants have voted, the oldest
    first; and the grants that were used, as they are then. No more are used than are needed."""
    done, used = Next(question), []
    for grant in sorted(grants, key=lambda each: each.given_at):
        if not done.question.is_pending:
            break
        if (
            grant.is_open(now)
            and grant.covers(agent, question)
            and _may_vote(done.question, grant.given_by)
        ):
            after = vote(done.question, _vote(done.question, grant, now))
            done = Next(after.question, (*done.events, *after.events))
            used.append(msgspec.structs.replace(grant, used=grant.used + 1))
    return done, tuple(used)


def revoked(grant: Grant, by: str, now: datetime) -> Grant:
    """The grant, of no use any more. What it has decided stays decided. One that was revoked
    already stays as it is."""
    return (
        grant
        if grant.revoked_at is not None
        else msgspec.structs.replace(grant, revoked_by=by, revoked_at=now)
    )


def _may_vote(question: Question, person: Person) -> bool:
    has_voted = any(each.by == person.name for each in question.votes)
    may = "approve" in question.allowed and question.policy.asks(person, question.step)
    return may and not has_voted and not needs_another(question, person.name)


def _vote(question: Question, grant: Grant, now: datetime) -> Vote:
    by = grant.given_by.name
    return Vote(
        by=by,
        decision=Approve(),
        digest=question.asked_digest,
        at=now,
        say=by,
        grant=grant.grant_id,
    )
