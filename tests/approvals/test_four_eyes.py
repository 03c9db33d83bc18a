"""Four eyes count people, and not credentials: as values, and in every order of actions."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.approvals.decide import Decider, Verdict
from assent.approvals.grants import cast_grants, check_may_grant
from assent.approvals.people import People, check_alone, check_names
from assent.approvals.rules import (
    CheckDeadline,
    Decide,
    Delegate,
    Requirement,
    Withdraw,
    advance,
    needs_another,
)
from assent.core.access import APPROVES_ALL, EVERYTHING, Approves, Owner, approves_of
from assent.core.approval import Approval, ApprovalStatus, Target, Vote, people_behind
from assent.core.audit import LOCAL, Actor, Authentication
from assent.core.decisions import Approve, Edit, Reject, Respond
from assent.core.errors import AssentError, ConfigurationError, Forbidden
from assent.core.grant import Bound, Grant
from assent.core.policy import Person, Policy
from assent.core.rows import ApiKey
from assent.storage.base import Change
from assent.storage.sqlite import SqliteStorage
from tests.support.approvals import CLOCK, LATER, START, a_thread, an_approval, question, takes_all

DECIDED = (ApprovalStatus.APPROVED, ApprovalStatus.EDITED, ApprovalStatus.RESPONDED)
LEAD = Policy(roles=("lead",))


def somebody(name: str, *roles: str, **more: Any) -> Person:
    return Person(name=name, roles=roles, **{"approves": APPROVES_ALL, **more})


def may(approval: Approval, by: Person) -> bool:
    try:
        done = advance(approval, Decide(by=by, decision=Approve()), START)
    except Forbidden:
        return False
    return done.approval.status is ApprovalStatus.APPROVED


# ── the policy and the role, both ──


@pytest.mark.parametrize(
    ("roles", "decides"),
    [
        (("lead", "approver"), True),
        (("lead", "approver:tool:pay"), True),
        (("lead", "approver:role:lead"), True),
        (("approver:role:lead",), True),
        (("lead",), False),
        (("lead", "operator", "auditor", "admin"), False),
        (("lead", "approver:tool:mail"), False),
        (("lead", "approver:role:boss"), False),
        (("approver",), False),
        (("approver:tool:pay",), False),
    ],
)
def test_it_takes_what_the_policy_asks_and_the_role_of_an_approver(
    roles: tuple[str, ...], decides: bool
) -> None:
    people = People(given={"dee": roles})
    actor = Actor("dee", roles=people.person("dee").roles, approves=approves_of(roles))
    assert may(question(LEAD), people.acting(actor)) is decides


def test_a_right_that_was_delegated_takes_the_role_too() -> None:
    to = Target(name="eve")
    asked = advance(question(LEAD), Delegate(by=somebody("dee", "lead"), to=to), START).approval
    assert may(asked, somebody("eve"))
    assert not may(asked, somebody("eve", approves=Approves()))
    assert not may(asked, somebody("eve", approves=Approves(tools=frozenset({"mail"}))))


def test_after_an_edit_the_role_is_asked_for_the_new_policy() -> None:
    """Somebody whose word counts on what asks leads edits into what asks a boss."""
    lead = Person(name="dee", roles=("lead", "boss"), approves=Approves(roles=frozenset({"lead"})))
    edit = Decide(
        by=lead, decision=Edit({"amount": 9}), requires=Requirement(Policy(roles=("boss",)))
    )
    assert advance(question(LEAD), edit, START).approval.is_pending


def test_without_a_word_about_it_nobody_decides() -> None:
    assert Actor("bob").approves == Person(name="bob").approves == Approves()
    assert not may(question(Policy()), People().acting(Actor("bob")))


def test_the_roles_are_those_with_which_somebody_acts() -> None:
    people = People({"dee": Person(name="dee", roles=("lead",))})
    own = Actor("dee", roles=("viewer",), approves=APPROVES_ALL)
    assert people.acting(own).roles == ("viewer",), "of a key that has its own roles alone"
    by_link = Actor("dee", Authentication.SIGNED_LINK, approves=APPROVES_ALL)
    assert people.acting(by_link).roles == ("lead",)


# ── one person ──

BOB_AS_ANN = somebody("ann", known_to=("bob",))
BOB_AS_CY = somebody("cy", known_to=("bob",))
BY_BOBS_LINK = somebody("dee", sent_by="bob")


def test_whoever_shares_a_secret_with_a_requester_is_the_requester() -> None:
    asked = question(Policy(four_eyes=True), requested_by=["bob"])
    for by in (somebody("bob"), BOB_AS_ANN, BY_BOBS_LINK, somebody("Bob")):
        with pytest.raises(Forbidden, match=r"(?i)bob asked for"):
            advance(asked, Decide(by=by, decision=Approve()), START)
        rejected = advance(asked, Decide(by=by, decision=Reject()), START).approval
        assert rejected.status is ApprovalStatus.REJECTED
    assert may(asked, somebody("eve", known_to=("fay",)))
    assert needs_another(asked, "eve", "bob") and not needs_another(asked, "eve", "")
    with pytest.raises(Forbidden, match="bob asked for"):
        advance(asked, Delegate(by=BOB_AS_ANN, to=Target(name="eve")), START)


def test_an_edit_is_that_of_everybody_who_may_have_made_it() -> None:
    policy = Policy(four_eyes=True)
    edit = Decide(by=BOB_AS_ANN, decision=Edit({"amount": 2}), requires=Requirement(policy))
    edited = advance(question(policy, requested_by=["eve"]), edit, START).approval
    assert set(edited.edit.editors if edited.edit else ()) == {"ann", "bob"}
    for by in (somebody("bob"), somebody("ann"), BY_BOBS_LINK):
        approve = Decide(by=by, decision=Approve(), digest=edited.current_digest)
        with pytest.raises(Forbidden, match="edited"):
            advance(edited, approve, START)


def vote(by: str, *known_to: str, sent_by: str = "") -> Vote:
    return Vote(
        by=by,
        decision=Approve(),
        digest="d",
        at=START,
        voting_right=by,
        known_to=known_to,
        sent_by=sent_by,
    )


@pytest.mark.parametrize(
    ("votes", "people"),
    [
        ([], 0),
        ([vote("ann"), vote("bob")], 2),
        ([vote("ann", "bob"), vote("bob")], 1),
        ([vote("ann", "bob"), vote("cy", "bob")], 1),
        ([vote("ann", "bob"), vote("cy", "dee"), vote("eve", "bob", "dee")], 1),
        ([vote("ann", "bob"), vote("cy", "dee")], 2),
        ([vote("ann", sent_by="bob"), vote("bob")], 1),
        ([vote("ann", sent_by="mailer"), vote("bob", sent_by="mailer")], 2),
        ([vote("ann", sent_by="bob"), vote("cy", sent_by="bob"), vote("bob")], 1),
        ([vote("Ann"), vote("ann")], 1),
        ([vote("stra\N{LATIN SMALL LETTER SHARP S}e"), vote("STRASSE")], 1),
        (
            [vote("\N{FULLWIDTH LATIN SMALL LETTER A}nn", sent_by="Bob"), vote("ann"), vote("bob")],
            1,
        ),
    ],
)
def test_votes_that_one_person_may_have_given_are_one(votes: list[Vote], people: int) -> None:
    for order in itertools.permutations(votes):
        assert people_behind(order) == people


NAMES = ("bob", "ann", "cy", "dee", "eve")
OF_BOB = (
    somebody("bob"),
    somebody("bob", "lead"),
    somebody("bob", "lead", approves=Approves(tools=frozenset({"pay"}))),
    somebody("bob", sent_by="bob"),
    BOB_AS_ANN,
    BOB_AS_CY,
    somebody("eve", "lead", known_to=("ann", "bob")),
    BY_BOBS_LINK,
)
"""The credentials of one person: keys with other roles, keys that they made for others, and a link
that they have made for somebody."""

DECISIONS = st.sampled_from(
    [Approve(), Respond("No."), Edit({"amount": 2}), Edit({"amount": 3})],
)
TARGETS = st.one_of(
    st.builds(lambda name: Target(name=name), st.sampled_from(NAMES)),
    st.just(Target(role="lead")),
)
BY = st.sampled_from(OF_BOB)
POLICIES = st.sampled_from(
    [
        Policy(quorum=2),
        Policy(quorum=2, roles=("lead",)),
        Policy(quorum=2, names=("bob", "ann"), roles=("lead",)),
        Policy(quorum=2, four_eyes=True),
        Policy(quorum=3, four_eyes=True, roles=("lead",)),
    ]
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("decide"), BY, DECISIONS),
        st.tuples(st.just("withdraw"), BY, st.none()),
        st.tuples(st.just("delegate"), BY, TARGETS),
        st.tuples(st.just("check"), BY, st.none()),
    ),
    min_size=1,
    max_size=12,
)


def acted(approval: Approval, kind: str, by: Person, what: Any, policy: Policy) -> Approval:
    action: Any = CheckDeadline()
    if kind == "decide":
        requires = Requirement(policy) if isinstance(what, Edit) else None
        digest = approval.current_digest
        action = Decide(by=by, decision=what, digest=digest, requires=requires)
    elif kind == "withdraw":
        action = Withdraw(by=by)
    elif kind == "delegate":
        action = Delegate(by=by, to=what)
    try:
        return advance(approval, action, START).approval
    except AssentError:
        return approval


@settings(max_examples=200, deadline=None, derandomize=True)
@given(policy=POLICIES, actions=ACTIONS, with_grant=st.booleans())
def test_no_actions_of_one_person_meet_a_quorum_of_two(
    policy: Policy, actions: list[tuple[str, Person, Any]], with_grant: bool
) -> None:
    approval = question(policy, requested_by=["fay"])
    if with_grant:
        approval = cast_grants(approval, [a_grant("bob")], START)[0].approval
    for kind, by, what in actions:
        approval = acted(approval, kind, by, what, policy)
        assert approval.status not in DECIDED


@settings(max_examples=150, deadline=None, derandomize=True)
@given(actions=ACTIONS)
def test_no_actions_of_one_person_decide_their_own_request(
    actions: list[tuple[str, Person, Any]],
) -> None:
    policy = Policy(four_eyes=True)
    approval = question(policy, requested_by=["bob"])
    for kind, by, what in actions:
        approval = acted(approval, kind, by, what, policy)
        assert approval.status not in DECIDED


async def test_the_decider_counts_people_too(tmp_path: Path) -> None:
    """The same over what is stored, in every order of three of their credentials."""
    people = People(default=())
    credentials = [
        Actor("bob", roles=("approver",), approves=APPROVES_ALL),
        Actor("ann", roles=("approver",), approves=APPROVES_ALL, known_to=("bob",)),
        Actor("cy", roles=("approver",), approves=APPROVES_ALL, known_to=("bob",)),
        Actor("dee", Authentication.SIGNED_LINK, approves=APPROVES_ALL, known_to=("bob",)),
    ]
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        decider = Decider(
            storage=storage,
            sight=EVERYTHING,
            clock=CLOCK,
            person=people.acting,
            inspect=takes_all,
            start=lambda run, thread: None,
        )
        for number, order in enumerate(itertools.permutations(credentials, 3)):
            id, thread = f"a{number}", f"t{number}"
            row = an_approval(id, policy=Policy(quorum=2), thread_id=thread, version=1)
            waiting = a_thread(id, thread_id=thread, version=1)
            await storage.commit(Change(rows=(waiting, row)))
            for by in order:
                await decider.decide(thread, Verdict(decisions=Approve(), by=by))
            stored = await storage.approval(id)
            assert stored is not None and stored.is_pending, order
            other = Actor("eve", roles=("approver",), approves=APPROVES_ALL)
            await decider.decide(thread, Verdict(decisions=Approve(), by=other))
            stored = await storage.approval(id)
            assert stored is not None and stored.status is ApprovalStatus.APPROVED


# ── in advance ──


def a_grant(by: str, *roles: str) -> Grant:
    return Grant(
        grant_id="g",
        agent="records",
        tool="pay",
        bounds={"amount": Bound(any=True)},
        given_by=by,
        roles=roles,
        given_at=START - timedelta(days=1),
        until=LATER + timedelta(days=300),
        uses=5,
        thread_id="t",
    )


@pytest.mark.parametrize(
    ("roles", "votes"),
    [
        (("lead", "approver"), True),
        (("lead", "operator", "approver:tool:pay"), True),
        (("approver:role:lead", "lead"), True),
        (("lead",), True),
        (("lead", "operator"), False),
        (("lead", "approver:tool:mail"), False),
    ],
)
def test_a_grant_votes_with_the_roles_that_its_giver_had(
    roles: tuple[str, ...], votes: bool
) -> None:
    """Those without any of the program's roles were given before there were any."""
    given = a_grant("dee", *roles)
    done, used, _ = cast_grants(question(LEAD), [given], START)
    assert (done.approval.status is ApprovalStatus.APPROVED, len(used)) == (votes, int(votes))
    if votes:
        check_may_grant(LEAD, given)
    else:
        with pytest.raises(Forbidden):
            check_may_grant(LEAD, given)


