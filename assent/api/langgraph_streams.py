"""A run as LangGraph's clients follow it, or wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from fastapi import Request, Response
from langgraph.types import StateSnapshot

from assent.api.dialects.base import Frame, Past
from assent.api.dialects.langgraph.stream import INNER, INTERRUPT, PUSH, SENDS, Stream
from assent.api.dialects.positions import Position
from assent.api.dialects.questions import pause_interrupt
from assent.api.langgraph_shapes import interrupt_view, state_view
from assent.api.outcomes import readable_state, run_headers
from assent.api.paths import url
from assent.api.streams.encoder import named_sse
from assent.api.streams.sse import BARE_BEGIN, EventStream, WhenGone
from assent.api.streams.states import with_states
from assent.api.views import state_json, values_json
from assent.core.events import Checkpoint, RunResumed
from assent.core.json import Json, JsonObject, encode_json
from assent.core.rows import CancelMode, Run, RunStatus, Thread, ThreadStatus
from assent.runs.follow import Batches, Following, wait_for_rest
from assent.runs.service import Runs

ERROR = "__error__"


def following_of(runs: Runs, thread_id: str, after: int, stream: Stream) -> Following:
    """The thread's log behind `after`, as far as the stream looks at it."""
    return Following(runs.storage, thread_id, after, types=stream.types)


def run_stream(
    request: Request,
    runs: Runs,
    thread: Thread,
    following: Following,
    batches: Batches,
    stream: Stream,
    *,
    position: Position | None = None,
    headers: Mapping[str, str] = {},
    when_gone: WhenGone | None = None,
) -> EventStream:
    """What is followed as Server-Sent Events, behind the position that the reader has come to."""

    async def load(event: Checkpoint) -> JsonObject | None:
        snapshot = await runs.state_behind(thread, event, is_shown=True)
        return None if snapshot is None else await view(snapshot)

    async def load_before(event: RunResumed) -> JsonObject | None:
        snapshots = await runs.states_before(thread, event)
        if not snapshots:
            return None
        state, *inner = [await view(snapshot) for snapshot in snapshots]
        return {**state, INNER: inner}

    async def view(snapshot: StateSnapshot) -> JsonObject:
        state = state_view(snapshot)
        if stream.has_tasks and any(task.path[0] == PUSH for task in snapshot.tasks):
            sends = await runs.sends_at(thread, snapshot)
            state[SENDS] = list(map(state_json, sends))
        return state

    return EventStream(
        request,
        following,
        with_states(batches, stream.wants(), load, load_before),
        dialect=stream if position is None else Past(stream, position),
        named=True,
        begin=BARE_BEGIN,
        headers=headers,
        when_gone=when_gone,
    )


async def rest_stream(
    runs: Runs, run: Run, stream: Stream, *, headers: Mapping[str, str] = {}
) -> Response:
    """A stream of a run that does nothing now: which it is, and what its thread has come to."""
    frames = [Frame("", "metadata", encode_json({"run_id": run.run_id, "attempt": 1}))]
    if "values" in stream.modes:
        frames.append(Frame("", "values", encode_json(await values_after(runs, run))))
    end = stream.end("done")
    body = b"".join(named_sse(frame) for frame in (*frames, *([end] if end else [])))
    cached = {"Cache-Control": "no-cache", **headers}
    return Response(body, media_type=EventStream.media_type, headers=cached)


def place_headers(
    request: Request, run: Run, rest: str, stream: Stream | None = None
) -> dict[str, str]:
    """The headers that name the run, and say where the rest of the response is to be had."""
    place = url(request, f"/threads/{run.thread_id}/runs/{run.run_id}")
    query = ""
    if stream is not None:
        asked = [("stream_mode", mode) for mode in sorted(stream.modes)]
        query = "?" + urlencode([*asked, ("stream_subgraphs", str(stream.subgraphs).lower())])
    return {**run_headers(run), "Location": f"{place}/{rest}{query}", "Content-Location": place}


# ── waiting ───────────────────────────────────────────────────────────────────────────────────────


async def outcome_of(runs: Runs, run: Run) -> Json:
    """What the run has come to, once it has ended or somebody is asked: the values of its thread
    with what that waits for, or its error."""
    with runs.temporary.read(run.thread_id):
        return await _outcome(runs, await wait_for_rest(runs.storage, run))


async def _outcome(runs: Runs, last: Run) -> Json:
    if last.status is RunStatus.CANCELLED:
        rolled_back = last.cancel is CancelMode.ROLLBACK
        name = "UserRollback" if rolled_back else "UserInterrupt"
        return _error(name, "The run was cancelled.")
    if last.error is not None:
        return _error(str(last.error.get("code")), str(last.error.get("message")))
    return await values_after(runs, last)


def _error(name: str, message: str) -> JsonObject:
    return {ERROR: {"error": name, "message": message}}


async def values_after(runs: Runs, run: Run) -> Json:
    """The values of the run's thread, with what the run still waits for."""
    thread = await runs.thread(run.thread_id)
    state = await readable_state(runs, thread, is_shown=True)
    values = values_json(state.values) if state is not None else {}
    if thread.status is not ThreadStatus.INTERRUPTED or thread.run_id != run.run_id:
        return values
    pending = await runs.approvals.pending(thread)
    asked = {each.interrupt_id for each in pending}
    interrupts = [
        interrupt_view(each) for each in (state.interrupts if state else ()) if each.id in asked
    ]
    more = pause_interrupt(run.run_id, pending)
    if more is not None:
        interrupts.append(more)
    return {**(values if isinstance(values, dict) else {}), INTERRUPT: interrupts}
