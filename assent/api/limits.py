"""Limits on requests: the size of a body, and the hosts of a server without keys."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import URL, Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assent.api.problems import problem

MAX_BODY_BYTES = 1024 * 1024


def limited(receive: Receive, most: int) -> Receive:
    """The same messages. Raises 413 at a body of more than `most` bytes, before it is held in
    memory."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise HTTPException(413, f"The body is larger than {most} bytes. Nothing was changed.")
        return message

    return counted


@dataclass(frozen=True, slots=True)
class LoopbackNames:
    """Refuses a request to a host that is not named like loopback, or from a page of another host.

    A page in the user's browser can reach a server on loopback under a name of its own (DNS
    rebinding), and a server without keys would let it decide. Under the server's own name a page
    cannot send JSON, but it could send requests without a body, such as to cancel.
    """

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        app = self.app
        origin = Headers(scope=scope).get("origin")
        if not _is_loopback(URL(scope=scope)):
            app = problem(
                421,
                "Misdirected Request",
                "Without keys this server answers only on loopback: "
                "ask for http://127.0.0.1, or set ASSENT_API_KEYS.",
            )
        elif origin is not None and not _is_loopback(URL(origin)):
            app = problem(
                403,
                "Forbidden",
                "Without keys this server answers no page of another host. "
                "Set ASSENT_API_KEYS, and send one of the keys.",
            )
        await app(scope, receive, send)


def _is_loopback(url: URL) -> bool:
    """True if the host is this machine as it is written, whatever a name server makes of it."""
    host = url.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
