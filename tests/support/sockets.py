"""A WebSocket's client that hears everything, in order."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.server import Server
from tests.support.waiting import PATIENCE

Frame = dict[str, Any]

NO_EVENTS = ("ready", "answer", "problem", "pong", "tick")


class Socket:
    """A WebSocket of a thread. `events` are those that came so far."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[Frame] = []
        # Events that came before an answer that was waited for.
        self._passed: deque[Frame] = deque()
        self._ids = count(1)

    async def next(self) -> Frame:
        """The next frame."""
        async with asyncio.timeout(PATIENCE):
            text = await self.connection.recv()
        assert isinstance(text, str)
        frame: Frame = json.loads(text)
        if frame["type"] not in NO_EVENTS:
            self.events.append(frame)
        return frame

    async def until(self, *types: str) -> Frame:
        """The next frame of one of these types. An event may have come before the last answer."""
        while True:
            frame = self._passed.popleft() if self._passed else await self.next()
            if frame["type"] in types:
                return frame

    async def send(self, type: str, **fields: Any) -> str:
        """Send a command; the id of its answer."""
        id = f"c{next(self._ids)}"
        await self.connection.send(json.dumps({"type": type, "id": id, **fields}))
        return id

    async def ask(self, type: str, **fields: Any) -> Frame:
        """Send a command; its answer, or the problem with it."""
        id = await self.send(type, **fields)
        while (answer := await self.next())["type"] not in ("answer", "problem", "pong"):
            self._passed.append(answer)
        assert answer["id"] == id, answer
        return answer

    async def done(self, type: str, **fields: Any) -> Any:
        """Send a command that is carried out; the body of its answer."""
        answer = await self.ask(type, **fields)
        assert answer["type"] == "answer", answer
        return answer["body"]

    async def refused(self, status: int, type: str, **fields: Any) -> Frame:
        """Send a command that is not; the problem with it."""
        problem = await self.ask(type, **fields)
        assert (problem["type"], problem["status"]) == ("problem", status), problem
        assert problem["detail"].endswith((".", "?")) and problem["title"]
        return problem

    async def closed(self) -> int:
        """Hear the rest; the code with which the server closes."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as error:
            assert error.rcvd is not None, "The connection was lost without a code."
            return error.rcvd.code


@asynccontextmanager
async def socket_of(
    server: Server, thread_id: str, *, headers: dict[str, str] | None = None, **parameters: Any
) -> AsyncIterator[Socket]:
    """A WebSocket of the thread, which is ready."""
    url = f"ws://127.0.0.1:{server.port}/threads/{thread_id}/ws?{urlencode(parameters)}"
    opening = connect(url, additional_headers=headers, proxy=None, open_timeout=PATIENCE)
    async with opening as connection:
        socket = Socket(connection)
        ready = await socket.next()
        assert ready["type"] == "ready" and ready["thread_id"] == thread_id, ready
        assert ready["after"] == parameters.get("after", 0)
        yield socket
