"""Each rule of an approval by an example: the numbers are those of `assent.approvals.rules`."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec
import pytest
from msgspec.structs import replace

from assent.approvals.requesters import authors
from assent.approvals.rules import (
    MAX_COMMENT_CHARACTERS,
    MAX_COMMENTS,
    Action,
    AddComment,
    Cancel,
    CheckDeadline,
    Decide,
    Delegate,
    Requirement,
    Supersede,
    Withdraw,
    advance,
    next_deadline,
    standing,
)
from assent.core import events
from assent.core.access import APPROVES_ALL, Approves
from assent.core.approval import Approval, ApprovalStatus, Target
from assent.core.decisions import Approve, Edit, Reject, Respond, decision_type
from assent.core.digest import call_digest
from assent.core.errors import (
    AlreadyDecided,
    Forbidden,
    InvalidDecision,
    InvalidRequest,
    Superseded,
)
from assent.core.events import event_type
from assent.core.policy import Escalation, OnTimeout, Person, Policy, Risk
from tests.support.approvals import ANN, BOB, CY, DEE, EVE, FAY, MINUTE, START, question

TWO = Policy(quorum=2)
CLERKS = Policy(roles=("clerk",))
CHAIN = (Escalation(roles=("lead",), timeout=20 * MINUTE), Escalation(roles=("director",)))
LADDER = Policy(
    names=("bob",), timeout=30 * MINUTE, on_timeout=OnTimeout.ESCALATE, escalation=CHAIN
)


def approve(by: Person, digest: str | None = None) -> Decide:
    return Decide(by=by, decision=Approve(), digest=digest)


def edit(by: Person, amount: int, policy: Policy | None) -> Decide:
    decision = Edit(args={"amount": amount})
    return Decide(by=by, decision=decision, requires=Requirement(policy=policy))


def after(asked: Approval, *actions: Action, minutes: int = 0) -> Approval:
    for action in actions:
        asked = advance(asked, action, START + minutes * MINUTE).approval
    return asked


def told(asked: Approval, action: Action, minutes: int = 0) -> list[str]:
    return [event_type(event) for event in advance(asked, action, START + minutes * MINUTE).events]


# ── 1, 2, 8, 10: time ──


@pytest.mark.parametrize("on_timeout", [OnTimeout.REJECT, OnTimeout.PAUSE])
def test_at_its_end_a_question_expires_or_waits_on(on_timeout: OnTimeout) -> None:
    asked = question(Policy(timeout=30 * MINUTE, on_timeout=on_timeout))
    assert told(asked, CheckDeadline(), 29) == []
    then = after(asked, CheckDeadline(), minutes=30)
    if on_timeout is OnTimeout.REJECT:
        assert told(asked, CheckDeadline(), 30) == ["approval_expired"]
        assert (then.status, then.decided_by) == (ApprovalStatus.EXPIRED, None)
        assert then.decision == Reject("Nobody decided in time.")
    else:
        assert told(asked, CheckDeadline(), 30) == ["approval_reminder"]
        assert then.is_pending and then.expires_at is None and next_deadline(then) is None
        assert after(then, approve(BOB), minutes=9999).status is ApprovalStatus.APPROVED


def test_a_decision_after_the_deadline_is_too_late_even_if_no_timer_has_rung() -> None:
    asked = question(Policy(timeout=30 * MINUTE))
    with pytest.raises(AlreadyDecided) as caught:
        after(asked, approve(BOB), minutes=30)
    assert caught.value.details["outcome"] == ApprovalStatus.EXPIRED
    assert (
        advance(
            asked, approve(BOB), START + 30 * MINUTE - timedelta(microseconds=1)
        ).approval.status
        is ApprovalStatus.APPROVED
    )


def test_others_are_asked_as_well_and_each_has_his_whole_time() -> None:
    asked = question(LADDER)
    with pytest.raises(Forbidden, match=r"It is for bob\.$"):
        after(asked, approve(DEE))
    # The server was down for a while: the leads have their 20 minutes from when they are asked.
    leads = after(asked, CheckDeadline(), minutes=100)
    assert told(asked, CheckDeadline(), 100) == ["approval_escalated"]
    assert (leads.step, leads.expires_at) == (1, START + 120 * MINUTE)
    assert after(leads, approve(DEE), minutes=119).decided_by == "dee"
    assert after(leads, approve(BOB), minutes=119).decided_by == "bob"
    with pytest.raises(Forbidden, match="bob or anyone with the role 'lead'"):
        after(leads, approve(FAY), minutes=119)
    directors = after(leads, CheckDeadline(), minutes=120)
    assert directors.expires_at is None and next_deadline(directors) is None
    assert after(directors, approve(FAY), minutes=9999).status is ApprovalStatus.APPROVED


def test_a_vote_after_the_deadline_meets_the_escalated_question() -> None:
    done = advance(question(LADDER), approve(DEE), START + 31 * MINUTE)
    assert [event_type(event) for event in done.events] == [
        "approval_escalated",
        "approval_decided",
    ]


def test_the_last_of_a_chain_runs_out_too() -> None:
    policy = msgspec.structs.replace(LADDER, escalation=CHAIN[:1])
    leads = after(question(policy), CheckDeadline(), minutes=30)
    assert after(leads, CheckDeadline(), minutes=50).status is ApprovalStatus.EXPIRED


def test_reminders_are_sent_once_each_and_missed_ones_together() -> None:
    asked = question(
        Policy(timeout=60 * MINUTE, reminders=(10 * MINUTE, 20 * MINUTE, -15 * MINUTE))
    )
    assert next_deadline(asked) == START + 10 * MINUTE
    assert told(asked, CheckDeadline(), 9) == []
    once = after(asked, CheckDeadline(), minutes=10)
    assert (
        told(asked, CheckDeadline(), 10) == ["approval_reminder"]
        and told(once, CheckDeadline(), 19) == []
    )
    assert told(asked, CheckDeadline(), 44) == ["approval_reminder"]
    missed = after(asked, CheckDeadline(), minutes=44)
    assert told(missed, CheckDeadline(), 44) == [] and next_deadline(missed) == START + 45 * MINUTE
    last = after(missed, CheckDeadline(), minutes=45)
    assert next_deadline(last) == START + 60 * MINUTE
    assert told(missed, CheckDeadline(), 60) == ["approval_expired"]


def test_reminders_begin_again_for_those_who_are_asked_next() -> None:
    asked = question(msgspec.structs.replace(LADDER, reminders=(5 * MINUTE,)))
    leads = after(asked, CheckDeadline(), minutes=30)
    assert next_deadline(leads) == START + 35 * MINUTE


# ── 3, 4: votes ──


def test_one_no_is_enough() -> None:
    final = after(
        question(Policy(quorum=3)),
        approve(BOB),
        approve(CY),
        Decide(by=DEE, decision=Reject(message="no")),
    )
    assert (final.status, final.decided_by, final.decision) == (
        ApprovalStatus.REJECTED,
        "dee",
        Reject("no"),
    )


def test_a_quorum_approves() -> None:
    asked = question(TWO)
    (vote,) = advance(asked, approve(BOB), START).events
    assert isinstance(vote, events.ApprovalVoted) and (vote.votes, vote.quorum, vote.by) == (
        1,
        2,
        "bob",
    )
    final = after(asked, approve(BOB), approve(CY))
    assert (final.status, final.decided_by, final.decision) == (
        ApprovalStatus.APPROVED,
        "cy",
        Approve(),
    )


def test_the_same_vote_again_changes_nothing() -> None:
    once = after(question(TWO), approve(BOB))
    again = advance(once, approve(BOB), START + MINUTE)
    assert again.approval is once and again.events == ()


def test_answers_count_only_if_they_are_the_same() -> None:
    asked = after(
        question(Policy(quorum=2)),
        Decide(by=BOB, decision=Respond(message=1)),
        Decide(by=CY, decision=Respond(message=True)),
    )
    assert asked.is_pending
    final = after(asked, Decide(by=DEE, decision=Respond(message=1.0)))
    assert (final.status, final.decision) == (
        ApprovalStatus.RESPONDED,
        Respond(1.0),
    )


def test_a_later_vote_replaces_and_a_withdrawn_one_does_not_count() -> None:
    asked = after(question(TWO), Decide(by=BOB, decision=Respond(message="x")), approve(BOB))
    assert [vote.decision for vote in asked.votes] == [Approve()]
    without = after(asked, Withdraw(by=BOB))
    assert told(asked, Withdraw(by=BOB)) == ["approval_withdrawn"]
    assert after(without, approve(CY)).is_pending
    with pytest.raises(InvalidRequest, match="cy has no vote"):
        after(asked, Withdraw(by=CY))


def test_what_is_decided_stays_decided() -> None:
    final = after(question(Policy()), approve(BOB))
    for action in (
        approve(CY),
        Withdraw(by=BOB),
        Delegate(by=BOB, to=Target(name="cy")),
        AddComment(by=BOB, text="?"),
        Cancel(),
        Supersede(reason=""),
    ):
        with pytest.raises(AlreadyDecided, match="it was approved by bob at"):
            after(final, action)
    assert advance(final, CheckDeadline(), START + 9999 * MINUTE).approval is final


def test_a_decision_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(InvalidDecision, match="does not take 'respond'"):
        after(
            question(Policy(allowed=("approve", "reject"))),
            Decide(by=BOB, decision=Respond(message="x")),
        )


# ── 5, 7: edits ──


def test_with_a_quorum_of_one_an_edit_decides() -> None:
    done = advance(question(CLERKS), edit(BOB, 5, CLERKS), START)
    assert (done.approval.status, done.approval.decision) == (
        ApprovalStatus.EDITED,
        Edit(args={"amount": 5}),
    )
    assert [event_type(event) for event in done.events] == ["approval_decided"]


def test_an_edit_leaves_the_type_of_a_number_that_it_does_not_change() -> None:
    """A browser reads 1.0 and writes 1, whatever its reader has changed."""
    args = {"amount": 1.0, "lines": [{"price": 2.0}, {"price": 3}], "rate": 4.0, "to": "Ada"}
    sent = {"amount": 1, "lines": [{"price": 2}, {"price": 3}], "rate": 5, "to": "Bo", "new": 6}
    asked = question(CLERKS, args=args)
    decision = Edit(args=sent)
    edited = Decide(by=BOB, decision=decision, requires=Requirement(policy=CLERKS))
    done = advance(asked, edited, START).approval

    assert isinstance(done.decision, Edit)
    assert json.dumps(done.decision.args) == json.dumps(
        {
            "amount": 1.0,
            "lines": [{"price": 2.0}, {"price": 3}],
            "rate": 5,
            "to": "Bo",
            "new": 6,
        }
    )
    # True is no 1.
    decision = Edit(args={"amount": True})
    truth = Decide(by=BOB, decision=decision, requires=Requirement(policy=CLERKS))
    done = advance(asked, truth, START).approval
    assert isinstance(done.decision, Edit)
    assert type(done.decision.args["amount"]) is bool


def test_under_a_quorum_an_edit_starts_the_vote_again() -> None:
    asked = after(question(TWO), approve(CY))
    done = advance(asked, edit(BOB, 5, TWO), START)
    assert [event_type(event) for event in done.events] == ["approval_edited", "approval_voted"]
    edited = done.approval
    assert [vote.by for vote in edited.votes] == ["bob"]
    assert edited.args == {"amount": 1} and edited.current_args == {"amount": 5}
    assert edited.current_digest == call_digest("pay", {"amount": 5})
    final = after(edited, approve(CY, edited.current_digest))
    assert (final.status, final.decision, final.decided_by) == (
        ApprovalStatus.EDITED,
        Edit(args={"amount": 5}),
        "cy",
    )


def test_whoever_edited_before_the_last_editor_is_an_author_too() -> None:
    asked = question(TWO)
    for by, amount in ((BOB, 2), (CY, 3), (BOB, 4), (CY, 5)):
        asked = after(asked, edit(by, amount, TWO))
    decided = after(asked, approve(DEE, asked.current_digest))
    assert decided.status is ApprovalStatus.EDITED
    assert authors(decided) == ("bob", "cy")


def test_with_four_eyes_no_editor_approves_also_after_somebody_else_has_edited() -> None:
    """Of an earlier editor's words some may be left."""
    policy = Policy(four_eyes=True)
    asked = question(policy)
    for by, amount in ((BOB, 2), (CY, 3)):
        asked = after(asked, edit(by, amount, policy))
    for by in (BOB, CY):
        with pytest.raises(Forbidden, match=f"{by.name} edited"):
            after(asked, approve(by, asked.current_digest))
    assert after(asked, approve(DEE, asked.current_digest)).status is ApprovalStatus.EDITED


