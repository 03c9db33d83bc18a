"""The rules of an approval as a state machine: whatever people do, in whatever order, and however
time passes between.

60 runs of 50 steps, or as many as ASSENT_SEEDS says.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from assent.approvals.rules import (
    Action,
    AddComment,
    Advanced,
    Cancel,
    CheckDeadline,
    Decide,
    Delegate,
    Requirement,
    Supersede,
    Withdraw,
    advance,
    next_deadline,
)
from assent.core import events
from assent.core.approval import Approval, ApprovalStatus, Target
from assent.core.decisions import Approve, Edit, Reject, Respond
from assent.core.digest import call_digest
from assent.core.errors import AlreadyDecided, AssentError
from assent.core.policy import Escalation, OnTimeout, Person, Policy, Risk
from tests.support.approvals import ANN, EVE, MINUTE, PEOPLE, START, question

# 5,000 lives take longer than other tests may.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OF_TIME = (events.ApprovalReminder, events.ApprovalEscalated, events.ApprovalExpired)
YES = (ApprovalStatus.APPROVED, ApprovalStatus.EDITED, ApprovalStatus.RESPONDED)

CHAIN = (
    Escalation(roles=("lead",), timeout=20 * MINUTE),
    Escalation(roles=("director",), names=("eve",)),
)
CHAIN_WITH_AN_END = (
    Escalation(roles=("lead",), timeout=20 * MINUTE),
    Escalation(names=("eve",), timeout=5 * MINUTE),
)
POLICIES = (
    Policy(),
    Policy(roles=("clerk", "lead"), quorum=2, risk=Risk.HIGH),
    Policy(roles=("clerk",), names=("dee",), quorum=2, timeout=30 * MINUTE, reminders=(10 * MINUTE, -5 * MINUTE)),
    Policy(roles=("clerk",), quorum=3, four_eyes=True, timeout=30 * MINUTE, on_timeout=OnTimeout.ESCALATE, escalation=CHAIN,
           reminders=(10 * MINUTE, 12 * MINUTE)),
    Policy(names=("bob",), timeout=30 * MINUTE, on_timeout=OnTimeout.ESCALATE, escalation=CHAIN_WITH_AN_END, reminders=(-3 * MINUTE,)),
    Policy(quorum=2, timeout=15 * MINUTE, on_timeout=OnTimeout.PAUSE, reminders=(10 * MINUTE, 40 * MINUTE, -2 * MINUTE)),
)  # fmt: skip


def needs(args: dict[str, Any]) -> Requirement:
    """What arguments need is a function of theirs, as it is with a policy's `when`: up to nine
    nobody knows, ten nobody is needed for."""
    amount = args["amount"]
    return Requirement(policy=None if amount == 10 else POLICIES[amount % len(POLICIES)])


people = st.sampled_from(PEOPLE)
amounts = st.integers(0, 10)


class Life(RuleBasedStateMachine):
    """One question's life. Who said what, and who was asked when, is written down beside it: the
    rules are not held to themselves."""

    @initialize(amount=st.integers(0, len(POLICIES) - 1))
    def create(self, amount: int) -> None:
        self.now = START
        self.question = question(POLICIES[amount], args={"amount": amount})
        self.said: dict[str, tuple[str, str]] = {}
        self.handed: set[str] = set()
        self.steps: list[Escalation] = []
        self.reminders: list[datetime] = []
        self.endings = 0

    # ── what people do ──

    @rule(by=people, seen=st.sampled_from(["now", "unknown", "first"]))
    def approve(self, by: Person, seen: str) -> None:
        self.do(Decide(by=by, decision=Approve(), digest=self.digest(seen)))

    @rule(by=people, amount=amounts)
    def edit(self, by: Person, amount: int) -> None:
        args = {"amount": amount}
        self.do(Decide(by=by, decision=Edit(args=args), requires=needs(args)))

    @rule(by=st.sampled_from([ANN, EVE]))
    def reject(self, by: Person) -> None:
        # By few people, or most lives would be short.
        self.do(Decide(by=by, decision=Reject(message="no")))

    @rule(by=people, message=st.sampled_from(["done", 1, True]))
    def respond(self, by: Person, message: Any) -> None:
        self.do(
            Decide(by=by, decision=Respond(message=message), digest=self.question.current_digest)
        )

    @rule(by=people)
    def withdraw(self, by: Person) -> None:
        self.do(Withdraw(by=by))

    @rule(
        by=people,
        to=st.one_of(
            people.map(lambda each: Target(name=each.name)),
            st.sampled_from([Target(role="lead"), Target()]),
        ),
    )
    def delegate(self, by: Person, to: Target) -> None:
        self.do(Delegate(by=by, to=to))

    @rule(by=people, text=st.sampled_from(["why?", " "]))
    def comment(self, by: Person, text: str) -> None:
        self.do(AddComment(by=by, text=text))

    # ── what happens ──

    @rule(minutes=st.integers(0, 25))
    def time_passes(self, minutes: int) -> None:
        """A timer that is late: a server that was down."""
        self.now += minutes * MINUTE
        self.do(CheckDeadline())

    @rule(minutes=st.integers(0, 25))
    def time_passes_unseen(self, minutes: int) -> None:
        self.now += minutes * MINUTE

    @rule()
    def the_timer_rings(self) -> None:
        at = next_deadline(self.question)
        if at is not None and at > self.now:
            self.now = at - timedelta(microseconds=1)
            assert self.do(CheckDeadline()) == (), "fired early"
            self.now = at
            assert self.do(CheckDeadline()) != (), "the timer rang for nothing"

    @precondition(lambda self: len(self.question.comments) > 2)
    @rule()
    def cancel(self) -> None:
        self.do(Cancel(by="ann"))

    @precondition(lambda self: len(self.question.comments) > 3)
    @rule()
    def supersede(self) -> None:
        self.do(Supersede(reason="The thread was forked."))

    @rule()
    def the_server_restarts(self) -> None:
        stored = msgspec.json.encode(self.question)
        self.question = msgspec.json.decode(stored, type=Approval)
        assert msgspec.json.encode(self.question) == stored

    # ── what must hold ──

    def do(self, action: Action) -> tuple[events.Event, ...]:
        """Do it, and hold what came of it to the promises."""
        before = self.question
        try:
            after = advance(before, action, self.now)
        except AssentError as error:
            self.refused(before, action, error)
            return ()
        self.question = after.approval
        self.time_was_kept(action, before, after)
        self.he_was_shown_it(before, action)
        if not before.is_pending:
            assert after.approval is before and after.events == ()
            return ()
        self.write_down(action, before, after)
        if not after.approval.is_pending:
            self.endings += 1
            self.ended_rightly(action, after)
        assert advance(before, action, self.now) == after, "the same again gave something else"
        return after.events

    def refused(self, before: Approval, action: Action, error: AssentError) -> None:
        assert not isinstance(action, CheckDeadline), "looking never fails"
        assert error.message.endswith((".", "…"))
        if not before.is_pending:
            assert isinstance(error, AlreadyDecided)
            assert error.details["outcome"] == before.status
        elif isinstance(error, AlreadyDecided):
            assert before.expires_at is not None and before.expires_at <= self.now

    def time_was_kept(self, action: Action, before: Approval, after: Advanced) -> None:
        for event in after.events:
            if isinstance(event, events.ApprovalExpired):
                assert before.expires_at is not None and before.expires_at <= self.now
                assert before.policy.on_timeout != OnTimeout.PAUSE
                assert after.approval.status is ApprovalStatus.EXPIRED, (
                    "a decision came too late, and won"
                )
            if isinstance(event, events.ApprovalEscalated):
                assert before.expires_at is not None and before.expires_at <= self.now
                self.steps.append(before.policy.escalation[len(self.steps)])
                assert event.to == (*self.steps[-1].roles, *self.steps[-1].names)
                assert event.expires_at == (
                    self.now + self.steps[-1].timeout if self.steps[-1].timeout else None
                )
            if isinstance(event, events.ApprovalReminder):
                assert not self.reminders or self.reminders[-1] < self.now, "reminded twice at once"
                self.reminders.append(self.now)
        assert sum(isinstance(each, OF_TIME) for each in after.events) <= 1
        same_asking = before.policy == after.approval.policy and before.step == after.approval.step
        if same_asking and after.approval.is_pending:
            assert after.approval.expires_at in (before.expires_at, None), "a deadline was moved"

        if (
            before.is_pending
            and not isinstance(action, Cancel | Supersede)
            and before.expires_at
            and before.expires_at <= self.now
        ):
            assert isinstance(after.events[0], OF_TIME), (
                "something was done before time was up to date"
            )

    def he_was_shown_it(self, before: Approval, action: Action) -> None:
        if isinstance(action, Decide):
            seen_first = action.digest is None and before.edit is None
            assert (
                action.digest == before.current_digest
                or seen_first
                or (action.digest is None and not isinstance(action.decision, Approve))
            )

    def write_down(self, action: Action, before: Approval, after: Advanced) -> None:
        if (
            before.current_digest != after.approval.current_digest
            or before.edit != after.approval.edit
        ):
            self.said = {}
        if before.policy != after.approval.policy:
            self.steps, self.handed, self.reminders = [], set(), []
        match action:
            case Decide(by=by, decision=Edit()) if by.name in {
                each.by for each in after.approval.votes
            }:
                self.said[by.name] = ("approve", after.approval.current_digest)
            case Decide(by=by, decision=Approve()):
                self.said[by.name] = ("approve", before.current_digest)
            case Decide(by=by, decision=Respond(message=message)):
                self.said[by.name] = (f"respond {message!r}", before.current_digest)
            case Withdraw(by=by):
                del self.said[by.name]
            case Delegate(by=by, to=to):
                assert by.name not in {each.by for each in after.approval.votes}, (
                    "a say was handed over and used"
                )
                self.handed.add(to.name or to.role)
                for event in after.events:
                    if isinstance(event, events.ApprovalWithdrawn):
                        del self.said[event.by]

    def ended_rightly(self, action: Action, after: Advanced) -> None:
        final = after.approval
        assert final.decided_at == self.now and next_deadline(final) is None
        if final.status in YES:
            assert isinstance(action, Decide), "nobody decided, and it was approved"
            self.enough_agreed(action, final)
        assert isinstance(action, CheckDeadline) == (final.status is ApprovalStatus.EXPIRED), (
            "what was too late did something"
        )
        if final.status is ApprovalStatus.EXPIRED:
            assert isinstance(final.decision, Reject)
        told = [event for event in after.events if isinstance(event, events.ApprovalDecided)]
        assert len(told) == (final.status in (*YES, ApprovalStatus.REJECTED))
        if final.status in (ApprovalStatus.APPROVED, ApprovalStatus.EDITED):
            assert told[0].args == (final.current_args if final.edit else None)
            assert final.current_digest == call_digest("pay", final.current_args)

    def enough_agreed(self, action: Decide, final: Approval) -> None:
        if isinstance(action.decision, Edit) and needs(action.decision.args).policy is None:
            return
        meaning = self.said[action.by.name]
        agreed = {name for name, said in self.said.items() if said == meaning}
        assert meaning[1] == final.current_digest
        assert len(agreed) >= final.policy.quorum
        for person in (each for each in PEOPLE if each.name in agreed):
            assert self.was_asked(person, final.policy)

    def was_asked(self, person: Person, policy: Policy) -> bool:
        asked_roles = {
            *policy.roles,
            *(role for step in self.steps for role in step.roles),
            *self.handed,
        }
        asked_names = {
            *policy.names,
            *(name for step in self.steps for name in step.names),
            *self.handed,
        }
        return (
            not (policy.roles or policy.names)
            or person.name in asked_names
            or bool(asked_roles & set(person.roles))
        )

    @invariant()
    def one_person_one_vote_and_one_say_one_vote(self) -> None:
        votes = self.question.votes
        assert (
            len({each.by for each in votes})
            == len({each.voting_right for each in votes})
            == len(votes)
        )
        assert {each.digest for each in votes} <= {self.question.current_digest}
        if self.question.is_pending:
            assert {each.by for each in votes} == set(self.said)

    @invariant()
    def four_eyes_are_not_two(self) -> None:
        if self.question.policy.needs_another:
            barred = {"ann", *(self.question.edit.editors if self.question.edit else ())}
            assert barred.isdisjoint(each.by for each in self.question.votes)

    @invariant()
    def it_ended_at_most_once(self) -> None:
        assert self.endings == (not self.question.is_pending)

    @invariant()
    def no_reminder_twice(self) -> None:
        most = (len(self.question.policy.reminders) + 1) * (len(self.steps) + 1)
        assert len(self.reminders) <= most

    @invariant()
    def what_was_asked_first_is_kept(self) -> None:
        assert self.question.digest == call_digest("pay", self.question.args)

    def digest(self, seen: str) -> str | None:
        return {
            "now": self.question.current_digest,
            "unknown": None,
            "first": self.question.digest,
        }[seen]


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=int(os.environ.get("ASSENT_SEEDS", "60")),
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
