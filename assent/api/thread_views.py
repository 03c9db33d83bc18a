"""Threads and their states with what is not in their rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from fastapi import Response
from langgraph.types import StateSnapshot

from assent.api.langgraph_shapes import NOTHING, Content, state_view, thread_view
from assent.api.outcomes import readable_state
from assent.api.responses import Filling, json_response
from assent.api.views import SharedJson
from assent.core.errors import Tampered
from assent.core.json import JsonObject
from assent.core.rows import Thread, ThreadStatus
from assent.runs.service import Runs


async def whole_thread_view(runs: Runs, thread: Thread) -> JsonObject:
    """The thread with its state's values and what it waits for; without them, if something of it
    was tampered with."""
    content = NOTHING
    if thread.tampered is None:
        try:
            content = await _content(runs, thread)
        except Tampered as error:
            await runs.distrust(thread.thread_id, error)
            thread = await runs.thread(thread.thread_id)
    return thread_view(thread, content, runs.approvals.people)


async def _content(runs: Runs, thread: Thread) -> Content:
    failed = None
    if thread.status is ThreadStatus.ERROR and thread.run_id is not None:
        failed = await runs.storage.run(thread.run_id)
    approvals = await runs.approvals.pending(thread)
    # It is shown as it is now, so nothing else is awaited.
    state = await readable_state(runs, thread, is_shown=True)
    return Content(state=state, approvals=approvals, error=failed.error if failed else None)


async def state_at(
    runs: Runs,
    thread: Thread,
    checkpoint_id: str | None,
    *,
    ns: Sequence[str] = (),
    subgraphs: bool = False,
) -> JsonObject:
    """The thread's state at a checkpoint, or that of its subgraph. The one at which it waits has
    what it asks among its interrupts. Raises `NotFound` for an unknown checkpoint."""
    pending = await runs.approvals.pending(thread)
    state = await runs.state(thread, checkpoint_id, ns=ns, subgraphs=subgraphs, is_shown=True)
    return state_view(state, asked=pending if _is_head(thread, state) else ())


async def history_response(
    runs: Runs, thread: Thread, states: AsyncIterator[StateSnapshot]
) -> Response:
    """Such views of the states: as many as go into one page, and where there are others the id of
    the checkpoint to go on before."""
    pending = await runs.approvals.pending(thread)
    json, page, headers = SharedJson(), Filling(), dict[str, str]()
    last = ""
    async for state in states:
        asked = pending if _is_head(thread, state) else ()
        if not page.takes(state_view(state, asked=asked, values_json=json)):
            headers["X-Pagination-Next"] = last
            break
        last = state.config["configurable"]["checkpoint_id"]
    return json_response(page.views, headers=headers)


def _is_head(thread: Thread, state: StateSnapshot) -> bool:
    checkpoint_id = state.config["configurable"].get("checkpoint_id")
    return checkpoint_id is not None and checkpoint_id == thread.checkpoint_id
