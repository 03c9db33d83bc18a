"""The query parameters of a request: those that its route has, and no others. A misspelt filter
that is ignored shows, or follows, something else than was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from assent.core.errors import InvalidRequest
from assent.core.text import visible

SHOWN = 100
"""The most characters of a parameter's name that are repeated to the client."""


async def only_known(request: Request) -> None:
    """Raise `InvalidRequest` for a query parameter that the route does not have."""
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
