"""The bytes of streams: one event each, whatever its fields hold, and each made once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.api.dialects.base import Fold, Foreign, Frame
from assent.api.dialects.native import FEED, NATIVE
from assent.api.streams.encoder import (
    ENCODED_BYTES,
    PIECE_BYTES,
    Encoder,
    Encoders,
    named_sse,
    sse,
    ws_text,
)
from assent.core.events import EVENT_TYPES, Event, encode
from assent.core.json import valid_text
from assent.storage.base import LogEntry

FORGED = (
    "\n\nid: 9\ndata: {}\n\n",
    "\r\n\r\nid: 9\r\ndata: {}\r\n\r\n",
    "\r\rid: 9\rdata: {}\r\r",
    "\x00\u0085\u2028\u2029\x0b\x0c\x1c\x1d\x1e",
    "\ud800: \udfff",
)

texts = st.one_of(
    st.sampled_from(FORGED), st.text(st.characters(), max_size=20), st.text("\r\n: \x00\u2028")
)


def entry(seq: int, body: bytes = b"{}", kind: str = "token") -> LogEntry:
    return LogEntry(seq, kind, "r", body)


def of(first: int, last: int, size: int = 2) -> list[LogEntry]:
    return [entry(seq, b"x" * size) for seq in range(first, last + 1)]


def encoder(framing: Any = sse, *, shared: bool = False) -> Encoder:
    return Encoder(NATIVE, framing, shared=lambda _: shared)


# ── nothing is forged ──


def filled(kind: type[Event], text: str) -> Event:
    """An event of this type with the text in every field that may hold one."""
    fields = {
        field.name: _with(field.type, text)
        for field in msgspec.structs.fields(kind)
        if field.name not in ("ts", "seq")
    }
    return kind(**{name: value for name, value in fields.items() if value is not None})


def _with(kind: Any, text: str) -> Any:
    if kind is str:
        return text
    if kind == tuple[str, ...]:
        return (text, text)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{f.name: _with(f.type, text) for f in msgspec.structs.fields(kind)})
    if kind in (int, float):
        return 1
    if kind is bool:
        return True
    if type(None) in get_args(kind) and str not in get_args(kind):
        return None
    return {text: [text]}


@settings(max_examples=60, deadline=None)
@given(texts, st.sampled_from(sorted(EVENT_TYPES)), st.sampled_from([sse, named_sse]))
def test_an_event_is_one_event_whatever_its_fields_hold(text: str, kind: str, framing: Any) -> None:
    # Nothing stores other text: it has no form in UTF-8.
    text = valid_text(text)
    event = filled(EVENT_TYPES[kind], text)
    event = msgspec.structs.replace(event, seq=7)
    frame = b"".join(encoder(framing).pieces("t", [entry(7, encode(event), kind)]))
    lines = frame.decode().split("\n")
    # To a reader that splits at whatever Unicode counts as the end of a line, too.
    assert frame.decode().splitlines() == lines[:-1]
    named = [f"event: {kind}"] if framing is named_sse else []
    assert lines[:-3] == ["id: 7", *named]
    assert lines[-2:] == ["", ""]
    data = json.loads(lines[-3].removeprefix("data: "))
    assert data == json.loads(encode(event))
    assert "\x00" not in frame.decode()


def test_every_text_of_every_event_was_in_that_test() -> None:
    for kind in EVENT_TYPES.values():
        body = encode(filled(kind, "mark me"))
        held = [f.name for f in msgspec.structs.fields(kind) if f.type in (str, tuple[str, ...])]
        assert body.count(b"mark me") >= len(held), kind


@pytest.mark.parametrize("bad", ["1\n", "1\r", "1\r\nid: 2", "1\x00", "1\u2028", "1\u0085"])
def test_an_id_or_a_name_that_would_not_stay_on_its_line_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="no line can have"):
        sse(Frame(bad, "token", b"{}"))
    with pytest.raises(ValueError, match="no line can have"):
        named_sse(Frame("1", bad, b"{}"))
    for framing in (sse, named_sse, ws_text):
        for end in (b"\n", b"\r"):
            with pytest.raises(ValueError, match="more than one line"):
                framing(Frame("1", "token", b"{" + end + b"}"))


def test_a_frame_without_a_number_moves_no_cursor() -> None:
    assert encoder().messages("t", [entry(0, b'{"a":1}')]) == [b'data: {"a":1}\n\n']
    assert encoder(ws_text).messages("t", [entry(0, b'{"a":1}')]) == [b'{"a":1}']


def test_a_feed_shows_events_as_if_they_were_their_threads() -> None:
    told = Encoder(FEED, ws_text, shared=lambda _: False)
    body = b'{"type":"done","thread_id":"~approvals","about":"t","seq":3}'
    (message,) = told.messages("~approvals", [entry(3, body)])
    assert json.loads(message) == {"type": "done", "thread_id": "t", "seq": 3}


# ── pieces ──


def test_frames_are_sent_in_small_pieces_and_a_large_one_is_not_copied() -> None:
    sizes = (10, 20_000, 30_000, 30_000, 200_000, 10, 10)
    entries = [entry(seq, b"x" * size) for seq, size in enumerate(sizes, 1)]
    pieces = encoder().pieces("t", entries)
    frames = [b"id: %d\ndata: %s\n\n" % (each.seq, each.body) for each in entries]
    assert b"".join(pieces) == b"".join(frames)
    assert max(map(len, pieces)) == PIECE_BYTES
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert b"".join(views) == frames[4]
    assert len({id(view.obj) for view in views}) == 1
    assert [len(piece) for piece in pieces if isinstance(piece, bytes)] == [
        sum(map(len, frames[:3])),
        len(frames[3]),
        sum(map(len, frames[5:])),
    ]


# ── made once ──


class Counting(Foreign):
    """The native dialect, which counts what it is asked for."""

    name = "counting"
    is_shared = True

    def __init__(self) -> None:
        self.folded: list[int] = []

    def fold(self) -> Fold:
        def fold(entry: LogEntry) -> Sequence[Frame]:
            self.folded.append(entry.seq)
            return [Frame(str(entry.seq), entry.type, entry.body)]

        return fold


def test_an_event_is_made_once_for_all_who_read_the_same() -> None:
    dialect = Counting()
    readers = {"t": 2, "alone": 1}
    encoders = Encoders(shared=lambda log_id: readers[log_id] > 1)
    assert encoders.of(dialect, sse) is encoders.of(dialect, sse)
    assert encoders.of(dialect, sse) is not encoders.of(dialect, named_sse)
    made = encoders.of(dialect, sse)
    for _ in range(3):
        made.pieces("t", of(1, 3))
    assert dialect.folded == [1, 2, 3]
    # What nobody else reads is not kept for anybody.
    for _ in range(2):
        made.pieces("alone", of(1, 1))
    assert dialect.folded == [1, 2, 3, 1, 1]


def test_readers_who_left_events_out_get_theirs_and_not_those_of_others() -> None:
    made = encoder(ws_text, shared=True)
    one, two, three = (entry(seq, b"%d" % seq) for seq in (1, 2, 3))
    other = entry(2, b"other")
    assert made.messages("t", [one, two, three]) == [b"1", b"2", b"3"]
    assert made.messages("t", [one, three]) == [b"1", b"3"]
    assert made.messages("t", [one, three]) == [b"1", b"3"]
    assert made.messages("u", [one, other, three]) == [b"1", b"other", b"3"]
    # Broadcasts have no number, so none is taken for another.
    assert made.messages("t", [entry(0, b"a")]) == [b"a"]
    assert made.messages("t", [entry(0, b"b")]) == [b"b"]


def test_what_is_kept_is_bounded() -> None:
    dialect = Counting()
    made = Encoder(dialect, ws_text, shared=lambda _: True)
    count = ENCODED_BYTES // (1 << 20)
    for seq in range(1, count + 2):
        made.messages("t", of(seq, seq, 1 << 20))
    made.messages("t", of(count + 1, count + 1, 1 << 20))
    assert len(dialect.folded) == count + 1
    made.messages("t", of(1, 1, 1 << 20))
    assert len(dialect.folded) == count + 2
