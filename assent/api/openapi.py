"""The OpenAPI document, with a schema for every event type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from assent.core.events import json_schemas
from assent.core.json import JsonObject

Responses = dict[int | str, dict[str, Any]]

EVENTS = "text/event-stream"

SSE_RESPONSE: Responses = {
    200: {
        "description": "Events, each as `id: <seq>` and `data: <an Event as JSON>`.",
        # In the document of another app nobody adds the schema that a reference would name.
        "content": {EVENTS: {"schema": {"type": "string"}}},
    }
}

FOREIGN_SSE: Responses = {
    200: {
        "description": "Events, each as `data: <JSON>`, in the form of the dialect.",
        "content": {f"{EVENTS}; charset=utf-8": {"schema": {"type": "string"}}},
    }
}

ENDED_RESPONSE: Responses = {200: {"description": "All of the runs have ended"}}


def install(app: FastAPI) -> None:
    """Add the event types to the app's document, and say which responses are events."""

    def openapi() -> JsonObject:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            union, components = json_schemas()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(components, Event=union)
            for content in _contents(document):
                if EVENTS in content:
                    content[EVENTS]["schema"] = {"$ref": "#/components/schemas/Event"}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _contents(document: JsonObject) -> Iterator[JsonObject]:
    """What each response of each route has, by its media type."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                yield response.get("content", {})
