"""The OpenAPI document, with a schema for every answer and every event type."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from assent.api.answers import PROBLEM, answers_of, refusals_of, sentence
from assent.api.openapi_links import add_links
from assent.api.routing import JsonRoute
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
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key"},
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same"},
}
_ANY_KEY: Final[list[JsonObject]] = [{name: []} for name in _SECURITY]
"""Either of them will do."""


def install(app: FastAPI) -> None:
    """Give the app a document in which every answer of every route of ours has its schema."""

    def openapi() -> JsonObject:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> JsonObject:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    routes = [each for each in app.routes if isinstance(each, JsonRoute) and each.include_in_schema]
    schemas = _Schemas(each.shape for route in routes for each in answers_of(route.endpoint))
    components = document.setdefault("components", {})
    own = components.get("schemas", {})
    # FastAPI's own problems are no answers of ours.
    bodies = {name: own[name] for name in own if name not in _OF_FASTAPI}
    components["schemas"] = {**bodies, **schemas.components}
    components["securitySchemes"] = _SECURITY
    components["responses"] = {_name(status): _refusal(status) for status in REFUSALS}
    for route in routes:
        for method in sorted(route.methods or ()):
            operation = document["paths"][route.path_format][method.lower()]
            operation["responses"] = _responses(route, operation, schemas)
            operation["security"] = _ANY_KEY if route.rule.right is not None else []
    add_links(document)
    return document


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
