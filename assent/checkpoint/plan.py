"""What a put stores: which of the new checkpoint's values are new, and where they go. No I/O, and
nothing awaited."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import orjson
from langgraph.checkpoint.base import ChannelVersions, Checkpoint
from langgraph.checkpoint.serde.base import SerializerProtocol

from assent.checkpoint import bindings
from assent.checkpoint.bindings import Owner
from assent.checkpoint.extents import (
    MAX_EXTENTS,
    PLACES,
    Difference,
    Extent,
    Extents,
    between,
    difference,
    joined,
    length,
    position,
)
from assent.checkpoint.fingerprints import Fingerprints
from assent.checkpoint.heads import Listing, Stored
from assent.checkpoint.values import Blob, Key, Refs
from assent.core.sealing import Seal

SMALL = 128
"""Bytes up to which a value is kept in the checkpoint itself."""

ITEMS_PER_BLOB = 128
"""So that a list that shares little with a long one does not make all of that be read."""

UNSHARED = frozenset({"__start__", "__pregel_tasks"})
"""LangGraph's own channels that hold something else at every step, whether it is a list or not."""


def is_log(channel: str, value: Any) -> bool:
    """Whether the value is stored by its items."""
    return type(value) is list and bool(value) and channel not in UNSHARED


class Logs:
    """The logs of the file, ahead of it: a place that was taken for a write that failed stays
    empty."""

    def __init__(self, first_new: int) -> None:
        self.first_new = first_new
        self._new = count(first_new)
        self._ends: dict[int, int] = {}
        self._for_values: dict[int, int] = {}

    def new(self, items: int = 0) -> int:
        """A new log, with this many places taken."""
        log = next(self._new)
        self._ends[log] = items
        return log

    def knows_end(self, log: int) -> bool:
        """Whether it is known where the log ends, or that it is not to be known: only one from
        before the file was opened can be learnt."""
        return log in self._ends or log >= self.first_new

    def learn_end(self, log: int, end: int) -> None:
        self._ends.setdefault(log, end)

    def go_on(self, extents: Extents, items: int) -> Extent | None:
        """Places behind the list, if its last log ends where it does."""
        if not extents:
            return None
        log, _, stop = extents[-1]
        # The very last place is never taken, so that two logs never touch.
        if self._ends.get(log) != stop or stop + items >= PLACES:
            return None
        self._ends[log] = stop + items
        return Extent(log, stop, stop + items)

    def for_value(self, k: int) -> int:
        """The position for a value of the namespace."""
        log = self._for_values.get(k)
        if log is None or self._ends[log] + 1 >= PLACES:
            log = self._for_values[k] = self.new()
        self._ends[log] += 1
        return position(log, self._ends[log] - 1)

    def forget_values(self, keys: set[int]) -> None:
        """The logs of values of these namespaces may have been removed."""
        for k in keys:
            self._for_values.pop(k, None)


