"""How long a worker has been silent, by the clock of whoever watches it."""

from __future__ import annotations

from assent.runs.liveness import LONGEST_STEP, Watch


def test_a_worker_is_silent_when_its_count_has_stood_still_for_long_enough() -> None:
    watch = Watch(3.0)
    assert watch.silent({"w": 7}, 100.0) == []
    assert watch.silent({"w": 7}, 101.5) == []
    assert watch.silent({"w": 7}, 102.9) == []
    assert watch.silent({"w": 7}, 103.0) == ["w"]
    # Until it is heard of again, whatever its count is then.
    assert watch.silent({"w": 1}, 104.0) == []
    assert watch.silent({"w": 1}, 106.0) == []
    assert watch.silent({"w": 2}, 106.9) == []
    assert watch.silent({"w": 2}, 108.0) == []


def test_each_worker_is_watched_from_the_first_look_at_it() -> None:
    watch = Watch(3.0)
    watch.silent({"early": 1}, 0.0)
    watch.silent({"early": 1, "late": 1, "gone": 1}, 2.0)
    watch.silent({"early": 1, "late": 1}, 3.0)
    # One that was away is a new one.
    assert watch.silent({"early": 1, "late": 1, "gone": 1}, 5.0) == ["early", "late"]


def test_a_stall_of_the_watch_itself_says_nothing_against_others() -> None:
    watch = Watch(3.0)
    watch.silent({"w": 1}, 0.0)
    assert watch.silent({"w": 1}, 1000.0) == []
    assert watch.silent({"w": 1}, 1000.0 + 3.0 - LONGEST_STEP) == ["w"]
