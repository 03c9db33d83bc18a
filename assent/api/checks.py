"""Checks of requests before anything else: of their heads, and of who asks a server that knows
nobody."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from assent.api.cors import Origins
from assent.api.loopback import comes_from_loopback, is_loopback
from assent.api.problems import answer


@dataclass(frozen=True, slots=True)
class Checked:
    """The app, behind a check that raises `HTTPException` for what it refuses."""

    app: ASGIApp
    check: Callable[[Scope], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope["type"] in ("http", "websocket"):
            try:
                self.check(scope)
            except HTTPException as refusal:
                app = await answer(Request({**scope, "type": "http"}), refusal)
        await app(scope, receive, send)


_ONCE = frozenset(
    {
        *(b"host", b"authorization", b"x-api-key", b"cookie", b"origin"),
        *(b"content-length", b"content-type", b"content-encoding", b"idempotency-key"),
    }
)

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def check_head(scope: Scope) -> None:
    """Raise `HTTPException` (400) for a head that a proxy in front may have read otherwise: one of
    two fields that say who asks for what, a host that is none, or a body of another coding."""
    given = [name for name, _ in scope["headers"] if name in _ONCE]
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        # HTTP/2 may take a cookie apart.
        if twice != b"cookie" or scope.get("http_version", "1.1").startswith("1"):
            raise HTTPException(400, f"The request has the field '{twice.decode()}' twice.")
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    if host is None and scope.get("http_version") == "1.1":
        raise HTTPException(400, "The request has no field 'Host'.")
    if host is not None and not _HOST.fullmatch(host.decode("latin-1")):
        raise HTTPException(400, "The request's field 'Host' is no name of a host.")
    coding = next((value for name, value in scope["headers"] if name == b"transfer-encoding"), None)
    is_known = coding is None or coding.strip().lower() == b"chunked"
    if not is_known or (coding is not None and scope.get("http_version") == "1.0"):
        raise HTTPException(400, "The request's 'Transfer-Encoding' is not that of HTTP/1.1.")


def check_loopback(scope: Scope, origins: Origins) -> None:
    """Raise `HTTPException` for a request to a server without keys that is not from this machine,
    to a host that is not named like loopback, or from a page of another host that is not among the
    origins.

    A page in the user's browser can reach a server on loopback under a name of its own (DNS
    rebinding), and a server without keys would let it decide. Under the server's own name a page
    cannot send JSON, but it could send requests without a body, such as to cancel.
    """
    connection = HTTPConnection(scope)
    origin = connection.headers.get("origin")
    if not comes_from_loopback(scope):
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
