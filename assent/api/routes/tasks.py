"""Tasks: made, executed once, and followed as workflows."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Depends, Path, Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_frames
from assent.api.context import served
from assent.api.deps import Admitted, TheActor, TheRuns
from assent.api.dialects.base import Past
from assent.api.dialects.positions import Position, read_position
from assent.api.dialects.tasks import NamedOnly, Tasks
from assent.api.event_query import LastEventId, OnAPage
from assent.api.executions import found_left
from assent.api.idempotency import TheKey
from assent.api.outcomes import after_start, readable_state
from assent.api.paths import own_path_of, url
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.schemas import THREAD_ID, ExecuteRequest, TaskRequest
from assent.api.shapes.tasks import (
    AgentForTasks,
    ExecutionView,
    FinalResponse,
    NewTask,
    TaskEvents,
    TaskState,
    TaskWithResult,
)
from assent.api.streams.reading import Followed, following_of, has_all
from assent.api.streams.sse import EventStream
from assent.api.streams.transport import Transport
from assent.api.tasks import (
    CREATED,
    STREAMS,
    Executed,
    Task,
    create,
    events_after,
    execute,
    execution_of,
    final_response,
    find_task,
)
from assent.api.views import state_json
from assent.api.waiting import Wait, unless_gone
from assent.core.access import Right
from assent.core.errors import NotFound
from assent.core.json import JsonObject
from assent.core.rows import UNFINISHED, Run
from assent.runs.follow import (
    EXECUTION_TYPES,
    Batches,
    Execution,
    Following,
    follow_execution,
    held_until_rest,
    wait_for_rest,
)
from assent.runs.service import Runs

router = router_of("tasks")

MOST_AT_ONCE = 10_000
"""The most events in the answer to an execution that is waited for. The others are asked for."""


async def _task(
    agent_id: str, task_id: Annotated[str, Path(pattern=THREAD_ID)], runs: TheRuns, by: TheActor
) -> Task:
    return await find_task(runs, agent_id, task_id)


TheTask = Annotated[Task, Depends(_task)]


@router.get("/api/v1/agents")
@may(Right.SELF, Thing.SERVER, langgraph=("assistants", "search"))
@answers(list[AgentForTasks])
async def list_agents(request: Request, runs: TheRuns, by: TheActor) -> Response:
    """The agents, and what tasks may choose of each."""
    descriptions = served(request).descriptions
    rules = {name: runs.shape_of(name).tasks for name in runs.agents}
    return json_response(
        [
            {
                "id": name,
                "name": name,
                "description": descriptions.get(name, ""),
                "models": [*allowed.models],
                "instructions": allowed.instructions,
                "enable_streaming": allowed.enable_streaming,
            }
            for name, allowed in rules.items()
        ]
    )


@router.post("/api/v1/agents/{agent_id}/tasks")
@may(Right.RUN, Thing.BODY, langgraph=("threads", "create"))
@answers(NewTask, location=True)
@refuses(409)
async def create_task(
    agent_id: str, body: TaskRequest, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """A new task. Nothing is done before it is executed."""
    task = await create(runs, agent_id, body, by, key)
    view = _task_view(request, task, await execution_of(runs.storage, task))
    return json_response(view, headers={"Location": _url(request, task)})


@router.post("/api/v1/agents/{agent_id}/tasks/{task_id}/execute")
@may(Right.RUN, Thing.TASK, langgraph=("threads", "create_run"))
@answers(ExecutionView)
@answers(ExecutionView, 202, description="The execution as it is, because it did not rest in time")
@refuses(409, 410)
async def execute_task(
    task: TheTask,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    body: ExecuteRequest | None = None,
    timeout: Wait = None,
) -> Response:
    """Execute the task. With streaming this responds at once, and without it when the execution is
    over or a person is asked, with all its events.

    A task is executed once: the same body again gets the same execution, and another is a 409. A
    client that disconnects does not stop it.
    """
    run = await execute(runs, task, body or ExecuteRequest(), by, own_path_of(request))
    with after_start(run):
        executed = await _execution(runs, task)
        if _is_streamed(run):
            return json_response(_execution_view(request, task, executed))
        await unless_gone(request, wait_for_rest(runs.storage, executed.last), timeout)
        return await _rest_response(request, runs, task)


async def _rest_response(request: Request, runs: Runs, task: Task) -> Response:
    executed = await _execution(runs, task)
    view = _execution_view(request, task, executed)
    if executed.last.status in UNFINISHED:
        return json_response(view, status=202)
    page = await events_after(runs.storage, task, executed, Position(0), MOST_AT_ONCE)
    ended = await _ended(runs, executed)
    return json_response({**view, "events": page.events, "more": page.more, **ended})


async def _execution(runs: Runs, task: Task) -> Executed:
    """The execution that has begun. Raises `NotFound` once it is removed."""
    executed = await execution_of(runs.storage, task)
    if executed is None:
        raise NotFound(f"The task '{task.id}' was removed with its execution.")
    return executed


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


@router.get("/api/v1/agents/{agent_id}/tasks/{task_id}")
@may(Right.READ, Thing.TASK, langgraph=("threads", "read"))
@answers(TaskWithResult)
async def get_task(request: Request, runs: TheRuns, task: TheTask) -> Response:
    """The task, and what has become of it."""
    executed = await execution_of(runs.storage, task)
    view = _task_view(request, task, executed)
    return json_response({**view, **await _ended(runs, executed)})


@router.get("/api/v1/agents/{agent_id}/tasks/{task_id}/get_current_state")
@may(Right.READ, Thing.TASK, langgraph=("threads", "read"))
@answers(TaskState)
async def get_current_state(runs: TheRuns, task: TheTask) -> Response:
    """The state of the task's thread, and what it waits for."""
    executed = await execution_of(runs.storage, task)
    state = await readable_state(runs, task.thread) if executed is not None else None
    metadata = state.metadata if state is not None else None
    return json_response(
        {
            "status": executed.status if executed is not None else CREATED,
            "step": metadata.get("step") if metadata is not None else None,
            "next": [*state.next] if state is not None else [],
            "values": state_json(state.values) if state is not None else None,
            "approvals": task.thread.pending,
        }
    )


