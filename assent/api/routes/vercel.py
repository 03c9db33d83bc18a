"""The AI SDK: what `useChat` sends and follows."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_frames
from assent.api.chats import ChatRequest, Turn, present_turn, taken, turn_batches
from assent.api.deps import Admitted, TheActor, TheRuns, TheRunsBy, ThreadPath
from assent.api.dialects.vercel.stream import Vercel
from assent.api.idempotency import TheKey
from assent.api.outcomes import after_start, run_headers
from assent.api.routing import router_of
from assent.api.streams.sse import EventStream
from assent.core.access import Right

router = router_of("vercel")

PROTOCOL = {"x-vercel-ai-ui-message-stream": "v1"}
"""The header by which clients know the form of the stream."""


@router.post("/api/chat")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create_run"), deciding=True)
@streams_frames
@refuses(404, 409, 410)
async def chat(
    body: ChatRequest,
    request: Request,
    runs_by: TheRunsBy,
    by: TheActor,
    admitted: Admitted,
    key: TheKey,
    agent: Annotated[
        str | None, Query(description="The agent's name; by default the thread's, or the first")
    ] = None,
) -> Response:
    """Say something, or decide what was asked, and receive the turn until the agent has answered or
    asks again. A thread that does not exist is created.

    What the last messages of a person say is new by their ids; the same message again gets the same
    turn. With `regenerate-message`, or for a message that was changed, the thread goes on from
    where that was said. New words drop what the thread waits for. Parts that are
    `approval-responded` decide as `POST /threads/{id}/resume` does.

    A client that disconnects does not stop the run.
    """
    turn = await taken(runs_by, body, agent, by, key)
    with after_start(turn.run):
        return await _stream(request, turn)


@router.get("/api/chat/{id}/stream")
@may(Right.READ, Thing.THREAD, langgraph=("threads", "read"))
@streams_frames
@answers(None, 204, description="Nothing runs, and nobody is asked; or there is no such thread")
@refuses(410)
async def resume_chat(
    id: ThreadPath,
    request: Request,
    runs: TheRuns,
    admitted: Admitted,
    agent: Annotated[
        str | None, Query(description="Clients repeat it. The thread's agent is the one at work")
    ] = None,
) -> Response:
    """The turn that is at work, or waits for a person: from its beginning, and then live."""
    thread = await runs.storage.thread(id)
    turn = await present_turn(runs, thread) if thread is not None else None
    if turn is None:
        return Response(status_code=204)
    return await _stream(request, turn)


async def _stream(request: Request, turn: Turn) -> Response:
    following, batches = await turn_batches(turn)
    dialect = Vercel(turn.message_id, turn.behind)
    headers = {**run_headers(turn.run), **PROTOCOL}
    return EventStream(request, following, batches, dialect=dialect, headers=headers)
