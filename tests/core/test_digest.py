"""The digest binds a decision to exactly what was shown."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assent.core.digest import approval_id_for, call_digest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ARGS = st.dictionaries(st.text(), JSON, max_size=5)


def backwards(value: Any) -> Any:
    """The same value, with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
@settings(max_examples=200)
@given(ARGS)
def test_it_depends_on_no_order_of_keys_and_survives_a_trip_through_json(
    args: dict[str, Any],
) -> None:
    digest = call_digest("pay", args)
    assert len(digest) == 64
    assert call_digest("pay", backwards(args)) == digest
    assert call_digest("pay", json.loads(json.dumps(args))) == digest


@pytest.mark.slow
@settings(max_examples=200)
@given(ARGS, st.text(), JSON, JSON)
def test_another_value_anywhere_has_another_digest(
    args: dict[str, Any], key: str, one: Any, other: Any
) -> None:
    assume(told_apart(one) != told_apart(other))
    assert call_digest("pay", {**args, key: one}) != call_digest("pay", {**args, key: other})
    assert call_digest("pay", {key: [args, one]}) != call_digest("pay", {key: [args, other]})


def told_apart(value: Any) -> Any:
    """The value so that what Python takes for equal and JSON does not is unequal: True and 1."""
    if isinstance(value, dict):
        return {key: told_apart(item) for key, item in value.items()}
    if isinstance(value, list):
        return [told_apart(item) for item in value]
    return (isinstance(value, bool), value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1, "1"),
        (1, True),
        (0, False),
        (None, ""),
        ([], {}),
        ([1, 2], [2, 1]),
        (2**53 + 1, 2**53 + 2),
        (2**63, 2**63 + 1),
        (0.1, 0.1 + 2**-56),
        (1e300, 1e301),
        (float("inf"), float("-inf")),
        (float("inf"), "Infinity"),
        ("é", "e\u0301"),
        ("\ud83d\ude00", "😀"),
        ("\ud800", "\udc00"),
        ("a", "a "),
        ({"a": 1}, {"b": 1}),
        ({"a": {"b": 2**70}}, {"a": {"b": 2**70 + 1}}),
    ],
    ids=ascii,
)
def test_values_that_look_alike_are_told_apart(one: Any, other: Any) -> None:
    assert call_digest("pay", {"x": one}) != call_digest("pay", {"x": other})


def test_another_tool_has_another_digest() -> None:
    assert call_digest("pay", {}) != call_digest("look", {})


def test_the_form_for_odd_values_cannot_be_written_by_hand() -> None:
    """Arguments that spell out that form have a digest of their own."""
    odd = {"x": 2**70}
    assert call_digest("pay", {"args_json": json.dumps(odd)}) != call_digest("pay", odd)
    assert call_digest("pay", json.dumps(odd)) != call_digest("pay", odd)


def test_one_and_one_point_nought_are_one_number_as_in_json() -> None:
    assert call_digest("pay", {"x": 1}) == call_digest("pay", {"x": 1.0})


def test_it_is_the_sha_256_of_rfc_8785() -> None:
    """Computed with other tools from the text `{"args":{"amount":3},"tool":"pay"}`: anybody can
    check a digest."""
    assert (
        call_digest("pay", {"amount": 3})
        == "3b528142eb7b337451002197db4159b79496dc159b6833054149ba96ef01437d"
    )


def test_making_a_digest_changes_nothing() -> None:
    args = {"b": [1, {"c": 2**70}], "a": "x"}
    before = copy.deepcopy(args)
    call_digest("pay", args)
    assert (args, list(args)) == (before, list(before))


def test_the_same_question_has_the_same_id_and_another_another() -> None:
    parts = {"thread": "t", "pause": "", "call": "c1", "digest": "d"}
    assert approval_id_for(parts) == approval_id_for(dict(reversed(parts.items())))
    assert all(approval_id_for({**parts, key: "other"}) != approval_id_for(parts) for key in parts)
