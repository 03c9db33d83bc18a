"""The store, as LangGraph's clients read and write it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers
from assent.api.deps import TheActor
from assent.api.langgraph_store import (
    ItemKey,
    ItemPlace,
    ItemRequest,
    ItemsSearch,
    NamespacesSearch,
    Reach,
    item_view,
    search_item_view,
)
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.shapes.store import FoundItems, FoundNamespaces, ItemView
from assent.core.access import Right

router = router_of("store")


@router.put("/store/items", status_code=204)
@may(Right.RUN, Thing.ITEMS, langgraph=("store", "put"))
@answers(None, 204, description="It is there")
async def put_item(body: ItemRequest, request: Request, by: TheActor) -> Response:
    """Put an item in the place of what is there."""
    await Reach(request, by).put(body)
    return Response(status_code=204)


@router.get("/store/items")
@may(Right.READ, Thing.ITEMS, langgraph=("store", "get"))
@answers(ItemView | None, description="The item, or null if there is none")
async def get_item(
    request: Request,
    by: TheActor,
    namespace: Annotated[str, Query(min_length=1, max_length=5000)],
    key: Annotated[ItemKey, Query()],
    refresh_ttl: bool = True,
) -> Response:
    """An item. The labels of its `namespace` have points between them."""
    item = await Reach(request, by).get(namespace, key, refresh_ttl)
    return json_response(None if item is None else item_view(item))


@router.delete("/store/items", status_code=204)
@may(Right.STOP, Thing.ITEMS, langgraph=("store", "delete"))
@answers(None, 204, description="It is not there")
async def delete_item(body: ItemPlace, request: Request, by: TheActor) -> Response:
    """Remove an item, if there is one."""
    await Reach(request, by).delete(body)
    return Response(status_code=204)


@router.post("/store/items/search")
@may(Right.READ, Thing.ITEMS, langgraph=("store", "search"))
@answers(FoundItems)
async def search_items(body: ItemsSearch, request: Request, by: TheActor) -> Response:
    """Items below a namespace, those that were put last first; with a `query`, and where the store
    has an index, those that mean most nearly the same."""
    found = await Reach(request, by).search(body)
    return json_response({"items": list(map(search_item_view, found))})


@router.post("/store/namespaces")
@may(Right.READ, Thing.ITEMS, langgraph=("store", "list_namespaces"))
@answers(FoundNamespaces)
async def list_namespaces(body: NamespacesSearch, request: Request, by: TheActor) -> Response:
    """Namespaces in which there are items."""
    found = await Reach(request, by).namespaces(body)
    return json_response({"namespaces": list(map(list, found))})
