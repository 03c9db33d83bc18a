"""The runs of a thread for LangGraph's clients: streamed, waited for, joined and cancelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, get_args

from fastapi import Depends, Header, Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_frames
from assent.api.deps import Admitted, TheActor, TheRuns, TheRunsBy, ThreadPath
from assent.api.dialects.langgraph.stream import END_ID, Mode, Stream
from assent.api.dialects.positions import Position, read_position
from assent.api.idempotency import TheKey
from assent.api.json_body import SHOWN
from assent.api.langgraph_again import Begun
from assent.api.langgraph_runs import begin, run_of
from assent.api.langgraph_shapes import StreamedRunRequest, langgraph_run_view
from assent.api.langgraph_streams import (
    following_of,
    outcome_of,
    place_headers,
    rest_stream,
    run_stream,
    values_after,
)
from assent.api.leaving import cancelling
from assent.api.outcomes import run_headers
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.shapes.runs import ThreadRunView, ValuesAfter
from assent.api.streams.reading import check_readable
from assent.api.streams.slow_json import SlowJson
from assent.api.streams.transport import Transport
from assent.api.waiting import unless_gone
from assent.core.access import Right
from assent.core.audit import Actor
from assent.core.errors import Conflict, Gone, InvalidRequest
from assent.core.rows import UNFINISHED, CancelMode
from assent.core.text import visible
from assent.runs.follow import (
    entry_at,
    first_of,
    follow_asked,
    is_over,
    replay_run,
    wait_for_run,
)
from assent.storage.base import Storage

router = router_of("threads")

FROM_THE_START = ("", "-1", "-")
"""The ids of an event that LangGraph's clients send to have all of them."""

AFTER_RUN = "The thread's values, with what it waits for as `__interrupt__`; or `__error__`"

JOINED: Sequence[Mode] = ("values", "updates", "messages-tuple", "custom")
"""The modes of those who join a stream and name none."""


OF_THREADS: Mapping[str, Sequence[Mode]] = {
    "run_modes": JOINED,
    "state_update": ("values",),
    "lifecycle": (),
}
"""The modes of runs in the modes of threads."""


# ── streams ───────────────────────────────────────────────────────────────────────────────────────


@router.post("/threads/{id}/runs/stream")
@may(Right.RUN, Thing.THREAD, langgraph=("threads", "create_run"), deciding=True)
@streams_frames
@refuses(409, 410)
async def stream_new_run(
    id: ThreadPath,
    body: StreamedRunRequest,
    request: Request,
    runs_by: TheRunsBy,
    by: TheActor,
    admitted: Admitted,
    key: TheKey,
) -> Response:
    """What `POST /threads/{id}/runs` does, and the run's events in the stream modes of LangGraph's
    server. A client that disconnects does not stop the run, unless `on_disconnect` is `cancel`."""
    begun = await begin(runs_by, id, body, by, key)
    return await stream_of(request, begun, body, by)


async def stream_of(
    request: Request, begun: Begun, body: StreamedRunRequest, by: Actor
) -> Response:
    """The events of the run that was asked for."""
    runs, run, first_seq, stays = begun
    headers = place_headers(request, run, "stream", body.stream)
    if stays:
        return await rest_stream(runs, run, body.stream, headers=headers)
    following = following_of(runs, run.thread_id, first_seq - 1, body.stream)
    thread = await runs.thread(run.thread_id)
    batches = await follow_asked(following, run)
    batches = runs.temporary.while_read(run.thread_id, batches)
    when_gone = cancelling(request, run, by) if body.on_disconnect == "cancel" else None
    return run_stream(
        request,
        runs,
        thread,
        following,
        batches,
        body.stream,
        headers=headers,
        when_gone=when_gone,
    )


async def _joined(
    stream_mode: Annotated[
        list[str] | None,
        Query(description=f"By default {', '.join(JOINED)}. Several, or a list as JSON"),
    ] = None,
    stream_subgraphs: bool = False,
    checkpoint_id: Annotated[
        str | None,
        Query(description="Changes nothing. Clients say here what they have of the thread"),
    ] = None,
) -> Stream:
    modes = named_in(stream_mode, get_args(Mode))
    return Stream(modes or JOINED, subgraphs=stream_subgraphs)


