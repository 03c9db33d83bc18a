"""The audit chain: who did what and when, and how the server knew them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import Query, Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers
from assent.api.context import served
from assent.api.deps import OfThread, PageLimit, TheActor, TheRuns
from assent.api.responses import NO_STORE, json_response, page_response
from assent.api.routing import router_of
from assent.api.schemas import Moment
from assent.api.shapes.server import AuditHeadView, AuditPage, AuditVerification
from assent.core.access import Right
from assent.core.audit import AuditAction
from assent.storage.base import AuditOrder
from assent.storage.chain import head_of, head_to_json, heads_from_text, record_to_json

router = router_of("audit")


@router.get("/audit")
@may(Right.AUDIT, Thing.LIST)
@answers(AuditPage)
async def list_audit(
    runs: TheRuns,
    by: TheActor,
    thread_id: OfThread = None,
    approval_id: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
    actor: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    action: AuditAction | None = None,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    sort: Annotated[AuditOrder, Query(description="What comes first")] = "oldest",
    limit: PageLimit = 100,
    cursor: str | None = None,
) -> Response:
    """The records of the chain. `next` is the cursor of the next page, or null. `GET /audit/verify`
    checks that the chain is whole."""
    page = await runs.storage.audit(
        thread_id=thread_id,
        approval_id=approval_id,
        actor=actor,
        action=action,
        since=since,
        until=until,
        sort=sort,
        limit=limit,
        cursor=cursor,
    )
    return page_response("audit", page, record_to_json)


@router.get("/audit/head")
@may(Right.AUDIT, Thing.LIST)
@answers(AuditHeadView)
async def get_head(runs: TheRuns, by: TheActor) -> Response:
    """The last record of the chain, or null. Keep it where nobody who has the database can change
    it."""
    head = await runs.storage.audit_head()
    return json_response({"head": head_to_json(head) if head else None})


@router.get("/audit/verify")
@may(Right.AUDIT, Thing.SERVER, whole=True)
@answers(AuditVerification)
async def verify(
    request: Request,
    head: Annotated[
        str | None,
        Query(
            max_length=200,
            description="A head that was kept elsewhere, as `12:ab34…`: with it, a chain whose end "
            "was cut off is found too",
        ),
    ] = None,
) -> Response:
    """Verify all of the chain, as `assent audit verify` does: `broken` is the first record that is
    not as it was written, with a sentence on it, or null; `unchecked` counts records by keys that
    the server does not have. It takes about a second for 20,000 records."""
    heads = None if head is None else heads_from_text(head)
    found = await served(request).program.storage.verify_audit(heads)
    last = None if found.last is None else head_of(found.last)
    return json_response(
        {
            "head": head_to_json(last) if last else None,
            "broken": None if found.broken is None else asdict(found.broken),
            "unchecked": dict(found.unchecked),
        },
        headers=NO_STORE,
    )