def test_an_edit_is_only_approved_by_who_has_seen_it() -> None:
    asked = question(TWO)
    edited = after(asked, edit(BOB, 5, TWO))
    with pytest.raises(
        Superseded, match=r"edited by bob\. To approve that, send its digest"
    ) as unseen:
        after(edited, approve(CY))
    assert unseen.value.details["args"] == {"amount": 5}
    with pytest.raises(Superseded, match="has been changed since it was shown"):
        after(edited, approve(CY, asked.digest))
    assert after(edited, Decide(by=CY, decision=Reject())).status is ApprovalStatus.REJECTED
    with pytest.raises(Superseded):
        after(edited, Decide(by=CY, decision=Reject(), digest=asked.digest))


def test_an_edit_keeps_the_deadline_and_the_people_if_the_policy_stays() -> None:
    leads = after(question(LADDER), CheckDeadline(), minutes=30)
    policy = msgspec.structs.replace(LADDER, four_eyes=True)
    leads = msgspec.structs.replace(leads, policy=policy)
    edited = after(leads, edit(DEE, 5, policy), minutes=40)
    assert edited.is_pending and (edited.step, edited.expires_at) == (1, leads.expires_at)


def test_an_edit_that_needs_others_asks_those() -> None:
    asked = after(
        question(CLERKS), Delegate(by=BOB, to=Target(name="eve")), AddComment(by=CY, text="why?")
    )
    leads = Policy(roles=("lead",), timeout=10 * MINUTE)
    edited = after(asked, edit(ANN, 5, leads), minutes=7)
    assert (edited.policy, edited.expires_at, edited.votes, edited.delegations) == (
        leads,
        START + 17 * MINUTE,
        (),
        (),
    )
    assert [comment.text for comment in edited.comments] == ["why?"]
    with pytest.raises(Forbidden):
        after(edited, approve(BOB, edited.current_digest))
    assert after(edited, approve(DEE, edited.current_digest)).status is ApprovalStatus.EDITED


