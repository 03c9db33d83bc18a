"""Threads, as LangGraph's clients search, copy and prune them."""

from __future__ import annotations

from contextlib import aclosing

from fastapi import Request, Response

from assent.api.access.project_auth import metadata_of
from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.deps import TheActor, TheRuns, ThreadPath
from assent.api.idempotency import TheKey
from assent.api.langgraph_searches import (
    StateAt,
    ThreadCountRequest,
    ThreadPruneRequest,
    ThreadSearchRequest,
    others_behind,
    selected,
)
from assent.api.langgraph_shapes import thread_view
from assent.api.outcomes import after_start, carried_out
from assent.api.responses import Filling, json_response
from assent.api.routing import router_of
from assent.api.shapes.threads import FoundThread, PrunedThreads, StateView, ThreadView
from assent.api.thread_views import state_at, whole_thread_view
from assent.approvals.requesters import each_once
from assent.core.access import Right
from assent.core.json import JsonObject
from assent.core.metadata import OWN_METADATA
from assent.core.rows import Thread
from assent.runs.searching import count_threads, found_threads
from assent.runs.service import Runs

router = router_of("threads")


@router.post("/threads/search")
@may(Right.READ, Thing.LIST, langgraph=("threads", "search"))
@answers(list[FoundThread])
async def search_threads(
    runs: TheRuns, by: TheActor, body: ThreadSearchRequest | None = None
) -> Response:
    """Threads, newest first unless something else is said. If there are more, as behind 4 MiB, the
    header `X-Pagination-Next` is the `offset` of those."""
    body = body or ThreadSearchRequest()
    page = Filling()
    async with aclosing(found_threads(runs, body.search(), offset=body.offset)) as found:
        async for thread in found:
            if len(page.views) == body.limit or not page.takes(await _found(runs, thread, body)):
                return json_response(page.views, headers=others_behind(body, len(page.views)))
    total = {"X-Pagination-Total": str(body.offset + len(page.views))}
    return json_response(page.views, headers=total)


def given_metadata(thread: Thread) -> JsonObject:
    """The metadata of the thread without those that only the server sets: it goes by what they
    say."""
    return {name: each for name, each in thread.metadata.items() if name not in OWN_METADATA}


async def _found(runs: Runs, thread: Thread, body: ThreadSearchRequest) -> JsonObject:
    view = await whole_thread_view(runs, thread) if body.needs_states else thread_view(thread)
    return selected(view, body.select)


@router.post("/threads/count")
@may(Right.READ, Thing.LIST, langgraph=("threads", "search"))
@answers(int, description="The number of threads")
async def count(runs: TheRuns, by: TheActor, body: ThreadCountRequest | None = None) -> Response:
    """The number of threads that a search would find."""
    body = body or ThreadCountRequest()
    return json_response(await count_threads(runs, body.search()))


@router.post("/threads/prune")
@may(Right.STOP, Thing.BODY, langgraph=("threads", "delete"))
@answers(PrunedThreads)
@refuses(404, 409)
async def prune(body: ThreadPruneRequest, runs: TheRuns, by: TheActor) -> Response:
    """Remove threads, or of each all states but the latest. If one of them is not there, or busy,
    nothing is done. Of threads that wait for a person, all states are kept."""
    keep_latest = body.strategy == "keep_latest"
    pruned = await runs.prune(body.thread_ids, by, keep_latest=keep_latest)
    return json_response({"pruned_count": pruned})


@router.post("/threads/{id}/copy")
@may(Right.RUN, Thing.THREAD, langgraph=("threads", "create"))
@answers(ThreadView)
@refuses(409)
async def copy(
    id: ThreadPath, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """A new thread with the state and the metadata of this one. What that waits for is asked anew,
    whatever was decided here. The copy of a task's thread is no task."""
    source = await runs.thread(id)
    metadata = {**given_metadata(source), **metadata_of(request)}
    started = await runs.copy(id, by=by, metadata=metadata, key=key)
    if started is None:
        known_to = each_once(source.requested_by, by.known_to)
        made = await runs.create_thread(
            None, owner=by.owner, metadata=metadata, known_to=known_to, key=key
        )
        return json_response(await whole_thread_view(runs, made))
    run = await carried_out(runs, started, "The state could not be taken over")
    with after_start(run):
        return json_response(await whole_thread_view(runs, await runs.thread(run.thread_id)))


@router.post("/threads/{id}/state/checkpoint")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(StateView)
async def get_state_at_checkpoint(
    id: ThreadPath, body: StateAt, runs: TheRuns, by: TheActor
) -> Response:
    """The thread's state at a checkpoint, or that of one of its subgraphs."""
    thread = await runs.thread(id)
    place = body.checkpoint
    view = await state_at(runs, thread, place.checkpoint_id, ns=place.ns, subgraphs=body.subgraphs)
    return json_response(view)
