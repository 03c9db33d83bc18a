"""Approvals: what waits for a person, on any thread."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from assent.api.answers import ApprovalAnswer
from assent.api.deps import How, TheRuns, Who
from assent.api.json import json_response
from assent.api.openapi import SSE_RESPONSE
from assent.api.routes.threads import decided_response
from assent.api.schemas import THREAD_ID
from assent.api.views import approval_view
from assent.approvals.deciding import Verdict
from assent.checkpoint.contracts import Approval, ApprovalStatus, Storage
from assent.errors import NotFound

router = APIRouter(tags=["approvals"])


@router.get("/approvals")
async def list_approvals(
    runs: TheRuns,
    who: Who,
    status: ApprovalStatus | None = None,
    thread_id: Annotated[str | None, Query(pattern=THREAD_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> Response:
    """Approvals, oldest first. `next` is the cursor of the next page, or null."""
    page = await runs.storage.approvals(status=status, thread_id=thread_id, limit=limit, cursor=cursor)
    return json_response({"approvals": [approval_view(approval) for approval in page.rows], "next": page.next})


@router.get("/approvals/{id}")
async def get_approval(id: str, runs: TheRuns, who: Who) -> Response:
    """One approval, with what was decided."""
    return json_response(approval_view(await _approval(runs.storage, id)))


@router.post("/approvals/{id}/decide", status_code=202, responses=SSE_RESPONSE)
async def decide(id: str, body: ApprovalAnswer, request: Request, runs: TheRuns, who: Who, how: How) -> Response:
    """Decide one approval: the same as `POST /threads/{id}/resume` with its id."""
    approval = await _approval(runs.storage, id)
    verdict = Verdict(decisions=partial(body.decisions, id), by=who, authentication=how)
    decided = await runs.decide(approval.thread_id, verdict)
    return decided_response(request, runs.storage, approval.thread_id, decided)


async def _approval(storage: Storage, approval_id: str) -> Approval:
    approval = await storage.approval(approval_id)
    if approval is None:
        raise NotFound(f"There is no approval '{approval_id}'.")
    return approval