def test_an_edit_to_what_needs_nobody_decides() -> None:
    assert (
        after(question(Policy(quorum=3, roles=("clerk",))), edit(BOB, 10, None)).status
        is ApprovalStatus.EDITED
    )


# ── 6: four eyes ──


def test_four_eyes_are_on_for_a_high_risk_unless_the_policy_says_otherwise() -> None:
    for policy in (Policy(risk=Risk.HIGH), Policy(four_eyes=True)):
        with pytest.raises(
            Forbidden,
            match="ann asked for what the approval apr_1 is about, so somebody else must decide it",
        ):
            after(question(policy), approve(ANN))
    for policy in (Policy(), Policy(risk=Risk.HIGH, four_eyes=False)):
        assert after(question(policy), approve(ANN)).status is ApprovalStatus.APPROVED


@pytest.mark.parametrize(
    "action",
    [
        Decide(by=ANN, decision=Respond(message="x")),
        edit(ANN, 5, None),
        Delegate(by=ANN, to=Target(name="bob")),
    ],
)
def test_who_asked_has_no_other_way(action: Action) -> None:
    with pytest.raises(Forbidden, match="ann asked for"):
        after(question(Policy(four_eyes=True)), action)


def test_who_asked_may_say_no() -> None:
    assert (
        after(question(Policy(four_eyes=True)), Decide(by=ANN, decision=Reject())).status
        is ApprovalStatus.REJECTED
    )


