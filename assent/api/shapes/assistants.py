"""Assistants, as LangGraph's server shows them."""

from __future__ import annotations

from typing import TypedDict

from assent.api.shapes.common import Time
from assent.core.json import Json, JsonObject


class AssistantView(TypedDict):
    """An agent, or an agent with settings of its own."""

    assistant_id: str
    graph_id: str
    name: str
    description: str | None
    config: JsonObject
    context: JsonObject
    metadata: JsonObject
    version: int
    created_at: Time
    updated_at: Time


class AssistantVersionView(TypedDict):
    """A version of an assistant."""

    assistant_id: str
    graph_id: str
    name: str
    description: str | None
    config: JsonObject
    context: JsonObject
    metadata: JsonObject
    version: int
    created_at: Time


class FoundAssistant(TypedDict, total=False):
    """An assistant that was found, with the fields that were selected."""

    assistant_id: str
    graph_id: str
    name: str
    description: str | None
    config: JsonObject
    context: JsonObject
    metadata: JsonObject
    version: int
    created_at: Time
    updated_at: Time


class DrawingView(TypedDict):
    """The nodes and edges of a graph."""

    nodes: list[JsonObject]
    edges: list[JsonObject]


class SchemasView(TypedDict):
    """The JSON Schemas of a graph; null in place of one that its types do not have."""

    graph_id: str
    input_schema: Json
    output_schema: Json
    state_schema: Json
    config_schema: Json
    context_schema: Json
