"""The four decisions as JSON, and which decision answers which approval."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from assent.core.approval import Approval, ApprovalKind, match_decisions
from assent.core.decisions import (
    Approve,
    Decision,
    Edit,
    Reject,
    Respond,
    check_allowed,
    decision_from_json,
    decision_to_json,
    decision_type,
)
from assent.core.errors import InvalidDecision, NotFound, NothingPending


@pytest.mark.parametrize(
    ("decision", "json"),
    [
        (Approve(), {"type": "approve"}),
        (Edit({"amount": 1}), {"type": "edit", "args": {"amount": 1}}),
        (Reject(), {"type": "reject", "message": ""}),
        (Reject("No."), {"type": "reject", "message": "No."}),
        (Respond("Paid."), {"type": "respond", "message": "Paid."}),
        (Respond({"a": [None, 1.5]}), {"type": "respond", "message": {"a": [None, 1.5]}}),
        (Respond(None), {"type": "respond", "message": None}),
    ],
)
def test_a_decision_goes_to_json_and_back(decision: Decision, json: dict[str, Any]) -> None:
    assert decision_to_json(decision) == json
    assert decision_from_json(json) == decision
    assert decision_type(decision) == json["type"]


@pytest.mark.parametrize(
    "json",
    [
        {},
        {"type": "accept"},
        {"type": "Approve"},
        {"type": "approve", "args": {}},
        {"type": "edit"},
        {"type": "edit", "args": None},
        {"type": "edit", "args": [1]},
        {"type": "reject", "message": 3},
        {"type": "respond"},
        {"args": {}},
        {"type": None},
    ],
    ids=str,
)
def test_what_is_no_decision_is_refused_with_the_forms_that_are(json: dict[str, Any]) -> None:
    with pytest.raises(InvalidDecision, match=r'Send \{"type": "approve"\}'):
        decision_from_json(json)


def test_a_reject_needs_no_message() -> None:
    assert decision_from_json({"type": "reject"}) == Reject()


def asked(approval_id: str, tool_call_id: str = "") -> Approval:
    return Approval(
        approval_id=approval_id,
        thread_id="t",
        kind=ApprovalKind.TOOL,
        digest="d",
        allowed=("approve",),
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
        tool_call_id=tool_call_id,
    )


ONE, TWO, THREE = asked("apr_1", "c1"), asked("apr_2", "c2"), asked("apr_3")
NO, YES = Reject(), Approve()


@pytest.mark.parametrize(
    ("pending", "decisions", "for_all", "expected"),
    [
        ([ONE], YES, False, [(ONE, YES)]),
        ([ONE, TWO], YES, True, [(ONE, YES), (TWO, YES)]),
        ([ONE, TWO], {"apr_2": NO}, False, [(TWO, NO)]),
        ([ONE, TWO], {"c1": YES, "apr_2": NO}, False, [(ONE, YES), (TWO, NO)]),
        ([ONE, THREE], {"apr_3": YES}, False, [(THREE, YES)]),
    ],
)
def test_who_is_answered(pending: Any, decisions: Any, for_all: bool, expected: Any) -> None:
    choices = match_decisions(pending, decisions, for_all=for_all)
    assert [(choice.approval, choice.decision) for choice in choices] == expected


@pytest.mark.parametrize(
    ("pending", "decisions", "error"),
    [
        ([], YES, NothingPending),
        ([], {"c1": YES}, NotFound),
        ([ONE, TWO], YES, InvalidDecision),
        ([ONE, TWO], {}, InvalidDecision),
        ([ONE, TWO], {"c3": YES}, NotFound),
        ([ONE, TWO], {"c1": YES, "apr_1": NO}, InvalidDecision),
        # A question without a tool call is not meant by an empty id.
        ([THREE], {"": YES}, NotFound),
    ],
)
def test_an_answer_that_could_mean_anything_else_is_refused(
    pending: Any, decisions: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        match_decisions(pending, decisions)


def test_only_what_is_allowed_is_taken() -> None:
    check_allowed(NO, "apr_1", ("approve", "reject"))
    with pytest.raises(
        InvalidDecision, match=r"apr_1 does not take 'edit'\. It takes: approve, reject"
    ):
        check_allowed(Edit({}), "apr_1", ("approve", "reject"))
