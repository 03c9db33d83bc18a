"""Searching threads: by what is stored in the clear in the database, and by the rest, which may be
sealed, among what that finds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

from assent.core.assistants import assistant_id_of
from assent.core.errors import InvalidRequest, NotFound, Tampered
from assent.core.json import Json, JsonObject, holds
from assent.core.metadata import without_title
from assent.core.rows import Thread, ThreadStatus
from assent.graph.stream.jsonable import event_json
from assent.runs.service import Runs
from assent.storage.base import ThreadTime, all_pages

PAGE = 200
"""The threads that are read at once."""

MOST_STATES = 1000
"""The most threads whose states one search reads."""

Order = Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadSearch:
    """The threads to find: those with these `ids`, with the `status`, whose metadata hold
    `metadata`, as they are shown, and whose states hold `values`."""

    ids: tuple[str, ...] | None = None
    status: ThreadStatus | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    values: Mapping[str, Json] = field(default_factory=dict)
    by: Order = "created_at"
    newest_first: bool = True


def shown_metadata(thread: Thread) -> JsonObject:
    """The metadata of a thread, with those by which LangGraph's clients find its assistant."""
    metadata, agent = without_title(thread.metadata), thread.agent
    if agent is None:
        return metadata
    assistant_id = thread.assistant_id or assistant_id_of(agent)
    return {**metadata, "graph_id": agent, "assistant_id": assistant_id}


async def found_threads(
    runs: Runs, search: ThreadSearch, *, offset: int = 0
) -> AsyncGenerator[Thread, None]:
    """The threads in order, behind the first `offset` of them. Each is read when it is asked for,
    since its metadata may have a mebibyte. Raises `InvalidRequest` where too many states would have
    to be read."""
    if search.ids is None and search.by in ("created_at", "updated_at", "state_updated_at"):
        left_out = 0
        async for thread in _matching(runs, search):
            left_out += 1
            if left_out > offset:
                yield thread
        return
    order = attrgetter("updated_at" if search.by == "state_updated_at" else search.by, "thread_id")
    found = [order(each) async for each in _matching(runs, search)]
    found.sort(reverse=search.newest_first)
    for _, thread_id in found[offset:]:
        found_again = await runs.storage.thread(thread_id)
        if found_again is not None:
            yield found_again


async def count_threads(runs: Runs, search: ThreadSearch) -> int:
    """The number of the threads."""
    return len([None async for _ in _matching(runs, search)])


async def _matching(runs: Runs, search: ThreadSearch) -> AsyncIterator[Thread]:
    read = 0
    async for thread in _listed(runs, search):
        if not holds(shown_metadata(thread), search.metadata):
            continue
        if search.values:
            read += 1
            if read > MOST_STATES:
                raise InvalidRequest(
                    "To search by 'values', the state of each thread is read, and there are more "
                    f"than {MOST_STATES:,}: narrow them down by 'ids', 'status' or 'metadata'."
                )
            if not holds(await _values(runs, thread), search.values):
                continue
        yield thread


async def _listed(runs: Runs, search: ThreadSearch) -> AsyncIterator[Thread]:
    if search.ids is not None:
        for thread_id in dict.fromkeys(search.ids):
            thread = await runs.storage.thread(thread_id)
            if thread is not None and search.status in (None, thread.status):
                yield thread
        return
    by: ThreadTime = "created_at" if search.by == "created_at" else "updated_at"
    async for page in all_pages(
        runs.storage.threads,
        status=search.status,
        agent=_agent_in(runs, search.metadata),
        by=by,
        newest_first=search.newest_first,
        limit=PAGE,
    ):
        for thread in page:
            yield thread


def _agent_in(runs: Runs, metadata: Mapping[str, Json]) -> str | None:
    """The agent whose threads alone can have the metadata."""
    graph, assistant = metadata.get("graph_id"), metadata.get("assistant_id")
    if isinstance(graph, str):
        return graph
    return next((name for name in runs.agents if assistant_id_of(name) == assistant), None)


async def _values(runs: Runs, thread: Thread) -> Json:
    """The values of the thread's state, as JSON; None where they cannot be read."""
    try:
        state = await runs.state(thread)
    except (NotFound, Tampered):
        return None
    return event_json(state.values, unknown=str)
