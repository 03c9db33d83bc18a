"""Asks, as long as a stream is open, whether its reader still may read it. Whoever was signed out,
or has other rights than when the stream began, has it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog
from fastapi import Request

from assent.api.access.identity import Access, Identity
from assent.api.context import served
from assent.api.streams.connections import Connection, Connections
from assent.core.access import Owner
from assent.core.background import background
from assent.core.errors import Unavailable

log = structlog.get_logger(__name__)

RENEW_SECONDS = 20.0

AT_ONCE = 100
"""Identities between which others have the event loop."""

KEPT_SECONDS = 60.0
"""The time for which nobody could be asked, after which a stream is ended."""

REFUSED = (401, 403)


@asynccontextmanager
async def renewing(connections: Connections, access: Access) -> AsyncIterator[None]:
    """While the context is entered, streams end whose readers may not read them any more."""
    if access.knows_nobody:
        yield
        return
    async with background(Renewer(connections, access).run(), name="renewing"):
        yield


async def end_streams(request: Request, owner: Owner) -> None:
    """End those streams of the person at once that they may not read any more."""
    server = served(request)
    await Renewer(server.connections, server.access).turn(owner)


class Renewer:
    """Ends those of the `connections` whose readers are not who they were. `now` is the monotonic
    clock of the `access`."""

    def __init__(
        self,
        connections: Connections,
        access: Access,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._access = access
        self._now = now

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.turn()

    async def turn(self, owner: Owner | None = None) -> None:
        """Ask once of each reader, or of one person. Thousands of streams may be of one."""
        for asked, of_one in enumerate(_by_reader(self._connections, owner), start=1):
            try:
                if not await self._is_still(of_one[0]):
                    for connection in of_one:
                        connection.sign_out()
            except Exception as error:
                # It is asked again; if it goes on, `KEPT_SECONDS` end it.
                log.error("a reader could not be renewed", exc_info=error)
            if asked % AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _is_still(self, connection: Connection) -> bool:
        identity = connection.identity
        assert identity is not None
        try:
            if connection.requests is not None:
                is_still = await _says_app(connection, identity)
                if is_still:
                    identity.checked_at = self._now()
                return is_still
            return await self._access.renew(identity) is identity
        except Exception as error:
            if self._now() - identity.checked_at >= KEPT_SECONDS:
                return False
            if isinstance(error, Unavailable):
                return True
            raise


async def _says_app(connection: Connection, identity: Identity) -> bool:
    """True if the app around the server, or the project's own `Auth`, says the same of whoever
    opened the stream as it did then. Raises `Unavailable` if it says nothing."""
    assert connection.requests is not None
    status, body = await connection.requests.get("/me")
    if status in REFUSED:
        return False
    if status != 200 or not isinstance(body, dict):
        raise Unavailable(f"Who reads a stream could not be asked: the app answered {status}.")
    return (body["name"], body["tenant"], tuple(body["roles"])) == (
        *identity.owner,
        identity.roles,
    )


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
