"""The OpenAPI document, with a schema for every event type."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from assent.core.events import json_schemas
from assent.core.json import JsonObject

Responses = dict[int | str, dict[str, Any]]

SSE_RESPONSE: Responses = {
    200: {
        "description": "Events, each as `id: <seq>` and `data: <an Event as JSON>`.",
        "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/Event"}}},
    }
}

ENDED_RESPONSE: Responses = {200: {"description": "All of the runs have ended"}}


def install(app: FastAPI) -> None:
    """Add the event types to the app's document."""

    def openapi() -> JsonObject:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            union, components = json_schemas()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(components, Event=union)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
