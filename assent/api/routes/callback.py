"""The page to which identity providers send browsers back. It takes whatever they add to its
address: its script reads what it knows of it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from assent.api import sign_in_page
from assent.api.access.rules import open_to_all
from assent.api.answers import HTML, answers
from assent.api.routing import JsonRoute

router = APIRouter(tags=["session"], route_class=JsonRoute)

SCRIPT = "text/javascript"


@router.get("/session/callback")
@open_to_all("It is one page for everybody.")
@answers(str, media_type=HTML, description="A page whose script finishes the login")
async def callback(request: Request) -> Response:
    """The page to which identity providers send browsers back. Its script takes the code out of the
    address, and posts it to `/session`."""
    return Response(sign_in_page.HTML, media_type=HTML, headers=sign_in_page.HEADERS)


@router.get("/session/callback.js")
@open_to_all("It is one script for everybody.")
@answers(str, media_type=SCRIPT, description="The script of the page")
async def callback_script(request: Request) -> Response:
    """The script of `/session/callback`."""
    return Response(sign_in_page.SCRIPT, media_type=SCRIPT, headers=sign_in_page.HEADERS)
