"""Tasks: threads that clients make for one execution each, and what has become of that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from assent.api.dialects.answers import ANSWER_TYPES, Answer
from assent.api.dialects.positions import Position
from assent.api.dialects.tasks import Tasks, once
from assent.api.executions import Found, found_left, goes_on
from assent.api.schemas import ExecuteRequest, TaskRequest
from assent.api.streams.reading import Followed, entries_so_far, frames_so_far
from assent.approvals.idempotency import Key
from assent.core.audit import Actor
from assent.core.digest import call_digest
from assent.core.errors import Conflict, Gone, InvalidRequest, NotFound
from assent.core.events import decode
from assent.core.json import JsonObject
from assent.core.metadata import OF_TASK
from assent.core.rows import Run, RunStatus, Thread
from assent.core.run_input import RunInput
from assent.runs.service import Runs
from assent.runs.transitions import Submission
from assent.storage.base import Storage, all_rows

STREAMS = "enable_streaming"
"""The field of a run's metadata that says how its events are shown."""

CREATED, COMPLETED = "created", "completed"

STATUSES: Mapping[RunStatus, str] = {
    RunStatus.PENDING: "running",
    RunStatus.RUNNING: "running",
    RunStatus.CANCELLING: "running",
    RunStatus.INTERRUPTED: "paused",
    RunStatus.SUCCESS: COMPLETED,
    RunStatus.ERROR: "failed",
    RunStatus.TIMEOUT: "failed",
    RunStatus.CANCELLED: "cancelled",
}
"""The status of a task, by that of the run that its execution has come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task, and the thread that it is."""

    thread: Thread
    agent_id: str
    description: str
    user_id: str | None
    task_parameters: JsonObject

    @property
    def id(self) -> str:
        return self.thread.thread_id

    @property
    def dialect(self) -> Tasks:
        return Tasks(self.id, self.agent_id)


class Executed(NamedTuple):
    """The execution of a task: the run that it began with, and the one that it has come to."""

    root: Run
    last: Run

    @property
    def status(self) -> str:
        return STATUSES[self.last.status]

    @property
    def error(self) -> str | None:
        return str(self.last.error["message"]) if self.last.error else None


class EventsPage(NamedTuple):
    """Events, each once and with its `id`; the id to go on after; and True if there are others
    already."""

    events: list[JsonObject]
    next: str
    more: bool


# ── making and finding ────────────────────────────────────────────────────────────────────────────


async def create(
    runs: Runs, agent_id: str, body: TaskRequest, by: Actor, key: Key | None = None
) -> Task:
    """A new task, or the one that the same request under its key made before. Raises `NotFound`, or
    `InvalidRequest` for what the agent does not take."""
    parameters = body.task_parameters.model_dump(exclude_unset=True)
    given = _given(runs, agent_id, parameters, body.description)
    await runs.check_input(Submission(given=given, by=by), agent_id)
    user = {} if body.user_id is None else {"user_id": body.user_id}
    of_task: JsonObject = {
        "agent_id": agent_id,
        "description": body.description,
        "user_id": body.user_id,
        "task_parameters": parameters,
    }
    metadata = {**user, OF_TASK: of_task}
    thread = await runs.create_thread(
        None, owner=by.owner, metadata=metadata, known_to=by.known_to, key=key
    )
    return Task(thread=thread, **of_task)


async def find_task(runs: Runs, agent_id: str, task_id: str) -> Task:
    """The agent's task. Raises `NotFound`."""
    thread = await runs.storage.thread(task_id)
    of_task = thread.metadata.get(OF_TASK) if thread is not None else None
    if thread is None or of_task is None or of_task["agent_id"] != agent_id:
        raise NotFound(f"The agent '{agent_id}' has no task '{task_id}'.")
    return Task(thread=thread, **of_task)


async def execution_of(storage: Storage, task: Task) -> Executed | None:
    """The execution of the task: the first run on its thread, and those that go on where it
    paused. None if nothing has run there."""
    newest_first = await all_rows(storage.latest_runs, thread_id=task.id)
    if not newest_first:
        return None
    root, *others = reversed(newest_first)
    last = root
    for run in others:
        if goes_on(run, last):
            last = run
    return Executed(root, last)


