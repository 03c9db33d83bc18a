"""Asks, as long as a stream is open, whether its reader still may read it. Whoever was signed out,
or has other rights than when the stream began, has it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
from fastapi import Request

from assent.api.access.authorizing import says_app
from assent.api.access.identity import Access
from assent.api.context import served
from assent.api.streams.connections import Connection, Connections
from assent.core.access import Owner
from assent.core.background import background
from assent.core.errors import Unavailable

log = structlog.get_logger(__name__)

RENEW_SECONDS = 20.0

AT_ONCE = 100
"""Identities between which others have the event loop, and the most questions to an app at once."""

PATIENCE_SECONDS = 10.0
"""The time in which an app says who reads its streams, all of them together."""

KEPT_SECONDS = 60.0
"""The time for which nobody could be asked, after which a stream is ended."""


@asynccontextmanager
async def renewing(connections: Connections, access: Access) -> AsyncIterator[None]:
    """While the context is entered, streams end whose readers may not read them any more."""
    if access.knows_nobody:
        yield
        return
    async with background(Renewer(connections, access).run(), name="renewing"):
        yield


async def withdraw(request: Request, owner: Owner) -> None:
    """End those streams of the person at once that they may not read any more. Their requests whose
    bodies are still to come are asked about anew."""
    server = served(request)
    server.access.withdrawn()
    await Renewer(server.connections, server.access).turn(owner)


class Renewer:
    """Ends those of the `connections` whose readers are not who they were. `now` is the monotonic
    clock of the `access`; an app has `patience` seconds to answer."""

    def __init__(
        self,
        connections: Connections,
        access: Access,
        now: Callable[[], float] = time.monotonic,
        *,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._connections = connections
        self._access = access
        self._now = now
        self._patience = patience

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.turn()

    async def turn(self, owner: Owner | None = None) -> None:
        """Ask once of each reader, or of one person. Thousands of streams may be of one."""
        asked_of_app: list[Sequence[Connection]] = []
        for asked, of_one in enumerate(_by_reader(self._connections, owner), start=1):
            if of_one[0].requests is not None:
                asked_of_app.append(of_one)
            else:
                await self._end_unless_still(of_one)
            if asked % AT_ONCE == 0:
                await asyncio.sleep(0)
        # An app that is slow, or never answers, holds up nobody else: not the next turn either.
        several = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as asking:
            for of_one in asked_of_app:
                asking.create_task(self._end_unless_still(of_one, several))

    async def _end_unless_still(
        self, of_one: Sequence[Connection], several: asyncio.Semaphore | None = None
    ) -> None:
        try:
            if not await self._is_still(of_one[0], several):
                for connection in of_one:
                    connection.sign_out()
        except Exception as error:
            # It is asked again; if it goes on, `KEPT_SECONDS` end it.
            log.error("a reader could not be renewed", exc_info=error)

    async def _is_still(
        self, connection: Connection, several: asyncio.Semaphore | None = None
    ) -> bool:
        identity = connection.identity
        assert identity is not None
        try:
            if connection.requests is None or several is None:
                return await self._access.renew(identity) is identity
            async with asyncio.timeout(self._patience), several:
                is_still = await says_app(connection.requests, identity)
            if is_still:
                identity.checked_at = self._now()
            return is_still
        except Exception as error:
            if self._now() - identity.checked_at >= KEPT_SECONDS:
                return False
            if isinstance(error, Unavailable | TimeoutError):
                return True
            raise


def _by_reader(connections: Connections, owner: Owner | None) -> Sequence[Sequence[Connection]]:
    """The streams of each reader together, or those of one person. Where an app is asked, each
    stream is by itself."""
    found: dict[int, list[Connection]] = {}
    for connection in connections:
        if connection.identity is None or connection.is_signed_out:
            continue
        if owner is not None and connection.identity.owner != owner:
            continue
        one = connection if connection.requests is not None else connection.identity
        found.setdefault(id(one), []).append(connection)
    return list(found.values())
