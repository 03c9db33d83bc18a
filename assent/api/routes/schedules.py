"""Schedules: messages to an agent at set times."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.deps import PageLimit, TheActor, TheRuns
from assent.api.idempotency import TheKey
from assent.api.outcomes import started_response
from assent.api.paths import url
from assent.api.responses import json_response, page_response
from assent.api.routing import router_of
from assent.api.schemas import Cron, ScheduleChange, ScheduleRequest, Zone
from assent.api.shapes.runs import RunView, SchedulePreview, SchedulesPage, UpcomingSchedule
from assent.api.views import schedule_view
from assent.core.access import Right
from assent.runs.schedules import next_times

router = router_of("schedules")

MOST_PREVIEWED = 20
"""The most times that a preview has."""


@router.post("/schedules", status_code=201)
@may(Right.RUN, Thing.BODY, langgraph=("crons", "create"))
@answers(UpcomingSchedule, 201, location=True)
@refuses(404, 409)
async def create_schedule(
    body: ScheduleRequest, request: Request, runs: TheRuns, by: TheActor
) -> Response:
    """Create a schedule. The response has its next times."""
    schedule = await runs.schedules.create(body.plan(), owner=by.owner, known_to=by.known_to)
    view = schedule_view(schedule, runs.schedules.upcoming(schedule))
    location = url(request, f"/schedules/{schedule.schedule_id}")
    return json_response(view, status=201, headers={"Location": location})


@router.get("/schedules")
@may(Right.READ, Thing.LIST, langgraph=("crons", "search"))
@answers(SchedulesPage)
async def list_schedules(
    runs: TheRuns,
    by: TheActor,
    limit: PageLimit = 100,
    cursor: str | None = None,
) -> Response:
    """Schedules, newest first. `next` is the cursor of the next page, or null."""
    page = await runs.storage.schedules(limit=limit, cursor=cursor)
    return page_response("schedules", page, schedule_view)


@router.get("/schedules/preview")
@may(Right.READ, Thing.LIST, langgraph=("crons", "read"))
@answers(SchedulePreview)
async def preview_schedule(
    runs: TheRuns,
    by: TheActor,
    cron: Annotated[Cron, Query()],
    timezone: Annotated[Zone, Query()] = "UTC",
    count: Annotated[int, Query(ge=1, le=MOST_PREVIEWED, description="The most times")] = 5,
) -> Response:
    """The next times of a cron expression, in its time zone, for whoever is about to schedule
    something. Fewer than `count` if it has no more in the next fifty years."""
    times = next_times(cron, timezone, runs.clock.now(), count)
    zone = ZoneInfo(timezone)
    return json_response({"next_times": [time.astimezone(zone) for time in times]})


@router.get("/schedules/{id}")
@may(Right.READ, Thing.SCHEDULE, langgraph=("crons", "read"))
@answers(UpcomingSchedule)
async def get_schedule(id: str, runs: TheRuns, by: TheActor) -> Response:
    """A schedule, with its next five times."""
    schedule = await runs.schedules.schedule(id)
    return json_response(schedule_view(schedule, runs.schedules.upcoming(schedule)))


@router.patch("/schedules/{id}")
@may(Right.RUN, Thing.SCHEDULE, langgraph=("crons", "update"))
@answers(UpcomingSchedule)
@refuses(409)
async def change_schedule(id: str, body: ScheduleChange, runs: TheRuns, by: TheActor) -> Response:
    """Change the fields that are sent. New times, or `enabled`, count from now on."""
    schedule = await runs.schedules.change(id, body.changes(), by=by.name, known_to=by.known_to)
    return json_response(schedule_view(schedule, runs.schedules.upcoming(schedule)))


@router.delete("/schedules/{id}", status_code=204)
@may(Right.STOP, Thing.SCHEDULE, langgraph=("crons", "delete"))
@answers(None, 204, description="It is gone")
@refuses(409)
async def delete_schedule(id: str, runs: TheRuns, by: TheActor) -> Response:
    """Delete a schedule. Its runs and their threads stay, and an active run continues."""
    await runs.schedules.delete(id)
    return Response(status_code=204)


@router.post("/schedules/{id}/run", status_code=202)
@may(Right.RUN, Thing.SCHEDULE, langgraph=("crons", "update"))
@answers(RunView, 202, location=True)
@refuses(409)
async def run_schedule(
    id: str, request: Request, runs: TheRuns, by: TheActor, key: TheKey
) -> Response:
    """Run now, whatever the time. `events` is the URL of the run's events."""
    run = await runs.run_schedule(id, by=by.name, known_to=by.known_to, key=key)
    return started_response(request, runs, run)
