"""Pacing, as values: the distance between commits of pieces, and what counts as a late event loop."""

from __future__ import annotations

import pytest

from assent.storage.sqlite.pacing import APART, JOIN, LATE, Pacing


def after(lateness: float, *, deliveries: int = 100) -> Pacing:
    """When a commit of pieces began at 1000, after deliveries that were all so late."""
    pacing = Pacing()
    for _ in range(deliveries):
        pacing.delivered(lateness)
    pacing.begin(1000.0)
    return pacing


def test_the_first_piece_is_not_held() -> None:
    assert Pacing().rest(1000.0) == 0


def test_commits_are_as_far_apart_as_they_must_be_from_beginning_to_beginning() -> None:
    assert after(0.0).rest(1000.0) == pytest.approx(APART)
    assert after(0.0).rest(1000.0 + APART / 4) == pytest.approx(APART * 3 / 4)


def test_what_comes_after_a_pause_is_not_held() -> None:
    assert after(0.0).rest(1000.0 + APART) == 0
    assert after(LATE * 2).rest(1000.0 + JOIN) == 0


def test_an_event_loop_is_late_after_many_late_deliveries_and_until_there_are_few() -> None:
    assert not after(LATE * 0.9).is_late
    assert not after(60.0, deliveries=3).is_late
    pacing = after(LATE * 2, deliveries=10)
    assert pacing.is_late
    assert pacing.rest(1000.0) == pytest.approx(JOIN)

    for _ in range(100):
        pacing.delivered(LATE * 0.3)
    assert pacing.is_late
    for _ in range(10):
        pacing.delivered(0.0)
    assert not pacing.is_late
    assert pacing.rest(1000.0) == pytest.approx(APART)
