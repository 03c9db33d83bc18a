"""Crons, as LangGraph's clients send and read them: schedules by other names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from msgspec import structs
from pydantic import AfterValidator, Field, StrictBool, model_validator

from assent.api.langgraph_searches import SearchBody
from assent.api.langgraph_shapes import LangGraphBody, OnCompletion, Webhook
from assent.api.schemas import (
    Cron,
    GraphInput,
    Metadata,
    Name,
    ScheduleOnBusy,
    ThreadId,
    Zone,
    check_no_limit,
    in_utc,
)
from assent.core.assistants import assistant_id_of, assistant_in
from assent.core.errors import InvalidRequest
from assent.core.json import JsonObject, holds
from assent.core.rows import Schedule
from assent.core.run_input import GIVEN, SENT
from assent.runs.schedules import Plan


def _end_in_utc(time: datetime) -> datetime:
    """The time in UTC; one without a zone is in it already."""
    return in_utc(time.replace(tzinfo=UTC) if time.tzinfo is None else time)


End = Annotated[
    datetime,
    AfterValidator(_end_in_utc),
    Field(description="No run is due after that; without a zone it is in UTC"),
]

_THEIR_NAMES = {"schedule": "cron", "end_time": "ends_at", "multitask_strategy": "on_busy"}


class CronBody(GraphInput, LangGraphBody):
    """What a cron is created with, and changed by."""

    refused = {
        "command": "A cron gives its agent input: nobody is there to decide by it.",
        **dict.fromkeys(
            ("checkpoint", "checkpoint_id"), "Each run goes on from where its thread is by then."
        ),
    }

    webhook: Webhook | None = None
    on_run_completed: OnCompletion | None = Field(
        default=None,
        description="What becomes of the thread of each run, where each has its own: `delete`, "
        "which is the default, erases it some time after its end; `keep`",
    )

    @model_validator(mode="after")
    def _can_be_scheduled(self) -> Self:
        check_no_limit(self.config)
        return self

    def check_thread(self, thread_id: str | None) -> None:
        """Raise `InvalidRequest` if runs on the thread are to delete it."""
        if self.on_run_completed == "delete" and thread_id:
            raise InvalidRequest(
                f"'on_run_completed' is 'delete', and the cron's runs are on the thread "
                f"'{thread_id}', which stays. Leave it out, or make a cron without a thread."
            )

    def plan_fields(self) -> JsonObject:
        """The fields of a plan that were sent, without those of its input."""
        sent = self.model_dump(
            exclude_unset=True, exclude={*GIVEN, "on_run_completed", "assistant_id"}
        )
        return {_THEIR_NAMES.get(name, name): value for name, value in sent.items()}


class CronRequest(CronBody):
    """Input for an agent at the times of a cron expression."""

    schedule: Cron
    assistant_id: Name = Field(
        description="The agent's name, its id as an assistant, or that of an assistant which was "
        "created: the cron keeps what that sets now"
    )
    metadata: Metadata = Field(default_factory=dict)
    timezone: Zone = "UTC"
    end_time: End | None = None
    enabled: StrictBool = True
    multitask_strategy: ScheduleOnBusy = "enqueue"

    def plan(self, thread_id: str | None) -> Plan:
        """The plan for the schedule. Raises what `check_thread` does."""
        self.check_thread(thread_id)
        is_temporary = thread_id is None and self.on_run_completed != "keep"
        return Plan(
            given=structs.replace(self.given(), temporary=is_temporary),
            assistant_id=self.assistant_id,
            thread_id=thread_id,
            **self.plan_fields(),
        )


class CronChange(CronBody):
    """The fields of a cron to change. `"end_time": null` takes that off."""

    schedule: Cron | None = None
    metadata: Metadata | None = None
    timezone: Zone | None = None
    end_time: End | None = None
    enabled: StrictBool | None = None

    def changes(self) -> JsonObject:
        """The fields to change, with their new values. Others that are null are left as they
        are."""
        fields = {**self.plan_fields(), **self.fields_given()}
        if self.on_run_completed is not None:
            fields["temporary"] = self.on_run_completed == "delete"
        return {
            name: value for name, value in fields.items() if value is not None or name == "ends_at"
        }


CronOrder = Literal[
    "cron_id",
    "assistant_id",
    "thread_id",
    "created_at",
    "updated_at",
    "next_run_date",
    "end_time",
]
CronField = Literal[
    "cron_id",
    "assistant_id",
    "thread_id",
    "end_time",
    "schedule",
    "timezone",
    "created_at",
    "updated_at",
    "user_id",
    "payload",
    "next_run_date",
    "metadata",
    "on_run_completed",
    "enabled",
]


class CronCountRequest(LangGraphBody):
    """The crons to count."""

    assistant_id: Name | None = None
    thread_id: ThreadId | None = None
    metadata: Metadata | None = Field(
        default=None, description="Only those whose metadata have these values"
    )

    def takes(self, agents: Collection[str], schedule: Schedule) -> bool:
        """True if the schedule is one of them."""
        asked = self.assistant_id
        if asked is not None and asked in agents:
            asked = assistant_id_of(asked)
        return (
            asked in (None, _assistant_id(schedule))
            and self.thread_id in (None, schedule.thread_id)
            and holds(schedule.metadata, self.metadata or {})
        )


class CronSearchRequest(CronCountRequest, SearchBody):
    """The crons to find."""

    enabled: StrictBool | None = None
    sort_by: CronOrder | None = Field(default=None, description="`created_at` if it is left out")
    select: list[CronField] | None = Field(
        default=None, description="The fields to show; all of them if it is left out"
    )

    def page(self, views: Sequence[JsonObject]) -> Sequence[JsonObject]:
        """Those that are asked for, in order: one more than the limit, if there are others. Those
        without a value stand where the last ones do."""
        name = self.sort_by or "created_at"
        views = [view for view in views if self.enabled in (None, view["enabled"])]
        there = [view for view in views if view[name] is not None]
        there.sort(key=lambda view: (view[name], view["cron_id"]), reverse=self.newest_first)
        found = [*there, *(view for view in views if view[name] is None)]
        return found[self.offset : self.offset + self.limit + 1]


def cron_view(schedule: Schedule) -> JsonObject:
    """A schedule in LangGraph's words."""
    given: Mapping[str, object] = schedule.input
    payload = {name: given[name] for name in SENT if name in given}
    completed = "delete" if given.get("temporary") else "keep"
    assistant_id = _assistant_id(schedule)
    return {
        "cron_id": schedule.schedule_id,
        "assistant_id": assistant_id,
        "thread_id": schedule.thread_id or None,
        "on_run_completed": None if schedule.thread_id else completed,
        "end_time": schedule.ends_at,
        "schedule": schedule.cron,
        "timezone": schedule.timezone,
        "created_at": schedule.created_at,
        "updated_at": schedule.last_at or schedule.created_at,
        "payload": {"assistant_id": assistant_id, **payload},
        "user_id": schedule.owner,
        "next_run_date": schedule.next_at,
        "metadata": schedule.metadata,
        "enabled": schedule.enabled,
    }


def _assistant_id(schedule: Schedule) -> str:
    """The id of the assistant that the schedule was made with, which may be the agent itself."""
    return assistant_in(schedule.input) or assistant_id_of(schedule.agent)
