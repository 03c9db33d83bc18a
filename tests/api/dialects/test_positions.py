"""Positions: the ids of frames, read again, and what somebody gets who comes back with one."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from assent.api.dialects.base import Fold, Foreign, Frame, Past, past
from assent.api.dialects.native import NATIVE
from assent.api.dialects.positions import (
    LAST_NUMBER,
    MOST_PARTS,
    Position,
    event_id,
    positions_of,
    read_position,
)
from assent.core.errors import Gone, InvalidRequest
from assent.core.events import Broadcast, Done, Progress, RunStart, encode
from assent.storage.base import LogEntry
from tests.support.folds import entries_of, replays

seqs = st.integers(1, LAST_NUMBER)
parts = st.integers(0, MOST_PARTS - 1)


@given(seqs, parts)
def test_a_position_survives_as_text(seq: int, part: int) -> None:
    position = Position(seq, part)
    assert read_position(str(position), "t") == position


@given(st.text(max_size=70), st.integers(1, 2**48 - 1), parts)
def test_a_position_survives_as_a_uuid(log_id: str, seq: int, part: int) -> None:
    id = event_id(log_id, seq, part)
    assert (UUID(id).version, UUID(id).variant) == (8, "specified in RFC 4122")
    assert read_position(id, log_id) == Position(seq, part)
    assert read_position(id.upper(), log_id) == Position(seq, part)
    with pytest.raises(Gone, match="none of what you ask for"):
        read_position(id, f"{log_id}-2")


def test_the_same_place_has_the_same_id_everywhere() -> None:
    assert event_id("t", 12) == "f6c67915-a759-8000-961f-00000000000c"
    assert event_id("t", 12, 1) != event_id("t", 12)


def test_a_reader_comes_back_amid_an_entry_of_however_many_frames() -> None:
    places = positions_of(12, 15_000)
    assert [read_position(str(each), "t") for each in places] == [*places]


def test_before_the_first_event_there_is_no_id() -> None:
    assert str(Position(0)) == ""
    assert read_position("", "t") == read_position("0", "t") == Position(0)


@pytest.mark.parametrize(
    "text",
    [
        *("-1", "1-0", "1-", "01", "1-01", "1.0", "1e3", "+1", " 1", "1\n", "one", "null", "٣"),
        *(str(LAST_NUMBER + 1), str(10**30), "1-10000000", "1-2-3", "x" * 1000),
        # Of another version, without its dashes, and in braces.
        "9b7c0ab8-3a5b-4000-a5d5-00000000000c",
        *("f6c67915a7598000961f00000000000c", "{f6c67915-a759-8000-961f-00000000000c}"),
    ],
)
def test_something_else_is_no_position(text: str) -> None:
    with pytest.raises(InvalidRequest, match="no id of an event") as refused:
        read_position(text, "t")
    assert len(str(refused.value)) < 300


class Counting(Foreign):
    """Tells of each entry how many there were, in as many frames as are left of three."""

    name = "counting"

    def fold(self) -> Fold:
        seen = 0

        def fold(entry: LogEntry) -> Sequence[Frame]:
            nonlocal seen
            seen += 1
            positions = positions_of(entry.seq, seen % 4)[: seen % 4]
            return [Frame(str(position), "", b"%d" % seen) for position in positions]

        return fold


class Named(Counting):
    """The same, with UUIDs."""

    def fold(self) -> Fold:
        counted = super().fold()

        def fold(entry: LogEntry) -> Sequence[Frame]:
            return [
                structs.replace(frame, id=event_id("t", *read_position(frame.id, "t")))
                for frame in counted(entry)
            ]

        return fold


@pytest.mark.parametrize("dialect", [Counting(), Named(), NATIVE], ids=lambda each: each.name)
def test_whoever_comes_back_gets_what_is_behind_their_last_frame(
    dialect: Counting | Named,
) -> None:
    events = (RunStart(agent="a"), *(Progress(progress=0.5) for _ in range(8)), Done())
    frames = replays(dialect, entries_of(*events))
    assert len({frame.id for frame in frames}) == len(frames) > 9


def test_what_everybody_is_told_has_no_number_and_passes() -> None:
    told = LogEntry(0, "broadcast", "", encode(Broadcast(message="Hi")))
    for position in (Position(0), Position(7), Position(7, 1)):
        assert past(NATIVE.fold(), position)(told) == NATIVE.fold()(told)


def test_a_dialect_for_who_comes_back_is_nobody_elses() -> None:
    mine = Past(NATIVE, Position(1))
    assert (mine.name, mine.is_shared, NATIVE.is_shared) == ("native", False, True)
    one, two = entries_of(RunStart(agent="a"), Done())
    fold = mine.fold()
    assert [*fold(one), *fold(two)] == list(NATIVE.fold()(two))
