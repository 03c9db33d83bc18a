"""Assistants, as LangGraph's clients ask for them: each agent is one, and others are agents with
settings of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import Path, Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.context import served
from assent.api.deps import TheActor, TheRuns
from assent.api.langgraph_assistants import (
    AssistantChange,
    AssistantRequest,
    AssistantVersionSearch,
    LatestRequest,
    agent_version_view,
    agent_view,
    assistant_view,
    version_view,
)
from assent.api.langgraph_searches import (
    AssistantCountRequest,
    AssistantSearchRequest,
    page_of,
    selected,
)
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.shapes.assistants import (
    AssistantVersionView,
    AssistantView,
    DrawingView,
    FoundAssistant,
    SchemasView,
)
from assent.core.access import Right
from assent.core.assistants import version_id
from assent.core.audit import Actor
from assent.core.errors import Conflict, InvalidRequest, NotFound
from assent.core.json import JsonObject
from assent.graph.describing import check_depth, drawing_of, schemas_of, subgraphs_of
from assent.runs.assistants import no_assistant
from assent.runs.service import Runs
from assent.storage.base import all_pages

router = router_of("assistants")

AssistantPath = Annotated[str, Path(alias="assistant_id", min_length=1, max_length=200)]


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


@router.post("/assistants/search")
@may(Right.READ, Thing.LIST, langgraph=("assistants", "search"))
@answers(list[FoundAssistant])
async def search_assistants(
    request: Request, runs: TheRuns, by: TheActor, body: AssistantSearchRequest | None = None
) -> Response:
    """The agents that match, and the assistants that were created. If there are more, the header
    `X-Pagination-Next` is the `offset` of those."""
    body = body or AssistantSearchRequest()
    places = [body.place(view) async for view in _views(request, runs) if body.takes(view)]
    ids, headers = page_of(body.page(places), body)
    found: list[JsonObject] = []
    for id in ids:
        # It may have been deleted meanwhile.
        with suppress(NotFound):
            found.append(selected(await _view(request, runs, id), body.select))
    return json_response(found, headers=headers)


@router.post("/assistants/count")
@may(Right.READ, Thing.LIST, langgraph=("assistants", "search"))
@answers(int, description="The number of assistants")
async def count_assistants(
    request: Request, runs: TheRuns, by: TheActor, body: AssistantCountRequest | None = None
) -> Response:
    """The number of assistants that a search would find."""
    body = body or AssistantCountRequest()
    return json_response(len([None async for each in _views(request, runs) if body.takes(each)]))


@router.get("/assistants/{assistant_id}")
@may(Right.READ, Thing.ASSISTANT, langgraph=("assistants", "read"))
@answers(AssistantView)
@refuses(404)
async def get_assistant(
    assistant_id: AssistantPath, request: Request, runs: TheRuns, by: TheActor
) -> Response:
    """An agent, by its name or its id as an assistant; or an assistant that was created."""
    return json_response(await _view(request, runs, assistant_id))


@router.post("/assistants/{assistant_id}/versions")
@may(Right.READ, Thing.ASSISTANT, langgraph=("assistants", "read"))
@answers(list[AssistantVersionView])
async def list_versions(
    assistant_id: AssistantPath,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    body: AssistantVersionSearch | None = None,
) -> Response:
    """The versions of an assistant; an agent itself has one. If there are more, the header
    `X-Pagination-Next` is the `offset` of those."""
    body = body or AssistantVersionSearch()
    itself = runs.assistants.itself(assistant_id)
    if itself is not None:
        only = agent_version_view(itself, served(request).descriptions)
        return json_response([only] if body.offset == 0 and body.takes(only["metadata"]) else [])
    found = await runs.assistants.assistant(assistant_id)
    id = found.assistant_id
    numbers = [
        version.number
        async for page in all_pages(runs.storage.assistant_versions, assistant_id=id)
        for version in page
        if body.takes(version.metadata)
    ]
    chosen, headers = page_of(body.page(numbers), body)
    versions = [await runs.storage.assistant_version(version_id(id, each)) for each in chosen]
    views = [version_view(each) for each in versions if each is not None]
    return json_response(views, headers=headers)


@router.get("/assistants/{assistant_id}/graph")
@may(Right.READ, Thing.ASSISTANT, langgraph=("assistants", "read"))
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
    agent = runs.agents[await _agent(runs, assistant_id)]
    return json_response(await drawing_of(agent, check_depth(xray)))


@router.get("/assistants/{assistant_id}/schemas")
@may(Right.READ, Thing.ASSISTANT, langgraph=("assistants", "read"))
@answers(SchemasView)
@refuses(404)
async def get_schemas(assistant_id: AssistantPath, runs: TheRuns, by: TheActor) -> Response:
    """The JSON Schemas of what the agent takes, gives and remembers."""
    name = await _agent(runs, assistant_id)
    configurable = sorted(runs.shape_of(name).configurable)
    return json_response(schemas_of(runs.agents[name], name, configurable))


@router.get("/assistants/{assistant_id}/subgraphs")
@may(Right.READ, Thing.ASSISTANT, langgraph=("assistants", "read"))
@answers(dict[str, SchemasView], description="The schemas, by the names of the nodes")
@refuses(404)
async def get_subgraphs(
    assistant_id: AssistantPath, runs: TheRuns, by: TheActor, recurse: bool = False
) -> Response:
    """The JSON Schemas of the agent's subgraphs."""
    name = await _agent(runs, assistant_id)
    found = await subgraphs_of(runs.agents[name], name, namespace=None, recurse=recurse)
    return json_response(found)


