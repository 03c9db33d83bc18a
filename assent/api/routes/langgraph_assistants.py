"""Assistants, as LangGraph's clients ask for them: each agent is one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Path, Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.context import served
from assent.api.deps import TheActor, TheRuns
from assent.api.langgraph_searches import (
    AssistantCountRequest,
    AssistantSearchRequest,
    page_of,
    selected,
)
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.shapes.assistants import AssistantView, DrawingView, FoundAssistant, SchemasView
from assent.core.access import Right
from assent.core.assistants import assistant_id_of
from assent.core.errors import NotFound
from assent.core.json import JsonObject
from assent.graph.describing import check_depth, drawing_of, schemas_of, subgraphs_of
from assent.runs.service import Runs

router = router_of("assistants")

SINCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The time at which an agent is said to have been made: its code does not say."""

AssistantPath = Annotated[str, Path(alias="assistant_id", min_length=1, max_length=200)]


@router.post("/assistants/search")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "search"))
@answers(list[FoundAssistant])
async def search_assistants(
    request: Request, runs: TheRuns, by: TheActor, body: AssistantSearchRequest | None = None
) -> Response:
    """The agents that match. If there are more, the header `X-Pagination-Next` is the `offset` of
    those."""
    body = body or AssistantSearchRequest()
    views, headers = page_of(body.page(_views(request, runs)), body)
    return json_response([selected(each, body.select) for each in views], headers=headers)


@router.post("/assistants/count")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "search"))
@answers(int, description="The number of assistants")
async def count_assistants(
    request: Request, runs: TheRuns, by: TheActor, body: AssistantCountRequest | None = None
) -> Response:
    """The number of agents that a search would find."""
    body = body or AssistantCountRequest()
    return json_response(sum(map(body.takes, _views(request, runs))))


@router.get("/assistants/{assistant_id}")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "read"))
@answers(AssistantView)
@refuses(404)
async def get_assistant(
    assistant_id: AssistantPath, request: Request, runs: TheRuns, by: TheActor
) -> Response:
    """An agent, by its name or its `assistant_id`."""
    return json_response(_view(request, agent_named(runs, assistant_id)))


@router.get("/assistants/{assistant_id}/graph")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "read"))
@answers(DrawingView)
@refuses(404)
async def get_graph(
    assistant_id: AssistantPath,
    runs: TheRuns,
    by: TheActor,
    xray: Annotated[str, Query(max_length=20)] = "false",
) -> Response:
    """The nodes and edges of the agent's graph; with `xray` those of its subgraphs too, down to
    that depth."""
    agent = runs.agents[agent_named(runs, assistant_id)]
    return json_response(await drawing_of(agent, check_depth(xray)))


@router.get("/assistants/{assistant_id}/schemas")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "read"))
@answers(SchemasView)
@refuses(404)
async def get_schemas(assistant_id: AssistantPath, runs: TheRuns, by: TheActor) -> Response:
    """The JSON Schemas of what the agent takes, gives and remembers."""
    name = agent_named(runs, assistant_id)
    configurable = sorted(runs.shape_of(name).configurable)
    return json_response(schemas_of(runs.agents[name], name, configurable))


@router.get("/assistants/{assistant_id}/subgraphs")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "read"))
@answers(dict[str, SchemasView], description="The schemas, by the names of the nodes")
@refuses(404)
async def get_subgraphs(
    assistant_id: AssistantPath, runs: TheRuns, by: TheActor, recurse: bool = False
) -> Response:
    """The JSON Schemas of the agent's subgraphs."""
    name = agent_named(runs, assistant_id)
    found = await subgraphs_of(runs.agents[name], name, namespace=None, recurse=recurse)
    return json_response(found)


@router.get("/assistants/{assistant_id}/subgraphs/{namespace}")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "read"))
@answers(dict[str, SchemasView], description="The schemas, by the names of the nodes")
@refuses(404)
async def get_subgraph(
    assistant_id: AssistantPath,
    namespace: Annotated[str, Path(max_length=2000)],
    runs: TheRuns,
    by: TheActor,
    recurse: bool = False,
) -> Response:
    """The JSON Schemas of the agent's subgraph with this name."""
    name = agent_named(runs, assistant_id)
    found = await subgraphs_of(runs.agents[name], name, namespace=namespace, recurse=recurse)
    return json_response(found)


def agent_named(runs: Runs, assistant_id: str) -> str:
    """The name of the agent with this name, or this `assistant_id`. Raises `NotFound`."""
    for name in runs.agents:
        if assistant_id in (name, assistant_id_of(name)):
            return name
    raise NotFound(f"There is no assistant '{assistant_id}'.")


def _views(request: Request, runs: Runs) -> list[JsonObject]:
    return [_view(request, name) for name in runs.agents]


def _view(request: Request, name: str) -> JsonObject:
    return {
        "assistant_id": assistant_id_of(name),
        "graph_id": name,
        "name": name,
        "description": served(request).descriptions.get(name),
        "config": {},
        "context": {},
        "metadata": {"created_by": "system"},
        "version": 1,
        "created_at": SINCE,
        "updated_at": SINCE,
    }
