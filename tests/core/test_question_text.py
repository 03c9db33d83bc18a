"""The answers to a question that a person may type."""

from __future__ import annotations

from typing import Any

import pytest

from assent.core.question_text import NotUnderstood, answers_for, form_of


@pytest.mark.parametrize(
    ("schema", "typed", "answer"),
    [
        (None, "that", "that"),
        (None, "true", True),
        (None, '{"a": 1}', {"a": 1}),
        (None, "NaN", "NaN"),
        (None, "1e999", "1e999"),
        ({"type": ["string", "number"]}, "4", 4),
        ({"type": "string"}, "42", "42"),
        ({"type": "string"}, '{"a', '{"a'),
        ({"type": "integer"}, "42", 42),
        ({"type": "boolean"}, "Yes", True),
        ({"type": "boolean"}, "false", False),
        ({"type": "array"}, "[1]", [1]),
        ({"type": "string", "enum": ["2019", "2020"]}, "2", "2020"),
        ({"type": "string", "enum": ["2019", "2020"]}, "2019", "2019"),
        ({"enum": [True, None]}, "2", None),
        # "1" is the second answer, whatever is its place.
        ({"enum": ["2", "1"]}, "1", "1"),
    ],
)
def test_what_is_typed_is_read_by_what_the_question_takes(
    schema: Any, typed: str, answer: Any
) -> None:
    read = answers_for("?", schema).read(typed)
    assert (read, type(read)) == (answer, type(answer))


@pytest.mark.parametrize(
    ("schema", "typed", "sentence"),
    [
        (None, "{bad", "This is not JSON: "),
        (None, '{"a": 1, "a": 2}', "This is not JSON: the field 'a' is there twice."),
        (None, "[" * 100_000, "This is not JSON: it is nested too deeply."),
        ({"type": "integer"}, "two", "This is not a whole number."),
        ({"type": "number"}, "NaN", "This is not a number."),
        ({"type": "number"}, "1e999", "This is not a number."),
        ({"type": "boolean"}, "maybe", "This is not yes or no."),
        ({"type": "object"}, "two", "This is not JSON: "),
        ({"enum": ["a", "b"]}, "3", "This is none of the answers."),
        ({"enum": ["a", "b"]}, "²", "This is none of the answers."),
        ({"enum": ["a", "b"]}, "A", "This is none of the answers."),
    ],
)
def test_what_cannot_be_an_answer_is_not_sent(schema: Any, typed: str, sentence: str) -> None:
    with pytest.raises(NotUnderstood) as error:
        answers_for("?", schema).read(typed)
    assert str(error.value).startswith(sentence)


def test_choices_that_look_like_numbers_of_others_have_none() -> None:
    assert answers_for("?", {"enum": ["2", "1"]}).lines() == [
        "  -  2",
        "  -  1",
    ]
    assert answers_for("?", {"enum": ["1", "two\nlines"]}).lines() == [
        "  1  1",
        '  2  "two\\nlines"',
    ]


def test_choices_without_a_schema_leave_room_for_other_answers() -> None:
    answers = answers_for({"question": "?", "choices": ["a", "b"]}, None)
    assert [answers.read(text) for text in ("2", "b", "c")] == ["b", "b", "c"]


def test_an_object_of_plain_values_is_a_form() -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where to"},
            "class": {"enum": [1, 2]},
            "nights": {"type": "integer"},
        },
        "required": ["city"],
    }
    assert [(each.name, each.needed, each.description) for each in form_of(schema)] == [
        ("city", True, "Where to"), ("class", False, ""), ("nights", False, "")
    ]  # fmt: skip
    assert form_of({**schema, "properties": {"city": {"type": "object"}}}) == []
    assert form_of({"type": "string"}) == form_of(None) == []
