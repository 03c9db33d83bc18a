"""Bodies as JSON: what RFC 8259 calls so, in UTF-8, with each name once in its object.

Python's parser takes more: UTF-16 and UTF-32, NaN, and of two fields with one name the last. Then
what is carried out may not be what another program, such as a proxy that checks requests, has read.
Nor is taken what programs read differently, or cannot hold: numbers beyond 64 bits, NUL, half of a
character; nor what costs more to walk through than to send.
"""

from __future__ import annotations

import json
import math
import re
from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from assent.core.json import MAX_DEPTH, FieldTwice, Json, NoNumber, TooManyFields, read_strictly
from assent.core.text import visible

SHOWN = 100
"""The most characters of a name that are repeated to the client."""

MOST_FIELDS = 20_000
"""The most objects and fields in all."""

MOST_VALUES = 100_000
"""The most values in all, such as numbers in a list: half a million take half a second."""

_MOST = 1 << 63

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")

_ESCAPED_NO_TEXT = re.compile(r"\\u(0000|d[89a-f])", re.IGNORECASE)
"""What stands in a text of JSON where its value may have `_NO_TEXT`; nowhere else need anybody
look. JSON has no NUL but as this, and UTF-8 no half of a character."""


class JsonRequest(Request):
    """A request whose body is read by `read_json`."""

    async def json(self) -> Json:
        if not hasattr(self, "_value"):
            body = await self.body()
            self._value = read_json(body) if body else None
        return self._value


Model = TypeVar("Model", bound=BaseModel)


def read_as(model: type[Model], value: Json, place: str) -> Model:
    """The value as the model has it. Raises `RequestValidationError`, whose sentences name where in
    the `place` something is wrong: for what comes in a larger body, or on a socket."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = [{**each, "loc": (place, *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None


def read_json(body: bytes) -> Json:
    """The value. Raises `HTTPException` (400) if the body is not JSON, or no program could be
    expected to read it."""
    try:
        return read_json_text(body.decode(), "body")
    except UnicodeDecodeError:
        raise HTTPException(400, "The body is not UTF-8.") from None


def read_json_text(text: str, what: str) -> Json:
    """The value of the text, which clients know as a body or a frame. Raises what `read_json`
    does."""
    value = _parsed(text, what)
    _check(value, what, has_texts=_ESCAPED_NO_TEXT.search(text) is not None)
    return value


def _parsed(text: str, what: str) -> Json:
    try:
        return read_strictly(text, most_fields=MOST_FIELDS)
    except FieldTwice as error:
        name = visible(error.name[:SHOWN])
        raise HTTPException(
            400, f"The {what} has the field '{name}' more than once in one object."
        ) from None
    except NoNumber as error:
        raise HTTPException(
            400, f"The {what} is not JSON: it has {error.name}, which is no number there."
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise HTTPException(400, f"The {what} is not JSON: {error.msg} at {where}.") from None
    except RecursionError:
        raise _too_deep(what) from None
    except TooManyFields:
        raise HTTPException(
            400, f"The {what} has more than {MOST_FIELDS:,} objects and fields."
        ) from None
    except ValueError:
        raise _too_long(what) from None


def _check(value: Json, what: str, *, has_texts: bool) -> None:
    """Raise 400 for what other programs would not read as we do. Only if it `has_texts` need they
    be looked at."""
    level, depth, count = [value], 0, 1
    while level:
        if depth == MAX_DEPTH and any(isinstance(each, dict | list) for each in level):
            raise _too_deep(what)
        deeper: list[Json] = []
        for each in level:
            kind = type(each)
            if kind is dict:
                deeper.extend(each.values())
                if has_texts:
                    deeper.extend(each)
            elif kind is list:
                deeper.extend(each)
            elif kind is int or kind is float:
                _check_number(each, what)
            elif has_texts and kind is str and _NO_TEXT.search(each):
                raise HTTPException(400, f"The {what} has a text with NUL, or half a character.")
        level, depth, count = deeper, depth + 1, count + len(deeper)
        if count > MOST_VALUES:
            raise HTTPException(400, f"The {what} has more than {MOST_VALUES:,} values.")


def _check_number(number: float, what: str) -> None:
    is_held = math.isfinite(number) if isinstance(number, float) else -_MOST <= number < _MOST
    if not is_held:
        raise _too_long(what)


def _too_deep(what: str) -> HTTPException:
    return HTTPException(
        400, f"The {what} is nested too deeply: at most {MAX_DEPTH} objects and lists."
    )


def _too_long(what: str) -> HTTPException:
    return HTTPException(
        400, f"The {what} has a number that is too long: whole ones have at most 64 bits."
    )
