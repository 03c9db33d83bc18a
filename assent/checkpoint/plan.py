"""Decides what a put stores: which of the new checkpoint's values are new, and where they go.
Nothing is awaited here."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import orjson
from langgraph.checkpoint.base import ChannelVersions, Checkpoint

from assent.checkpoint import bindings
from assent.checkpoint.bindings import Owner
from assent.checkpoint.codec import Codec
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
from assent.checkpoint.fingerprints import Fingerprints, Hashes
from assent.checkpoint.heads import Listing, Stored
from assent.checkpoint.values import Blob, Encoded, Key, Refs
from assent.core.remembered import Remembered
from assent.core.shown import first_blocks

SMALL = 128
"""A value of up to this many bytes is kept in the checkpoint itself."""

ITEMS_PER_BLOB = 128
BYTES_PER_BLOB = 32 << 10
"""A blob has at most so many items, unless they take less room than this; then the next one has
twice as many. Limits how much of a long list has to be read for another list that shares little
with it."""

UNSHARED = frozenset({"__start__", "__pregel_tasks"})
"""LangGraph's own channels that hold something else at every step, whether it is a list or not."""


def is_log(channel: str, value: Any) -> bool:
    """True if the value is stored item by item."""
    return type(value) is list and bool(value) and channel not in UNSHARED


MAX_LOGS = 100_000
"""The logs whose ends are remembered: those of some 20,000 threads."""


class Logs:
    """Hands out places in the file's logs, ahead of the writes. A place that was taken for a write
    that failed stays empty."""

    def __init__(self, first_new: int) -> None:
        self._first_new = first_new
        self._numbers = count(first_new)
        # Lists whose end was forgotten are stored anew when they grow.
        self._ends: Remembered[int] = Remembered(MAX_LOGS)
        self._for_values: Remembered[int] = Remembered(MAX_LOGS)

    def new(self, items: int = 0) -> int:
        """A new log, with this many places taken."""
        log = next(self._numbers)
        self._ends.put(log, items)
        return log

    def should_learn_end(self, log: int) -> bool:
        """True if the log is older than the opening of the file and its end is not known yet."""
        return log < self._first_new and self._ends.get(log) is None

    def learn_end(self, log: int, end: int) -> None:
        # Another task may have been faster, and have taken places since.
        if self._ends.get(log) is None:
            self._ends.put(log, end)

    def extend(self, extents: Extents, items: int) -> Extent | None:
        """Take the places right behind the list; None if its last log does not end where it does.

        A list without extents gets None too.
        """
        if not extents:
            return None
        log, _, stop = extents[-1]
        end = stop + items
        # The very last place is never taken, so that two logs never touch.
        if self._ends.get(log) != stop or end >= PLACES:
            return None
        self._ends.put(log, end)
        return Extent(log, stop, end)

    def for_value(self, k: int) -> int:
        """Take the position of a value of the namespace."""
        log = self._for_values.get(k)
        place = None if log is None else self._ends.get(log)
        if log is None or place is None or place + 1 >= PLACES:
            log, place = self.new(), 0
            self._for_values.put(k, log)
        self._ends.put(log, place + 1)
        return position(log, place)

    def forget_values(self, keys: set[int]) -> None:
        """Take no more places in these namespaces' logs of values, which may have been removed."""
        for k in keys:
            self._for_values.drop(k)


