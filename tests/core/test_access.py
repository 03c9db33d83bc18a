"""Roles as rights and sights: the table of the reference, cell by cell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assent.core.access import (
    APPROVES_ALL,
    APPROVES_NOTHING,
    EVERYTHING,
    NOTHING,
    RIGHTS,
    Approves,
    Owner,
    Right,
    Role,
    Sight,
    approves_of,
    check_role,
    misspelt,
    rights_of,
    role_of,
    roles_in_policies,
    sight_for,
)
from assent.core.approval import Approval, Delegation, Target
from assent.core.audit import Actor
from assent.core.errors import ConfigurationError
from assent.core.policy import Escalation, OnTimeout, Policy
from tests.storage.samples import NOON, approval

ANN = Owner("ann", "acme")

REACHES: dict[str, dict[Right, str]] = {
    "viewer": {Right.SELF: "own", Right.READ: "own", Right.SEE: "own"},
    "operator": {
        Right.SELF: "own",
        Right.READ: "own",
        Right.RUN: "own",
        Right.STOP: "own",
        Right.SEE: "own",
        Right.SAY: "own",
    },
    "approver": {
        Right.SELF: "own",
        Right.READ: "own",
        Right.SEE: "own",
        Right.DECIDE: "own",
        Right.SAY: "own",
    },
    "auditor": {
        Right.SELF: "own",
        Right.READ: "tenant",
        Right.SEE: "tenant",
        Right.WATCH: "tenant",
        Right.AUDIT: "tenant",
    },
    "admin": {
        Right.SELF: "own",
        Right.READ: "tenant",
        Right.STOP: "tenant",
        Right.SEE: "tenant",
        Right.SAY: "tenant",
        Right.WATCH: "tenant",
        Right.ADMIN: "tenant",
    },
    "approver:tool:pay": {
        Right.SELF: "own",
        Right.READ: "own",
        Right.SEE: "own",
        Right.DECIDE: "own",
        Right.SAY: "own",
    },
    "lead": {},
    "approver:tool:": {},
    "approver:both:pay": {},
    "Admin": {},
}
"""The reach of each right by role, as a person would write it; a right that is missing is none."""


@pytest.mark.parametrize("role", REACHES)
@pytest.mark.parametrize("right", Right)
def test_a_role_gives_a_right_over_what_is_ones_own_or_the_tenants(role: str, right: Right) -> None:
    reach = REACHES[role].get(right)
    assert (right in rights_of([role])) == (reach is not None)
    seen = sight_for(ANN, [role], APPROVES_ALL, right)
    if reach is None:
        assert seen == NOTHING
    else:
        assert (seen.reach, seen.owner) == (reach, ANN)


def test_rights_add_up_and_the_widest_sight_holds() -> None:
    both = ["operator", "auditor"]
    assert rights_of(both) == rights_of(["operator"]) | rights_of(["auditor"])
    assert sight_for(ANN, both, APPROVES_NOTHING, Right.READ).reach == "tenant"
    assert sight_for(ANN, both, APPROVES_NOTHING, Right.RUN).reach == "own"
    assert sight_for(ANN, ["approver", "admin"], APPROVES_ALL, Right.DECIDE).reach == "tenant"
    assert rights_of([]) == frozenset()


def test_an_admin_neither_decides_nor_writes_nor_reads_the_chain() -> None:
    assert rights_of(["admin"]).isdisjoint({Right.RUN, Right.DECIDE, Right.AUDIT})


def test_only_approvals_are_seen_by_what_one_may_decide() -> None:
    roles = ["approver:role:lead"]
    approves = approves_of(roles)
    seen = sight_for(ANN, roles, approves, Right.SEE)
    assert seen == Sight("own", ANN, ("approver:role:lead", "lead"), approves)
    assert sight_for(ANN, roles, approves, Right.DECIDE) == seen
    assert sight_for(ANN, roles, approves, Right.READ) == Sight("own", ANN)


def test_a_role_says_which_approvals_it_is_for() -> None:
    roles = ["approver:tool:pay", "approver:role:lead", "approver:tool:send", "boss"]
    assert approves_of(roles) == Approves(
        tools=frozenset({"pay", "send"}), roles=frozenset({"lead"})
    )
    assert roles_in_policies(roles) == (
        "approver:role:lead",
        "approver:tool:pay",
        "approver:tool:send",
        "boss",
        "lead",
    )
    assert approves_of(["operator", "approver"]) == APPROVES_ALL
    assert approves_of(["operator", "lead"]) == APPROVES_NOTHING
    assert [role_of(each) for each in ("approver:tool:pay", "viewer", "lead")] == [
        Role.APPROVER,
        Role.VIEWER,
        None,
    ]


@pytest.mark.parametrize(
    ("text", "role"),
    [
        *(("viwer", Role.VIEWER), ("veiwer", Role.VIEWER), ("Viewer", Role.VIEWER)),
        *(("operater", Role.OPERATOR), ("auditors", Role.AUDITOR), (" admin", Role.ADMIN)),
        *(("aprover:tool:pay", Role.APPROVER), ("approver:tols:pay", Role.APPROVER)),
        *((each, None) for each in ("viewer", "approver:role:lead", "reviewer", "editor", "a")),
    ],
)
def test_a_role_that_is_misspelt_is_none_of_policies(text: str, role: Role | None) -> None:
    """As one of policies it would leave what one has by default: more than was meant."""
    assert misspelt(text) is role
    if role is None:
        check_role(text)
    else:
        with pytest.raises(ConfigurationError, match=f"is no role. Did you mean '{role}'"):
            check_role(text)


ANYBODY = approval(policy=Policy(), delegations=())
BY_ROLE = approval(policy=Policy(roles=("lead",)), delegations=(), step=0)
BY_NAME = approval(policy=Policy(names=("bob",)), delegations=(), step=0)
TO_A_ROLE = approval(
    policy=Policy(roles=("lead",)),
    delegations=(Delegation(voting_right="x", to=Target(role="boss"), by="x", at=NOON),),
    step=0,
)
HANDED_OVER = approval(
    policy=Policy(roles=("lead",)),
    delegations=(Delegation(voting_right="x", to=Target(name="bob"), by="x", at=NOON),),
    step=0,
)
OF_NO_TOOL = approval(tool="", policy=Policy(), delegations=())

BOB = Owner("bob", "acme")
EVERY = frozenset({"anybody", "role", "name", "boss", "handed", "no tool"})
ASKED = {
    "anybody": ANYBODY,
    "role": BY_ROLE,
    "name": BY_NAME,
    "boss": TO_A_ROLE,
    "handed": HANDED_OVER,
    "no tool": OF_NO_TOOL,
}


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        (EVERYTHING, EVERY),
        (NOTHING, frozenset()),
        (Sight("tenant", BOB), EVERY),
        (Sight("tenant", Owner("bob", "other")), frozenset()),
        (Sight("tenant", Owner("bob")), frozenset()),
        (Sight("own", ANN), EVERY),
        (Sight("own", Owner("ann", "other")), frozenset()),
        (Sight("own", Owner("ann")), frozenset()),
        (Sight("own", BOB), frozenset()),
        (Sight("own", BOB, (), APPROVES_ALL), {"anybody", "no tool", "name", "handed"}),
        (Sight("own", BOB, ("lead",), APPROVES_ALL), EVERY),
        (Sight("own", BOB, ("boss",), APPROVES_ALL), EVERY - {"role"}),
        (Sight("own", Owner("bob", "other"), ("lead",), APPROVES_ALL), frozenset()),
        (
            Sight("own", BOB, (), Approves(tools=frozenset({"pay"}))),
            {"anybody", "name", "handed"},
        ),
        (Sight("own", BOB, (), Approves(tools=frozenset({"send"}))), frozenset()),
        (
            Sight("own", BOB, ("lead",), Approves(roles=frozenset({"lead"}))),
            {"role", "boss", "handed"},
        ),
        (Sight("own", BOB, ("lead", "boss"), Approves(roles=frozenset({"boss"}))), {"boss"}),
    ],
)
def test_a_sight_shows_what_is_ones_own_and_what_one_may_decide(
    seen: Sight, names: frozenset[str]
) -> None:
    assert {name for name, asked in ASKED.items() if seen.shows(asked)} == names


def test_whom_an_escalation_asks_sees_the_approval_only_then() -> None:
    policy = Policy(
        roles=("lead",),
        timeout=NOON - NOON.replace(hour=11),
        on_timeout=OnTimeout.ESCALATE,
        escalation=(Escalation(names=("bob",)),),
    )
    asked: Approval = approval(policy=policy, delegations=(), step=0)
    seen = Sight("own", BOB, (), APPROVES_ALL)
    assert not seen.shows(asked)
    assert seen.shows(approval(policy=policy, delegations=(), step=1))


def test_an_actor_owns_what_they_make_and_may_be_several_people() -> None:
    made = Actor("ann", tenant="acme", known_to=("bob",))
    assert made.owner == ANN
    assert made.people == ("ann", "bob")
    assert Actor("ann").approves == APPROVES_NOTHING


def test_the_reference_has_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "roles.md"
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`: [^|]+\|(.+)\|$", text, re.MULTILINE)
    assert [right for right, _ in rows] == list(Right)
    for right, cells in rows:
        given = [cell.strip() for cell in cells.split("|")]
        columns = (Role.VIEWER, Role.OPERATOR, Role.APPROVER, Role.AUDITOR, Role.ADMIN)
        for role, cell in zip(columns, given, strict=True):
            assert (Right(right) in RIGHTS[role]) is (cell != "–"), (right, role)
            if cell in ("own", "tenant"):
                assert sight_for(ANN, [role], approves_of([role]), Right(right)).reach == cell
