"""A reader over many connections, without one: each number once, none left out, and the pauses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from assent.client.calls import stream_run
from assent.client.following import FIRST_PAUSE, LONGEST_PAUSE, POLL_SECONDS, Follower
from assent.client.problems import ServerFailed, Unreachable
from assent.client.values import EventPage, Heard
from assent.core.errors import AssentError, Forbidden, Gone, Unavailable

URL = "http://here"


def event(seq: int, kind: str = "token", more: str = "") -> Heard:
    fields = f'"type":"{kind}","ts":"2026-01-01T00:00:00Z","seq":{seq}'
    body = '"message_id":"m","content":"x"' if kind == "token" else '"steps":1'
    return Heard.read(f"{{{fields},{more or body}}}".encode())


def follower(after: int | None = None, *, types: Sequence[str] | None = None) -> Follower:
    """A reader of a thread, whose pauses are as long as they can be."""
    return Follower(URL, "/threads/t/events", after=after, types=types, random=lambda: 0.0)


def posting() -> Follower:
    """A reader of a run that it begins."""
    return Follower(URL, opening=stream_run({"message": "Hi"}, "key"), random=lambda: 0.0)


def lost(reason: str = "") -> Unreachable:
    return Unreachable("It is lost.", reason=reason)


def test_each_number_is_heard_once_and_a_gap_is_an_error() -> None:
    reader = follower()
    assert [reader.heard(event(seq)) for seq in (4, 5, 5, 4, 6)] == [True, True, False, False, True]
    assert reader.after == 6
    with pytest.raises(AssentError, match="The event 7 did not come, and 8 did"):
        reader.heard(event(8))


def test_the_first_number_may_be_any_only_without_one_to_go_on_from() -> None:
    assert follower().heard(event(17))
    with pytest.raises(AssentError, match="The event 4 did not come"):
        follower(3).heard(event(5))


def test_a_selection_and_a_run_have_gaps() -> None:
    reader = follower(3, types=["done"])
    assert reader.heard(event(9))
    run = posting()
    assert run.heard(event(2)) and run.heard(event(7))


def test_an_event_without_a_number_moves_nothing() -> None:
    reader = follower(3)
    assert reader.heard(event(0))
    assert reader.heard(event(0))
    assert reader.heard(event(4))


def test_it_asks_for_what_comes_after_the_last_number() -> None:
    reader = follower(types=["done"])
    assert "Last-Event-ID" not in reader.request().headers
    reader.heard(event(8))
    assert reader.request().headers["Last-Event-ID"] == "8"
    assert reader.request().params == {"types": "done"}


def test_pauses_double_to_the_longest_and_an_event_ends_that() -> None:
    reader = follower()
    reader.opened({})
    pauses = [reader.dropped(lost()) for _ in range(8)]
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, LONGEST_PAUSE, LONGEST_PAUSE]
    assert reader.opened({})
    reader.heard(event(1))
    assert reader.dropped(lost()) == FIRST_PAUSE


def test_a_pause_is_shortened_by_up_to_half() -> None:
    reader = Follower(URL, "/x", random=lambda: 1.0)
    reader.opened({})
    assert reader.dropped(lost()) == FIRST_PAUSE / 2


def test_a_server_that_stops_is_asked_again_at_once_but_once() -> None:
    reader = follower()
    reader.opened({})
    with pytest.raises(Unreachable) as stopping:
        reader.ended("stopping")
    assert [reader.dropped(stopping.value) for _ in range(3)] == [0.0, 0.25, 0.5]


def test_a_server_that_asks_to_be_left_alone_is() -> None:
    reader = follower()
    reader.opened({})
    full = Unavailable("It is full.", retry_after=7.0)
    assert reader.dropped(full) == 7.0


@pytest.mark.parametrize("error", [Forbidden("No."), Gone("Gone.", first=4), ServerFailed("Oh.")])
def test_what_another_try_does_not_help_is_raised(error: AssentError) -> None:
    reader = follower()
    reader.opened({})
    with pytest.raises(type(error)):
        reader.dropped(error)


def test_a_server_that_never_answered_is_tried_three_times() -> None:
    reader = follower()
    assert [reader.dropped(lost()) for _ in range(2)] == [0.25, 0.5]
    with pytest.raises(Unreachable):
        reader.dropped(lost())
    with pytest.raises(Unavailable):
        follower().dropped(Unavailable("It is away."))


def test_the_server_says_how_often_it_shows_life() -> None:
    reader = follower()
    reader.opened({})
    assert reader.silence == 15
    reader.opened({"x-heartbeat": "2"})
    assert reader.silence == 6
    for nonsense in ("soon", "nan", "inf", "-1", "0", ""):
        reader.opened({"x-heartbeat": nonsense})
        assert reader.silence == 15


def test_what_was_posted_is_asked_for_under_its_key_until_there_is_an_event() -> None:
    reader = posting()
    first = reader.request()
    reader.opened({"x-run-id": "r"})
    reader.dropped(lost())
    assert reader.request() is first
    reader.heard(event(5))
    assert reader.request().path == "/runs/r/stream"
    assert reader.request().headers["Last-Event-ID"] == "5"


def test_a_run_ends_with_its_last_event_and_not_where_a_grant_lets_it_go_on() -> None:
    run = posting()
    run.opened({"x-run-id": "r"})
    run.heard(event(5, "run_paused", '"next_run":"other"'))
    assert not run.is_over
    run.heard(event(6, "done"))
    assert run.is_over
    thread = follower()
    thread.heard(event(1, "done"))
    assert not thread.is_over


def test_decisions_that_start_no_run_are_all_there_is() -> None:
    reader = posting()
    reader.opened({"x-thread-id": "t"})
    reader.heard(event(5))
    assert reader.request().method == "POST"
    reader.ended("")
    assert reader.is_over


def test_a_run_that_has_ended_has_nothing_more() -> None:
    reader = follower(9)
    reader.opened({}, is_empty=True)
    assert reader.is_over


def test_an_end_that_is_none_is_a_lost_connection() -> None:
    reader = follower()
    reader.opened({})
    for reason in ("", "failed", "gone"):
        with pytest.raises(Unreachable):
            reader.ended(reason)
    reader.ended("done")
    assert reader.is_over


def test_a_page_moves_on_behind_events_of_other_types() -> None:
    reader = follower(3, types=["done"])
    assert reader.page().params == {
        "after": "3",
        "types": "done",
        "limit": "200",
        "timeout": "25.0",
    }
    reader.turned(EventPage(next=9), POLL_SECONDS)
    assert reader.page().params["after"] == "9"
    assert reader.socket() == ("/threads/t/events", {"after": "9", "types": "done"})


def test_an_empty_page_that_comes_too_soon_is_of_a_server_that_stops() -> None:
    reader = follower(3)
    reader.opened({})
    reader.turned(EventPage(next=3), POLL_SECONDS)
    with pytest.raises(Unreachable) as stopping:
        reader.turned(EventPage(next=3), 0.1)
    assert [reader.dropped(stopping.value) for _ in range(2)] == [0.0, 0.25]


def test_pages_that_do_not_get_through_are_halved() -> None:
    reader = follower()
    reader.opened({})
    limits = []
    for _ in range(9):
        limits.append(reader.page().params["limit"])
        reader.dropped(lost())
    assert limits == ["200", "100", "50", "25", "12", "6", "3", "1", "1"]
    reader.turned(EventPage(next=1), 1)
    reader.turned(EventPage(next=2), 1)
    assert reader.page().params["limit"] == "4"


# ── other events from a number on ─────────────────────────────────────────────────────────────────


def test_a_selection_that_changes_holds_from_its_number_on_over_a_connection_that_breaks() -> None:
    reader = follower(3, types=["done"])
    reader.heard(event(5, "done"))
    reader.select(["token"], 9)
    # What is still to come of the old selection would else be lost with the connection.
    assert reader.socket()[1] == {"after": "5", "types": "done,token"}
    heard = [(6, "token"), (7, "done"), (9, "token"), (10, "done"), (11, "token")]
    assert [reader.heard(event(*each)) for each in heard] == [False, True, False, False, True]
    assert reader.socket()[1] == {"after": "11", "types": "token"}
    # The server may have been asked for both when the connection was opened.
    assert not reader.heard(event(12, "done"))


def test_from_all_events_to_some_and_back_none_is_left_out_unseen() -> None:
    reader = follower(3)
    reader.select(["done"], 5)
    assert reader.socket()[1] == {"after": "3"}
    with pytest.raises(AssentError, match="The event 4 did not come, and 5 did"):
        reader.heard(event(5))
    assert reader.heard(event(4)) and reader.heard(event(5)) and reader.heard(event(8, "done"))
    reader.select(None, 20)
    assert reader.heard(event(15, "done")) and not reader.heard(event(19))
    with pytest.raises(AssentError, match="The event 21 did not come, and 22 did"):
        reader.heard(event(22))
    assert reader.heard(event(21)) and reader.heard(event(22))


def test_a_later_selection_takes_the_place_of_one_that_was_still_to_come() -> None:
    reader = follower(3, types=["done"])
    reader.select(["token"], 9)
    reader.select(["error"], 5)
    assert reader.socket()[1] == {"after": "3", "types": "done,error"}
    assert reader.heard(event(4, "done")) and not reader.heard(event(6, "done"))
    assert not reader.heard(event(10))
    reader.select([], 12)
    assert reader.selection.asked_for == "error"
    assert not reader.heard(event(13))
    assert reader.selection.asked_for == ""