class Plan:
    """Collects, channel by channel, what a checkpoint refers to and what has to be written for
    it."""

    def __init__(
        self,
        key: Key,
        parent: Stored | None,
        lists: Mapping[str, Listing],
        logs: Logs,
        fingerprints: Fingerprints,
        serde: SerializerProtocol,
        seal: Seal,
    ) -> None:
        self.key = key
        self.parent = parent
        self.refs: Refs = {}
        self.small: dict[str, tuple[str, bytes]] = {}
        self.lists: dict[str, Listing] = {}
        self.blobs: list[Blob] = []
        self._old = lists
        self._logs = logs
        self._fingerprints = fingerprints
        self._serde = serde
        self._seal = seal

    def add(self, checkpoint: Checkpoint, new_versions: ChannelVersions) -> None:
        """Every channel: one whose version is new is stored, any other is what it was in the
        parent."""
        versions, values = checkpoint["channel_versions"], checkpoint["channel_values"]
        for channel in versions.keys() | values.keys():
            if channel not in new_versions and self._inherits(channel, versions.get(channel)):
                continue
            if channel in values:
                self._store(channel, versions.get(channel), values[channel])

    def refs_text(self) -> str:
        """The references as they are stored."""
        return orjson.dumps(
            {
                channel: [list(extent) for extent in ref] if isinstance(ref, tuple) else ref
                for channel, ref in self.refs.items()
            }
        ).decode()

    def _inherits(self, channel: str, version: Any) -> bool:
        parent = self.parent
        if parent is None or parent.versions.get(channel) != version:
            return False
        if channel in parent.refs:
            self.refs[channel] = parent.refs[channel]
        elif channel in parent.small:
            self.small[channel] = parent.small[channel]
        return channel in parent.versions

    def _store(self, channel: str, version: Any, value: Any) -> None:
        if is_log(channel, value):
            self._store_list(channel, value)
            return
        kind, body = self._serde.dumps_typed(value)
        if len(body) <= SMALL:
            self.small[channel] = (kind, body)
            return
        place = self._logs.for_value(self.key.k)
        self.refs[channel] = place
        self.blobs.append(
            (
                place,
                kind,
                self._seal.seal(
                    body, *bindings.value(self.key.owner(channel), version, place, kind)
                ),
            )
        )

    def _store_list(self, channel: str, items: list[Any]) -> None:
        # The caller's list may grow while this waits for its turn.
        items = list(items)
        old = self._old.get(channel)
        extents: Extents = self.parent.refs[channel] if old and self.parent else ()
        change, digest, hashes = self._compared(old, items)
        extents, size = self._extended(self.key.owner(channel), extents, items, change)
        self.refs[channel] = extents
        self.lists[channel] = Listing(
            k=self.key.k,
            items=items,
            digest=digest,
            hashes=hashes,
            size=size + (old.size if old and change.kept else 0),
        )

    def _compared(
        self, old: Listing | None, items: list[Any]
    ) -> tuple[Difference, bytes | None, list[bytes]]:
        """What of the list is new, and its fingerprints."""
        if old is not None and old.digest is not None and len(items) >= len(old.items):
            known = len(old.items)
            fingerprint = self._fingerprints.of(items[:known])
            if fingerprint is not None and fingerprint.digest() == old.digest:
                fresh = items[known:]
                digest = (
                    fingerprint.digest() if self._fingerprints.add(fingerprint, fresh) else None
                )
                return (
                    Difference(known, len(items), 0),
                    digest,
                    old.hashes + self._fingerprints.each(fresh),
                )
        hashes = self._fingerprints.each(items)
        digest = self._fingerprints.digest(items)
        return (
            (difference(old.hashes, hashes) if old else Difference(0, len(items), 0)),
            digest,
            hashes,
        )

    def _extended(
        self, owner: Owner, old: Extents, items: list[Any], change: Difference
    ) -> tuple[Extents, int]:
        """The list's extents, and how many bytes were written for it."""
        total = length(old)
        kept, tail = between(old, 0, change.kept), between(old, total - change.tail, total)
        fresh = items[change.kept : change.until]
        if not fresh:
            extents, size = joined(kept, tail), 0
        else:
            new = self._logs.go_on(kept, len(fresh)) or Extent(
                self._logs.new(len(fresh)), 0, len(fresh)
            )
            extents, size = joined(kept, (new,), tail), self._write(owner, new, fresh)
        if len(extents) <= MAX_EXTENTS:
            return extents, size
        whole = Extent(self._logs.new(len(items)), 0, len(items))
        return (whole,), size + self._write(owner, whole, items)

    def _write(self, owner: Owner, extent: Extent, items: list[Any]) -> int:
        size = 0
        for at in range(0, len(items), ITEMS_PER_BLOB):
            kind, body = self._serde.dumps_typed(items[at : at + ITEMS_PER_BLOB])
            place = position(extent.log, extent.start + at)
            self.blobs.append(
                (place, kind, self._seal.seal(body, *bindings.items(owner, place, kind)))
            )
            size += len(body)
        return size
