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

from assent.api.limits import MAX_BODY_BYTES, limited
from assent.api.problems import EXPECTED, answer
from assent.core.json import FieldTwice, Json, NoNumber, read_strictly
from assent.core.text import visible

SHOWN = 100
"""The most characters of a field's name that are repeated to the client."""


CUT_OFF = (
    "The server stops before it could answer, and what you asked for may have been done or not. "
    "Look when the server is back, or repeat the request under the same Idempotency-Key."
)


class JsonRoute(APIRoute):
    """A route whose body is read by `read_json`, and not beyond its limit. It answers errors with
    problem documents, whosever app it is a part of. A request that is cut off because the server
    ends is told so with 503."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        # An app that includes our router may make the route anew, with its prefix in the path.
        self.own_path: str = vars(endpoint).setdefault("own_path", path)

    def body_limit(self, request: Request) -> int:
        """The most bytes that the body may have."""
        return MAX_BODY_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            try:
                receive = limited(request.receive, self.body_limit(request))
                return await handle(_JsonRequest(request.scope, receive))
            except EXPECTED as error:
                return await answer(request, error)
            except asyncio.CancelledError:
                return await answer(request, HTTPException(503, CUT_OFF))

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
