"""Tickets, by which a page opens a stream."""

from __future__ import annotations

from fastapi import Request, Response

from assent.api.access.rules import Thing, may
from assent.api.answers import answers, refuses
from assent.api.context import sign_ins_of
from assent.api.deps import TheIdentity
from assent.api.responses import NO_STORE, json_response
from assent.api.routing import router_of
from assent.api.schemas import TicketRequest
from assent.api.shapes.signing import TicketView
from assent.core.access import Right
from assent.core.errors import Conflict

router = router_of("tickets")


@router.post("/stream-tickets", status_code=201)
@may(Right.SELF, Thing.BODY)
@answers(TicketView, 201)
@refuses(409)
async def take_ticket(body: TicketRequest, request: Request, by: TheIdentity) -> Response:
    """Take a ticket for a stream, for a page that can send no header with it: the stream opens with
    `?ticket=` in its URL, once and within 30 s, as you. What you may read is asked then."""
    if by.is_of_request:
        raise Conflict(
            "The Auth of this project is asked with each request, so a ticket could not say who "
            "opens the stream: send with that what you send with others."
        )
    made = await sign_ins_of(request).tickets.make(by, body.path, body.transport)
    view = {"ticket": made.text, "expires_at": made.row.expires_at}
    return json_response(view, status=201, headers=NO_STORE)
