"""The forms in which graphs ask, as values: what of an interrupt is a question of which kind, and
what it is answered with."""

from __future__ import annotations

from typing import Any

import pytest

from assent import Approve, Edit, Reject, Respond
from assent.graph.interrupts.forms import read_interrupt
from assent.graph.json_schemas import schema_problem

ALL = ("approve", "edit", "reject", "respond")


def action(name: str = "pay", **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


def inbox(**flags: bool) -> dict[str, Any]:
    return {"action_request": {"action": "pay", "args": {}}, "config": flags, "description": None}


@pytest.mark.parametrize(
    ("configs", "allowed"),
    [
        (
            [{"action_name": "pay", "allowed_decisions": ["reject", "approve"]}],
            ("approve", "reject"),
        ),
        (
            [
                {"action_name": "mail", "allowed_decisions": ["edit"]},
                {"action_name": "pay", "allowed_decisions": ["respond"]},
            ],
            ("respond",),
        ),
        ([{"action_name": "pay", "allowed_decisions": ["approve", "teleport"]}], ("approve",)),
        ([], ALL),
        (None, ALL),
        ("nonsense", ALL),
    ],
)
def test_a_batch_takes_what_its_review_configs_allow(
    configs: Any, allowed: tuple[str, ...]
) -> None:
    (question,) = read_interrupt(
        {"action_requests": [action()], "review_configs": configs}
    ).questions
    assert question.allowed == allowed


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        ({"properties": {"type": {"const": "approve"}}}, ("approve",)),
        ({"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/R"}], "$defs": {
            "A": {"properties": {"type": {"const": "approve"}}},
            "R": {"properties": {"type": {"enum": ["reject"]}}}}}, ("approve", "reject")),
        (None, ALL),
        ({"type": "object"}, ALL),
    ],
)  # fmt: skip
def test_a_single_call_takes_what_its_schema_has_room_for(
    schema: Any, allowed: tuple[str, ...]
) -> None:
    value = {
        "type": "tool_approval",
        "tool_call_id": "c1",
        "name": "pay",
        "args": {"amount": 1},
        "description": "Pay?",
    }
    (question,) = read_interrupt(value, schema).questions
    assert (question.tool, question.tool_call_id, question.args, question.description) == (
        "pay",
        "c1",
        {"amount": 1},
        "Pay?",
    )
    assert question.allowed == allowed


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        ({"allow_accept": True, "allow_ignore": True}, ("approve", "reject")),
        ({"allow_edit": True, "allow_respond": True, "allow_accept": False}, ("edit", "respond")),
        ({}, ("reject",)),
    ],
)
def test_agent_inbox_takes_what_its_flags_allow(
    flags: dict[str, bool], allowed: tuple[str, ...]
) -> None:
    (question,) = read_interrupt([inbox(**flags)]).questions
    assert question.allowed == allowed


@pytest.mark.parametrize(
    "value",
    [
        None,
        "approve?",
        3,
        [],
        {},
        [{"action_request": {"action": "pay"}, "config": {}}],
        [inbox(), "and then"],
        {"action_requests": []},
        {"action_requests": ["pay"]},
        {"action_requests": [{"name": "pay"}]},
        {"type": "tool_approval", "name": "pay"},
        {"type": "ask_human"},
        {"kind": "unknown_outcome"},
        {
            "kind": "tool_approvals",
            "digest": "d",
            "namespace": "n",
            "message_id": "m",
            "calls": ["pay"],
        },
        {
            "kind": "tool_approvals",
            "digest": "d",
            "namespace": "n",
            "message_id": "m",
            "calls": [{"policy": {}}],
        },
    ],
    ids=repr,
)
def test_what_has_no_known_form_is_a_question_that_takes_any_json(value: Any) -> None:
    form = read_interrupt(value)
    (question,) = form.questions
    assert (question.kind, question.args, question.schema) == ("input", value, None)
    assert form.answer([Respond({"a": [1]})]) == {"a": [1]}
    assert form.answer([Reject("No.")]) == {"type": "reject", "message": "No."}


def test_a_batch_is_answered_by_position() -> None:
    form = read_interrupt(
        {"action_requests": [action(amount=n) for n in range(4)], "review_configs": []}
    )
    assert form.answer([Approve(), Edit({"amount": 9}), Reject(), Respond("Done.")]) == {
        "decisions": [
            {"type": "approve"},
            {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 9}}},
            {"type": "reject"},
            {"type": "respond", "message": "Done."},
        ]
    }


@pytest.mark.parametrize(
    ("value", "response_schema", "schema"),
    [
        ("How many?", {"type": "integer"}, {"type": "integer"}),
        ({"schema": {"type": "integer"}}, None, {"type": "integer"}),
        ({"response_schema": {"enum": [1]}, "schema": {"type": "string"}}, None, {"enum": [1]}),
        ({"schema": {"type": "integer"}}, {"type": "string"}, {"type": "string"}),
        ({"schema": "public"}, None, None),
        ({"schema": {"tables": ["a"]}}, None, None),
        ({"schema": {"type": "postgres"}}, None, None),
        ({"schema": {"$ref": "https://example.com/schema.json"}}, None, None),
        (
            {"schema": {"$defs": {"a": {"type": "null"}}, "$ref": "#/$defs/a"}},
            None,
            {"$defs": {"a": {"type": "null"}}, "$ref": "#/$defs/a"},
        ),
    ],
)
def test_a_question_is_held_to_a_schema_that_is_one(
    value: Any, response_schema: Any, schema: Any
) -> None:
    (question,) = read_interrupt(value, response_schema).questions
    assert question.schema == schema


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        ({"type": "integer"}, ("respond",)),
        ({"type": "object", "required": ["city"]}, ("respond",)),
        ({"type": "object"}, ("respond", "reject")),
        (
            {
                "anyOf": [
                    {"type": "string"},
                    {"properties": {"type": {"const": "reject"}}, "required": ["type"]},
                ]
            },
            ("respond", "reject"),
        ),
    ],
)
def test_a_question_is_rejected_only_if_its_schema_has_room_for_that(
    schema: Any, allowed: tuple[str, ...]
) -> None:
    assert read_interrupt("Where?", schema).questions[0].allowed == allowed


def test_what_is_wrong_with_a_value_is_said_with_its_place() -> None:
    schema = {"type": "object", "properties": {"nights": {"type": "integer"}}}
    assert schema_problem({"nights": 2}, schema) is None
    assert (
        schema_problem({"nights": "two"}, schema) == "'two' is not of type 'integer' (at $.nights)"
    )
