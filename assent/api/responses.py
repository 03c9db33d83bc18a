"""JSON responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastapi import Response
from msgspec import Raw

from assent.core.json import Json, encode_json
from assent.storage.base import Page

T = TypeVar("T")

NO_STORE = {"Cache-Control": "no-store"}
"""The header of an answer that nobody keeps: it has a secret, or is about who asks."""


def json_response(
    data: Json,
    *,
    status: int = 200,
    media_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> Response:
    """A response with the data as JSON; times are RFC 3339, enums their values."""
    return Response(encode_json(data), status_code=status, media_type=media_type, headers=headers)


PAGE_BYTES = 4 << 20
"""The most bytes of a page, unless a single thing in it is larger: states, and what runs are given,
may have a mebibyte each."""


class Filling:
    """A page of a list, which is filled view by view until it has so many bytes."""

    def __init__(self) -> None:
        self.views: list[Raw] = []
        self._left = PAGE_BYTES

    def takes(self, view: Json) -> bool:
        """Add the view; False if there is no more room for it. There always is for one."""
        encoded = encode_json(view)
        self._left -= len(encoded)
        if self._left < 0 and self.views:
            return False
        self.views.append(Raw(encoded))
        return True


def page_response(name: str, page: Page[T], view: Callable[[T], Json]) -> Response:
    """A page of a list: its rows as `name`, and as `next` the cursor of the next page or null."""
    rows = [view(row) for row in page.rows]
    return json_response({name: rows, "next": page.next})
