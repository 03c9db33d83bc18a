"""JSON values: their names in annotations, their encoding, and what becomes of values that JSON has
not."""

import json
import math
from typing import Any

import msgspec

Json = Any
"""Any JSON value."""

JsonObject = dict[str, Any]
"""A JSON object."""

encode_json = msgspec.json.Encoder().encode
"""Encode a value as JSON bytes. Times are RFC 3339, enums their values."""


def plain_json(value: Json) -> Json:
    """The value as JSON can hold it. Python's parser takes more: NaN and the infinities become
    their names, and half a surrogate pair becomes "?"."""
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else json.dumps(value)
    if isinstance(value, dict):
        return {valid_text(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return value


def valid_text(text: str) -> str:
    """The text, with whatever UTF-8 cannot encode replaced by "?".

    A provider that splits its stream in the middle of a character sends half surrogate pairs.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
