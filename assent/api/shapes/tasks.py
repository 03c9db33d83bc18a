"""Tasks: what they may choose, where they stand, and what they have come to."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from assent.api.shapes.common import Time
from assent.core.json import Json, JsonObject


class AgentForTasks(TypedDict):
    """An agent, and what tasks may choose of it."""

    id: str
    name: str
    description: str
    models: list[str]
    instructions: bool
    enable_streaming: bool


class NewTask(TypedDict):
    """A task, and the execution that it has, if any has begun."""

    id: str
    task_id: str
    agent_id: str
    description: str
    user_id: str | None
    status: str
    task_parameters: JsonObject
    created_at: Time
    execution_id: str | None
    events_url: str


class TaskWithResult(NewTask):
    """A task, and what has become of it."""

    final_response: str | None
    error: str | None


class ExecutionView(TypedDict):
    """The execution of a task; with all its events if it was waited for."""

    task_id: str
    execution_id: str
    status: str
    events_url: str
    events: NotRequired[list[JsonObject]]
    more: NotRequired[bool]
    final_response: NotRequired[str | None]
    error: NotRequired[str | None]


class TaskState(TypedDict):
    """The state of a task's thread, and the approvals that it waits for."""

    status: str
    step: int | None
    next: list[str]
    values: Json
    approvals: list[str]


class TaskEvents(TypedDict):
    """A task's events so far. `next` is the id to go on after."""

    events: list[JsonObject]
    next: str
    more: bool


class FinalResponse(TypedDict):
    """The agent's last words, or why there are none."""

    status: str
    final_response: str | None
    error: str | None
