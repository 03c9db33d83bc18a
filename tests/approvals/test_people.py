"""Whether enough people are left to decide: at the start, by the policy alone; later, by all that
has happened to an approval."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from assent.approvals.people import People
from assent.approvals.rules import Decide, Delegate, Requirement, advance
from assent.core.approval import Approval, Target
from assent.core.decisions import Approve, Edit
from assent.core.policy import Escalation, OnTimeout, Person, Policy
from tests.support.approvals import ANN, BOB, CY, DEE, FAY, START, question

HAVING_ROLES = {each.name: each for each in (ANN, BOB, CY, DEE, FAY)}
LEADS = ("lead",)
ESCALATES: dict[str, Any] = {"timeout": timedelta(hours=1), "on_timeout": OnTimeout.ESCALATE}


def people(*keys: str, links: bool = False) -> People:
    return People(HAVING_ROLES, frozenset(keys), links=links)


# ── at the start ──


@pytest.mark.parametrize(
    ("policy", "keys", "why"),
    [
        (
            Policy(roles=("boss",)),
            (),
            "It asks people of the role 'boss', and nobody has that role.",
        ),
        (Policy(roles=LEADS, quorum=3), (), "It takes 3 people, and only cy and dee may decide."),
        (
            Policy(roles=LEADS, names=("eve",), quorum=4),
            (),
            "It takes 4 people, and only cy, dee and eve may decide.",
        ),
        (
            Policy(roles=LEADS, **ESCALATES, escalation=(Escalation(roles=("boss",)),)),
            (),
            "It escalates to people of the role 'boss', and nobody has that role.",
        ),
        (
            Policy(roles=LEADS, names=("eve",)),
            ("ann", "bob"),
            "It asks eve and people of the role 'lead', and none of them has a key.",
        ),
        (
            Policy(roles=LEADS, quorum=2),
            ("ann", "cy"),
            "It takes 2 people, and only cy may decide.",
        ),
        (
            Policy(quorum=3),
            ("ann", "bob"),
            "It takes 3 people, and only ann and bob may decide.",
        ),
        (
            Policy(four_eyes=True),
            ("ann",),
            "It takes 1 person besides whoever asks, and only ann can ask or decide.",
        ),
        (
            Policy(roles=LEADS, quorum=2, four_eyes=True),
            ("cy", "dee"),
            "It takes 2 people besides whoever asks, and only cy and dee can ask or decide.",
        ),
    ],
)
def test_what_nobody_can_meet_is_known(policy: Policy, keys: tuple[str, ...], why: str) -> None:
    assert people(*keys).why_unmet(policy) == why


@pytest.mark.parametrize(
    ("policy", "keys"),
    [
        (Policy(), ()),
        (Policy(quorum=5), ()),
        (Policy(roles=LEADS, quorum=2), ()),
        (Policy(roles=LEADS, quorum=2), ("cy", "dee")),
        (Policy(names=("eve", "zoe"), quorum=2), ()),
        # Somebody who is no lead may ask.
        (Policy(roles=LEADS, four_eyes=True), ("cy", "ann")),
        (Policy(four_eyes=True), ("ann", "bob")),
        # Those whom it escalates to count.
        (
            Policy(
                roles=LEADS, quorum=3, **ESCALATES, escalation=(Escalation(roles=("director",)),)
            ),
            ("cy", "dee", "fay", "ann"),
        ),
    ],
)
def test_what_somebody_can_meet_is_not_refused(policy: Policy, keys: tuple[str, ...]) -> None:
    assert people(*keys).why_unmet(policy) is None


def test_links_reach_people_without_a_key() -> None:
    policy = Policy(roles=LEADS, quorum=2)
    assert people("ann").why_unmet(policy) is not None
    assert people("ann", links=True).why_unmet(policy) is None
    assert people("ann", links=True).why_unmet(Policy(roles=("boss",))) is not None


def test_where_nothing_is_known_nothing_is_said() -> None:
    policy = Policy(roles=("boss",), quorum=9)
    assert People().why_unmet(policy) is None
    assert People().shortage(question(policy)) is None


# ── later ──


def said(asked: Approval, *keys: str) -> str | None:
    shortage = people(*keys, links=not keys).shortage(asked)
    return shortage.sentence if shortage else None


def edited(asked: Approval, by: Person) -> Approval:
    decision = Edit(args={"amount": 2})
    edit = Decide(by=by, decision=decision, requires=Requirement(asked.policy))
    return advance(asked, edit, START).approval


def test_an_editor_who_takes_away_the_last_one() -> None:
    policy = Policy(roles=LEADS, four_eyes=True)
    assert said(question(policy)) is None
    assert said(question(policy, requested_by=["cy"])) == "Only dee can still decide."
    asked = edited(question(policy, requested_by=["cy"]), DEE)
    assert said(asked) == "Nobody is left who can approve this."
    assert said(edited(question(policy), DEE)) == "Only cy can still decide."


def test_how_many_of_those_who_are_left_it_takes() -> None:
    policy = Policy(roles=("clerk",), quorum=2, four_eyes=True)
    asked = question(policy, requested_by=["ann"])
    assert said(asked) == "Only bob and cy can still decide, and all of them must agree."
    voted = advance(asked, Decide(by=BOB, decision=Approve()), START).approval
    assert said(voted) == "Only cy can still decide."
    asked = question(policy, requested_by=["ann", "bob"])
    assert said(asked) == "Only cy can still decide, and it takes 2: so nobody can approve this."


def test_a_voting_right_goes_where_it_was_delegated() -> None:
    policy = Policy(roles=LEADS, four_eyes=True)
    asked = question(policy, requested_by=["dee"])
    to_eve = advance(asked, Delegate(by=CY, to=Target(name="eve")), START).approval
    assert said(to_eve) == "Only eve can still decide."
    # Without a key, and without links, she cannot.
    assert said(to_eve, "ann", "cy", "dee") == "Nobody is left who can approve this."
    to_directors = advance(asked, Delegate(by=CY, to=Target(role="director")), START).approval
    assert said(to_directors) == "Only fay can still decide."


def test_whoever_is_asked_in_time_counts() -> None:
    escalation = (Escalation(roles=("director",)),)
    policy = Policy(roles=LEADS, four_eyes=True, **ESCALATES, escalation=escalation)
    assert said(question(policy, requested_by=["cy", "dee"])) == "Only fay can still decide."


def test_where_anybody_may_decide_or_it_is_decided_nothing_is_said() -> None:
    assert said(question(Policy(four_eyes=True))) is None
    assert said(question(Policy(four_eyes=True)), "ann", "bob") == "Only bob can still decide."
    assert said(question(Policy(quorum=2, roles=LEADS))) is None, "both of two are nothing new"
    policy = Policy(roles=LEADS, four_eyes=True)
    over = advance(question(policy, ["cy"]), Decide(by=DEE, decision=Approve()), START).approval
    assert said(over) is None


def test_without_keys_everybody_is_one_person() -> None:
    alone = People({}, frozenset(), links=False)
    high = Policy(four_eyes=True)
    assert alone.why_unmet(high) is None, "it is for trying things out"
    shortage = alone.shortage(replace(question(high), requested_by=("local",)))
    assert shortage is not None
    assert shortage.sentence == "Nobody is left who can approve this."
