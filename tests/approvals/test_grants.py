"""Standing grants: what they cover, how they count, and that they never cover more than was
said."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assent.approvals.grants import cast_grants, check_may_grant, give, revoke
from assent.core.approval import Approval, ApprovalKind, ApprovalStatus
from assent.core.audit import Actor
from assent.core.clock import Clock
from assent.core.errors import Forbidden, InvalidRequest
from assent.core.events import event_type
from assent.core.grant import Bound, Grant
from assent.core.policy import Person, Policy, Risk
from assent.storage.sqlite import SqliteStorage
from tests.support.approvals import ANN, BOB, CY, EVE, START, question

DAY = timedelta(days=1)


def grant(by: Person = BOB, **more: Any) -> Grant:
    given: dict[str, Any] = {
        "grant_id": f"grant-{by.name}",
        "agent": "records",
        "tool": "pay",
        "bounds": {"amount": Bound(max=100)},
        "given_by": by.name,
        "roles": by.roles,
        "given_at": START - DAY,
        "until": START + DAY,
        "uses": 2,
        "thread_id": "t",
    }
    return Grant(**(given | more))


def status(asked: Approval, *grants: Grant) -> ApprovalStatus:
    return cast_grants(asked, grants, START)[0].approval.status


def test_a_grant_approves_in_its_givers_name() -> None:
    done, used, _ = cast_grants(question(Policy(roles=("clerk",))), [grant()], START)
    assert (done.approval.status, done.approval.decided_by) == (ApprovalStatus.APPROVED, "bob")
    assert done.approval.votes[0].grant == "grant-bob"
    assert [event_type(event) for event in done.events] == ["approval_decided"]
    assert done.events[0].grant == "grant-bob"  # type: ignore[attr-defined]
    assert [each.used for each in used] == [1]


@pytest.mark.parametrize(
    "more",
    [
        {"agent": "other"},
        {"tool": "mail"},
        {"thread_id": "another"},
        {"user": "bob"},
        {"until": START},
        {"used": 2},
        {"revoked_at": START},
        {"bounds": {}},
        {"bounds": {"amount": Bound(max=0)}},
        {"bounds": {"amount": Bound(any=True), "to": Bound(among=("Ada",))}},
        {"given_by": "eve", "roles": ()},
    ],
)
def test_whatever_it_does_not_say_it_does_not_cover(more: dict[str, Any]) -> None:
    policy = Policy(roles=("clerk",))
    assert status(question(policy), grant()) is ApprovalStatus.APPROVED
    done, used, _ = cast_grants(question(policy), [grant(**more)], START)
    assert (done.approval.status, done.events, used) == (ApprovalStatus.PENDING, (), ())


def test_a_grant_may_be_for_a_user_in_any_thread() -> None:
    assert status(question(Policy()), grant(thread_id="", user="ann")) is ApprovalStatus.APPROVED
    for others in (["cy"], ["cy", "ann"], ["ann", "cy"], []):
        asked = question(Policy(), requested_by=others)
        assert status(asked, grant(thread_id="", user="ann")) is ApprovalStatus.PENDING, others


def test_only_calls_of_tools_are_granted() -> None:
    asked = msgspec.structs.replace(question(Policy()), kind=ApprovalKind.UNKNOWN_OUTCOME)
    assert status(asked, grant()) is ApprovalStatus.PENDING


def test_a_grant_counts_as_one_vote() -> None:
    asked = question(Policy(quorum=2))
    assert status(asked, grant()) is ApprovalStatus.PENDING
    assert status(asked, grant(), grant(grant_id="another")) is ApprovalStatus.PENDING
    done, used, _ = cast_grants(asked, [grant(), grant(CY), grant(EVE)], START)
    assert done.approval.status is ApprovalStatus.APPROVED
    assert [each.given_by for each in used] == ["bob", "cy"], "no more than were needed"
    assert [event_type(event) for event in done.events] == ["approval_voted", "approval_decided"]


def test_with_four_eyes_nobody_grants_his_own_calls() -> None:
    asked = question(Policy(risk=Risk.HIGH))
    assert status(asked, grant(ANN)) is ApprovalStatus.PENDING
    assert status(asked, grant(BOB)) is ApprovalStatus.APPROVED
    asked = question(Policy(risk=Risk.HIGH), requested_by=["ann", "bob"])
    assert status(asked, grant(BOB)) is ApprovalStatus.PENDING


def test_a_grant_is_no_vote_where_approving_is_not_allowed() -> None:
    assert (
        status(question(Policy(allowed=("reject", "respond"))), grant()) is ApprovalStatus.PENDING
    )


@pytest.mark.parametrize(
    ("bound", "inside", "outside"),
    [
        (
            Bound(min=1, max=3),
            [1, 2.5, 3],
            [0, 3.1, "2", True, None, [2], float("nan"), float("inf")],
        ),
        (Bound(max=3), [-5, float("-inf")], ["", 4, float("nan")]),
        (Bound(max=2**60), [2**60], [2**60 + 1]),
        (
            Bound(among=("a", 1, None, {"x": [1]})),
            ["a", 1, 1.0, None, {"x": [1]}],
            ["A", True, "1", {"x": [1], "y": 2}, {"x": [2]}, [], 2],
        ),
        (Bound(any=True), ["a", None, {}], []),
    ],
)
def test_what_a_bound_holds(bound: Bound, inside: list[Any], outside: list[Any]) -> None:
    assert [bound.holds(value) for value in inside] == [True] * len(inside)
    assert [bound.holds(value) for value in outside] == [False] * len(outside)


@pytest.mark.parametrize(
    "value", [{}, {"any": False}, {"any": True, "max": 3}, {"min": 1, "among": [1]}]
)
def test_a_bound_says_one_thing(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="one of the three"):
        msgspec.convert(value, Bound)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"thread_id": ""}, "for a thread or a user"),
        ({"tool": ""}, "for one tool"),
        ({"uses": 0}, "this one says 0"),
        ({"until": START - DAY}, "end is in the past"),
    ],
)
def test_a_grant_without_an_end_or_a_scope_is_refused(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        grant(**more)


def test_who_could_not_approve_grants_nothing() -> None:
    check_may_grant(Policy(roles=("clerk",)), grant())
    for policy, given in (
        (Policy(roles=("lead",)), grant()),
        (Policy(allowed=("reject",)), grant()),
        (Policy(four_eyes=True), grant(user="bob")),
    ):
        with pytest.raises(Forbidden, match="cannot grant"):
            check_may_grant(policy, given)


async def test_a_revoked_grant_is_of_no_use_and_says_who_revoked_it(tmp_path: Path) -> None:
    clock = Clock(now=lambda: START)
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        given = await give(storage, grant(), Policy(), Actor("bob"))
        gone = await revoke(storage, clock, given, ANN, Policy(), Actor("ann"))
        assert (gone.revoked_by, gone.revoked_at, gone.is_open(START)) == ("ann", START, False)
        # Revoking is idempotent, also for somebody who has seen the grant as it was before.
        assert await revoke(storage, clock, given, BOB, Policy(), Actor("bob")) == gone
        assert await revoke(storage, clock, gone, BOB, Policy(), Actor("bob")) == gone
        assert await storage.grant(given.grant_id) == gone


def test_a_grant_survives_json() -> None:
    given = grant(
        bounds={"amount": Bound(min=1, max=2), "to": Bound(among=("Ada",)), "note": Bound(any=True)}
    )
    assert msgspec.json.decode(msgspec.json.encode(given), type=Grant) == given
