"""The tails as a pure structure: in whatever order things happen, what a tail says it covers is all
there is."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.storage.base import LogEntry
from assent.storage.sqlite.log import StoredEvent
from assent.storage.sqlite.tails import (
    ALL_BYTES,
    MAX_BYTES,
    MAX_ENTRIES,
    RECENT_THREADS,
    Tail,
    Tails,
)

Steps = st.lists(
    st.sampled_from(["commit", "deliver", "read head", "prime", "erase", "listen", "leave"]),
    min_size=15,
    max_size=60,
)


def stored(seq: int) -> StoredEvent:
    return ("t", seq, "r", "token", 0, b"{}")


@pytest.mark.slow
@settings(max_examples=300)
@given(steps=Steps)
def test_what_is_covered_is_complete_whenever_it_is_read(steps: list[str]) -> None:
    tails = Tails()
    listeners = []
    committed = 0
    underway: list[StoredEvent] = []
    shown: list[int] = []
    heads: list[tuple[Tail, int]] = []
    for step in steps:
        tail = tails.get("t")
        match step:
            case "commit":
                committed += 1
                underway.append(stored(committed))
            case "erase":
                underway.append(stored(0))
            case "deliver":
                tails.store(underway)
                for _, seq, *_ in underway:
                    shown = [*shown, seq] if seq else []
                underway = []
            case "listen":
                listener = tails.listen("t")
                listener.__enter__()
                listeners.append(listener)
            case "leave" if listeners:
                listeners.pop().__exit__(None, None, None)
            case "read head" if tail:
                heads.append((tail, committed))
            case "prime" if heads:
                # The answer from the file comes late, and may be for a tail that nobody has any
                # more.
                read_for, head = heads.pop()
                read_for.prime(head)
        if tail := tails.get("t"):
            for after in range(committed + 2):
                if tail.covers(after):
                    assert [
                        entry.seq for entry in tail.read(after, 1000, None, None, MAX_BYTES)
                    ] == [seq for seq in shown if seq > after]


def test_a_primed_tail_serves_the_head_from_memory() -> None:
    tails = Tails()
    with tails.listen("t"):
        tail = tails.get("t")
        assert tail is not None
        assert not tail.covers(7)
        tail.prime(7)
        assert tail.covers(7)
        assert not tail.covers(6)
        tails.store([stored(8), stored(9)])
        assert [entry.seq for entry in tail.read(7, 10, None, None, MAX_BYTES)] == [8, 9]
    assert tails.get("t") is None


def test_a_tail_is_bounded_in_entries_and_in_bytes() -> None:
    tail = Tail()
    for seq in range(1, 3 * MAX_ENTRIES):
        tail.add(LogEntry(seq, "token", "r", b"{}"))
        assert tail.base is not None
        assert seq - tail.base <= MAX_ENTRIES
    assert tail.covers(seq - MAX_ENTRIES // 2 + 1)
    for more in range(seq + 1, seq + 100):
        tail.add(LogEntry(more, "token", "r", b"x" * (MAX_BYTES // 8)))
        assert more - tail.base <= 9 or more < seq + 9
    tail.add(LogEntry(more + 1, "token", "r", b"x" * (MAX_BYTES + 1)))
    assert not tail.covers(more)
    assert tail.covers(more + 1)


def rows(thread_id: str, *numbers: int) -> list[StoredEvent]:
    return [(thread_id, number, "r", "custom", 0, b"%d" % number) for number in numbers]


def test_a_tail_begins_with_what_the_last_commit_stored() -> None:
    tails = Tails()
    tails.store(rows("t", 1, 2))
    tails.store(rows("t", 3, 4))
    with tails.listen("t"):
        tail = tails.get("t")
        assert tail is not None
        assert (tail.base, tail.covers(1), tail.covers(2)) == (2, False, True)
        tails.store(rows("t", 5))
        assert [entry.seq for entry in tail.read(2, 10, None, None, MAX_BYTES)] == [3, 4, 5]


def test_a_tail_does_not_begin_with_what_was_removed() -> None:
    tails = Tails()
    tails.store(rows("t", 1, 2))
    tails.store(rows("t", 3, 0))
    with tails.listen("t"):
        tail = tails.get("t")
        assert tail is not None
        assert tail.base is None


def test_a_tail_that_begins_with_a_large_commit_has_no_gap() -> None:
    tails = Tails()
    tails.store(rows("t", *range(1, 41)))
    with tails.listen("t"):
        tail = tails.get("t")
        assert tail is not None
        assert tail.base is not None
        assert [entry.seq for entry in tail.read(tail.base, 100, None, None, MAX_BYTES)] == list(
            range(tail.base + 1, 41)
        )


def test_only_so_many_threads_without_a_listener_are_remembered() -> None:
    tails = Tails()
    for number in range(RECENT_THREADS + 1):
        tails.store(rows(f"t{number}", 1))
    with tails.listen("t0"), tails.listen(f"t{RECENT_THREADS}"):
        first, last = tails.get("t0"), tails.get(f"t{RECENT_THREADS}")
        assert first is not None
        assert last is not None
        assert (first.base, last.base) == (None, 0)


@pytest.mark.parametrize("listening", [0, 50, 200])
def test_all_that_is_held_is_bounded_in_bytes(listening: int) -> None:
    """Of threads that somebody follows, and of threads that nobody does."""
    tails = Tails()
    # Each body is the same object: what counts is what would be held if they were not.
    body = bytes(MAX_BYTES // 4)
    with ExitStack() as stack:
        for number in range(listening):
            stack.enter_context(tails.listen(f"t{number}"))
        for seq in range(1, 9):
            for number in range(200):
                tails.store([(f"t{number}", seq, "r", "custom", 0, body)])
                assert tails._held() <= ALL_BYTES
        # What is held can be read, and is the newest of its thread.
        held = 0
        for number in range(200):
            with tails.listen(f"t{number}"):
                tail = tails.get(f"t{number}")
                if tail is not None and tail.base is not None:
                    entries = tail.read(tail.base, 100, None, None, MAX_BYTES)
                    assert [entry.seq for entry in entries] == list(range(tail.base + 1, 9))
                    held += len(entries)
        assert held * len(body) > ALL_BYTES // 8