def _given(runs: Runs, agent_id: str, parameters: JsonObject, message: str) -> RunInput:
    chosen = {name: parameters.get(name) for name in ("model", "instructions")}
    return runs.shape_of(agent_id).task_input(message, **chosen)


# ── executing ─────────────────────────────────────────────────────────────────────────────────────


async def execute(runs: Runs, task: Task, body: ExecuteRequest, by: Actor, path: str) -> Run:
    """The run with which the task's execution begins; the one that has begun already, for the same
    body.

    A task is executed once, whoever asks for it how often: clients send a request again without
    knowing whether the first one came. Raises `Conflict` for another body, and what `Runs.submit`
    does.
    """
    sent = body.model_dump(exclude_none=True)
    key = Key(
        answer_id=call_digest("answer", {"task": task.id}),
        owner=task.thread.owner,
        tenant=task.thread.tenant,
        request_digest=call_digest(path, sent),
    )
    await _refuse_another(runs.storage, task, key)
    message = body.query or task.description
    metadata: JsonObject = {"task_id": task.id, STREAMS: _streams(runs, task, body)}
    if task.user_id is not None:
        metadata["user_id"] = task.user_id
    submission = Submission(
        given=_given(runs, task.agent_id, task.task_parameters, message),
        by=by,
        agent=task.agent_id,
        thread_id=task.id,
        metadata=metadata,
        # Whoever has made the task has said what the agent does.
        requested_by=(task.thread.owner,),
        key=key,
    )
    try:
        return (await runs.submit(submission)).run
    except (Conflict, InvalidRequest):
        # Somebody may have executed it a moment ago.
        await _refuse_another(runs.storage, task, key)
        raise


def _streams(runs: Runs, task: Task, body: ExecuteRequest) -> bool:
    """True if the events are shown as they come: if the execution says so, or else the task, or
    else the agent's configuration."""
    for said in (body.enable_streaming, task.task_parameters.get(STREAMS)):
        if said is not None:
            return bool(said)
    return runs.shape_of(task.agent_id).tasks.enable_streaming


async def _refuse_another(storage: Storage, task: Task, key: Key) -> None:
    """Raise `Conflict` if the task was executed by another request than the key's."""
    # In this order: the run and the answer are committed together.
    executed = await execution_of(storage, task)
    if executed is None:
        return
    answer = await storage.answer(key.answer_id)
    if answer is None or answer.request_digest != key.request_digest:
        raise Conflict(
            f"The task '{task.id}' was executed already: its execution '{executed.root.run_id}' is "
            f"{executed.status}. A task is executed once, so make another one.",
            task_id=task.id,
            execution_id=executed.root.run_id,
            status_of_task=executed.status,
        )


# ── what became of it ─────────────────────────────────────────────────────────────────────────────


async def final_response(storage: Storage, executed: Executed | None) -> str | None:
    """The agent's last words. None before the task is completed, and once its events are
    removed."""
    if executed is None or executed.status != COMPLETED:
        return None
    left = await _left(storage, executed)
    if left is None:
        return None
    answer = Answer()
    async for entry in entries_so_far(storage, left, ANSWER_TYPES):
        answer.add(decode(entry.body))
    return answer.text


async def events_after(
    storage: Storage, task: Task, executed: Executed | None, position: Position, limit: int
) -> EventsPage:
    """The events behind the position, at most so many. Raises `Gone` if there is no such position,
    or if events behind it were removed."""
    await storage.check_cursor(task.id, position.seq)
    left = await _left(storage, executed)
    if left is None:
        return EventsPage([], str(position), False)
    # Of the first event only the second copy may be left, and one event more says that there are.
    copies = 2 * (limit + 1) + 1
    followed = Followed(left, task.dialect, position)
    frames = once(await frames_so_far(storage, followed, limit=copies))
    shown = frames[:limit]
    events = [{"id": frame.id, **json.loads(frame.data)} for frame in shown]
    return EventsPage(events, shown[-1].id if shown else str(position), len(frames) > limit)


async def _left(storage: Storage, executed: Executed | None) -> Found | None:
    """The execution, as far as its events are left. None if there is none, or nothing of it."""
    if executed is None:
        return None
    try:
        return await found_left(storage, executed.root)
    except Gone:
        return None
