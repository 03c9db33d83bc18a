"""Messages of operators to everybody who follows something.

They are in a log of their own, and every process that serves the database follows it and passes
them on to its readers. No thread's log has them, so no reader's cursor moves: whoever is away
misses them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import structlog
from msgspec import structs

from assent.api.streams.connections import Connections
from assent.core.background import background
from assent.core.errors import Gone, Unavailable
from assent.core.events import Broadcast, decode
from assent.core.logs import BROADCASTS
from assent.runs.follow import Following
from assent.storage.base import LogEntry, Storage

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0
"""The time after which the log is tried again, if it could not be read."""


@asynccontextmanager
async def broadcasting(storage: Storage, connections: Connections) -> AsyncIterator[None]:
    """While the context is entered, what operators tell everybody reaches those who are
    connected."""
    after = await storage.last_seq(BROADCASTS)
    passing = _pass_on(Following(storage, BROADCASTS, after), connections)
    async with background(passing, name="broadcasting"):
        yield


async def _pass_on(following: Following, connections: Connections) -> None:
    while following.ended != "stopping":
        try:
            async with aclosing(following.batches()) as batches:
                async for entries in batches:
                    for entry in entries:
                        event = _broadcast_in(entry)
                        connections.tell(_unnumbered(event), event.tenant)
        except Gone as error:
            # Nobody waits for what was removed.
            following.after = int(error.details["first"]) - 1
        except Unavailable:
            await asyncio.sleep(PAUSE_SECONDS)
        except Exception as error:
            log.error("broadcasts could not be passed on", exc_info=error)
            await asyncio.sleep(PAUSE_SECONDS)


def _broadcast_in(entry: LogEntry) -> Broadcast:
    event = decode(entry.body)
    assert isinstance(event, Broadcast)
    return event


def _unnumbered(event: Broadcast) -> Broadcast:
    """The event as readers of any log get it: it has no number there."""
    return structs.replace(event, thread_id="", seq=0, tenant=None)
