"""Remembers the checkpoints that were used last, within bounds, so that a thread that goes on is
not read again and again. Used on the event loop only.

This only speeds things up. Each entry was committed, and is kept under the name that the file
gives it too: a forgotten entry costs a read, and a write that was rolled back leaves nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from assent.checkpoint.extents import Extents, is_beginning
from assent.checkpoint.fingerprints import Hashes
from assent.checkpoint.values import Encoded, Key, Refs
from assent.core.remembered import Remembered
from assent.core.rows import Lease
from assent.core.shown import Blocks

MAX_KEYS = 10_000
MAX_CHECKPOINTS = 4_096
MAX_OWN_BYTES = 4 << 20

OBJECT_BYTES = 1_500
PLAIN_BYTES = 32
"""What an item of a list takes in memory beside its bytes in the file: measured of messages, which
are seven times as large as objects, and of numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The values of a checkpoint in the file, by channel: `small` ones as encoded, and in `refs`
    where the others are."""

    key: Key
    versions: dict[str, Any]
    refs: Refs
    small: dict[str, Encoded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list in the file, as objects that others may hold too.

    `digest` and `hashes` are those of the list and of its items when it was stored, `hashes` None
    for plain values; `size` is in bytes of the file. `made` is the JSON of those that were
    shown (`core/shown.py:Shown`).
    """

    k: int
    extents: Extents
    items: list[Any]
    digest: bytes | None
    hashes: Hashes
    size: int
    made: Blocks

    @property
    def memory(self) -> int:
        """The bytes that it takes in memory, roughly."""
        each = PLAIN_BYTES if self.hashes is None else OBJECT_BYTES
        # The JSON is about as large as what is in the file.
        return 2 * self.size + OBJECT_BYTES + each * len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnHead:
    """The checkpoint that was put last in a namespace by the run that has the `lease`, and its row
    as the file has it, without writes. `written` is the latest checkpoint with writes of tasks:
    those may come before it does. Ids sort by the time at which they were made."""

    k: int
    lease: Lease | None = None
    checkpoint_id: str = ""
    row: tuple[Any, ...] = ()
    size: int = 0
    written: str = ""


class Heads:
    """The keys that were used last, by thread and namespace; the checkpoints, by number of the key
    and id; and the lists, by extents."""

    def __init__(self, cache_bytes: int) -> None:
        self.keys: Remembered[Key] = Remembered(MAX_KEYS, owner=lambda key: key.thread_id)
        self.checkpoints: Remembered[Stored] = Remembered(
            MAX_CHECKPOINTS, owner=lambda stored: stored.key.k
        )
        self.lists: Remembered[Listing] = Remembered(
            cache_bytes, weight=lambda listing: listing.memory, owner=lambda listing: listing.k
        )
        self._own: Remembered[OwnHead] = Remembered(
            MAX_OWN_BYTES, weight=lambda own: own.size + OBJECT_BYTES, owner=lambda own: own.k
        )

    def key(self, thread_id: str, ns: str) -> Key | None:
        return self.keys.get((thread_id, ns))

    def list_with(self, k: int, extents: Extents) -> Listing | None:
        """The list of the namespace with these extents, or else one that begins with them."""
        if (listing := self.lists.get(extents)) is not None:
            return listing
        longer = (each for each in self.lists.owned(k) if is_beginning(extents, each.extents))
        return next(longer, None)

    def put_own(self, own: OwnHead) -> None:
        """Remember what a run has put last in a namespace."""
        before = self._own.get(own.k)
        self._own.put(own.k, replace(own, written=before.written if before else ""))

    def note_writes(self, k: int, checkpoint_id: str) -> None:
        """Note that there are writes of a task for the checkpoint."""
        own = self._own.get(k) or OwnHead(k=k)
        self._own.put(k, replace(own, written=max(own.written, checkpoint_id)))

    def own(self, key: Key | None, lease: Lease | None) -> OwnHead | None:
        """What the run with this lease has put last in the namespace, if nobody else has put
        anything there since, and no task has written to it."""
        own = self._own.get(key.k) if key and lease else None
        if own is None or own.lease != lease or own.written >= own.checkpoint_id:
            return None
        return own

    def drop_own(self, k: int) -> None:
        """Forget what a run has put last in the namespace."""
        self._own.drop(k)

    def put_key(self, key: Key) -> None:
        self.keys.put((key.thread_id, key.ns), key)

    def keys_of(self, thread_id: str) -> set[int]:
        """The numbers of the thread's namespaces that are remembered."""
        return {key.k for key in self.keys.owned(thread_id)}

    def forget(self, keys: set[int]) -> None:
        """Forget everything of these namespaces."""
        self.keys.drop_where(lambda key: key.k in keys)
        self._forget_values(keys)

    def forget_thread(self, thread_id: str) -> None:
        """Forget everything of the thread."""
        keys = self.keys_of(thread_id)
        self.keys.drop_owned(thread_id)
        self._forget_values(keys)

    def _forget_values(self, keys: set[int]) -> None:
        for k in keys:
            self.checkpoints.drop_owned(k)
            self.lists.drop_owned(k)
            self._own.drop(k)
