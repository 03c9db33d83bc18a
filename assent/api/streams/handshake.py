"""The handshake of a WebSocket, which is a GET of its path.

So whoever may not read a stream may not open a WebSocket either: keys, an app's own dependencies
and middleware, unknown parameters and problem documents are those of the GET, and no second path
has a check to forget. Only where the GET is answered with 101 is the WebSocket accepted.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assent.api.streams.sse import HANDSHAKE, LATER, Loop

SWITCHING = 101

DENIAL: Final = "websocket.http.response"
"""The extension of ASGI by which a server lets us answer a handshake over HTTP."""

POLICY = 1008

_OF_ROUTING = frozenset({"app", "endpoint", "fastapi", "path_params", "route", "router"})
"""What routing has put into the scope. The GET is routed anew."""


class Handshake:
    """The endpoint of a WebSocket's route, with a GET route of the same path beside it. What that
    leaves to go on after the routing is the WebSocket's loop."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        scope[HANDSHAKE] = True
        loops: list[Loop] = []
        answer = _Answer(send, can_deny=DENIAL in (scope.get("extensions") or {}))
        host: ASGIApp = scope["app"]
        await host(_as_get(scope, loops), _nothing, answer)
        if answer.status != SWITCHING:
            return
        later: list[Loop] | None = scope.get(LATER)
        if later is None:
            await loops.pop()(receive, send)
        else:
            later.append(loops.pop())


def _as_get(scope: Scope, loops: list[Loop]) -> Scope:
    """The handshake as the request that it is."""
    kept = {name: value for name, value in scope.items() if name not in _OF_ROUTING}
    scheme = "https" if scope["scheme"] in ("wss", "https") else "http"
    return {**kept, "type": "http", "method": "GET", "scheme": scheme, LATER: loops}


async def _nothing() -> Message:
    """The body of the GET."""
    return {"type": "http.request", "body": b"", "more_body": False}


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
