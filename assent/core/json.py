"""JSON values: their names in annotations, their encoding, and what becomes of values that JSON has
not. And texts, of which Python's parser takes more than RFC 8259 has."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

Json = Any
"""Any JSON value."""

JsonObject = dict[str, Any]
"""A JSON object."""

MAX_DEPTH = 64
"""The most objects and lists within each other in what clients send. It is stored and shown within
others, and the writers of JSON end at 254."""

encode_json = msgspec.json.Encoder().encode
"""Encode a value as JSON bytes. Times are RFC 3339, enums their values."""


class FieldTwice(ValueError):
    """A text of JSON has this field more than once in one object."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the field '{name}' is there twice")
        self.name = name


class NoNumber(ValueError):
    """A text of JSON has this constant: NaN, Infinity or -Infinity."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is no number there")
        self.name = name


class TooManyFields(ValueError):
    """A text of JSON has more objects and fields than are taken."""


def read_strictly(text: str, *, most_fields: int | None = None) -> Json:
    """The value of the text, where every program reads the same.

    Raises `json.JSONDecodeError` for what is not JSON, `FieldTwice` or `NoNumber` for what is taken
    for it by Python, `RecursionError` for endless nesting, `TooManyFields` for more than
    `most_fields` objects and fields together, and any other `ValueError` for a number of more
    digits than Python reads (4,300).
    """
    objects = _each_once if most_fields is None else _Counted(most_fields)
    return json.loads(text, object_pairs_hook=objects, parse_constant=_refuse_constant)


def read_typed(text: str) -> Json:
    """The value of a text that a person typed. Raises `ValueError` for what is not JSON, or what
    another program may read otherwise: something else would be stored than was typed."""
    try:
        value = read_strictly(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("the number is too large") from None
    return value


def is_too_deep(value: Json) -> bool:
    """True if more than `MAX_DEPTH` objects and lists are within each other in the value."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Json] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        if not inner:
            return False
        level = inner
    return any(isinstance(each, dict | list) for each in level)


def _each_once(pairs: Sequence[tuple[str, Json]]) -> JsonObject:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        counted = Counter(name for name, _ in pairs)
        ((twice, _),) = counted.most_common(1)
        raise FieldTwice(twice)
    return fields


class _Counted:
    """Makes objects until there are too many, before the rest is read."""

    __slots__ = ("_left",)

    def __init__(self, most: int) -> None:
        self._left = most

    def __call__(self, pairs: Sequence[tuple[str, Json]]) -> JsonObject:
        self._left -= len(pairs) + 1
        if self._left < 0:
            raise TooManyFields("there are too many fields")
        return _each_once(pairs)


def _refuse_constant(name: str) -> NoReturn:
    raise NoNumber(name)


def holds(found: Json, wanted: Json) -> bool:
    """True if all of `wanted` is in the value: of an object each field, of a list each item in any
    place, and everything else as it is."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            name in found and holds(found[name], each) for name, each in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        items = found if isinstance(found, list | tuple) else ()
        is_list = isinstance(found, list | tuple)
        return is_list and all(any(holds(item, each) for item in items) for each in wanted)
    # In JSON, true is no 1.
    return bool(found == wanted) and isinstance(found, bool) is isinstance(wanted, bool)


def numbers_as_in(before: Json, value: Json) -> Json:
    """The value, in which each number that `before` has at the same place is of the same type.

    1 and 1.0 are one number in JSON, and what reads and writes it, such as a browser, makes 1 of
    1.0. To Python they are two.
    """
    if isinstance(value, dict) and isinstance(before, dict):
        return {
            name: numbers_as_in(before[name], each) if name in before else each
            for name, each in value.items()
        }
    if isinstance(value, list) and isinstance(before, list):
        known = before[: len(value)]
        same = [numbers_as_in(*each) for each in zip(known, value, strict=False)]
        return same + value[len(known) :]
    is_whole = type(value) is int and type(before) is float
    return before if is_whole and value == before else value


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