def test_whoever_is_no_approver_any_more_grants_nothing() -> None:
    given = a_grant("dee", "lead", "approver")
    for roles, holds in (
        ((), True),
        (("lead",), True),
        (("approver",), True),
        (("approver:tool:pay",), True),
        (("viewer",), False),
        (("operator", "lead"), False),
        (("approver:tool:mail",), False),
    ):
        why = People(given={"dee": roles}).why_no_vote(given, question(LEAD), (), START)
        assert (why == "") is holds, roles
    people = People({"dee": Person(name="dee", roles=("viewer",))})
    assert people.why_no_vote(given, question(LEAD), (), START)


def a_key(*roles: str, **more: Any) -> ApiKey:
    given: dict[str, Any] = {"person": "dee", "made_by": "", "created_at": START, **more}
    return ApiKey(key_id="k", roles=roles, mac="", proof="", **given)


@pytest.mark.parametrize(
    ("known", "keys", "why"),
    [
        ({}, [a_key("lead", "approver")], ""),
        ({}, [a_key("lead")], ""),
        ({}, [a_key("viewer", revoked_at=START), a_key("lead", "approver")], ""),
        ({"given": {"dee": ("lead",)}}, [a_key("approver")], ""),
        ({"having_keys": frozenset({"dee"}), "given": {"dee": ("lead",)}}, [], ""),
        ({}, [a_key("lead", "approver", revoked_at=START)], "keys is good"),
        ({}, [a_key("lead", "approver", expires_at=START)], "keys is good"),
        ({}, [a_key("lead", "operator")], "may not approve"),
        ({}, [a_key("lead", made_by="dee")], "may not approve"),
        ({}, [a_key("approver")], "may not approve"),
        ({}, [a_key("lead", "approver", made_by="oz")], ""),
        ({"known_elsewhere": False}, [a_key("lead", "approver", made_by="oz")], "has no key"),
        ({"known_elsewhere": False}, [], "has no key"),
        ({"default": ("viewer",), "given": {"dee": ("lead",)}}, [a_key()], "may not approve"),
    ],
)
def test_a_grant_votes_as_long_as_its_giver_could(
    known: dict[str, Any], keys: list[ApiKey], why: str
) -> None:
    given = a_grant("dee", "lead", "approver")
    said = People(**known).why_no_vote(given, question(LEAD), keys, START)
    assert why in said
    assert (said == "") is (why == "")