@router.get("/api/v1/agents/{agent_id}/tasks/{task_id}/get_events")
@may(Right.READ, Thing.TASK, langgraph=("threads", "read"))
@answers(TaskEvents)
@refuses(410)
async def get_events(
    task: TheTask,
    runs: TheRuns,
    last_event_id: LastEventId,
    limit: OnAPage = 1000,
) -> Response:
    """The task's events so far, each once. `next` is the `last_event_id` to go on after."""
    position = read_position(last_event_id, task.id)
    executed = await execution_of(runs.storage, task)
    page = await events_after(runs.storage, task, executed, position, limit)
    return json_response(page._asdict())


@router.get("/api/v1/agents/{agent_id}/tasks/{task_id}/get_final_response")
@may(Right.READ, Thing.TASK, langgraph=("threads", "read"))
@answers(FinalResponse)
async def get_final_response(runs: TheRuns, task: TheTask) -> Response:
    """The agent's last words, once the task is completed."""
    executed = await execution_of(runs.storage, task)
    status = executed.status if executed is not None else CREATED
    return json_response({"status": status, **await _ended(runs, executed)})


@router.get("/api/v1/agents/{agent_id}/tasks/{task_id}/events/stream")
@may(Right.READ, Thing.TASK, langgraph=("threads", "read"), ticket=Transport.SSE)
@streams_frames
@answers(None, 204, description="You have the last event")
@refuses(410)
async def stream_events(
    task: TheTask,
    request: Request,
    runs: TheRuns,
    admitted: Admitted,
    last_event_id: LastEventId,
    named: Annotated[
        Literal["only"] | None, Query(description="`only`: each event once, with its name")
    ] = None,
    include_history: Annotated[
        bool, Query(description="False: only what happens from now on")
    ] = True,
) -> Response:
    """The task's events, replayed and then live, until it is completed or failed. Before it is
    executed, the stream waits. Each event comes twice: with its name, and without one for
    `onmessage`. Without streaming, events come when the execution rests.

    With a `Last-Event-ID` behind which nothing will come it is a 204: browsers ask no more then.
    """
    storage = runs.storage
    position = read_position(last_event_id, task.id)
    if not include_history and not last_event_id:
        position = Position(await storage.last_seq(task.id))
    executed = await execution_of(storage, task)
    if executed is None:
        await storage.check_cursor(task.id, position.seq)
        following = Following(storage, task.id, types=EXECUTION_TYPES)
        batches = _when_executed(runs, following)
    else:
        comes_back = "last-event-id" in request.headers or not include_history
        found = await found_left(storage, executed.root)
        followed = Followed(found, task.dialect, position)
        if comes_back and await has_all(storage, followed):
            return Response(status_code=204)
        following = await following_of(storage, followed)
        batches = _told(following, found.root, is_streamed=_is_streamed(executed.root))
    told = (NamedOnly if named else Past)(task.dialect, position)
    return EventStream(request, following, batches, dialect=told, named=True)


async def _when_executed(runs: Runs, following: Following) -> Batches:
    """The events of the task's execution, once there is one."""
    root = ""
    async with aclosing(follow_execution(following, Execution())) as waiting:
        async for entries in waiting:
            yield ()
            root = next((each.run_id for each in entries if each.type == "run_start"), "")
            if root:
                break
    if root:
        following.after, following.types = 0, Tasks.types | EXECUTION_TYPES
        is_streamed = _is_streamed(await runs.run(root))
        async with aclosing(_told(following, root, is_streamed=is_streamed)) as batches:
            async for entries in batches:
                yield entries


def _told(following: Following, root: str, *, is_streamed: bool) -> Batches:
    """The events of the execution that begins with the run `root`, as they come or when it
    rests."""
    if is_streamed:
        return follow_execution(following, Execution(root))
    return held_until_rest(following, root)


def _is_streamed(root: Run) -> bool:
    return root.metadata.get(STREAMS) is True


# ── views ─────────────────────────────────────────────────────────────────────────────────────────


def _url(request: Request, task: Task) -> str:
    return url(request, f"/api/v1/agents/{quote(task.agent_id, safe='')}/tasks/{task.id}")


def _task_view(request: Request, task: Task, executed: Executed | None) -> JsonObject:
    return {
        "id": task.id,
        "task_id": task.id,
        "agent_id": task.agent_id,
        "description": task.description,
        "user_id": task.user_id,
        "status": executed.status if executed is not None else CREATED,
        "task_parameters": task.task_parameters,
        "created_at": task.thread.created_at,
        "execution_id": executed.root.run_id if executed is not None else None,
        "events_url": f"{_url(request, task)}/events/stream",
    }


def _execution_view(request: Request, task: Task, executed: Executed) -> JsonObject:
    return {
        "task_id": task.id,
        "execution_id": executed.root.run_id,
        "status": executed.status,
        "events_url": f"{_url(request, task)}/events/stream",
    }


async def _ended(runs: Runs, executed: Executed | None) -> JsonObject:
    """The agent's last words, or why there are none."""
    return {
        "final_response": await final_response(runs.storage, executed),
        "error": executed.error if executed is not None else None,
    }