class Plan:
    """Collects, channel by channel, the references of a new checkpoint and the blobs to write.

    `lists` holds the parent's lists that may have changed.
    """

    def __init__(
        self,
        key: Key,
        parent: Stored | None,
        lists: Mapping[str, Listing],
        logs: Logs,
        fingerprints: Fingerprints,
        codec: Codec,
    ) -> None:
        self.key = key
        self.parent = parent
        self.refs: Refs = {}
        self.small: dict[str, Encoded] = {}
        self.lists: dict[str, Listing] = {}
        self.blobs: list[Blob] = []
        self._old_lists = lists
        self._logs = logs
        self._fingerprints = fingerprints
        self._codec = codec

    def add(self, checkpoint: Checkpoint, new_versions: ChannelVersions) -> None:
        """Add every channel: one with a new version is stored, any other is the parent's."""
        versions, values = checkpoint["channel_versions"], checkpoint["channel_values"]
        for channel in versions.keys() | values.keys():
            version = versions.get(channel)
            if channel not in new_versions and self._inherits(channel, version):
                continue
            if channel in values:
                self._store(channel, version, values[channel])

    def refs_text(self) -> str:
        """The references as they are stored."""
        return orjson.dumps(self.refs, default=list).decode()

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
            # The caller's list may grow while this waits for its turn.
            self._store_list(channel, list(value))
            return
        encoding, data = self._codec.serde.dumps_typed(value)
        if len(data) <= SMALL:
            self.small[channel] = (encoding, data)
            return
        place = self._logs.for_value(self.key.k)
        binding = bindings.value(self.key.owner(channel), version, place, encoding)
        self.refs[channel] = place
        self.blobs.append((place, encoding, self._codec.sealed(data, binding)))

    def _store_list(self, channel: str, items: list[Any]) -> None:
        old = self._old_lists.get(channel)
        extents: Extents = self.parent.refs[channel] if old and self.parent else ()
        change, digest, hashes = self._compare(old, items)
        extents, size = self._extend(self.key.owner(channel), extents, items, change)
        if old and change.kept:
            size += old.size
        self.refs[channel] = extents
        self.lists[channel] = Listing(
            k=self.key.k,
            extents=extents,
            items=items,
            digest=digest,
            hashes=hashes,
            size=size,
            made=first_blocks(old.made, change.kept) if old else [],
        )

    def _compare(
        self, old: Listing | None, items: list[Any]
    ) -> tuple[Difference, bytes | None, Hashes]:
        """The difference from the old list, and the digest and hashes of the new one."""
        known = len(old.items) if old and old.digest and len(items) >= len(old.items) else 0
        fingerprint = self._fingerprints.of(items[:known])
        has_grown = old and known and fingerprint and fingerprint.digest() == old.digest
        if fingerprint and not self._fingerprints.add(fingerprint, items[known:]):
            fingerprint = None
        digest = fingerprint.digest() if fingerprint else None
        if old and has_grown:
            # The old items are as they were, so only the fresh ones are hashed one by one.
            hashes = self._fingerprints.each(items, fingerprint, old.hashes)
            return Difference(known, len(items), 0), digest, hashes
        hashes = self._fingerprints.each(items, fingerprint)
        change = Difference(0, len(items), 0)
        if old and old.hashes and hashes:
            change = difference(old.hashes, hashes)
        return change, digest, hashes

    def _extend(
        self, owner: Owner, old: Extents, items: list[Any], change: Difference
    ) -> tuple[Extents, int]:
        """Write what is new of the list; return its extents, and the bytes that were written."""
        total = length(old)
        kept, tail = between(old, 0, change.kept), between(old, total - change.tail, total)
        fresh = items[change.kept : change.until]
        extents, size = joined(kept, tail), 0
        if fresh:
            new = self._logs.extend(kept, len(fresh)) or self._new_extent(fresh)
            extents, size = joined(kept, (new,), tail), self._write(owner, new, fresh)
        if len(extents) <= MAX_EXTENTS:
            return extents, size
        whole = self._new_extent(items)
        return (whole,), size + self._write(owner, whole, items)

    def _new_extent(self, items: list[Any]) -> Extent:
        return Extent(self._logs.new(len(items)), 0, len(items))

    def _write(self, owner: Owner, extent: Extent, items: list[Any]) -> int:
        size = at = 0
        count = ITEMS_PER_BLOB
        while at < len(items):
            encoding, data = self._codec.serde.dumps_typed(items[at : at + count])
            place = position(extent.log, extent.start + at)
            binding = bindings.items(owner, place, encoding)
            self.blobs.append((place, encoding, self._codec.sealed(data, binding)))
            size += len(data)
            at += count
            if len(data) < BYTES_PER_BLOB:
                count *= 2
        return size
