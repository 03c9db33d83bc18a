"""The web page, for people: its files under `/ui/`, and the way there from `/`.

Nothing of anybody's is in it. It asks the server for that as any client does, with what the person
in front of it has signed in with.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from assent.api import web
from assent.api.access.headers import PAGE, WEB_PAGE
from assent.api.access.rules import open_to_all
from assent.api.project_app import answers_at_root
from assent.api.routing import JsonRoute
from assent.api.web import PageFile

WHY_OPEN: Final = "It is the program of the page, and the same for everybody."

POLICY: Final = {"Content-Security-Policy": WEB_PAGE}

FOR_GOOD: Final = "public, max-age=31536000, immutable"


class ForBrowsers(JsonRoute):
    """A route for those who look at pages. Whoever else asks finds what there would be without it,
    and so does everybody where the project's own app has something there."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["method"] != "GET":
            return Match.NONE, {}
        takes_pages = "text/html" in Headers(scope=scope).get("accept", "")
        if not takes_pages or answers_at_root(scope["app"]):
            return Match.NONE, {}
        return super().matches(scope)


# A page's own parameters are the page's business: it has its filters there.
router = APIRouter(tags=["web"], route_class=JsonRoute)
root = APIRouter(tags=["web"], route_class=ForBrowsers)


@root.get("/", include_in_schema=False)
@router.get("/ui", include_in_schema=False)
@open_to_all(WHY_OPEN)
async def lead(request: Request) -> Response:
    """Lead a browser to the page. The way is relative, so that it is right under any prefix."""
    return Response(status_code=303, headers={"Location": "ui/", "Vary": "Accept"})


@router.get("/ui/{path:path}", include_in_schema=False)
@open_to_all(WHY_OPEN)
async def show(path: str, request: Request) -> Response:
    """A file of the page, or the page itself, which shows what its address names."""
    page = await asyncio.to_thread(web.web_page)
    depth = _depth(path, request.scope)
    file = page.file(path, depth)
    if file is not None:
        return _respond(file, request.headers)
    if page.why_not and not path.startswith(web.ASSETS):
        text = web.missing_page(page.why_not, depth)
        kept = {"Content-Security-Policy": PAGE, "Cache-Control": "no-store"}
        return HTMLResponse(text, status_code=503, headers=kept)
    raise HTTPException(404)


def _depth(path: str, scope: Scope) -> int:
    """The number of folders that a browser sees in the path. A slash that is written as a number
    begins none for it."""
    raw: bytes = scope.get("raw_path") or b""
    return max(0, path.count("/") - raw.lower().count(b"%2f"))


def _respond(file: PageFile, asked: Headers) -> Response:
    headers = {
        **POLICY,
        "Cache-Control": FOR_GOOD if file.lasting else "no-cache",
        "ETag": f'"{file.etag}"',
    }
    content = file.content
    if file.compressed is not None:
        headers["Vary"] = "Accept-Encoding"
        if _takes_gzip(asked.get("accept-encoding", "")):
            content = file.compressed
            headers["Content-Encoding"] = "gzip"
            headers["ETag"] = f'"{file.etag}-gzip"'
    if headers["ETag"] in _listed(asked.get("if-none-match", "")):
        headers.pop("Content-Encoding", None)
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=None, headers={**headers, "Content-Type": file.media_type})


def _listed(text: str) -> set[str]:
    """The tags in the header's text, as they are without the mark of weak ones."""
    return {each.strip().removeprefix("W/") for each in text.split(",")}


_REFUSED = re.compile(r"q=0(\.0*)?$")


def _takes_gzip(accepted: str) -> bool:
    """True if the header's text names gzip, and does not refuse it."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.replace(" ", "").partition(";")
        if coding in ("gzip", "x-gzip"):
            return _REFUSED.match(weight) is None
    return False
