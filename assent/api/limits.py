"""Limits on requests: the size of a body, and who may ask a server that knows nobody."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assent.api.cors import Origins
from assent.api.loopback import comes_from_loopback, is_loopback
from assent.api.problems import answer

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
    """Refuses what `check_loopback` refuses."""

    app: ASGIApp
    origins: Origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] in ("http", "websocket"):
            try:
                check_loopback(HTTPConnection(scope), self.origins)
            except HTTPException as refusal:
                app = await answer(Request({**scope, "type": "http"}), refusal)
        await app(scope, receive, send)


def check_loopback(connection: HTTPConnection, origins: Origins) -> None:
    """Raise `HTTPException` for a request to a server without keys that is not from this machine,
    to a host that is not named like loopback, or from a page of another host that is not among the
    origins.

    A page in the user's browser can reach a server on loopback under a name of its own (DNS
    rebinding), and a server without keys would let it decide. Under the server's own name a page
    cannot send JSON, but it could send requests without a body, such as to cancel.
    """
    origin = connection.headers.get("origin")
    if not comes_from_loopback(connection.scope):
        raise HTTPException(
            421,
            "Without keys this server answers only clients on its own machine: "
            "set ASSENT_API_KEYS, or give Assent(auth=…) in an app of your own.",
        )
    if not is_loopback(connection.url):
        raise HTTPException(
            421,
            "Without keys this server answers only on loopback: "
            "ask for http://127.0.0.1, or set ASSENT_API_KEYS; "
            "in an app of your own, give Assent(auth=…).",
        )
    if origin is not None and not is_loopback(URL(origin)) and not origins.allow(origin):
        raise HTTPException(
            403,
            "Without keys this server answers no page of another host. "
            "Set ASSENT_API_KEYS, and send one of the keys.",
        )
