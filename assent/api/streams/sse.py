"""Server-Sent Events: the transport."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from assent.api.dialects.base import Dialect
from assent.runs.follow import Batches, Following

LATER = "assent_later"
"""Where the scope of a request has the list that takes what goes on after the routing returned."""

WIRE = "assent.wire"
"""The extension of a scope that has its transport."""

HANDSHAKE = "assent_handshake"
"""True in the scope of a GET that is the handshake of a WebSocket."""


class EventStream(Response):
    """A log as Server-Sent Events."""

    def __init__(
        self,
        request: Request,
        following: Following,
        batches: Batches | None = None,
        *,
        dialect: Dialect,
        named: bool = False,
        headers: Mapping[str, str] = {},
    ) -> None:
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError
