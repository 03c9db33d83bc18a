"""Queries: each is a message on the thread of its case, and its answer an execution there. Whoever
asks the same again joins what is under way, so a query runs once however often it is sent."""

from __future__ import annotations

from typing import NamedTuple

from assent.api.dialects.query import Query
from assent.api.executions import first_left, root_of
from assent.approvals.idempotency import Key, stored_outcome
from assent.core.audit import Actor
from assent.core.errors import InvalidRequest, NotFound
from assent.core.json import JsonObject
from assent.core.locks import NamedLocks
from assent.core.rows import UNFINISHED, Run, ThreadStatus
from assent.core.run_input import RunInput, given_in
from assent.runs.follow import first_of
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.base import Storage

PATH = "/ws/query"

CASE = "case_id"

TAKEN = frozenset({ThreadStatus.BUSY, ThreadStatus.INTERRUPTED})
"""The statuses of a thread whose last run, or what goes on after it, has not ended."""


def agent_for_queries(runs: Runs, name: str | None) -> str:
    """The agent that answers queries: the one of this name, or the first that takes messages.
    Raises `NotFound`, or `InvalidRequest` for one that takes none."""
    if name is None:
        takers = (each for each in runs.agents if runs.shape_of(each).takes_message)
        name = next(takers, None)
    if name is None:
        raise NotFound("This server has no agent that takes messages.")
    if not runs.shape_of(name).takes_message:
        raise InvalidRequest(f"The agent '{name}' takes no messages, so it answers no queries.")
    return name


class Begun(NamedTuple):
    """The run that an execution begins with, or the first one that has events left; and a number
    that none of its events is below. One that was `joined` was there before it was asked for."""

    run: Run
    first_seq: int
    joined: bool


async def begin(
    runs: Runs, asking: NamedLocks, by: Actor, query: Query, metadata: JsonObject
) -> Begun:
    """Begin the execution that answers the query, with these metadata, unless it has begun. Raises
    what `Runs.submit` does."""
    key = _key(query, by)
    # Of two sockets that ask the same at once, the second one joins the first.
    async with asking.of(query.thread_id):
        is_known = await _is_known(runs.storage, key)
        if key is None and (root := await _unfinished(runs.storage, query, by)) is not None:
            return await _joined(runs.storage, root)
        started = await runs.submit(_submission(runs, query, by, metadata, key))
    if is_known:
        return await _joined(runs.storage, started.run)
    return Begun(started.run, started.first_seq, joined=False)


async def _joined(storage: Storage, root: Run) -> Begun:
    """The execution that begins with the run, as far as its events are left. Raises `Gone` if none
    are."""
    run = await first_left(storage, root)
    first = await first_of(storage, run.thread_id, run.run_id)
    return Begun(run, first, joined=True)


async def _is_known(storage: Storage, key: Key | None) -> bool:
    """True if the query was asked under this key before."""
    try:
        return await stored_outcome(storage, key) is not None
    except InvalidRequest:
        raise InvalidRequest(
            "This query_id was sent with another query before. Send a new one, or that query again."
        ) from None


async def _unfinished(storage: Storage, query: Query, by: Actor) -> Run | None:
    """The run that an execution for the same query began with, which is under way, or waits for
    a person."""
    under_way = [*await storage.runs(thread_id=query.thread_id, status=UNFINISHED)]
    # In this order: a run that pauses meanwhile is the thread's then.
    thread = await storage.thread(query.thread_id)
    if thread is not None and thread.run_id is not None and thread.status in TAKEN:
        holder = await storage.run(thread.run_id)
        under_way += [holder] if holder is not None else []
    for run in under_way:
        root = await root_of(storage, run)
        is_same = root.owner == by.name and root.agent == query.agent
        if is_same and given_in(root.input).text == query.text:
            return root
    return None


def _submission(
    runs: Runs, query: Query, by: Actor, metadata: JsonObject, key: Key | None
) -> Submission:
    case = {} if query.case_id is None else {CASE: query.case_id}
    return Submission(
        given=_given(runs, query),
        by=by,
        agent=query.agent,
        thread_id=query.thread_id,
        metadata={**case, **metadata},
        on_busy="enqueue",
        key=key,
    )


def _given(runs: Runs, query: Query) -> RunInput:
    """The query as a message, with its case where the graph declares that it wants to know."""
    shape = runs.shape_of(query.agent)
    if query.case_id is None or not shape.declares(CASE):
        return RunInput(message=query.text)
    return shape.message_with(query.text, {CASE: query.case_id})


def _key(query: Query, by: Actor) -> Key | None:
    if query.query_id is None:
        return None
    body = {**query.asked, "agent": query.agent}
    return Key.given(query.query_id, by.owner, PATH, body)
