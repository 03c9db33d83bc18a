"""The OpenAPI document, with a schema for every answer and every event type."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from functools import cache
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from assent.api.access.sessions import SESSION, secure_name
from assent.api.answers import PROBLEM, answers_of, refusals_of, sentence
from assent.api.openapi_links import add_links, operations
from assent.api.routing import OWN_PATH, JsonRoute
from assent.api.shapes.common import Problem
from assent.core.events import json_schemas
from assent.core.json import JsonObject

_SCHEMAS: Final = "#/components/schemas/"

REFUSALS: Final[Mapping[int, str]] = {
    400: "The request is not one that can be read",
    401: "Nobody known has sent it",
    403: "Whoever has sent it may not do this",
    404: "There is no such thing, or not for whoever asks",
    408: "The body did not come in time",
    409: "It does not fit what there is now",
    410: "What was asked for is gone",
    413: "The body is too large",
    415: "The body is not of a type that is taken",
    421: "The server does not answer under this name",
    422: "Something in the request is wrong",
    426: "This path takes the handshake of a WebSocket",
    429: "Too many requests, runs or streams",
    500: "The server failed",
    503: "The server, or its storage, is away",
    507: "There is no room for another file",
}
"""What each status of a problem document means."""

_ALWAYS: Final = frozenset({400, 403, 421, 422, 429, 500, 503})
_OF_BODIES: Final = frozenset({408, 413, 415})
_WAITING: Final = frozenset({429, 503})


_SECURITY: Final[JsonObject] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`assent keys create`, or of ASSENT_API_KEYS), or a token of an "
        "issuer",
    },
    "key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Api-Key",
        "description": "An API key, for programs that send it in a header of its own",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": secure_name(SESSION),
        "description": "Whoever has signed in in a browser: `POST /session` or `/session/login`. A "
        "change takes an `Origin` of the server's own besides",
    },
    "local_session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION,
        "description": "The same without https, on the machine of the server",
    },
}
_ANY: Final[list[JsonObject]] = [{name: []} for name in _SECURITY]
"""Any of them will do."""

_OURS: Final = "Assent"
"""What the name of a schema of ours begins with, where an app around us has one of its name."""


def install(app: FastAPI, routers: Sequence[APIRouter], *, by_key: bool = True) -> None:
    """Give the app a document in which every answer of the routers' routes has its schema. Unless
    people are known `by_key`, an app's own dependency says what shows who they are."""

    def openapi() -> JsonObject:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            # FastAPI's own problems are no answers of ours.
            for name in _OF_FASTAPI:
                document.get("components", {}).get("schemas", {}).pop(name, None)
            app.openapi_schema = _described(document, routers, by_key=by_key)
            add_links(app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


@asynccontextmanager
async def describing(
    app: object, routers: Sequence[APIRouter], *, by_key: bool
) -> AsyncIterator[None]:
    """Have the document of an app around ours say of the routers' routes what our own does. All
    else in it stays as the app says it."""
    if not isinstance(app, FastAPI):
        yield
        return
    own = app.openapi

    @cache
    def openapi() -> JsonObject:
        return _described(deepcopy(own()), routers, by_key=by_key, beside=True)

    app.openapi = openapi  # type: ignore[method-assign]
    try:
        yield
    finally:
        app.openapi = own  # type: ignore[method-assign]


def _described(
    document: JsonObject, routers: Sequence[APIRouter], *, by_key: bool, beside: bool = False
) -> JsonObject:
    """The document, with what we know of our own operations. With `beside` it has others, and its
    schemas keep their names."""
    routes = [each for router in routers for each in router.routes if isinstance(each, JsonRoute)]
    by_path = {(method, each.path): each for each in routes for method in each.methods or ()}
    schemas = _Schemas(each.shape for route in routes for each in answers_of(route.endpoint))
    components = document.setdefault("components", {})
    own = components.setdefault("schemas", {})
    taken = own.keys() & schemas.components.keys() if beside else ()
    named = _Renamed({name: f"{_OURS}{name}" for name in taken})
    own.update(
        {named.names.get(name, name): named(each) for name, each in schemas.components.items()}
    )
    refusals = {_name(status): named(_refusal(status)) for status in REFUSALS}
    components.setdefault("responses", {}).update(refusals)
    if by_key:
        components.setdefault("securitySchemes", {}).update(_SECURITY)
    for _, method, operation in operations(document):
        route = by_path.get((method.upper(), operation.pop(OWN_PATH, "")))
        if route is not None:
            operation["responses"] = named(_responses(route, operation, schemas))
            if by_key:
                operation["security"] = _ANY if route.rule.right is not None else []
    return document


class _Renamed:
    """A part of a document in which some schemas have other `names`."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self._references = {f"{_SCHEMAS}{old}": f"{_SCHEMAS}{new}" for old, new in names.items()}

    def __call__(self, part: Any) -> Any:
        if isinstance(part, dict):
            return {name: self(value) for name, value in part.items()}
        if isinstance(part, list):
            return [self(value) for value in part]
        return self._references.get(part, part) if isinstance(part, str) else part


_OF_FASTAPI: Final = ("HTTPValidationError", "ValidationError")


class _Schemas:
    """The schemas of these shapes, and of all events and problems."""

    def __init__(self, shapes: Iterable[Any]) -> None:
        others = {shape: None for shape in (Problem, *shapes) if shape is not None}
        (union, *made), components = json_schemas(*others)
        self._made = dict(zip(others, made, strict=True))
        for schema in components.values():
            schema["description"] = inspect.cleandoc(schema.get("description", ""))
        named = {name: _with_event(schema, union) for name, schema in components.items()}
        self.components: JsonObject = {**named, "Event": union}

    def of(self, shape: Any) -> JsonObject:
        """The schema of one of the shapes."""
        schema: JsonObject = self._made[shape]
        return schema


_EVENT: Final[JsonObject] = {"$ref": f"{_SCHEMAS}Event"}


def _with_event(schema: Any, union: JsonObject) -> Any:
    """The schema, with the name of the union of all events instead of the union itself."""
    if schema == union:
        return _EVENT
    if isinstance(schema, dict):
        return {name: _with_event(part, union) for name, part in schema.items()}
    if isinstance(schema, list):
        return [_with_event(part, union) for part in schema]
    return schema


def _responses(route: JsonRoute, operation: JsonObject, schemas: _Schemas) -> JsonObject:
    refused = _ALWAYS | refusals_of(route.endpoint)
    if route.rule.right is not None:
        refused |= {401}
    if "requestBody" in operation:
        refused |= _OF_BODIES
    if "{" in route.path_format:
        refused |= {404}
    responses: JsonObject = {}
    for answer in answers_of(route.endpoint):
        response = responses.setdefault(
            str(answer.status), {"description": sentence(answer.description)}
        )
        if answer.shape is not None:
            content = response.setdefault("content", {})
            content[answer.media_type] = {"schema": schemas.of(answer.shape)}
        if answer.location:
            response["headers"] = {"Location": _LOCATION}
    for status in sorted(refused):
        if str(status) not in responses:
            responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
        else:
            responses[str(status)].setdefault("content", {}).update(_refusal(status)["content"])
    return responses


_LOCATION: Final[JsonObject] = {
    "description": "The path of what was made",
    "required": True,
    "schema": {"type": "string", "format": "uri-reference"},
}
_RETRY_AFTER: Final[JsonObject] = {
    "description": "The seconds after which to ask again",
    "schema": {"type": "string"},
}


def _name(status: int) -> str:
    return f"Refused{status}"


def _refusal(status: int) -> JsonObject:
    content = {PROBLEM: {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}
    response: JsonObject = {"description": REFUSALS[status], "content": content}
    if status in _WAITING:
        response["headers"] = {"Retry-After": _RETRY_AFTER}
    return response
