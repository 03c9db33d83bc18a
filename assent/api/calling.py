"""Endpoints, called for a request with what their parameters say.

FastAPI finds out anew for each request how an endpoint's dependencies are to be called, which takes
longer than most of our endpoints do. That never changes, so here it is found out once. Arguments
are validated by FastAPI's own fields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from fastapi import Request, Response, params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

Given = dict[Callable[..., Any], Any]
"""What the dependencies of a request have given so far: each is called once."""

Errors = list[dict[str, Any]]


def is_plain(dependant: Dependant) -> bool:
    """True if an `Endpoint` can be made of it: it and its dependencies are coroutine functions that
    take parameters of the URL, headers, the request, and at most one body of JSON."""
    of_fastapi = (
        dependant.websocket_param_name,
        dependant.http_connection_param_name,
        dependant.response_param_name,
        dependant.background_tasks_param_name,
        dependant.security_scopes_param_name,
    )
    bodies = [field.field_info for field in dependant.body_params]
    has_json = all(type(each) is params.Body and not each.embed for each in bodies)
    return (
        inspect.iscoroutinefunction(dependant.call)
        and not any(of_fastapi)
        and has_json
        and len(bodies) <= 1
        and all(is_plain(each) and not each.body_params for each in dependant.dependencies)
    )


class Endpoint:
    """The endpoint of a route, or a dependency of one. The route's is called by `respond`."""

    def __init__(self, dependant: Dependant) -> None:
        assert dependant.call is not None
        self._call = dependant.call
        self._request = dependant.request_param_name
        self._parts = [(each.name, Endpoint(each)) for each in dependant.dependencies]
        self._body = next(iter(dependant.body_params), None)
        read: list[tuple[Sequence[Any], Callable[[Request], Mapping[str, Any]]]] = [
            (dependant.path_params, lambda request: request.path_params),
            (dependant.query_params, lambda request: request.query_params),
            (dependant.header_params, lambda request: request.headers),
            (dependant.cookie_params, lambda request: request.cookies),
        ]
        self._read = [(fields, of) for fields, of in read if fields]

    async def respond(self, request: Request) -> Response:
        """Call it. Raises `RequestValidationError`, or whatever it raises."""
        has_body = self._body is not None and await _has_body(request)
        body = await request.json() if has_body else None
        errors: Errors = []
        arguments = await self._arguments(request, {}, errors)
        if self._body is not None:
            arguments[self._body.name] = self._validated(body, has_body, errors)
        if errors:
            raise RequestValidationError(errors, body=body)
        response = await self._call(**arguments)
        assert isinstance(response, Response)
        return response

    async def _arguments(self, request: Request, given: Given, errors: Errors) -> dict[str, Any]:
        """The arguments but the body. What is wrong with them is added to the errors."""
        arguments: dict[str, Any] = {}
        for name, part in self._parts:
            if part._call not in given:
                theirs: Errors = []
                known = await part._arguments(request, given, theirs)
                if theirs:
                    errors += theirs
                    continue
                given[part._call] = await part._call(**known)
            if name is not None:
                arguments[name] = given[part._call]
        for fields, of in self._read:
            values, wrong = request_params_to_args(fields, of(request))
            arguments |= values
            errors += wrong
        if self._request is not None:
            arguments[self._request] = request
        return arguments

    def _validated(self, body: Any, has_body: bool, errors: Errors) -> Any:
        """The body as the endpoint takes it."""
        field = self._body
        assert field is not None
        if not has_body and not field.field_info.is_required():
            return deepcopy(field.field_info.default)
        if not has_body:
            errors.append({"type": "missing", "loc": ("body",), "msg": "Field required"})
            return None
        value, wrong = field.validate(body, {}, loc=("body",))
        errors += wrong
        return value


async def _has_body(request: Request) -> bool:
    try:
        return bool(await request.body())
    except ClientDisconnect:
        raise HTTPException(400, "The body did not come whole.") from None
