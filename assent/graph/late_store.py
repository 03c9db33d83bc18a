"""A store that is there before it is opened: functions that make graphs are given it, and the
database is opened once all graphs are made."""

from __future__ import annotations

from collections.abc import Iterable

from langgraph.store.base import BaseStore, Op, Result


class LateStore(BaseStore):
    """The server's store, once it is open. Until then it raises `RuntimeError`."""

    def __init__(self) -> None:
        self._store: BaseStore | None = None

    def open(self, store: BaseStore) -> None:
        """Be this store from now on."""
        self._store = store
        self.supports_ttl = store.supports_ttl
        self.ttl_config = store.ttl_config

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return self._opened().batch(ops)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return await self._opened().abatch(ops)

    def _opened(self) -> BaseStore:
        if self._store is None:
            raise RuntimeError(
                "The store is not open while graphs are made. Use it in their nodes and tools."
            )
        return self._store
