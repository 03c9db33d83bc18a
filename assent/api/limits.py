"""Bounds on what a client may send, and under which name it may ask."""

from __future__ import annotations

from ipaddress import ip_address

from starlette.datastructures import URL, Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assent.api.problems import problem

MAX_BODY_BYTES = 1024 * 1024


class BodyLimit:
    """Refuses a body of more than `MAX_BODY_BYTES` with 413, before it is held in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                raise HTTPException(
                    413, f"The body is larger than {MAX_BODY_BYTES} bytes. Nothing was changed."
                )
            return message

        await self._app(scope, counted, send)


def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine's own, by what it says and not by what a name
    server makes of it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class LoopbackNames:
    """Refuses a request that asks for a host of another name than loopback's, or comes from a page
    of another host.

    A page in the user's own browser can reach a server on loopback under a name of its own (DNS
    rebinding), and a server without keys would let it decide. Under the server's own name it cannot
    send JSON; but what needs no body, such as to cancel, it could.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not is_loopback(
            URL(scope=scope).hostname or ""
        ):
            detail = "Without keys this server answers only on loopback: ask for http://127.0.0.1, or set ASSENT_API_KEYS."
            await problem(421, "Misdirected Request", detail)(scope, receive, send)
            return
        origin = (
            Headers(scope=scope).get("origin") if scope["type"] in ("http", "websocket") else None
        )
        if origin is not None and not is_loopback(URL(origin).hostname or ""):
            detail = "Without keys this server answers no page of another host. Set ASSENT_API_KEYS, and send one of the keys."
            await problem(403, "Forbidden", detail)(scope, receive, send)
            return
        await self._app(scope, receive, send)