def named_in(given: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The names of modes in a query: LangGraph's SDK for Python repeats the parameter, and the one
    for JavaScript sends a list as JSON. Raises `InvalidRequest`."""
    names: list[str] = []
    for each in given or ():
        names += [part.strip(' "') for part in each.strip("[]").split(",")]
    names = [name for name in names if name]
    if unknown := [name for name in names if name not in known]:
        raise InvalidRequest(
            f"There is no stream mode '{visible(unknown[0][:SHOWN])}'. There are: "
            f"{', '.join(known)}."
        )
    return names


async def _last_id(last_event_id: Annotated[str, Header()] = "") -> str:
    return "" if last_event_id in FROM_THE_START else last_event_id


TheStream = Annotated[Stream, Depends(_joined)]
LastId = Annotated[str, Depends(_last_id)]


@router.get("/threads/{id}/runs/{run_id}/stream")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"), ticket=Transport.SSE)
@streams_frames
@answers(None, 204, description="You have the last event")
@refuses(409)
async def join_stream(
    id: ThreadPath,
    run_id: str,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
    stream: TheStream,
    last_id: LastId,
    cancel_on_disconnect: bool = False,
) -> Response:
    """The run's events past `Last-Event-ID`; without one, or with `-1`, all of them. A browser that
    comes back behind the `end` gets a 204."""
    run = await run_of(runs, id, run_id)
    has_end = last_id == END_ID
    if has_end and run.status not in UNFINISHED:
        return Response(status_code=204)
    position = await _position(runs.storage, id, "" if has_end else last_id)
    following = following_of(runs, id, await first_of(runs.storage, id, run_id) - 1, stream)
    headers = place_headers(request, run, "stream", stream)
    if await is_over(runs.storage, run, following.after):
        # Its events were removed.
        return await rest_stream(runs, run, stream, headers=headers)
    return run_stream(
        request,
        runs,
        await runs.thread(id),
        following,
        runs.temporary.while_read(id, replay_run(following, run)),
        stream,
        position=position,
        headers=headers,
        when_gone=cancelling(request, run, by) if cancel_on_disconnect else None,
    )


@router.get("/threads/{id}/stream")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"), ticket=Transport.SSE)
@streams_frames
@refuses(409)
async def stream_thread(
    id: ThreadPath,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
    last_id: LastId,
    stream_mode: Annotated[
        list[str] | None,
        Query(
            description="`run_modes` (values, updates, messages-tuple and custom), `state_update` "
            "(values) or `lifecycle`, which has only what begins and fails"
        ),
    ] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """What happens on the thread from now on, or past `Last-Event-ID`, run after run, without an
    end. With `-1` it begins with the first event."""
    thread = await runs.thread(id)
    chosen = named_in(stream_mode, tuple(OF_THREADS)) or ["run_modes"]
    stream = Stream({mode for each in chosen for mode in OF_THREADS[each]})
    if last_event_id:
        position = await _position(runs.storage, id, last_id)
    else:
        position = Position(await runs.storage.last_seq(id))
    # What a frame says depends on those before it, of the same run.
    after = await _before_run_at(runs.storage, id, position)
    following = following_of(runs, id, after, stream)
    batches = following.batches()
    return run_stream(request, runs, thread, following, batches, stream, position=position)


async def _before_run_at(storage: Storage, thread_id: str, position: Position) -> int:
    """The number before the first event of the run that the position is in."""
    if not position.seq:
        return 0
    at = await entry_at(storage, thread_id, position.seq)
    if at is None:
        return position.seq
    return min(position.seq, await first_of(storage, thread_id, at.run_id)) - 1


async def _position(storage: Storage, thread_id: str, last_id: str) -> Position:
    """The place in the log that the reader has come to. Raises `InvalidRequest`, or `Conflict` if
    events behind it were removed, or it is of another thread: a 410 has LangGraph's clients ask
    again."""
    try:
        position = read_position(last_id, thread_id)
        await check_readable(storage, thread_id, position.seq)
    except Gone as error:
        raise Conflict(
            f"{error.message} Ask without Last-Event-ID for those that are left."
        ) from error
    return position


# ── waiting ───────────────────────────────────────────────────────────────────────────────────────


@router.post("/threads/{id}/runs/wait")
@may(Right.RUN, Thing.THREAD, langgraph=("threads", "create_run"), deciding=True)
@answers(ValuesAfter, description=AFTER_RUN, location=True)
@refuses(409, 410)
async def wait_for_new_run(
    id: ThreadPath,
    body: StreamedRunRequest,
    request: Request,
    runs_by: TheRunsBy,
    by: TheActor,
    admitted: Admitted,
    key: TheKey,
) -> Response:
    """What `POST /threads/{id}/runs` does, and the values of the thread once the run has ended or
    somebody is asked. The status is sent at once, and newlines until then."""
    return wait_for(request, await begin(runs_by, id, body, by, key), body, by)


def wait_for(request: Request, begun: Begun, body: StreamedRunRequest, by: Actor) -> SlowJson:
    """The values after the run that was asked for."""
    runs, run = begun.runs, begun.run
    found = values_after(runs, run) if begun.stays else outcome_of(runs, run)
    when_gone = cancelling(request, run, by) if body.on_disconnect == "cancel" else None
    headers = place_headers(request, run, "join")
    return SlowJson(request, found, headers=headers, when_gone=when_gone)


@router.get("/threads/{id}/runs/{run_id}/join")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@answers(ValuesAfter, description=AFTER_RUN, location=True)
async def join_run(
    id: ThreadPath,
    run_id: str,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: Admitted,
    cancel_on_disconnect: bool = False,
) -> Response:
    """The values of the thread once the run has ended or somebody is asked. The status is sent at
    once, and newlines until then."""
    run = await run_of(runs, id, run_id)
    when_gone = cancelling(request, run, by) if cancel_on_disconnect else None
    headers = place_headers(request, run, "join")
    return SlowJson(request, outcome_of(runs, run), headers=headers, when_gone=when_gone)


# ── cancelling ────────────────────────────────────────────────────────────────────────────────────


@router.post("/threads/{id}/runs/{run_id}/cancel", status_code=202)
@may(Right.STOP, Thing.THREAD, langgraph=("threads", "update"))
@answers(ThreadRunView, 202, description="The run, which is about to stop")
@answers(None, 204, description="The run has ended")
@refuses(409)
async def cancel_run(
    id: ThreadPath,
    run_id: str,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    wait: bool = False,
    action: CancelMode = CancelMode.INTERRUPT,
) -> Response:
    """Cancel the run: `interrupt` keeps what it did, and `rollback` restores the thread's state
    from before it. With `wait` the response comes when it has really ended. A run that has ended
    otherwise is a 409."""
    run = await run_of(runs, id, run_id)
    run = await runs.cancel_run(run.run_id, by, action)
    if wait and await unless_gone(request, wait_for_run(runs.storage, run)) is not None:
        return Response(status_code=204)
    return json_response(langgraph_run_view(run), status=202, headers=run_headers(run))
