"""JSON out."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Response

_encode = msgspec.json.Encoder().encode


def json_response(
    data: Any,
    *,
    status: int = 200,
    media_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> Response:
    """A response whose body is `data` as JSON; times are RFC 3339, enums their values."""
    return Response(_encode(data), status_code=status, media_type=media_type, headers=headers)
