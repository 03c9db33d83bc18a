"""Handshakes of WebSockets with an app in this process: the answer, and what the app goes on with."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from tests.support.waiting import PATIENCE


async def handshake(
    app: Any, path: str, headers: Mapping[str, str], query: str = ""
) -> tuple[int, Any, dict[str, Any]]:
    """The status of a handshake, the chosen subprotocol, and what the scope has after it."""
    found: list[Any] = [0, None]
    to_server: asyncio.Queue[Any] = asyncio.Queue()
    to_server.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        if message["type"] == "websocket.accept":
            found[:] = [101, message.get("subprotocol")]
            to_server.put_nowait({"type": "websocket.disconnect", "code": 1000})
        elif message["type"] == "websocket.http.response.start":
            found[0] = message["status"]

    scope = scope_of(path, {"host": "localhost", **headers}, query)
    async with asyncio.timeout(PATIENCE):
        await app(scope, to_server.get, send)
    return found[0], found[1], scope


def scope_of(path: str, headers: Mapping[str, str], query: str = "") -> dict[str, Any]:
    """The scope of a WebSocket, as a server would make it."""
    offered = headers.get("sec-websocket-protocol", "")
    return {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "ws",
        "subprotocols": [each.strip() for each in offered.split(",") if each],
        "client": ("127.0.0.1", 1),
        "server": (headers["host"], 80),
        "extensions": {"websocket.http.response": {}},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


def protocol(key: str) -> str:
    """The subprotocol that has the key."""
    return "assent.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
