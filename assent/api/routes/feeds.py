"""Feeds: what happens to the runs of an agent, or to those that a person started."""

from __future__ import annotations

from fastapi import Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses, streams_events
from assent.api.deps import AdmittedUnlessPage, TheActor, TheRuns
from assent.api.dialects.native import FEED
from assent.api.event_query import TheReading
from assent.api.routing import router_of
from assent.api.shapes.common import EventsPage
from assent.api.streams.reading import events_response
from assent.api.streams.transport import Transport
from assent.core.access import Right
from assent.core.errors import NotFound
from assent.core.logs import feed_of_agent, feed_of_user

router = router_of("feeds")


# A name may have a slash.
@router.get("/agents/{name:path}/events")
@may(Right.READ, Thing.AGENT_FEED, ticket=Transport.SSE)
@streams_events
@answers(EventsPage)
@refuses(410)
async def agent_events(
    name: str,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: AdmittedUnlessPage,
    reading: TheReading,
) -> Response:
    """Follow the runs of an agent and their approvals, on all threads, past `after` (or
    `Last-Event-ID`), replayed and then live; or a page of it as JSON, if you accept
    `application/json`. Numbers are the feed's own. What was said, asked and answered is not in
    it: look at the thread."""
    feed = feed_of_agent(name, by.tenant)
    if name not in runs.agents and not await runs.storage.last_seq(feed):
        raise NotFound(f"There is no agent '{name}'. There are: {', '.join(runs.agents)}.")
    return await events_response(request, runs.storage, feed, reading, FEED)


@router.get("/users/{name:path}/events")
@may(Right.READ, Thing.USER_FEED, ticket=Transport.SSE)
@streams_events
@answers(EventsPage)
@refuses(410)
async def user_events(
    name: str,
    request: Request,
    runs: TheRuns,
    by: TheActor,
    admitted: AdmittedUnlessPage,
    reading: TheReading,
) -> Response:
    """Follow the runs that a person started, and the approvals that can be traced to them, in the
    same way."""
    return await events_response(
        request, runs.storage, feed_of_user(name, by.tenant), reading, FEED
    )
