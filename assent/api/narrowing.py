"""Pages of a list of which only some rows are wanted, where the storage cannot look for those."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from assent.storage.base import Page

T = TypeVar("T")

MOST_PAGES = 10
"""The most pages that one request reads."""


async def narrowed(
    read: Callable[..., Awaitable[Page[T]]], cursor: str | None, wanted: Callable[[T], object]
) -> Page[T]:
    """The rows that are wanted of the page at the cursor, or of one of the next few if it has none.
    There may be others behind a page that has few, or none."""
    page = _only(await read(cursor=cursor), wanted)
    for _ in range(MOST_PAGES):
        if page.rows or page.next is None:
            break
        page = _only(await read(cursor=page.next), wanted)
    return page


def _only(page: Page[T], wanted: Callable[[T], object]) -> Page[T]:
    return replace(page, rows=tuple(filter(wanted, page.rows)))
