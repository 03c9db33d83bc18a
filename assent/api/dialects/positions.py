"""The places behind the frames of a log, as ids that clients send back.

The last frame of the entry 12 has the id `12`, and those before it `12-1`, `12-2` …: so `12` says
that a reader has all of it. Where clients want a UUID, it holds the same: the same on every replay,
in every process, and nothing is stored to find it.

    >>> [str(position) for position in positions_of(12, 3)]
    ['12-1', '12-2', '12']
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from assent.core.errors import Gone, InvalidRequest
from assent.core.text import visible

LAST_NUMBER = 2**63 - 1
"""The largest number of an event that a storage can hold."""

MOST_PARTS = 2**12
"""The frames that an entry may have whose places are UUIDs. One fewer can be named."""

_SEQ_BITS, _REST_BITS, _DIGEST_BITS = 48, 14, 62
_PLACE = re.compile(r"(0|[1-9][0-9]{0,18})(?:-([1-9][0-9]{0,6}))?", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_SHOWN = 60


class Position(NamedTuple):
    """The place behind the frame `part` of the entry `seq`; behind all of its frames if `part` is
    0. As text it is the frame's id, empty before the first entry."""

    seq: int
    part: int = 0

    def __str__(self) -> str:
        if not self.seq:
            return ""
        return f"{self.seq}-{self.part}" if self.part else str(self.seq)


def positions_of(seq: int, count: int) -> tuple[Position, ...]:
    """The places behind each of the `count` frames of an entry, in order."""
    return (*(Position(seq, part) for part in range(1, count)), Position(seq))


def read_position(text: str, log_id: str) -> Position:
    """The place that a reader of the log has come to, by the id of their last frame; the beginning
    for an empty text. Raises `InvalidRequest` for what is no id, and `Gone` for one of another
    log."""
    if not text:
        return Position(0)
    if (found := _PLACE.fullmatch(text)) is not None:
        position = Position(int(found[1]), int(found[2] or 0))
        if position.seq <= LAST_NUMBER:
            return position
    elif _UUID.fullmatch(text) and (number := UUID(text)).version == 8:
        return _place_in(number, log_id)
    raise InvalidRequest(
        f"'{visible(text[:_SHOWN])}' is no id of an event. Send the id of the last event that you "
        "have, or none to begin at the first."
    )


def event_id(log_id: str, seq: int, part: int = 0) -> str:
    """The place as a UUID of version 8: of the log's digest, the part and the number."""
    digest = _digest(log_id)
    high = digest >> _REST_BITS
    rest = digest & ((1 << _REST_BITS) - 1)
    number = (high << 80) | (8 << 76) | (part << 64) | (0b10 << 62) | (rest << _SEQ_BITS) | seq
    return str(UUID(int=number))


def _place_in(id: UUID, log_id: str) -> Position:
    seq = id.int & ((1 << _SEQ_BITS) - 1)
    part = (id.int >> 64) & (MOST_PARTS - 1)
    # A place that would have another id is none either, such as one of another variant.
    if event_id(log_id, seq, part) != str(id):
        raise Gone(
            "The last event that you have is none of what you ask for. Leave it out to begin at "
            "the first.",
            first=1,
        )
    return Position(seq, part)


def _digest(log_id: str) -> int:
    """The first bits of the log's digest. They tell the ids of different logs apart, and prove
    nothing."""
    whole = int.from_bytes(sha256(f"assent:{log_id}".encode()).digest())
    return whole >> (256 - _DIGEST_BITS)
