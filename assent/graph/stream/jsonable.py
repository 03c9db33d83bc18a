"""Any value as the JSON of an event: it can be encoded and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from assent.core.json import Json

MAX_DEPTH = 20
"""The depth to which `event_json` looks for usable parts of a value that pydantic cannot serialise
whole."""


def event_json(value: Any) -> Json:
    """Convert any value to JSON. Never raises.

    Messages, models and dataclasses become objects, bytes become base64, and anything else that is
    not JSON becomes the name of its type in angle brackets.
    """
    try:
        return _with_valid_text(
            to_jsonable_python(
                value, fallback=_type_name, serialize_unknown=True, bytes_mode="base64"
            )
        )
    except Exception:
        return _salvaged(value, MAX_DEPTH)


def valid_text(text: str) -> str:
    """The text, with whatever UTF-8 cannot encode replaced by "?".

    A provider that splits its stream in the middle of a character sends half surrogate pairs.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _with_valid_text(jsonable: Json) -> Json:
    if isinstance(jsonable, str):
        return valid_text(jsonable)
    if isinstance(jsonable, dict):
        return {valid_text(key): _with_valid_text(item) for key, item in jsonable.items()}
    if isinstance(jsonable, list):
        return [_with_valid_text(item) for item in jsonable]
    return jsonable


def _salvaged(value: Any, depth: int) -> Json:
    """The usable parts of a value that contains itself, or one of whose parts raises."""
    if depth and isinstance(value, Mapping):
        return {valid_text(str(key)): _salvaged(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_salvaged(item, depth - 1) for item in value]
    try:
        return _with_valid_text(to_jsonable_python(value, fallback=_type_name, bytes_mode="base64"))
    except Exception:
        return _type_name(value)


def _type_name(value: Any) -> str:
    return f"<{type(value).__name__}>"
