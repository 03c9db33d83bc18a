"""uvicorn's protocols, which tell us the transport of each connection: ASGI has no word for how
much waits there, nor for cutting it off. The names that are used of them are held by a test."""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from assent.api.streams.handshake import DENIAL
from assent.api.streams.sse import HANDSHAKE, WIRE

LOGGER = "uvicorn.websockets"
"""Its level is that of warnings, whatever the level of the log (`config.logging.TALKATIVE`)."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP, with the transport in each request's scope."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {WIRE: {"transport": self.transport}}


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets, with the transport in each one's scope."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # At other levels than warnings they log paths with their queries, and whole frames.
        self.logger = logging.getLogger(LOGGER)
        self.conn.logger = self.logger
        self.conn.debug = False

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        # Its task begins after this. A handshake that is none was answered, and has no scope.
        if not self.handshake_complete:
            self.scope["extensions"][WIRE] = {"transport": self.transport}

    async def send(self, message: Any) -> None:
        await super().send(message)
        # Otherwise a handshake that was denied is logged as one that was never answered.
        if message["type"] == f"{DENIAL}.body" and not message.get("more_body", False):
            self.handshake_complete = True

    def shutdown(self) -> None:
        # Ours show what the runs that are at work do to its end, and close by themselves then.
        if not (self.handshake_complete and self.scope.get(HANDSHAKE)):
            super().shutdown()
