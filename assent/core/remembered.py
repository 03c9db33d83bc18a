"""A cache of the values that were used last, which can forget those of one owner."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class Remembered(Generic[V]):
    """The values that were used last, up to a total weight, by name. With an `owner`, all values
    of one are found by it."""

    def __init__(
        self,
        limit: int,
        *,
        weight: Callable[[V], int] = lambda value: 1,
        owner: Callable[[V], Hashable] | None = None,
    ) -> None:
        self._limit = limit
        self._weight = weight
        self._owner = owner
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._names: dict[Hashable, set[Hashable]] = {}
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
        if self._owner is not None:
            self._names.setdefault(self._owner(value), set()).add(name)
        while self._total > self._limit:
            self.drop(next(iter(self._values)))

    def drop(self, name: Hashable) -> None:
        value = self._values.pop(name, None)
        if value is None:
            return
        self._total -= self._weight(value)
        if self._owner is not None:
            owner = self._owner(value)
            names = self._names[owner]
            names.discard(name)
            if not names:
                del self._names[owner]

    def owned(self, owner: Hashable) -> Iterator[V]:
        """The owner's values."""
        return (self._values[name] for name in self._names.get(owner, ()))

    def drop_owned(self, owner: Hashable) -> None:
        """Drop all values of the owner."""
        for name in tuple(self._names.get(owner, ())):
            self.drop(name)

    def drop_where(self, matches: Callable[[V], bool]) -> None:
        for name, value in list(self._values.items()):
            if matches(value):
                self.drop(name)
