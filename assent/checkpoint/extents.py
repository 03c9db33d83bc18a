"""Lists as what they share: a list is a row of extents, each a stretch of some log that only ever
grows at its end.

    [[7, 0, 1000]]                            a thread's messages: the first thousand items of log 7
    [[7, 0, 400], [9, 0, 2]]                  a fork from its 400th message, and what was added
    there [[7, 0, 4], [10, 0, 1], [7, 5, 1000]]     the same list with its fifth message changed

So a list that grows costs what is added to it, and one that was edited, trimmed or forked shares
all that stayed. Everything here is a function of values; `positions` are rows in the file: a log's
number and a place in it, packed into one integer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

PLACES = 1 << 24
"""Items that one log can hold."""

MAX_EXTENTS = 64
"""More would make every checkpoint larger than what they save. Then the list is stored anew."""


class Extent(NamedTuple):
    """The items of a log from `start`, before `stop`."""

    log: int
    start: int
    stop: int


Extents = tuple[Extent, ...]


class Difference(NamedTuple):
    """A new list is the first `kept` items of the old one, then its own from `kept` before `until`,
    then the last `tail` of the old one."""

    kept: int
    until: int
    tail: int


def position(log: int, place: int) -> int:
    """Where an item is in the file."""
    return log * PLACES + place


def length(extents: Iterable[Extent]) -> int:
    """How many items the list has."""
    return sum(extent.stop - extent.start for extent in extents)


def between(extents: Extents, start: int, stop: int) -> Extents:
    """The part of the list from `start`, before `stop`."""
    part: list[Extent] = []
    for log, first, last in extents:
        begin, end = first + max(start, 0), min(last, first + stop)
        if begin < end:
            part.append(Extent(log, begin, end))
        start, stop = start - (last - first), stop - (last - first)
    return tuple(part)


def joined(*parts: Extents) -> Extents:
    """The parts in a row, with neighbours that belong together made one."""
    whole: list[Extent] = []
    for extent in (each for part in parts for each in part):
        if whole and whole[-1].log == extent.log and whole[-1].stop == extent.start:
            whole[-1] = Extent(extent.log, whole[-1].start, extent.stop)
        else:
            whole.append(extent)
    return tuple(whole)


def difference(old: Sequence[bytes], new: Sequence[bytes]) -> Difference:
    """What a list shares with the one before, by the hashes of their items."""
    shorter = min(len(old), len(new))
    kept = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    tail = 0
    while tail < shorter - kept and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    return Difference(kept, len(new) - tail, tail)


def from_json(value: Any) -> Extents:
    """Extents as they were stored."""
    return tuple(Extent(*extent) for extent in value)


def positions(extents: Iterable[Extent]) -> list[tuple[int, int]]:
    """The stretches of the file that hold the items: the first position, and the one behind the
    last. In order, none twice."""
    stretches: list[tuple[int, int]] = []
    for begin, end in sorted(
        (position(log, start), position(log, stop)) for log, start, stop in extents
    ):
        if stretches and begin <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(end, stretches[-1][1]))
        else:
            stretches.append((begin, end))
    return stretches
