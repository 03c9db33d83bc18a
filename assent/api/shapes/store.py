"""Items of the store, as LangGraph's server shows them."""

from __future__ import annotations

from typing import TypedDict

from assent.api.shapes.common import Time
from assent.core.json import JsonObject


class ItemView(TypedDict):
    """An item of the store."""

    namespace: list[str]
    key: str
    value: JsonObject
    created_at: Time
    updated_at: Time


class FoundItem(ItemView):
    """An item that was found, with how well it fits the query, if that could be said."""

    score: float | None


class FoundItems(TypedDict):
    """The items that were found."""

    items: list[FoundItem]


class FoundNamespaces(TypedDict):
    """The namespaces that were found."""

    namespaces: list[list[str]]