def test_nobody_whom_it_can_be_traced_to_is_a_second_pair_of_eyes() -> None:
    asked = question(Policy(four_eyes=True, quorum=2), requested_by=["ann", "bob"])
    for person in (ANN, BOB):
        with pytest.raises(Forbidden, match=f"{person.name} asked for"):
            after(asked, approve(person))
    assert after(asked, approve(CY), approve(DEE)).status is ApprovalStatus.APPROVED


def test_editing_counts_as_asking() -> None:
    policy = Policy(four_eyes=True)
    edited = after(question(policy), edit(BOB, 5, policy))
    assert edited.is_pending and edited.votes == ()
    for person, did in ((ANN, "asked for"), (BOB, "edited")):
        with pytest.raises(Forbidden, match=did):
            after(edited, approve(person, edited.current_digest))
    assert after(edited, approve(CY, edited.current_digest)).status is ApprovalStatus.EDITED


def test_nobody_hands_his_say_to_who_asked() -> None:
    policy = Policy(four_eyes=True, names=("bob",))
    with pytest.raises(Forbidden, match="ann asked for or edited"):
        after(question(policy), Delegate(by=BOB, to=Target(name="ann")))
    to_clerks = after(question(policy), Delegate(by=BOB, to=Target(role="clerk")))
    with pytest.raises(Forbidden, match="ann asked for"):
        after(to_clerks, approve(ANN))


