"""Publishes the head of the audit chain where whoever has the database cannot change it: to a file
or to endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson
import structlog

from assent.core.atomic_file import replace_file
from assent.core.audit import AuditHead
from assent.core.background import background
from assent.core.errors import Unavailable
from assent.notify.notifier import Message, NotDelivered, Notifier
from assent.storage.base import Storage
from assent.storage.chain import head_to_json

log = structlog.get_logger(__name__)

AUDIT_HEAD = "audit_head"
"""The event by which an endpoint subscribes to the head of the chain."""

SINK_SECONDS = 60.0
"""The time that one sink has to take a head."""

LAST_SECONDS = 1.0
"""The time that a stopping server gives its sinks to take the last head. The next start sends it
again."""

HeadSink = Callable[[AuditHead], Awaitable[None]]
"""Takes the head. If it raises, it is called again with the head of that time."""


def to_file(path: Path) -> HeadSink:
    """Keep the newest head in a file, as the line of JSON that `assent audit verify --head`
    reads."""

    async def write(head: AuditHead) -> None:
        line = orjson.dumps(head_to_json(head)) + b"\n"
        await asyncio.to_thread(replace_file, path, line)

    return write


def to_endpoint(name: str, notifier: Notifier) -> HeadSink:
    """Send each head to an endpoint. There is no queue: the next head replaces one that was
    missed."""

    async def send(head: AuditHead) -> None:
        message = Message(
            id=f"head-{head.number}-{head.mac}",
            endpoint=name,
            type=AUDIT_HEAD,
            at=head.at,
            data={"head": head_to_json(head)},
        )
        await notifier.notify(message)

    return send


@asynccontextmanager
async def publish_heads(
    storage: Storage,
    sinks: Sequence[HeadSink],
    every: timedelta,
    *,
    last_seconds: float = LAST_SECONDS,
) -> AsyncIterator[None]:
    """Publish the head to each sink: at once, then at most once per `every` if it has moved, and
    once more at the end.

    A sink that fails delays no other. At the end each has `last_seconds`.
    """
    publishers = [_Publisher(storage, sink) for sink in sinks]
    repeating = [publisher.publish_every(every.total_seconds()) for publisher in publishers]
    try:
        async with background(*repeating, name="heads of the audit chain"):
            yield
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(last_seconds):
                await asyncio.gather(*(publisher.publish() for publisher in publishers))


@dataclass
class _Publisher:
    """One sink, and the head that it took last."""

    storage: Storage
    sink: HeadSink
    published: AuditHead | None = None

    async def publish_every(self, seconds: float) -> None:
        while True:
            await self.publish()
            await asyncio.sleep(seconds)

    async def publish(self) -> None:
        try:
            head = await self.storage.audit_head()
            if head is None or head == self.published:
                return

            async with asyncio.timeout(SINK_SECONDS):
                await self.sink(head)
            self.published = head
        except NotDelivered as error:
            log.warning("the head of the audit chain was not delivered", why=str(error))
        except Unavailable:
            # The storage is away, and the engine says so in the log.
            return
        except Exception:
            # A full disk, say, or a receiver that is down. Decisions do not wait for it, and the
            # next round tries again.
            log.exception("the head of the audit chain could not be published")
