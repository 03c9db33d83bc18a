"""Cursors: opaque texts that say where the next page of a list begins."""

from __future__ import annotations

import base64
import binascii
import re

import orjson

from assent.core.errors import InvalidRequest


def check_limit(limit: int) -> None:
    """Raise `InvalidRequest` for a limit below 1."""
    if limit < 1:
        raise InvalidRequest(f"The limit {limit} asks for nothing. Ask for 1 or more.")


MOST_CHARACTERS = 512
"""No page gives a longer cursor: a time and an id are short."""


def cursor_behind(time: object, key: object) -> str:
    """The cursor behind the row with this time and this key, both as they are stored."""
    return base64.urlsafe_b64encode(orjson.dumps([str(time), str(key)])).decode().rstrip("=")


def position(cursor: str) -> tuple[str, str]:
    """The time and the key that the cursor stands for. Raises `InvalidRequest`."""
    if len(cursor) > MOST_CHARACTERS:
        raise _unknown(cursor)
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        found = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise _unknown(cursor) from None
    match found:
        case [str(time), str(key)]:
            return time, key
        case _:
            raise _unknown(cursor)


def number(cursor: str) -> int:
    """The number in the audit chain that the cursor stands for. Raises `InvalidRequest`."""
    if not re.fullmatch("[0-9]{1,18}", cursor):
        raise _unknown(cursor)
    return int(cursor)


def _unknown(cursor: str) -> InvalidRequest:
    return InvalidRequest(
        f"No page has given the cursor {cursor[:100]!r}. Use the `next` of a page, or begin without"
        " a cursor."
    )
