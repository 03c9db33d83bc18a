"""Notifications are delivered: each at least once, again and again for about three days, and then
it is dead until somebody asks for it.

Each endpoint has a lane of its own, so one that is slow or gone delays no other. That something was
delivered is stored after it was; a crash in between delivers it again, with the same id. When the
server stops, what is being sent may come to its end, and the rest waits.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from assent.core.clock import Clock
from assent.core.errors import Conflict, NotFound, Tampered, Unavailable
from assent.core.rows import Notification, NotificationStatus
from assent.notify.links import LinkKey
from assent.notify.notifier import Message, NotDelivered, Notifier
from assent.storage.base import Change, Storage

log = structlog.get_logger(__name__)

AT_ONCE = 4
"""How many notifications are under way to one endpoint."""

ATTEMPT_SECONDS = 60.0
"""How long one attempt may take, whatever the endpoint is. Webhooks have less."""

POLL_SECONDS = 30.0
"""How long a lost ring can delay a notification."""

SOON_SECONDS = 0.05
"""Between two looks at what should be due, and is not."""

TROUBLE_SECONDS = 2.0
"""Between two attempts at what the storage could not do."""

SWEEP_SECONDS = 3600.0
PAUSE_SECONDS = 0.01
"""Between two steps of the sweep. It leaves the storage to the others for most of the time."""

DELIVERED_KEPT = timedelta(days=7)
DEAD_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Backoff:
    """When to try again: after `first`, each time twice as long after, up to `longest`; with the
    defaults `attempts` take three days."""

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(hours=3)
    attempts: int = 35

    def after(self, failed: int, jitter: float) -> timedelta | None:
        """How long to wait after so many failed attempts, or None to give up. `jitter`, from 0 to
        1, spreads it from 80 to 120 %."""
        if failed >= self.attempts:
            return None
        wait = self.longest if failed > 30 else min(self.first * 2 ** (failed - 1), self.longest)
        return wait * (0.8 + 0.4 * jitter)


class Dispatcher:
    """Delivers what is due. Made by `delivering`."""

    def __init__(
        self,
        storage: Storage,
        notifiers: Mapping[str, Notifier],
        *,
        clock: Clock,
        links: LinkKey | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._storage = storage
        self._notifiers = notifiers
        self._clock = clock
        self._links = links
        self._backoff = backoff or Backoff()
        self._rings = {name: asyncio.Event() for name in notifiers}
        self._stopping = False

    def wake(self) -> None:
        """Something new was stored: look."""
        for ring in self._rings.values():
            ring.set()

    async def resend(self, notification_id: str) -> Notification:
        """Deliver it (again), beginning now. Raises `NotFound`, or `Conflict` if its endpoint is
        not there any more."""
        while True:
            row = await self._storage.notification(notification_id)
            if row is None:
                raise NotFound(f"There is no notification '{notification_id}'.")
            if row.endpoint not in self._notifiers:
                raise Conflict(
                    f"The endpoint '{row.endpoint}' is not configured any more, so nothing can be sent to it."
                )
            again = replace(
                row,
                status=NotificationStatus.PENDING,
                next_at=self._clock.now(),
                attempts=0,
                delivered_at=None,
                version=row.version + 1,
            )
            with suppress(Conflict):
                await self._storage.commit(Change(rows=(again,)))
                self._rings[row.endpoint].set()
                return again

    # ── the lanes ──

    async def lane(self, endpoint: str) -> None:
        """Deliver to the endpoint, until cancelled or stopped."""
        while not self._stopping:
            ring = self._rings[endpoint]
            ring.clear()
            try:
                pause = await self._deliver_due(endpoint)
            except Exception:
                log.exception("notifications could not be looked for", endpoint=endpoint)
                pause = TROUBLE_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(ring.wait(), pause)

    async def _deliver_due(self, endpoint: str) -> float:
        """Deliver until nothing is due; return in how many seconds to look again."""
        while not self._stopping:
            due = await self._storage.due_notifications(endpoint, self._clock.now(), limit=AT_ONCE)
            if not due:
                break
            outcomes = await asyncio.gather(*map(self._deliver, due), return_exceptions=True)
            for error in outcomes:
                if error is not None:
                    raise error
        next_at = await self._storage.next_notification(endpoint)
        if next_at is None:
            return POLL_SECONDS
        return min(max((next_at - self._clock.now()).total_seconds(), SOON_SECONDS), POLL_SECONDS)

    async def _deliver(self, row: Notification) -> None:
        message = await self._message(row)
        why = await self._attempt(message)
        await self._store(self._delivered(row) if why is None else self._failed(row, why))

    def _delivered(self, row: Notification) -> Notification:
        status, now = NotificationStatus.DELIVERED, self._clock.now()
        return replace(
            row,
            status=status,
            next_at=None,
            last_error=None,
            delivered_at=now,
            version=row.version + 1,
        )

    def _failed(self, row: Notification, why: str) -> Notification:
        failed, id = row.attempts + 1, row.notification_id
        wait = self._backoff.after(failed, random.random())
        log.warning(
            "a notification was not delivered",
            endpoint=row.endpoint,
            notification_id=id,
            attempts=failed,
            why=why,
        )
        row = replace(row, attempts=failed, last_error=why, version=row.version + 1)
        if wait is None:
            return replace(row, status=NotificationStatus.DEAD, next_at=None)
        return replace(row, next_at=self._clock.now() + wait)

    async def _attempt(self, message: Message) -> str | None:
        """Why it was not delivered, as a sentence; None if it was."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await self._notifiers[message.endpoint].notify(message)
        except NotDelivered as error:
            return str(error)
        except TimeoutError:
            return f"It took more than {ATTEMPT_SECONDS:g} seconds."
        except Exception as error:
            # Somebody's own notifier: its author needs to see where.
            log.exception(
                "a notifier failed", endpoint=message.endpoint, notification_id=message.id
            )
            return f"Its notifier failed with {type(error).__name__}. The server's log has the details."
        return None

    async def _message(self, row: Notification) -> Message:
        data = {name: value for name, value in row.payload.items() if name != "link_id"}
        link = await self._link(row)
        return Message(
            id=row.notification_id,
            endpoint=row.endpoint,
            type=row.event,
            at=row.created_at,
            data=data,
            link=link,
        )

    async def _link(self, row: Notification) -> str:
        if self._links is None or "link_id" not in row.payload:
            return ""
        try:
            link = await self._storage.link(str(row.payload["link_id"]))
        except Tampered:
            return ""
        return self._links.url(link) if link is not None else ""

    async def _store(self, row: Notification) -> None:
        """Until it is stored: what was delivered must not be delivered every few seconds because
        the disk is full."""
        while True:
            try:
                await self._storage.commit(Change(rows=(row,)))
                return
            except Conflict:
                # It was erased with its thread, or is to be sent again.
                return
            except Unavailable:
                log.warning(
                    "what became of a notification cannot be stored yet",
                    notification_id=row.notification_id,
                )
                await asyncio.sleep(TROUBLE_SECONDS)

    async def warn_of_strangers(self) -> None:
        """Say which notifications wait for endpoints that nobody has configured."""
        waiting = await self._storage.notifications(status=NotificationStatus.PENDING, limit=1000)
        for endpoint in sorted({row.endpoint for row in waiting.rows} - set(self._notifiers)):
            log.warning(
                "notifications wait for an endpoint that is not configured", endpoint=endpoint
            )

    async def sweep(self) -> None:
        """Now and then, remove what was delivered or given up long ago."""
        while True:
            try:
                now = self._clock.now()
                for status, kept in (
                    (NotificationStatus.DELIVERED, DELIVERED_KEPT),
                    (NotificationStatus.DEAD, DEAD_KEPT),
                ):
                    await self._remove(status, now - kept)
            except Exception:
                log.exception("old notifications could not be removed")
            await asyncio.sleep(SWEEP_SECONDS)

    async def _remove(self, status: NotificationStatus, before: datetime) -> None:
        while True:
            if not await self._storage.remove_notifications(status, before):
                return
            await asyncio.sleep(PAUSE_SECONDS)

    def stop(self) -> None:
        """Take nothing more."""
        self._stopping = True
        self.wake()


@asynccontextmanager
async def delivering(
    storage: Storage,
    notifiers: Mapping[str, Notifier],
    *,
    clock: Clock,
    links: LinkKey | None = None,
    backoff: Backoff | None = None,
    drain_seconds: float = 5.0,
) -> AsyncIterator[Dispatcher]:
    """Deliver until the context is left; then what is under way has `drain_seconds` to come to its
    end."""
    dispatcher = Dispatcher(storage, notifiers, clock=clock, links=links, backoff=backoff)
    await dispatcher.warn_of_strangers()
    lanes = [
        asyncio.create_task(dispatcher.lane(name), name=f"notifications to {name}")
        for name in notifiers
    ]
    sweep = asyncio.create_task(dispatcher.sweep(), name="sweep of notifications")
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
        sweep.cancel()
        if lanes:
            await asyncio.wait(lanes, timeout=drain_seconds)
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(sweep, *lanes, return_exceptions=True)
