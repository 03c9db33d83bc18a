"""The store over HTTP: whose items a request reaches, and the bodies that LangGraph's clients send.

Graphs choose namespaces as they like, so nothing in one says whose it is. A person reaches what is
below the label with their name, in their tenant, and nothing else; on a server that knows nobody,
everything. LangGraph's labels have no points: see `label_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import Request
from langgraph.store.base import (
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchItem,
    SearchOp,
)
from pydantic import Field, StrictBool, StrictFloat, StrictInt

from assent.api.access.project_auth import namespace_for
from assent.api.context import served
from assent.api.langgraph_shapes import LangGraphBody
from assent.core.audit import Actor
from assent.core.errors import Forbidden, InvalidInput
from assent.core.json import JsonObject
from assent.storage.store import MAX_KEY, MAX_LABEL, MAX_LABELS, as_tenant

Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL)]
Labels = Annotated[list[Label], Field(max_length=MAX_LABELS)]
ItemKey = Annotated[str, Field(min_length=1, max_length=MAX_KEY)]

MOST_LEFT_OUT = 10_000


class ItemPlace(LangGraphBody):
    """The namespace and the key of an item."""

    namespace: Labels
    key: ItemKey


class ItemRequest(ItemPlace):
    """An item to put in the place of what is there."""

    value: JsonObject
    index: Literal[False] | list[str] | None = Field(
        default=None, description="The fields that a search by meaning finds; false for none"
    )
    ttl: StrictFloat | None = Field(
        default=None, description="The minutes for which it is kept, once nobody reads it any more"
    )


class ItemsSearch(LangGraphBody):
    """The items to find."""

    namespace_prefix: Labels = Field(default_factory=list)
    filter: JsonObject | None = None
    limit: StrictInt = Field(default=10, ge=1, le=1000)
    offset: StrictInt = Field(default=0, ge=0, le=MOST_LEFT_OUT)
    query: str | None = Field(default=None, max_length=10_000)
    refresh_ttl: StrictBool | None = None


class NamespacesSearch(LangGraphBody):
    """The namespaces to find; `*` is any label."""

    prefix: Labels = Field(default_factory=list)
    suffix: Labels = Field(default_factory=list)
    max_depth: StrictInt | None = Field(default=None, ge=1, le=MAX_LABELS)
    limit: StrictInt = Field(default=100, ge=1, le=1000)
    offset: StrictInt = Field(default=0, ge=0, le=MOST_LEFT_OUT)


def label_of(name: str) -> str:
    """The label with the person's name: `ann`, `ann@example%2Ecom`. Others have other labels."""
    return name.replace("%", "%25").replace(".", "%2E")


class Reach:
    """The part of the store that a request reaches."""

    def __init__(self, request: Request, by: Actor) -> None:
        server = served(request)
        self._request = request
        self._store = server.store
        self._tenant = by.tenant
        self._label = None if server.knows_nobody else label_of(by.name)

    def named(self, given: Sequence[str]) -> tuple[str, ...]:
        """The namespace that is given, or what the project's own rules have made of it."""
        return namespace_for(self._request, given)

    def has(self, namespace: Sequence[str]) -> bool:
        """True if the request reaches items in the namespace."""
        return self._label is None or tuple(namespace[:1]) == (self._label,)

    async def put(self, body: ItemRequest) -> None:
        """Put the item. Raises `Forbidden` for somebody else's namespace."""
        namespace = self._own(body.namespace)
        await self._do(PutOp(namespace, body.key, body.value, body.index, body.ttl))

    async def delete(self, body: ItemPlace) -> None:
        """Remove the item, if there is one. Raises `Forbidden` for somebody else's namespace."""
        await self._do(PutOp(self._own(body.namespace), body.key, None))

    async def get(self, namespace: str, key: str, refresh_ttl: bool) -> Item | None:
        """The item, None if there is none, or it is not reached."""
        labels = self.named(namespace.split("."))
        if not self.has(labels):
            return None
        found: Item | None = await self._do(GetOp(labels, key, refresh_ttl))
        return found

    async def search(self, body: ItemsSearch) -> list[SearchItem]:
        """The items that are reached."""
        prefix = self.named(body.namespace_prefix) or self._root
        if not self.has(prefix):
            return []
        refresh = True if body.refresh_ttl is None else body.refresh_ttl
        op = SearchOp(prefix, body.filter, body.limit, body.offset, body.query, refresh)
        found: list[SearchItem] = await self._do(op)
        return found

    async def namespaces(self, body: NamespacesSearch) -> list[tuple[str, ...]]:
        """The namespaces that are reached."""
        prefix = self.named(body.prefix) or self._root
        if not self.has(prefix):
            return []
        conditions = [MatchCondition("prefix", prefix)] if prefix else []
        conditions += [MatchCondition("suffix", tuple(body.suffix))] if body.suffix else []
        op = ListNamespacesOp(tuple(conditions), body.max_depth, body.limit, body.offset)
        found: Iterable[tuple[str, ...]] = await self._do(op)
        # A person's name may be a `*`.
        return [each for each in found if self.has(each)]

    @property
    def _root(self) -> tuple[str, ...]:
        return () if self._label is None else (self._label,)

    def _own(self, given: Sequence[str]) -> tuple[str, ...]:
        namespace = self.named(given)
        if not self.has(namespace):
            raise Forbidden(
                f"The first label of a namespace is your name here: '{self._label}'. What graphs "
                "keep in others is theirs."
            )
        return namespace

    async def _do(self, op: Op) -> Any:
        with as_tenant(self._tenant):
            try:
                (result,) = await self._store.abatch([op])
            except ValueError as error:
                raise InvalidInput(str(error)) from error
        return result


def item_view(item: Item) -> JsonObject:
    """An item."""
    return {
        "namespace": list(item.namespace),
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


def search_item_view(item: SearchItem) -> JsonObject:
    """An item that was found, with how well it fits the query."""
    return {**item_view(item), "score": item.score}
