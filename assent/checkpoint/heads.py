"""What the checkpointer remembers, within bounds, so that a thread that goes on is not read again
and again. All on the event loop.

It only ever speeds things up: each entry is something that was committed, under a name that the
file would give it too, so that a forgotten entry costs a read, and a rolled-back write leaves
nothing behind.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from assent.checkpoint.extents import Extents
from assent.checkpoint.values import Key, Refs

V = TypeVar("V")

MAX_KEYS = 10_000
MAX_HEADS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A checkpoint that is in the file: where its channels' values are. `refs` has them as
    `Extents` and positions; `small` as encoded."""

    key: Key
    versions: dict[str, Any]
    refs: Refs
    small: dict[str, tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list that is in the file, as objects that others may hold too; `digest` and `hashes` say
    what they were when it was stored."""

    k: int
    items: list[Any]
    digest: bytes | None
    hashes: list[bytes]
    size: int


class Remembered(Generic[V]):
    """The values used last, up to a total weight."""

    def __init__(self, limit: int, weight: Callable[[V], int] = lambda value: 1) -> None:
        self._limit = limit
        self._weight = weight
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._total = 0

    def get(self, name: Hashable) -> V | None:
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def put(self, name: Hashable, value: V) -> None:
        self.drop(name)
        self._values[name] = value
        self._total += self._weight(value)
        while self._total > self._limit:
            self._total -= self._weight(self._values.popitem(last=False)[1])

    def drop(self, name: Hashable) -> None:
        if name in self._values:
            self._total -= self._weight(self._values.pop(name))

    def drop_where(self, matches: Callable[[V], bool]) -> None:
        for name in [name for name, value in self._values.items() if matches(value)]:
            self.drop(name)


class Heads:
    """Keys, checkpoints and lists, used last."""

    def __init__(self, cache_bytes: int) -> None:
        self.keys: Remembered[Key] = Remembered(MAX_KEYS)
        self.checkpoints: Remembered[Stored] = Remembered(MAX_HEADS)
        self.lists: Remembered[Listing] = Remembered(cache_bytes, lambda listing: listing.size)

    def key(self, thread_id: str, ns: str) -> Key | None:
        return self.keys.get((thread_id, ns))

    def checkpoint(self, k: int, checkpoint_id: str) -> Stored | None:
        return self.checkpoints.get((k, checkpoint_id))

    def listing(self, extents: Extents) -> Listing | None:
        return self.lists.get(extents)

    def forget(self, keys: set[int]) -> None:
        """Whatever is remembered of these namespaces."""
        self.keys.drop_where(lambda key: key.k in keys)
        self.checkpoints.drop_where(lambda stored: stored.key.k in keys)
        self.lists.drop_where(lambda listing: listing.k in keys)
