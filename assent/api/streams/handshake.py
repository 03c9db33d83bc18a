"""The handshake of a WebSocket, which is a GET of its path, and the requests that its client makes
by it then.

So whoever may not read a stream may not open a WebSocket either, and whoever may not send a request
may not make it by a WebSocket that is open: keys, an app's own dependencies and middleware, unknown
parameters and problem documents are those of the requests, and no second path has a check to
forget. Only where the GET is answered with 101 is the WebSocket accepted.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assent.api.streams.sse import LATER, Loop
from assent.core.json import Json, encode_json

HANDSHAKE = "assent_handshake"
"""Where the scope of a WebSocket of ours, and of the GET that its handshake is, has its
`Requests`."""

SWITCHING = 101

DENIAL: Final = "websocket.http.response"
"""The extension of ASGI by which a server lets us answer a handshake over HTTP."""

POLICY = 1008

_OF_ROUTING = frozenset({"app", "endpoint", "path_params", "route", "router", LATER})
_OF_FRAMEWORKS = ("fastapi", "starlette.")
"""What routing has put into the scope, or the beginning of its name. Each request is routed
anew."""

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

    def __init__(self, scope: Scope) -> None:
        self._app: ASGIApp = scope["app"]
        # In front of /threads/{id}/ws.
        self._prefix = scope["path"].rsplit("/", 3)[0]
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
        self._scope["query_string"] = scope["query_string"]

    @property
    def query(self) -> bytes:
        """That of the handshake. Once it was made, without a key."""
        query: bytes = self._scope["query_string"]
        return query

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

    def _http(self, method: str, **changes: Any) -> Scope:
        scope = self._scope
        scheme = "https" if scope["scheme"] in ("wss", "https") else "http"
        state = {**scope.get("state", {})}
        kept = {**scope, "type": "http", "method": method, "scheme": scheme, "state": state}
        return {**kept, **changes}


def check_handshake(request: Request) -> None:
    """Raise 426 for a GET that is no handshake."""
    if not request.scope.get(HANDSHAKE):
        raise HTTPException(
            426, "This path takes the handshake of a WebSocket.", headers={"Upgrade": "websocket"}
        )


class Handshake:
    """The endpoint of a WebSocket's route, with a GET route of the same path beside it. What that
    leaves to go on after the routing is the WebSocket's loop."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        requests = scope[HANDSHAKE] = Requests(scope)
        loops: list[Loop] = []
        answer = _Answer(send, can_deny=DENIAL in (scope.get("extensions") or {}))
        await requests.open(answer, loops)
        # Without the key, if there was one in it.
        scope["query_string"] = requests.query
        if answer.status != SWITCHING:
            return
        later: list[Loop] | None = scope.get(LATER)
        if later is None:
            await loops.pop()(receive, send)
        else:
            later.append(loops.pop())


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


class _Answer:
    """Takes the response to the GET. One that is no 101 denies the WebSocket; a server that has no
    place for it closes it instead."""

    def __init__(self, send: Send, *, can_deny: bool) -> None:
        self.status = 0
        self._send = send
        self._can_deny = can_deny

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
        if self.status == SWITCHING:
            return
        if not self._can_deny:
            if kind == "http.response.start":
                await self._send({"type": "websocket.close", "code": POLICY})
        elif kind == "http.response.start":
            head = {"status": self.status, "headers": message.get("headers", [])}
            await self._send({"type": f"{DENIAL}.start", **head})
        elif kind == "http.response.body":
            more = message.get("more_body", False)
            body = bytes(message.get("body", b""))
            await self._send({"type": f"{DENIAL}.body", "body": body, "more_body": more})