@router.get("/assistants/{assistant_id}/subgraphs/{namespace}")
@may(Right.READ, Thing.ASSISTANT, langgraph=("assistants", "read"))
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
    name = await _agent(runs, assistant_id)
    found = await subgraphs_of(runs.agents[name], name, namespace=namespace, recurse=recurse)
    return json_response(found)


# ── changing ──────────────────────────────────────────────────────────────────────────────────────


@router.post("/assistants")
@may(Right.RUN, Thing.BODY, langgraph=("assistants", "create"))
@answers(AssistantView)
@refuses(404, 409)
async def create_assistant(
    body: AssistantRequest, request: Request, runs: TheRuns, by: TheActor
) -> Response:
    """An assistant: an agent with a config, a context and metadata of its own, which lie under
    those of the runs that are begun with it. One that exists is a 409, or is returned as it is with
    `"if_exists": "do_nothing"`."""
    try:
        made = await runs.assistants.create(body.begun(), by=by, assistant_id=body.id)
    except Conflict:
        if body.if_exists != "do_nothing" or body.id is None:
            raise
        return await get_assistant(body.id, request, runs, by)
    return json_response(assistant_view(made))


@router.patch("/assistants/{assistant_id}")
@may(Right.RUN, Thing.ASSISTANT, langgraph=("assistants", "update"))
@answers(AssistantView)
@refuses(409)
async def change_assistant(
    assistant_id: AssistantPath, body: AssistantChange, runs: TheRuns, by: TheActor
) -> Response:
    """Change the settings that are sent, which makes the next version. What was begun with the
    assistant keeps those that it has. An agent itself is a 409."""
    changed = await runs.assistants.change(assistant_id, body.settings(), by=by)
    return json_response(assistant_view(changed))


@router.post("/assistants/{assistant_id}/latest")
@may(Right.RUN, Thing.ASSISTANT, langgraph=("assistants", "update"))
@answers(AssistantView)
@refuses(409)
async def set_latest_version(
    assistant_id: AssistantPath, body: LatestRequest, runs: TheRuns, by: TheActor
) -> Response:
    """Give the assistant the settings of one of its versions. An agent itself is a 409."""
    changed = await runs.assistants.go_back(assistant_id, body.version, by=by)
    return json_response(assistant_view(changed))


@router.delete("/assistants/{assistant_id}", status_code=204)
@may(Right.STOP, Thing.ASSISTANT, langgraph=("assistants", "delete"))
@answers(None, 204, description="It is gone")
@refuses(409)
async def delete_assistant(
    assistant_id: AssistantPath,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    delete_threads: Annotated[
        bool,
        Query(description="Delete the threads whose last run was begun with it, too"),
    ] = False,
) -> Response:
    """Delete an assistant with its versions. Runs and crons that were begun with it keep what it
    has set. If one of the threads to delete is busy, it is a 409, and nothing is deleted; so it is
    for an agent itself."""
    found = await runs.assistants.deletable(assistant_id)
    if delete_threads:
        if served(request).project_auth is not None:
            raise InvalidRequest(
                "The project's own rules would not be asked about the threads: delete those with "
                "POST /threads/prune first, and then the assistant alone."
            )
        await _delete_threads(runs, found.assistant_id, by)
    await runs.assistants.delete(found.assistant_id)
    return Response(status_code=204)


async def _delete_threads(runs: Runs, assistant_id: str, by: Actor) -> None:
    ids = [
        thread.thread_id
        async for page in all_pages(runs.storage.threads)
        for thread in page
        if thread.assistant_id == assistant_id
    ]
    await runs.prune(ids, by, keep_latest=False)


# ── finding ───────────────────────────────────────────────────────────────────────────────────────


async def _agent(runs: Runs, assistant_id: str) -> str:
    """The name of the agent behind the assistant. Raises `NotFound`."""
    name = await runs.assistants.agent_of(assistant_id)
    if name is None:
        raise no_assistant(assistant_id)
    if name not in runs.agents:
        raise NotFound(
            f"The assistant '{assistant_id}' is of the agent '{name}', which this server does not "
            "have."
        )
    return name


async def _view(request: Request, runs: Runs, assistant_id: str) -> JsonObject:
    """The assistant as it is shown. Raises `NotFound`."""
    itself = runs.assistants.itself(assistant_id)
    if itself is not None:
        return agent_view(itself, served(request).descriptions)
    return assistant_view(await runs.assistants.assistant(assistant_id))


async def _views(request: Request, runs: Runs) -> AsyncIterator[JsonObject]:
    """Every assistant that is seen, one by one: all of them together may be large."""
    for name in runs.agents:
        yield agent_view(name, served(request).descriptions)
    async for page in all_pages(runs.storage.assistants):
        for assistant in page:
            yield assistant_view(assistant)
