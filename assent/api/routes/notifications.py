"""Notifications: those that wait, were delivered, or are dead letters."""

from __future__ import annotations

from fastapi import Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.context import served
from assent.api.deps import PageLimit, TheActor, TheRuns
from assent.api.responses import json_response, page_response
from assent.api.routing import router_of
from assent.api.shapes.server import NotificationsPage, NotificationView, NotificationWithData
from assent.api.views import pick
from assent.core.access import Right
from assent.core.errors import NotFound
from assent.core.json import JsonObject
from assent.core.rows import Notification, NotificationStatus
from assent.notify.outbox import data_of
from assent.runs.service import Runs

router = router_of("notifications")

_FIELDS = (
    *("notification_id", "endpoint", "event", "thread_id", "approval_id", "run_id", "status"),
    *("attempts", "last_error", "created_at", "next_at", "delivered_at"),
)


@router.get("/notifications")
@may(Right.WATCH, Thing.LIST)
@answers(NotificationsPage)
async def list_notifications(
    runs: TheRuns,
    by: TheActor,
    status: NotificationStatus | None = None,
    endpoint: str | None = None,
    approval_id: str | None = None,
    limit: PageLimit = 100,
    cursor: str | None = None,
) -> Response:
    """Notifications, newest first, without their data. A `dead` one has failed for days, and is not
    retried."""
    page = await runs.storage.notifications(
        status=status, endpoint=endpoint, approval_id=approval_id, limit=limit, cursor=cursor
    )
    return page_response("notifications", page, _view)


@router.get("/notifications/{id}")
@may(Right.WATCH, Thing.NOTIFICATION)
@answers(NotificationWithData)
async def get_notification(id: str, runs: TheRuns, by: TheActor) -> Response:
    """One notification, with its data."""
    row = await _stored(runs, id)
    return json_response({**_view(row), "data": data_of(row)})


@router.post("/notifications/{id}/resend", status_code=202)
@may(Right.ADMIN, Thing.NOTIFICATION)
@answers(NotificationView, 202)
@refuses(409)
async def resend(id: str, request: Request, runs: TheRuns, by: TheActor) -> Response:
    """Send a notification again with the same id, starting now."""
    await _stored(runs, id)
    notification = await served(request).dispatcher.resend(id)
    return json_response(_view(notification), status=202)


async def _stored(runs: Runs, id: str) -> Notification:
    row = await runs.storage.notification(id)
    if row is None:
        raise NotFound(f"There is no notification '{id}'.")
    return row


def _view(row: Notification) -> JsonObject:
    return pick(row, _FIELDS)
