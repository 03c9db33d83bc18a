"""Pages of other sites: what they may ask for in the name of whoever looks at them."""

from __future__ import annotations

from fastapi import Request
from starlette.exceptions import HTTPException

from assent.api.cors import Origins
from assent.api.streams.requests import HANDSHAKE

READING = ("GET", "HEAD", "OPTIONS")


def check_page(request: Request, origins: Origins) -> None:
    """Raise 403 for a change that a page of another site asks for, or a WebSocket, by which it
    could ask for some: with whatever it shows who sends it. A browser sends cookies along with what
    any page asks, so they do not say that the user wants it; and a page that has a key, and is not
    listed, has it from somewhere."""
    if request.method in READING and not request.scope.get(HANDSHAKE):
        return
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if origin is not None and origins.allow(origin):
        return
    is_own = origin is None or origin.partition("://")[2] == request.headers.get("host")
    if site in ("same-origin", "none") or (site is None and is_own):
        return
    raise HTTPException(
        403,
        "A page of another site may change nothing here. "
        "If it is yours, name its origin in the setting cors_origins.",
    )
