"""Runs, their results, and the schedules that start them."""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from assent.api.langgraph_shapes import LangGraphStatus
from assent.api.shapes.approvals import ApprovalView
from assent.api.shapes.common import ErrorView, Time
from assent.core.json import Json, JsonObject
from assent.core.rows import RunKind, RunStatus
from assent.core.run_input import NodeNames


class RunView(TypedDict):
    """A run, which its `owner` started. It goes on from where `paused_run` has paused, or from a
    state of the past, `checkpoint_id`. `reason` says why it cannot go on here, and `events` is
    where to follow it."""

    run_id: str
    thread_id: str
    owner: str
    agent: str
    kind: RunKind
    status: RunStatus
    attempt: int
    priority: int
    created_at: Time
    due_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    error: ErrorView | None
    usage: dict[str, float]
    metadata: JsonObject
    requested_by: list[str]
    schedule_id: str | None
    next_run: str | None
    paused_run: str | None
    checkpoint_id: str | None
    reason: str | None
    budget: JsonObject
    events: str


class RunsPage(TypedDict):
    """Runs, and the cursor of the next page."""

    runs: list[RunView]
    next: str | None


class RunResultView(TypedDict):
    """What a run has come to: the agent's last message as `output`, the thread's `values`, and the
    approvals that are pending now."""

    thread_id: str
    run_id: str
    status: RunStatus
    error: ErrorView | None
    output: str
    approvals: list[ApprovalView]
    values: Json


class CancelledRuns(TypedDict):
    """The runs of a thread that were asked to stop."""

    thread_id: str
    runs: list[RunView]


class ThreadRunView(TypedDict):
    """A run of a thread, as LangGraph's server shows it."""

    run_id: str
    thread_id: str
    assistant_id: str
    created_at: Time
    updated_at: Time
    metadata: JsonObject
    status: LangGraphStatus
    kwargs: JsonObject
    multitask_strategy: str


ValuesAfter = Annotated[
    Json, Meta(description="The values of the thread, and `__interrupt__`; or `__error__`")
]


class ScheduleView(TypedDict):
    """A schedule, and the input that it gives its agent."""

    schedule_id: str
    owner: str
    agent: str
    cron: str
    timezone: str
    thread_id: str | None
    on_busy: str
    if_missed: str
    enabled: bool
    metadata: JsonObject
    budget: JsonObject
    created_at: Time
    requested_by: list[str]
    next_at: Time | None
    last_at: Time | None
    last_run_id: str | None
    last_error: str | None
    ends_at: Time | None
    message: Json
    input: NotRequired[Json]
    context: NotRequired[JsonObject]
    config: NotRequired[JsonObject]
    interrupt_before: NotRequired[NodeNames]
    interrupt_after: NotRequired[NodeNames]


class UpcomingSchedule(ScheduleView):
    """A schedule with its next times, in its own time zone."""

    next_times: list[Time]


class SchedulePreview(TypedDict):
    """The next times of a cron expression, in its time zone."""

    next_times: list[Time]


class SchedulesPage(TypedDict):
    """Schedules, and the cursor of the next page."""

    schedules: list[ScheduleView]
    next: str | None