def test_what_everybody_granted_holds_until_the_server_knows_people() -> None:
    given = a_grant(LOCAL)
    assert not People().why_no_vote(given, question(LEAD), (), START)
    assert People(knows_nobody=False).why_no_vote(given, question(LEAD), (), START)


@pytest.mark.parametrize(
    ("known", "keys", "counts"),
    [
        ({"known_elsewhere": False}, [], True),
        ({"given": {"dee": ("viewer",)}}, [], False),
        ({"given": {"dee": ("approver",)}}, [], True),
        ({"having_keys": frozenset({"dee"})}, [], True),
        ({"having_keys": frozenset({"dee"}), "given": {"dee": ("operator",)}}, [], False),
        ({}, [a_key("viewer"), a_key("approver:tool:pay")], True),
        ({}, [a_key("approver", revoked_at=START), a_key("viewer")], False),
        ({}, [a_key("approver", expires_at=START)], False),
        ({}, [a_key("approver", revoked_at=START, made_by="oz")], True),
        ({"having_keys": frozenset({"dee"})}, [a_key("approver", revoked_at=START)], True),
    ],
)
def test_a_link_counts_as_long_as_who_it_is_for_could_decide_without_it(
    known: dict[str, Any], keys: list[ApiKey], counts: bool
) -> None:
    approves = People(**known).approves_unasked(Owner("dee"), keys, START)
    assert approves.takes(question(LEAD)) is counts


