"""The handshake of a WebSocket, which is a GET of its path, and the requests that its client makes
by it then.

So whoever may not read a stream may not open a WebSocket either, and whoever may not send a request
may not make it by a WebSocket that is open: keys, an app's own dependencies and middleware, unknown
parameters and problem documents are those of the requests, and no second path has a check to
forget. Only where the GET is answered with 101 is the WebSocket accepted.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from assent.api.streams.later import LATER, Loop
from assent.api.streams.requests import HANDSHAKE, Requests

SWITCHING = 101

DENIAL: Final = "websocket.http.response"
"""The extension of ASGI by which a server lets us answer a handshake over HTTP."""

POLICY = 1008


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
        requests.clean(scope)
        if answer.status != SWITCHING:
            return
        later: list[Loop] | None = scope.get(LATER)
        if later is None:
            await loops.pop()(receive, send)
        else:
            later.append(loops.pop())


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
