"""Standing grants: what people approve in advance."""

from __future__ import annotations

import msgspec
from fastapi import Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.deps import PageLimit, TheActor, TheRuns
from assent.api.paths import url
from assent.api.responses import json_response, page_response
from assent.api.routing import router_of
from assent.api.schemas import GrantRequest
from assent.api.shapes.approvals import GrantsPage, GrantView
from assent.api.views import grant_view
from assent.core.access import Right
from assent.core.errors import InvalidRequest
from assent.core.grant import Bound

router = router_of("grants")


@router.post("/grants", status_code=201)
@may(Right.DECIDE, Thing.BODY)
@answers(GrantView, 201, location=True)
@refuses(404, 409)
async def give(body: GrantRequest, request: Request, runs: TheRuns, by: TheActor) -> Response:
    """Approve in advance: calls of this tool with arguments within these bounds. It counts as your
    vote would, so it is a 403 if you could not approve such calls yourself."""
    try:
        bounds = msgspec.convert(body.bounds, dict[str, Bound])
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f'The bounds are wrong: {error}. A bound is {{"min": …, "max": …}}, '
            '{"among": […]} or {"any": true}.'
        ) from None
    grant = await runs.approvals.give_grant(
        agent=body.agent,
        tool=body.tool,
        bounds=bounds,
        by=by,
        until=body.until,
        uses=body.uses,
        thread_id=body.thread_id or "",
        user=body.user or "",
    )
    location = url(request, f"/grants/{grant.grant_id}")
    return json_response(grant_view(grant), status=201, headers={"Location": location})


@router.get("/grants")
@may(Right.SEE, Thing.LIST)
@answers(GrantsPage)
async def list_grants(
    runs: TheRuns,
    by: TheActor,
    limit: PageLimit = 100,
    cursor: str | None = None,
) -> Response:
    """Grants, newest first, also those that are used up, over or revoked. `next` is the cursor of
    the next page, or null."""
    page = await runs.storage.grants(limit=limit, cursor=cursor)
    return page_response("grants", page, grant_view)


@router.get("/grants/{id}")
@may(Right.SEE, Thing.GRANT)
@answers(GrantView)
async def get_grant(id: str, runs: TheRuns, by: TheActor) -> Response:
    """One grant."""
    return json_response(grant_view(await runs.approvals.get_grant(id)))


@router.delete("/grants/{id}")
@may(Right.DECIDE, Thing.GRANT)
@answers(GrantView)
@refuses(409)
async def revoke(id: str, runs: TheRuns, by: TheActor) -> Response:
    """Revoke it: from now on it approves nothing. What it has approved stays approved."""
    return json_response(grant_view(await runs.approvals.revoke_grant(id, by)))
