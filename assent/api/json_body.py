"""Bodies as JSON: what RFC 8259 calls so, in UTF-8, with each name once in its object.

Python's parser takes more: UTF-16 and UTF-32, NaN, and of two fields with one name the last. Then
what is carried out may not be what another program, such as a proxy that checks requests, has read.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from assent.core.json import FieldTwice, Json, NoNumber, read_strictly
from assent.core.text import visible

SHOWN = 100
"""The most characters of a field's name that are repeated to the client."""


CUT_OFF = (
    "The server stops before it could answer, and what you asked for may have been done or not. "
    "Look when the server is back, or repeat the request under the same Idempotency-Key."
)


class JsonRoute(APIRoute):
    """A route whose body is read by `read_json`. A request that is cut off because the server ends
    is told so with 503."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            try:
                return await handle(_JsonRequest(request.scope, request.receive))
            except asyncio.CancelledError:
                raise HTTPException(503, CUT_OFF) from None

        return handle_json


class _JsonRequest(Request):
    async def json(self) -> Json:
        if not hasattr(self, "_value"):
            body = await self.body()
            self._value = read_json(body) if body else None
        return self._value


def read_json(body: bytes) -> Json:
    """The value. Raises `HTTPException`: 400 if the body is not JSON, 422 if it is, and no program
    could be expected to read it."""
    try:
        return read_strictly(body.decode())
    except UnicodeDecodeError:
        raise HTTPException(400, "The body is not UTF-8.") from None
    except FieldTwice as error:
        name = visible(error.name[:SHOWN])
        raise HTTPException(
            400, f"The body has the field '{name}' more than once in one object."
        ) from None
    except NoNumber as error:
        raise HTTPException(
            400, f"The body is not JSON: it has {error.name}, which is no number there."
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise HTTPException(400, f"The body is not JSON: {error.msg} at {where}.") from None
    except RecursionError:
        raise HTTPException(422, "The body is nested too deeply.") from None
    except ValueError:
        raise HTTPException(422, "The body has a number that is too long.") from None
