"""Crons, as LangGraph's clients ask for them: schedules by other names."""

from __future__ import annotations

from fastapi import Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.deps import TheActor, TheRuns, ThreadPath
from assent.api.langgraph_crons import (
    CronChange,
    CronCountRequest,
    CronRequest,
    CronSearchRequest,
    cron_view,
)
from assent.api.langgraph_searches import page_of, selected
from assent.api.responses import json_response
from assent.api.routing import router_of
from assent.api.shapes.crons import CronView, FoundCron
from assent.core.access import Right
from assent.storage.base import all_rows

router = router_of("schedules")


@router.post("/runs/crons")
@may(Right.RUN, Thing.BODY, langgraph=("crons", "create"))
@answers(CronView)
@refuses(404, 409)
async def create_cron(body: CronRequest, runs: TheRuns, by: TheActor) -> Response:
    """A schedule whose runs have a new thread each."""
    plan = body.plan(None)
    made = await runs.schedules.create(plan, owner=by.owner, known_to=by.known_to)
    return json_response(cron_view(made))


@router.post("/threads/{id}/runs/crons")
@may(Right.RUN, Thing.THREAD, langgraph=("crons", "create"))
@answers(CronView)
@refuses(409)
async def create_cron_on_thread(
    id: ThreadPath, body: CronRequest, runs: TheRuns, by: TheActor
) -> Response:
    """A schedule whose runs are on the thread."""
    await runs.thread(id)
    plan = body.plan(id)
    made = await runs.schedules.create(plan, owner=by.owner, known_to=by.known_to)
    return json_response(cron_view(made))


@router.post("/runs/crons/search")
@may(Right.READ, Thing.LIST, langgraph=("crons", "search"))
@answers(list[FoundCron])
async def search_crons(
    runs: TheRuns, by: TheActor, body: CronSearchRequest | None = None
) -> Response:
    """Schedules that match, newest first unless something else is said. If there are more, the
    header `X-Pagination-Next` is the `offset` of those."""
    body = body or CronSearchRequest()
    listed = await all_rows(runs.storage.schedules)
    views = [cron_view(each) for each in listed if body.takes(runs.agents, each)]
    page, headers = page_of(body.page(views), body)
    return json_response([selected(each, body.select) for each in page], headers=headers)


@router.post("/runs/crons/count")
@may(Right.READ, Thing.LIST, langgraph=("crons", "search"))
@answers(int, description="The number of crons")
async def count_crons(
    runs: TheRuns, by: TheActor, body: CronCountRequest | None = None
) -> Response:
    """The number of schedules that a search would find."""
    body = body or CronCountRequest()
    listed = await all_rows(runs.storage.schedules)
    return json_response(sum(body.takes(runs.agents, each) for each in listed))


@router.get("/runs/crons/{cron_id}")
@may(Right.READ, Thing.SCHEDULE, langgraph=("crons", "read"))
@answers(CronView)
async def get_cron(cron_id: str, runs: TheRuns, by: TheActor) -> Response:
    """A schedule."""
    return json_response(cron_view(await runs.schedules.schedule(cron_id)))


@router.patch("/runs/crons/{cron_id}")
@may(Right.RUN, Thing.SCHEDULE, langgraph=("crons", "update"))
@answers(CronView)
@refuses(409)
async def change_cron(cron_id: str, body: CronChange, runs: TheRuns, by: TheActor) -> Response:
    """Change the fields that are sent. New times, or `enabled`, count from now on."""
    body.check_thread((await runs.schedules.schedule(cron_id)).thread_id)
    changes = body.changes()
    changed = await runs.schedules.change(cron_id, changes, by=by.name, known_to=by.known_to)
    return json_response(cron_view(changed))


@router.delete("/runs/crons/{cron_id}", status_code=204)
@may(Right.STOP, Thing.SCHEDULE, langgraph=("crons", "delete"))
@answers(None, 204, description="It is gone")
@refuses(409)
async def delete_cron(cron_id: str, runs: TheRuns, by: TheActor) -> Response:
    """Delete a schedule. Its runs and their threads stay."""
    await runs.schedules.delete(cron_id)
    return Response(status_code=204)
