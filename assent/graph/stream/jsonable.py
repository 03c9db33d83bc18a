"""Any value as the JSON of an event: it can be encoded and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from pydantic import BaseModel
from pydantic_core import to_json, to_jsonable_python

from assent.core.json import Json, JsonObject, encode_json, plain_json, valid_text

MAX_DEPTH = 20
"""The depth to which `event_json` looks for usable parts of a value that pydantic cannot serialise
whole."""


def _type_name(value: Any) -> str:
    return f"<{type(value).__name__}>"


def event_json(value: Any, *, unknown: Callable[[Any], str] = _type_name) -> Json:
    """Convert any value to JSON. Never raises.

    Messages, models and dataclasses become objects, bytes become base64, and NaN and the infinities
    their names. Anything else that is not JSON becomes what `unknown` makes of it: by default, the
    name of its type in angle brackets.
    """
    try:
        serialised = _serialised(value, unknown)
        return serialised if _is_plain(serialised) else plain_json(serialised)
    except Exception:
        return _salvaged(value, unknown, MAX_DEPTH)


def encoded_message(message: BaseMessage, *, unknown: Callable[[Any], str]) -> bytes:
    """The JSON of what `event_json` makes of a message, in half of the time. Never raises."""
    try:
        # A message has no field that is a number, so NaN is written as its name, wherever it is.
        text = to_json(message, fallback=unknown, serialize_unknown=True, bytes_mode="base64")
    except Exception:
        text = b"NaN"
    if b"NaN" in text or b"Infinity" in text:
        return encode_json(event_json(message, unknown=unknown))
    return text


def bounded(fields: JsonObject, most_bytes: int) -> JsonObject:
    """The fields that have at most so many bytes together. If that is too much, the longest go
    first."""
    sizes = {name: len(encode_json(value)) for name, value in fields.items()}
    total = sum(sizes.values())
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if total <= most_bytes:
            break
        total -= sizes.pop(name)
    return {name: value for name, value in fields.items() if name in sizes}


def _serialised(value: Any, unknown: Callable[[Any], str]) -> Any:
    return to_jsonable_python(
        value,
        fallback=unknown,
        serialize_unknown=True,
        bytes_mode="base64",
    )


def _is_plain(serialised: Any) -> bool:
    """True if JSON can hold the value as it is. To write it down is quicker than to look at each
    part, and a state has thousands. A text that only looks like one of these names is looked at."""
    try:
        text = to_json(serialised)
    except ValueError:
        return False
    return b"NaN" not in text and b"Infinity" not in text


def _salvaged(value: Any, unknown: Callable[[Any], str], depth: int) -> Json:
    """The usable parts of a value that contains itself, or one of whose parts raises."""
    parts = _named_parts(value)
    if depth and parts is not None:
        return {
            _field_name(name, unknown): _salvaged(item, unknown, depth - 1) for name, item in parts
        }
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_salvaged(item, unknown, depth - 1) for item in value]
    try:
        return plain_json(_serialised(value, unknown))
    except Exception:
        return _type_name(value)


def _field_name(key: Any, unknown: Callable[[Any], str]) -> str:
    """The key of a mapping as the name of a field."""
    try:
        (name,) = _serialised({key: None}, unknown)
    except Exception:
        name = str(key)
    return valid_text(name)


def _named_parts(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """The parts of a value that becomes an object; None for any other."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, BaseModel):
        return iter(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in fields(value)]
    return None
