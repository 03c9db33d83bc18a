"""Answers in every known form, mapped to decisions on what is pending."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from assent import Approval, Approve, Edit, Reject, Respond
from assent.core.approval import ApprovalKind, Edited
from assent.core.errors import InvalidDecision, NotFound, NothingPending
from assent.graph.interrupts.answers import decisions_from_answer

BATCH = "b" * 32
OTHER = "c" * 32


def approval(number: int, **fields: Any) -> Approval:
    fields = {
        "kind": ApprovalKind.TOOL,
        "tool": "pay",
        "tool_call_id": f"call_{number}",
        "args": {"amount": number},
        **fields,
    }
    return Approval(
        approval_id=f"apr_{number:032x}",
        thread_id="t",
        digest="",
        allowed=(),
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
        **fields,
    )


ONE = approval(1)
TWO = [approval(1, interrupt_id=BATCH), approval(2, interrupt_id=BATCH, position=1)]
QUESTION = approval(3, kind=ApprovalKind.INPUT, tool="", args="Which?", interrupt_id=OTHER)


def on_one(answer: Any, pending: Approval = ONE) -> Any:
    ((approval_id, decision),) = decisions_from_answer([pending], answer).items()
    assert approval_id == pending.approval_id
    return decision


WORDED = [
    ({"type": "approve"}, Approve()),
    ({"type": "accept"}, Approve()),
    ({"type": "accept", "args": None}, Approve()),
    ({"type": "accept", "args": {"action": "pay", "args": {"amount": 1}}}, Approve()),
    ({"type": "accept", "args": {"amount": 1}}, Approve()),
    ({"type": "edit", "args": {"amount": 2}}, Edit({"amount": 2})),
    ({"type": "edit", "args": {"action": "pay", "args": {"amount": 2}}}, Edit({"amount": 2})),
    (
        {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 2}}},
        Edit({"amount": 2}),
    ),
    (
        {"type": "edit", "editedAction": {"name": "pay", "args": {"amount": 2}}},
        Edit({"amount": 2}),
    ),
    (
        {
            "type": "edit",
            "edited_action": {"name": "pay", "args": {"amount": 2}},
            "editedAction": {"name": "pay", "args": {"amount": 2}},
        },
        Edit({"amount": 2}),
    ),
    ({"type": "reject"}, Reject()),
    ({"type": "reject", "message": "No."}, Reject("No.")),
    ({"type": "ignore", "args": None}, Reject()),
    ({"type": "respond", "message": "Paid."}, Respond("Paid.")),
    ({"type": "response", "args": "Paid."}, Respond("Paid.")),
]


@pytest.mark.parametrize(("answer", "decision"), WORDED)
def test_the_words_of_every_form_are_understood_in_every_place(answer: Any, decision: Any) -> None:
    assert on_one(answer) == decision
    assert on_one([answer]) == decision
    assert on_one({"decisions": [answer]}) == decision
    for key in (ONE.approval_id, ONE.tool_call_id):
        assert on_one({key: answer}) == decision
        assert on_one({"decisions": {key: answer}}) == decision
    asked = approval(1, interrupt_id=BATCH)
    assert (
        on_one({BATCH: answer}, asked)
        == on_one({BATCH: [answer]}, asked)
        == on_one({BATCH: {"decisions": [answer]}}, asked)
        == decision
    )


def test_several_are_decided_by_position_or_by_name() -> None:
    first, second = (each.approval_id for each in TWO)
    decisions = {first: Approve(), second: Reject("No.")}
    words = [{"type": "accept"}, {"type": "reject", "message": "No."}]
    assert decisions_from_answer(TWO, {"decisions": words}) == decisions
    assert decisions_from_answer(TWO, words) == decisions
    assert decisions_from_answer(TWO, {BATCH: {"decisions": words}}) == decisions
    assert decisions_from_answer(TWO, {"call_2": words[1], first: words[0]}) == decisions
    assert decisions_from_answer([*TWO, QUESTION], {BATCH: words, OTHER: "blue"}) == {
        **decisions,
        QUESTION.approval_id: Respond("blue"),
    }
    assert decisions_from_answer([*TWO, QUESTION], {second: words[1]}) == {second: Reject("No.")}


@pytest.mark.parametrize(
    "answer",
    ["approve", "yes", True, None, 1, {}, {"type": "teleport"}, {"type": ["approve"]}, {"approve": True}, {"type": "approve", "to": "Ada"},
     {"type": "respond"}, {"type": "edit"}, {"type": "edit", "args": "all"}, {"type": "edit", "edited_action": "pay"},
     {"type": "reject", "message": {"why": 1}}, {"type": "approve", "args": {"amount": 2}}, {"type": "approve", "message": "but gently"},
     {"type": "accept", "args": {"action": "pay", "args": {"amount": 2}}},
     {"type": "approve", "edited_action": {"name": "pay", "args": {}}},
     {"type": "approve", "editedAction": {"name": "pay", "args": {}}},
     {"type": "edit", "edited_action": {"name": "pay", "args": {}}, "editedAction": {"name": "pay", "args": {"x": 1}}},
     [], [{"type": "approve"}] * 2, {"decisions": []}, {"decisions": {}}, ["approve"]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_decision_decides_nothing(answer: Any) -> None:
    with pytest.raises(InvalidDecision):
        decisions_from_answer([ONE], answer)


def test_an_approval_may_repeat_what_an_edit_asks_now_and_nothing_earlier() -> None:
    edit = Edited(args={"amount": 5}, digest="", by="bob", at=ONE.requested_at)
    edited = replace(ONE, edit=edit)
    for args in ({"amount": 5}, {"action": "pay", "args": {"amount": 5}}):
        assert on_one({"type": "accept", "args": args}, edited) == Approve()
    with pytest.raises(InvalidDecision, match="exactly what was shown"):
        on_one({"type": "accept", "args": {"amount": 1}}, edited)


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "edit", "edited_action": {"name": "steal", "args": {}}},
        {"type": "edit", "edited_action": {"args": {}}},
        {"type": "edit", "args": {"action": "steal", "args": {}}},
    ],
)
def test_an_edit_cannot_change_the_tool(answer: Any) -> None:
    with pytest.raises(InvalidDecision, match="is for the tool 'pay', and an edit cannot make it"):
        decisions_from_answer([ONE], answer)


def test_a_tool_may_have_arguments_that_are_named_like_the_form() -> None:
    odd = approval(1, args={"action": "x", "args": {}})
    assert on_one({"type": "edit", "args": {"action": "y", "args": {"z": 1}}}, odd) == Edit(
        {"action": "y", "args": {"z": 1}}
    )


@pytest.mark.parametrize(
    ("pending", "answer", "sentence"),
    [
        (TWO, {"type": "approve"}, "Say which is for which"),
        (TWO, [{"type": "approve"}], "decisions that were given: 1"),
        (TWO, {BATCH: [{"type": "approve"}] * 3}, "decisions that were given: 3"),
        (TWO, {BATCH: [{"type": "approve"}] * 2, "call_1": {"type": "reject"}}, "decided twice"),
        (
            [TWO[0], approval(2, interrupt_id=OTHER)],
            [{"type": "approve"}] * 2,
            "nothing says in which order",
        ),
    ],
)
def test_an_answer_that_may_mean_either_decides_nothing(
    pending: Any, answer: Any, sentence: str
) -> None:
    with pytest.raises(InvalidDecision, match=sentence):
        decisions_from_answer(pending, answer)


def test_only_what_is_pending_is_decided() -> None:
    for answer in (
        {"d" * 32: {"type": "approve"}},
        {"call_1": {"type": "approve"}, "call_9": {"type": "approve"}},
    ):
        with pytest.raises(NotFound):
            decisions_from_answer(TWO, answer)
    with pytest.raises(NotFound):
        decisions_from_answer([QUESTION], {"apr_" + "d" * 32: "blue"})
    for answer in ({"type": "approve"}, [{"type": "accept"}], {"decisions": {}}, "blue"):
        with pytest.raises(NothingPending):
            decisions_from_answer([], answer)
    with pytest.raises(NotFound) as found:
        decisions_from_answer([], {"decisions": {"call_1": {"type": "approve"}}})
    assert found.value.details["key"] == "call_1"


@pytest.mark.parametrize(
    "answer",
    ["blue", 3, None, False, [], ["a"], {}, {"type": "colour"}, [{"type": "colour"}], {"type": ["approve"]}, {"call": "x"}],
    ids=repr,
)  # fmt: skip
def test_any_json_answers_a_question(answer: Any) -> None:
    assert on_one(answer, QUESTION) == Respond(answer)
    assert on_one({QUESTION.approval_id: answer}, QUESTION) == Respond(answer)


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ({"type": "respond", "message": "blue"}, Respond("blue")),
        ({"type": "respond", "message": {"type": "reject"}}, Respond({"type": "reject"})),
        ({"type": "response", "args": "blue"}, Respond("blue")),
        ({"type": "reject", "message": "No."}, Reject("No.")),
        ({"type": "ignore"}, Reject()),
        ([{"type": "response", "args": "blue"}], Respond("blue")),
        ({"decisions": [{"type": "respond", "message": "blue"}]}, Respond("blue")),
    ],
)
def test_a_question_is_answered_in_the_words_of_a_decision_too(answer: Any, decision: Any) -> None:
    assert on_one(answer, QUESTION) == decision


@pytest.mark.parametrize(
    "answer",
    [{"type": "respond"}, {"type": "reject", "colour": "blue"}, {"type": "approve", "all": True}, {"decisions": []}, {"decisions": ["a"]},
     {"decisions": {}}, {"decisions": {QUESTION.approval_id: "blue"}, "all": True}],
    ids=repr,
)  # fmt: skip
def test_what_was_meant_as_a_decision_is_no_answer_unless_it_is_given_as_one(answer: Any) -> None:
    with pytest.raises(InvalidDecision):
        decisions_from_answer([QUESTION], answer)
    assert on_one({"type": "respond", "message": answer}, QUESTION) == Respond(answer)


def test_a_question_that_is_approved_or_edited_is_not_answered_by_that() -> None:
    assert on_one({"type": "approve"}, QUESTION) == Approve()
    assert on_one({"type": "edit", "args": {}}, QUESTION) == Edit({})
