"""Requests that are made in the name of whoever has a stream open: by the commands of a WebSocket,
and to ask whether they still may read it."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.types import ASGIApp, Message, Scope, Send

from assent.api.access.given import KEY_PROTOCOL
from assent.api.access.identity import ASKED_ANEW, IDENTITY, SENDER_IN_SCOPE, Identity
from assent.api.paths import inner_prefix
from assent.api.streams.later import LATER, Loop
from assent.core.json import Json, encode_json

HANDSHAKE = "assent_handshake"
"""Where the scope of a WebSocket of ours, and of the GET that its handshake is, has its
`Requests`."""

_OF_ROUTING = frozenset(
    {"app", "endpoint", "path_params", "route", "router", LATER, *SENDER_IN_SCOPE}
)
_OF_FRAMEWORKS = ("fastapi", "starlette.")
"""What routing and authorizing have put into the scope, or the beginning of its name. Each request
is routed and authorized anew."""

_OF_HANDSHAKE = frozenset(
    {b"connection", b"upgrade", b"accept", b"content-type", b"content-length", b"idempotency-key"}
)
"""Headers that a request has not from the handshake, beside those of the WebSocket."""


class Reply(NamedTuple):
    """The response to a request: its status, and its body as JSON; None if that is not JSON."""

    status: int
    body: Json


class Requests:
    """Makes requests as the client that opened a WebSocket: to the app that it is a part of, with
    the headers of the handshake, and what is around that app has noted of the client."""

    __slots__ = ("_app", "_prefix", "_scope")

    def __init__(self, scope: Scope, prefix: str = "") -> None:
        self._app: ASGIApp = scope["app"]
        self._prefix = prefix
        self._scope = {
            name: value
            for name, value in scope.items()
            if name not in _OF_ROUTING and not name.startswith(_OF_FRAMEWORKS)
        }

    async def open(self, answer: Send, loops: list[Loop]) -> None:
        """Make the handshake's own request. If it is answered with 101, `loops` has what goes on
        then."""
        scope = self._http("GET", **{LATER: loops, HANDSHAKE: self})
        await self._app(scope, _Body(b""), answer)
        if hasattr(scope.get("route"), "own_path"):
            self._prefix = inner_prefix(scope)
        # Without the credentials that were cut out of them.
        for name in ("query_string", "headers"):
            self._scope[name] = scope[name]
        identity: Identity | None = scope.get(IDENTITY)
        if identity is not None and not identity.is_of_request:
            # What they were known by need not be shown again, and is renewed.
            self._scope[IDENTITY] = identity

    def clean(self, scope: Scope) -> None:
        """Leave no credential in the scope of the WebSocket, whose handshake was made."""
        for name in ("query_string", "headers"):
            scope[name] = self._scope[name]
        offered = scope.get("subprotocols", ())
        scope["subprotocols"] = [each for each in offered if not each.startswith(KEY_PROTOCOL)]

    async def post(self, path: str, body: Json, key: str | None) -> Reply:
        """The response to a POST to this path of the server, under the key if there is one. Raises
        what the app leaves to whoever serves it."""
        sent, given = encode_json(body), self._scope["headers"]
        kept = [each for each in given if not _is_of_handshake(each[0].lower())]
        own = [
            (b"accept", b"application/json"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(sent)),
        ]
        if key is not None:
            own.append((b"idempotency-key", key.encode()))
        whole = self._prefix + path
        scope = self._http("POST", path=whole, raw_path=quote(whole).encode(), query_string=b"")
        response = _Response()
        await self._app({**scope, "headers": [*kept, *own]}, _Body(sent), response)
        return Reply(response.status, response.json())

    async def get(self, path: str) -> Reply:
        """The response to a GET of this path of the server, which the server itself asks for."""
        whole = self._prefix + path
        given = self._scope["headers"]
        kept = [each for each in given if not _is_of_handshake(each[0].lower())]
        headers = [*kept, (b"accept", b"application/json")]
        raw = {"raw_path": quote(whole).encode(), "query_string": b"", ASKED_ANEW: True}
        scope = self._http("GET", path=whole, headers=headers, **raw)
        response = _Response()
        await self._app(scope, _Body(b""), response)
        return Reply(response.status, response.json())

    def _http(self, method: str, **changes: Any) -> Scope:
        scope = self._scope
        scheme = "https" if scope["scheme"] in ("wss", "https") else "http"
        state = {**scope.get("state", {})}
        kept = {**scope, "type": "http", "method": method, "scheme": scheme, "state": state}
        return {**kept, **changes}


def _is_of_handshake(header: bytes) -> bool:
    return header in _OF_HANDSHAKE or header.startswith(b"sec-websocket-")


class _Body:
    """The body of a request, whose client stays."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body, "more_body": False}


class _Response:
    """Takes a response whole."""

    def __init__(self) -> None:
        self.status = 0
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self._body += bytes(message.get("body", b""))

    def json(self) -> Json:
        """The body; None if it is not JSON."""
        try:
            return msgspec.json.decode(self._body)
        except msgspec.DecodeError:
            return None