def test_a_link_to_everybody_is_over_once_the_server_knows_people() -> None:
    assert People().approves_unasked(Owner(LOCAL), (), START).anything
    assert not People(knows_nobody=False).approves_unasked(Owner(LOCAL), (), START).anything


def test_what_decides_later_takes_a_secret_of_ones_own() -> None:
    check_alone(Actor("ann"))
    with pytest.raises(Forbidden, match="known to bob too"):
        check_alone(Actor("ann", known_to=("bob",)))


# ── names ──

ALIASES = {"corp:ann": "ann", "lab:a.n": "ann"}


def test_a_person_has_one_name() -> None:
    people = People(aliases=ALIASES)
    assert [people.canonical(name) for name in ("ann", "corp:ann", "lab:a.n", "corp:bob")] == [
        *("ann", "ann", "ann", "corp:bob")
    ]
    policy = Policy(names=("corp:ann", "bob"))
    why = People({}, frozenset({"ann", "bob"}), aliases=ALIASES).why_unmet(policy)
    assert why == "It asks 'corp:ann', who is 'ann' here. Write that name."


@pytest.mark.parametrize(
    ("names", "aliases"),
    [
        (["corp:ann", "ann"], {"corp:ann": "ann"}),
        (["ann", "Ann"], {}),
        (["stra\u00dfe", "STRASSE"], {}),
        (["\ufb01n", "fin"], {}),
        (["ann", "bob"], {"ANN": "bob"}),
        (["local"], {}),
        (["Local"], {}),
        (["~feed"], {}),
        (["a\u200bnn"], {}),
        (["ann"], {"": "ann"}),
        (["ann"], {"x" * 201: "ann"}),
    ],
)
def test_names_that_could_be_taken_for_anothers_are_refused(
    names: list[str], aliases: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError):
        check_names(names, aliases)


def test_names_that_are_clearly_apart_are_taken() -> None:
    check_names(["ann", "bob", "corp:cy", "Zoë", "李"], {"corp:ann": "ann", "Ann": "ann"})


def test_everybody_on_a_server_without_keys_decides_whatever_the_default_is() -> None:
    assert People(default=()).person(LOCAL).approves == APPROVES_ALL
    assert People(default=()).person("ann").approves == Approves()
    assert People().person("ann").approves == APPROVES_ALL
