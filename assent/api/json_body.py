"""Bodies as JSON: what RFC 8259 calls so, in UTF-8, with each name once in its object.

Python's parser takes more: UTF-16 and UTF-32, NaN, and of two fields with one name the last. Then
what is carried out may not be what another program, such as a proxy that checks requests, has read.
"""

from __future__ import annotations

import json

from fastapi import Request
from starlette.exceptions import HTTPException

from assent.core.json import FieldTwice, Json, NoNumber, read_strictly
from assent.core.text import visible

SHOWN = 100
"""The most characters of a name that are repeated to the client."""


class JsonRequest(Request):
    """A request whose body is read by `read_json`."""

    async def json(self) -> Json:
        if not hasattr(self, "_value"):
            body = await self.body()
            self._value = read_json(body) if body else None
        return self._value


def read_json(body: bytes) -> Json:
    """The value. Raises `HTTPException`: 400 if the body is not JSON, 422 if it is, and no program
    could be expected to read it."""
    try:
        return read_json_text(body.decode(), "body")
    except UnicodeDecodeError:
        raise HTTPException(400, "The body is not UTF-8.") from None


def read_json_text(text: str, what: str) -> Json:
    """The value of the text, which clients know as a body or a frame. Raises what `read_json`
    does."""
    try:
        return read_strictly(text)
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
        raise HTTPException(422, f"The {what} is nested too deeply.") from None
    except ValueError:
        raise HTTPException(422, f"The {what} has a number that is too long.") from None
