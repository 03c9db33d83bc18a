"""Ids that follow from names."""

from __future__ import annotations

from uuid import UUID

from assent.core.named_ids import named_id


def test_the_same_names_have_the_same_id_for_ever() -> None:
    assert named_id("case", "ann", "clerk", "1") == "6397867e-b0a0-50ad-a582-b806609c6d65"


def test_other_names_have_another_id() -> None:
    names = [("a", "bc"), ("ab", "c"), ("abc",), ("a", "b", "c"), ("c", "ab"), ('a","bc',), ()]
    assert len({named_id(*each) for each in names}) == len(names)
    assert UUID(named_id("é", "\ud83d")).version == 5
