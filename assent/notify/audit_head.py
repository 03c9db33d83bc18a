"""Where the head of the audit chain is sent: a file or an endpoint that whoever has the database
cannot change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import orjson
import structlog

from assent.core.rows import AuditHead
from assent.notify.notifier import Message, NotDelivered, Notifier
from assent.storage.base import Storage
from assent.storage.chain import head_to_json

log = structlog.get_logger(__name__)

AUDIT_HEAD = "audit_head"
"""What an endpoint is told that is given the head of the chain."""

GIVING_SECONDS = 60.0
"""How long one sink may take for a head."""

LAST_SECONDS = 5.0
"""How long a server that stops waits for its sinks to take the last head."""


class HeadSink(Protocol):
    """Takes the chain's head to where whoever has the database cannot change it. It may raise; then
    it is given that head again."""

    async def __call__(self, head: AuditHead) -> None: ...


def to_file(path: Path) -> HeadSink:
    """Keeps the newest head in a file, as a line of JSON that `assent audit verify --head` takes.
    The file is whole at every moment."""

    async def write(head: AuditHead) -> None:
        await asyncio.to_thread(_replace, path, orjson.dumps(head_to_json(head)) + b"\n")

    return write


def to_endpoint(name: str, notifier: Notifier) -> HeadSink:
    """Tells an endpoint of each head. There is no queue: what it misses is in the next one."""

    async def tell(head: AuditHead) -> None:
        said = head_to_json(head)
        await notifier.notify(
            Message(
                id=f"head-{head.number}-{head.mac}",
                endpoint=name,
                type=AUDIT_HEAD,
                at=head.at,
                data={"head": said},
            )
        )

    return tell


def _replace(path: Path, content: bytes) -> None:
    made = path.with_name(f".{path.name}.{os.getpid()}")
    with made.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


@asynccontextmanager
async def publishing(
    storage: Storage,
    sinks: Sequence[HeadSink],
    every: timedelta,
    *,
    last_seconds: float = LAST_SECONDS,
) -> AsyncIterator[None]:
    """Give the chain's head to each sink, at once and then whenever it has moved, but no more often
    than that; and at the end once more.

    A sink that fails delays no other, and is given the head of that time at the next look. At the
    end each has `last_seconds`.
    """
    if not sinks:
        yield
        return
    publishers = [_Publisher(storage, sink) for sink in sinks]
    going = asyncio.gather(*(publisher.go_on(every.total_seconds()) for publisher in publishers))
    try:
        yield
    finally:
        going.cancel()
        with suppress(asyncio.CancelledError):
            await going
        with suppress(TimeoutError):
            async with asyncio.timeout(last_seconds):
                await asyncio.gather(*(publisher.publish() for publisher in publishers))


class _Publisher:
    """One sink, and the head that it was given last."""

    def __init__(self, storage: Storage, sink: HeadSink) -> None:
        self._storage = storage
        self._sink = sink
        self._given: AuditHead | None = None

    async def go_on(self, every: float) -> None:
        while True:
            await self.publish()
            await asyncio.sleep(every)

    async def publish(self) -> None:
        try:
            head = await self._storage.audit_head()
            if head is not None and head != self._given:
                async with asyncio.timeout(GIVING_SECONDS):
                    await self._sink(head)
                self._given = head
        except NotDelivered as error:
            log.warning("the head of the audit chain was not taken", why=str(error))
        except Exception:
            # A full disk, say, or a receiver that is down. Decisions do not wait for it; the next
            # look tries again.
            log.exception("the head of the audit chain could not be sent")