def test_without_a_requester_nobody_is_barred() -> None:
    assert (
        after(
            question(Policy(four_eyes=True), requested_by=()),
            approve(Person(name="", approves=APPROVES_ALL)),
        ).status
        is ApprovalStatus.APPROVED
    )


# ── 9: delegation ──


def test_a_say_is_handed_over_and_comes_back() -> None:
    asked = after(question(Policy(names=("bob",))), Delegate(by=BOB, to=Target(name="eve")))
    with pytest.raises(
        Forbidden,
        match=r"bob has delegated their voting right on the approval apr_1 to eve\. Take it back first",
    ):
        after(asked, approve(BOB))
    assert after(asked, approve(EVE)).decided_by == "eve"
    back = after(asked, Delegate(by=BOB, to=Target(name="bob")))
    assert back.delegations == ()
    with pytest.raises(Forbidden):
        after(back, approve(EVE))


def test_a_say_that_was_handed_over_is_not_two_votes() -> None:
    policy = Policy(roles=("clerk",), quorum=2)
    asked = after(
        question(policy), approve(BOB), Delegate(by=BOB, to=Target(name="eve")), approve(EVE)
    )
    assert asked.is_pending and [(vote.by, vote.voting_right) for vote in asked.votes] == [
        ("eve", "bob")
    ]
    # Taking it back takes back what was voted with it.
    assert after(asked, Delegate(by=BOB, to=Target(name="bob"))).votes == ()
    assert after(asked, approve(CY)).status is ApprovalStatus.APPROVED


def test_a_say_that_was_handed_to_a_role_is_used_once() -> None:
    policy = Policy(names=("bob", "ann"), quorum=2)
    asked = after(question(policy), Delegate(by=BOB, to=Target(role="lead")), approve(CY))
    with pytest.raises(Forbidden, match="has been used by somebody else"):
        after(asked, approve(DEE))
    assert (
        after(asked, Withdraw(by=CY), approve(DEE), approve(ANN)).status is ApprovalStatus.APPROVED
    )


def test_a_say_can_be_handed_on() -> None:
    asked = after(
        question(Policy(names=("bob",))),
        Delegate(by=BOB, to=Target(name="eve")),
        Delegate(by=EVE, to=Target(name="fay")),
    )
    with pytest.raises(Forbidden):
        after(asked, approve(EVE))
    assert after(asked, approve(FAY)).votes[0].voting_right == "bob"


