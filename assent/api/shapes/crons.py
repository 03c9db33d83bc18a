"""Crons, as LangGraph's server shows them."""

from __future__ import annotations

from typing import TypedDict

from assent.api.shapes.common import Time
from assent.core.json import JsonObject


class CronView(TypedDict):
    """A schedule, in LangGraph's words."""

    cron_id: str
    assistant_id: str
    thread_id: str | None
    on_run_completed: str | None
    end_time: Time | None
    schedule: str
    timezone: str
    created_at: Time
    updated_at: Time
    payload: JsonObject
    user_id: str
    next_run_date: Time | None
    metadata: JsonObject
    enabled: bool


class FoundCron(TypedDict, total=False):
    """A cron that was found, with the fields that were selected."""

    cron_id: str
    assistant_id: str
    thread_id: str | None
    on_run_completed: str | None
    end_time: Time | None
    schedule: str
    timezone: str
    created_at: Time
    updated_at: Time
    payload: JsonObject
    user_id: str
    next_run_date: Time | None
    metadata: JsonObject
    enabled: bool
