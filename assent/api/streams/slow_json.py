"""A JSON answer that may take long: its status is sent at once, and newlines until it is there, so
that nobody between the server and the client takes the connection for dead."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from assent.api.access.authorizing import check_still
from assent.api.streams.sse import WhenGone
from assent.core.errors import AssentError, Unavailable
from assent.core.json import Json, encode_json

NEWLINE_SECONDS = 5.0
"""The time between two newlines."""


class SlowJson(Response):
    """The `answer` as JSON, once it is there. Without one, because the server stops, the storage is
    away or the sender may not have it any more, the connection is closed before its end, and the
    client asks again where `Location` says. A client that leaves before has `when_gone` done."""

    media_type = "application/json"

    def __init__(
        self,
        request: Request,
        answer: Coroutine[Any, Any, Json],
        *,
        headers: Mapping[str, str] = {},
        when_gone: WhenGone | None = None,
    ) -> None:
        self._request = request
        self._answer = answer
        self._when_gone = when_gone
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-cache", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = asyncio.create_task(self._answer)
        gone = asyncio.create_task(_until_gone(receive))
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(head)
            while not answer.done() and not gone.done():
                await asyncio.wait(
                    {answer, gone}, timeout=NEWLINE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                await check_still(self._request)
                if not answer.done() and not gone.done():
                    await send({"type": "http.response.body", "body": b"\n", "more_body": True})
            if answer.done():
                await send({"type": "http.response.body", "body": _told(answer)})
            elif self._when_gone is not None:
                await self._when_gone()
        except (HTTPException, Unavailable):
            return
        finally:
            gone.cancel()
            answer.cancel()


def _told(answer: asyncio.Task[Json]) -> bytes:
    try:
        return encode_json(answer.result())
    except Unavailable:
        raise
    except AssentError as error:
        # The status is sent: this is how LangGraph's clients are told.
        failed = {"error": type(error).__name__, "message": error.message}
        return encode_json({"__error__": failed})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
