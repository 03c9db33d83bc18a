"""Limits of bodies: how large they may be, how slow, and of which type."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from assent.core.text import visible

MAX_BODY_BYTES = 1024 * 1024

ANY_SIZE = 1 << 62

STALLED_SECONDS = 15.0
"""A body of which nothing comes for that time will not be waited for."""

SHOWN_OF_TYPE = 100

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """The limits of a route's body: so many bytes, of which one comes every `stalled` seconds, all
    of them `within` some, or on average so many a second after `stalled`; and of that type, None
    for any. Only the time counts that was spent waiting for the client."""

    most: int = MAX_BODY_BYTES
    stalled: float = STALLED_SECONDS
    within: float = math.inf
    a_second: float = 0.0
    media_type: str | None = None

    def takes(self, content_type: str) -> bool:
        """True if the body may be of the type that a header has."""
        given = content_type.partition(";")[0].strip().lower()
        is_json = self.media_type == JSON and re.fullmatch(r"application/[\w.-]+\+json", given)
        return self.media_type in (None, given) or bool(is_json)


ANY_BODY = BodyLimits(within=60.0)
JSON_BODY = BodyLimits(within=60.0, media_type=JSON)
FORM_BODY = BodyLimits(within=60.0, media_type="application/x-www-form-urlencoded")
FILE_BODY = BodyLimits(most=ANY_SIZE, a_second=1024.0)
"""The upload has its own size, and none of it is held in memory."""

_CLOSE = {"Connection": "close"}
"""The rest of the body is not read, so nobody knows where the next request begins."""


class LimitedBody:
    """Receives the messages of a request, up to what the limits take of its body. Raises
    `HTTPException`: 413 for a larger body, before it is held in memory and, where its size is
    declared, before any of it is read; 415 for one of another type, or compressed; and 408 for one
    that comes too slowly. What is left of the body is not read then."""

    __slots__ = ("_headers", "_is_over", "_limits", "_receive", "_seen", "_waited")

    def __init__(self, scope: Scope, receive: Receive, limits: BodyLimits) -> None:
        self._headers = Headers(scope=scope)
        self._receive = receive
        self._limits = limits
        self._seen = 0
        self._waited = 0.0
        self._is_over = False

    async def __call__(self) -> Message:
        # Then nothing is left to come but that the client is gone.
        if self._is_over:
            return await self._receive()
        if not self._waited:
            self._check_declared()
        message = await self._receive_in_time()
        part: bytes = message.get("body", b"")
        if part and not self._seen:
            self._check_type()
        self._seen += len(part)
        self._is_over = not message.get("more_body", False)
        if self._seen > self._limits.most:
            raise self._too_large()
        return message

    async def _receive_in_time(self) -> Message:
        limits, now = self._limits, asyncio.get_running_loop().time
        began = now()
        try:
            async with asyncio.timeout(min(limits.stalled, limits.within - self._waited)):
                message = await self._receive()
        except TimeoutError:
            raise _late() from None
        self._waited += now() - began
        is_slow = self._waited > limits.stalled and self._seen < limits.a_second * self._waited
        if is_slow and message.get("more_body", False):
            raise _late()
        return message

    def _check_declared(self) -> None:
        declared = self._headers.get("content-length", "")
        if not declared.isdecimal() or not declared.strip("0"):
            return
        # Python reads no number of thousands of digits.
        if len(declared) > len(str(ANY_SIZE)) or int(declared) > self._limits.most:
            raise self._too_large()
        self._check_type()

    def _check_type(self) -> None:
        if self._headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise HTTPException(415, "Send the body as it is, and not compressed.")
        given = self._headers.get("content-type", "")
        if not self._limits.takes(given):
            raise HTTPException(
                415,
                f"Send the body as {self._limits.media_type}, and say so in Content-Type. Without "
                f"-H 'content-type: …', curl says that it is a form. It was: "
                f"{visible(given[:SHOWN_OF_TYPE]) or 'none'}.",
            )

    def _too_large(self) -> HTTPException:
        return HTTPException(
            413,
            f"The body is larger than {self._limits.most} bytes. Nothing was changed.",
        )


def _late() -> HTTPException:
    return HTTPException(
        408,
        "The body did not come in time. Nothing was changed. Send it again, at once.",
        headers=_CLOSE,
    )