@pytest.mark.parametrize(
    ("to", "sentence"),
    [
        (Target(), "Give one of the two"),
        (Target(name="bob"), "has their voting right on the approval apr_1 already"),
    ],
)
def test_a_delegation_that_makes_no_sense_is_refused(to: Target, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        after(question(CLERKS), Delegate(by=BOB, to=to))


def test_who_has_no_say_hands_none_over() -> None:
    with pytest.raises(Forbidden, match="eve may not decide"):
        after(question(CLERKS), Delegate(by=EVE, to=Target(name="bob")))


# ── the rest ──


def test_comments_are_kept_within_bounds() -> None:
    asked = after(
        question(CLERKS),
        *[AddComment(by=EVE, text=f" {number} ") for number in range(MAX_COMMENTS)],
    )
    assert (asked.comments[0].text, asked.comments[0].by) == ("0", "eve")
    with pytest.raises(InvalidRequest, match="takes no more"):
        after(asked, AddComment(by=EVE, text="one more"))
    for text in (" ", "x" * (MAX_COMMENT_CHARACTERS + 1)):
        with pytest.raises(InvalidRequest, match="A comment has 1 to"):
            after(question(CLERKS), AddComment(by=EVE, text=text))


def test_a_question_can_be_cancelled_and_superseded_even_late() -> None:
    asked = question(Policy(timeout=MINUTE))
    assert told(asked, Cancel(by="ann"), 5) == ["approval_cancelled"]
    assert told(asked, Supersede(reason="The arguments were changed."), 5) == [
        "approval_superseded"
    ]
    assert after(asked, Cancel(by="ann"), minutes=5).status is ApprovalStatus.CANCELLED


# ── what somebody may do ──


OF_EACH_TYPE = (Approve(), Edit(args={"amount": 2}), Reject("No."), Respond("Five."))

NO_APPROVER = Person(name="vi")
OF_OTHER_TOOLS = Person(name="tia", approves=Approves(tools=frozenset({"mail"})))

STANDINGS = {
    "anybody may": (question(Policy()), BOB),
    "not their role": (question(CLERKS), DEE),
    "their role": (question(CLERKS), BOB),
    "no approver": (question(Policy()), NO_APPROVER),
    "an approver of another tool": (question(Policy()), OF_OTHER_TOOLS),
    "who asked": (question(Policy(four_eyes=True)), ANN),
    "who asked, and edits are not taken": (
        replace(question(Policy(four_eyes=True)), allowed=("approve", "respond")),
        ANN,
    ),
    "who edited": (after(question(Policy(four_eyes=True)), edit(BOB, 2, Policy(quorum=2))), BOB),
    "handed over": (
        after(question(Policy(names=("bob",))), Delegate(by=BOB, to=Target(name="eve"))),
        BOB,
    ),
    "got it": (
        after(question(Policy(names=("bob",))), Delegate(by=BOB, to=Target(name="eve"))),
        EVE,
    ),
    "has voted": (after(question(TWO), approve(BOB)), BOB),
    "too late": (question(Policy(timeout=MINUTE)), BOB),
    "asked once others were": (question(LADDER), DEE),
    "decided": (after(question(Policy()), approve(EVE)), BOB),
}


@pytest.mark.parametrize("minutes", [0, 30])
@pytest.mark.parametrize("case", STANDINGS)
def test_what_somebody_may_do_is_what_the_rules_take_from_them(case: str, minutes: int) -> None:
    asked, person = STANDINGS[case]
    now = START + minutes * MINUTE
    refused: dict[str, str] = {}
    for decision in OF_EACH_TYPE:
        kind = decision_type(decision)
        action = Decide(
            by=person,
            decision=decision,
            digest=asked.current_digest,
            requires=Requirement(policy=asked.policy),
        )
        try:
            advance(asked, action, now)
        except (AlreadyDecided, Forbidden) as error:
            if kind in asked.allowed:
                refused[kind] = error.message
        except InvalidDecision:
            assert kind not in asked.allowed

    shown = standing(asked, person, now)
    assert {*shown.may} == {*asked.allowed} - refused.keys()
    assert {shown.why_not} == ({*refused.values()} or {None})
