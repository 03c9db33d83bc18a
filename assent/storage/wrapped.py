"""Storages around a storage, which do one thing more when something is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from assent.storage.base import Change, Storage


class Wrapped:
    """Delegates to the `inner` storage what it does not do itself."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def told(storage: Storage, learn: Callable[[Change], None]) -> Storage:
    """The same storage, but each change that was committed is also given to `learn`."""
    return cast(Storage, _Told(storage, learn))


class _Told(Wrapped):
    def __init__(self, inner: Storage, learn: Callable[[Change], None]) -> None:
        super().__init__(inner)
        self._learn = learn

    async def commit(self, change: Change) -> tuple[int, ...]:
        numbers = await self.inner.commit(change)
        self._learn(change)
        return numbers
