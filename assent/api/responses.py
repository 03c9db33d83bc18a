"""JSON responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastapi import Response

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


def page_response(name: str, page: Page[T], view: Callable[[T], Json]) -> Response:
    """A page of a list: its rows as `name`, and as `next` the cursor of the next page or null."""
    rows = [view(row) for row in page.rows]
    return json_response({name: rows, "next": page.next})
