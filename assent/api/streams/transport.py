"""The transports of streams."""

from __future__ import annotations

from enum import StrEnum


class Transport(StrEnum):
    SSE = "sse"
    WEBSOCKET = "websocket"
    POLL = "poll"
