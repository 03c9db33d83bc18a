"""Lists as rows of extents, so that lists share the items that they have in common.

An extent is a stretch of a log, and a log only ever grows at its end.

    [[7, 0, 1000]]                            a thread's messages: the first 1000 items of log 7
    [[7, 0, 400], [9, 0, 2]]                  a fork from the 400th message, and two new ones
    [[7, 0, 4], [10, 0, 1], [7, 5, 1000]]     the same list with its fifth message changed

So a list that grows costs what is added to it, and a list that was edited, trimmed or forked
shares all that stayed. Everything here is a function of values. A position is an item's number in
the file: the log and the place in it, packed into one integer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

PLACES = 1 << 24
"""The number of items that one log can hold."""

MAX_EXTENTS = 64
"""More extents would make every checkpoint larger than what they save. A list of more is stored
anew."""


class Extent(NamedTuple):
    """The items of a log from `start`, before `stop`."""

    log: int
    start: int
    stop: int


Extents = tuple[Extent, ...]


class Difference(NamedTuple):
    """A new list, compared with an old one: the first `kept` items of the old list, then its own
    items from `kept` before `until`, then the last `tail` items of the old list."""

    kept: int
    until: int
    tail: int


def position(log: int, place: int) -> int:
    """The position of an item in the file."""
    return log * PLACES + place


def length(extents: Iterable[Extent]) -> int:
    """The number of items in the list."""
    return sum(extent.stop - extent.start for extent in extents)


def between(extents: Extents, start: int, stop: int) -> Extents:
    """The part of the list from `start`, before `stop`."""
    part: list[Extent] = []
    for log, first, last in extents:
        begin = first + max(start, 0)
        end = min(last, first + stop)
        if begin < end:
            part.append(Extent(log, begin, end))
        start -= last - first
        stop -= last - first
    return tuple(part)


def is_beginning(part: Extents, extents: Extents) -> bool:
    """True if the list begins with the items of the other one."""
    return between(extents, 0, length(part)) == part


def joined(*parts: Extents) -> Extents:
    """The parts in a row. Neighbouring extents that continue each other become one."""
    whole: list[Extent] = []
    for part in parts:
        for extent in part:
            if whole and whole[-1].log == extent.log and whole[-1].stop == extent.start:
                whole[-1] = whole[-1]._replace(stop=extent.stop)
            else:
                whole.append(extent)
    return tuple(whole)


def difference(old: Sequence[bytes], new: Sequence[bytes]) -> Difference:
    """Compare two lists by the hashes of their items."""
    shorter = min(len(old), len(new))
    kept = 0
    while kept < shorter and old[kept] == new[kept]:
        kept += 1
    tail = 0
    while tail < shorter - kept and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return Difference(kept, len(new) - tail, tail)


def from_json(ref: Any) -> Any:
    """A channel's reference as it was read: the extents of a list, or the position of a value."""
    if isinstance(ref, list):
        return tuple(Extent(*extent) for extent in ref)
    return ref


def extents_of(ref: Any) -> Extents:
    """The extents that a channel's reference leads to."""
    if isinstance(ref, tuple):
        return ref
    log, place = divmod(ref, PLACES)
    return (Extent(log, place, place + 1),)


def positions(extents: Iterable[Extent]) -> list[tuple[int, int]]:
    """The stretches of the file that hold the items, as first position and the one behind the last.

    They are in order and do not overlap.
    """
    stretches: list[tuple[int, int]] = []
    for log, start, stop in sorted(extents):
        begin, end = position(log, start), position(log, stop)
        if stretches and begin <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(end, stretches[-1][1]))
        else:
            stretches.append((begin, end))
    return stretches
