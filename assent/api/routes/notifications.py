"""Notifications: what endpoints were told of approvals, are still to be told, and could not be
told."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from assent.api.deps import TheRuns, Who
from assent.api.responses import json_response
from assent.core.errors import NotFound
from assent.core.rows import Notification, NotificationStatus
from assent.notify.delivery import Dispatcher

router = APIRouter(tags=["notifications"])


@router.get("/notifications")
async def list_notifications(
    runs: TheRuns,
    who: Who,
    status: NotificationStatus | None = None,
    endpoint: str | None = None,
    approval_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> Response:
    """Notifications, newest first, without what they say. Those that are `dead` were tried for
    days."""
    page = await runs.storage.notifications(
        status=status, endpoint=endpoint, approval_id=approval_id, limit=limit, cursor=cursor
    )
    return json_response({"notifications": [_view(row) for row in page.rows], "next": page.next})


@router.get("/notifications/{id}")
async def get_notification(id: str, runs: TheRuns, who: Who) -> Response:
    """One notification, with what it says."""
    row = await runs.storage.notification(id)
    if row is None:
        raise NotFound(f"There is no notification '{id}'.")
    return json_response(
        {
            **_view(row),
            "data": {name: value for name, value in row.payload.items() if name != "link_id"},
        }
    )


@router.post("/notifications/{id}/resend", status_code=202)
async def resend(id: str, request: Request, who: Who) -> Response:
    """Send it again, beginning now, with the same id."""
    dispatcher: Dispatcher = request.app.state.dispatcher
    return json_response(_view(await dispatcher.resend(id)), status=202)


def _view(row: Notification) -> dict[str, Any]:
    return {
        "notification_id": row.notification_id,
        "endpoint": row.endpoint,
        "event": row.event,
        "thread_id": row.thread_id,
        "approval_id": row.approval_id,
        "run_id": row.run_id,
        "status": row.status,
        "attempts": row.attempts,
        "last_error": row.last_error,
        "created_at": row.created_at,
        "next_at": row.next_at,
        "delivered_at": row.delivered_at,
    }
