"""What all routes share: a body of JSON within its limit, errors as problem documents, and no query
parameters but their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from assent.api.json_body import SHOWN, JsonRequest
from assent.api.limits import MAX_BODY_BYTES, limited
from assent.api.problems import EXPECTED, answer
from assent.core.errors import InvalidRequest
from assent.core.text import visible

CUT_OFF = (
    "The server stops before it could answer, and what you asked for may have been done or not. "
    "Look when the server is back, or repeat the request under the same Idempotency-Key."
)


class JsonRoute(APIRoute):
    """A route whose body is read by `read_json`, and not beyond its limit. It answers errors with
    problem documents, whosever app it is a part of. A request that is cut off because the server
    ends is told so with 503."""

    body_limit = MAX_BODY_BYTES
    """The most bytes that the body may have."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        # An app that includes our router may make the route anew, with its prefix in the path.
        self.own_path: str = vars(endpoint).setdefault("own_path", path)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            try:
                receive = limited(request.receive, self.body_limit)
                return await handle(JsonRequest(request.scope, receive))
            except EXPECTED as error:
                return await answer(request, error)
            except asyncio.CancelledError:
                return await answer(request, HTTPException(503, CUT_OFF))

        return handle_json


def router_of(tag: str, route_class: type[JsonRoute] = JsonRoute) -> APIRouter:
    """A router of routes that refuse query parameters which they do not have."""
    return APIRouter(tags=[tag], route_class=route_class, dependencies=[Depends(only_known)])


async def only_known(request: Request) -> None:
    """Raise `InvalidRequest` for a query parameter that the route does not have. A misspelt filter
    that is ignored shows, or follows, something else than was asked for."""
    if not request.query_params:
        return
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = set(_names(route.dependant))
    for name in request.query_params:
        if name not in known:
            has = f"It has: {', '.join(sorted(known))}" if known else "It has none"
            raise InvalidRequest(
                f"{request.url.path} has no query parameter '{visible(name[:SHOWN])}'. {has}."
            )


def _names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for part in dependant.dependencies:
        yield from _names(part)
