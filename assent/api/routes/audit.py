"""The audit chain: who did what, when, and how he was known."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from assent.api.deps import TheRuns, Who
from assent.api.responses import json_response
from assent.api.schemas import THREAD_ID
from assent.storage.chain import head_to_json, record_to_json

router = APIRouter(tags=["audit"])


@router.get("/audit")
async def list_audit(
    runs: TheRuns,
    who: Who,
    thread_id: Annotated[str | None, Query(pattern=THREAD_ID)] = None,
    approval_id: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
    actor: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    since: Annotated[AwareDatetime | None, Query(description="RFC 3339, with a zone")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> Response:
    """What was done, oldest first. `next` is the cursor of the next page, or null. `assent audit
    verify` tells whether it is whole."""
    page = await runs.storage.audit(
        thread_id=thread_id,
        approval_id=approval_id,
        actor=actor,
        since=since,
        limit=limit,
        cursor=cursor,
    )
    return json_response(
        {"audit": [record_to_json(record) for record in page.rows], "next": page.next}
    )


@router.get("/audit/head")
async def get_head(runs: TheRuns, who: Who) -> Response:
    """The chain's last row, to be kept where nobody who has the database can change it; null while
    there is none."""
    head = await runs.storage.audit_head()
    return json_response({"head": head_to_json(head) if head else None})
