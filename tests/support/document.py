"""The server's own OpenAPI document, and what it says of each answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple

import httpx
import jsonschema_rs

from assent.api.app import ROUTES, make_app
from assent.api.routes.dialects import DIALECT_ROUTES

OPEN = ("Problem", "OutcomeOfOne")
"""The shapes that have more members, which depend on what was wrong."""

MOST_ITEMS = 10
"""Of longer lists, only as many items are looked at: a test may list thousands."""

Check = Callable[[Any], None]


class Operation(NamedTuple):
    """What the document says of the paths that are like this one, by method."""

    path: re.Pattern[str]
    methods: dict[str, Any]


@cache
def document() -> Any:
    """The document of a server with all dialects."""
    modules = [*ROUTES, *(module for modules in DIALECT_ROUTES.values() for module in modules)]
    return make_app([module.router for module in modules], _never).openapi()


@asynccontextmanager
async def _never(app: Any) -> Any:
    yield


async def check_response(response: httpx.Response) -> None:
    """Hold the response to the document: its status, its type, and all of a JSON body. Paths that
    are not in it are another app's, or nobody's."""
    request = response.request
    methods = _methods(request.url.path)
    if methods is None or request.method.lower() not in methods:
        return
    place = f"{request.method} {request.url.path} {response.status_code}"
    responses = methods[request.method.lower()]["responses"]
    documented = _resolved(responses.get(str(response.status_code)))
    assert documented is not None, f"{place}: this status is not in the document"
    type_ = response.headers.get("content-type", "")
    content = documented.get("content", {})
    media_type = next((each for each in (type_, type_.split(";")[0], "*/*") if each in content), "")
    assert media_type or not type_, f"{place}: {type_} is not in the document: {list(content)}"
    if media_type.endswith("json"):
        await response.aread()
        if response.content:
            schema = json.dumps(content[media_type]["schema"])
            _validator(schema)(_shortened(response.json()))


def closed(schema: Any) -> Any:
    """The schema, with no members but those that it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    if isinstance(parts.get("properties"), dict) and schema.get("title") not in OPEN:
        parts.setdefault("additionalProperties", False)
    return parts


@cache
def _validator(schema: str) -> Check:
    components = _closed_components()
    whole = {**json.loads(schema), "components": components}
    # Of these two libraries the quicker one: it is asked of every answer of every test.
    return jsonschema_rs.Draft202012Validator(whole).validate


@cache
def _closed_components() -> Any:
    return closed({"schemas": document()["components"]["schemas"]})


def _shortened(value: Any) -> Any:
    if isinstance(value, list):
        return [_shortened(item) for item in value[:MOST_ITEMS]]
    if isinstance(value, dict):
        return {name: _shortened(part) for name, part in value.items()}
    return value


def _resolved(response: Any) -> Any:
    if response is not None and "$ref" in response:
        return document()["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    return response


def _methods(path: str) -> dict[str, Any] | None:
    for operation in _operations():
        if operation.path.fullmatch(path):
            return operation.methods
    return None


@cache
def _operations() -> tuple[Operation, ...]:
    return tuple(sorted(_each_operation(), key=lambda each: each.path.pattern.count("(")))


def _each_operation() -> Iterator[Operation]:
    for path, methods in document()["paths"].items():
        pattern = re.sub(r"\\\{(\w+)\\\}", "([^/]+)", re.escape(path))
        yield Operation(re.compile(pattern), methods)
