"""Delivers what the outbox holds: at least once, and retried for about three days.

Each endpoint has a task of its own, so one that is slow or gone delays no other. A delivery is
recorded after it was made; a crash in between repeats it, with the same id. A notification that is
given up is a dead letter: it stays until somebody resends it or it is swept. A stopping server
lets deliveries that are under way finish; the others wait for the next start.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from assent.core.clock import Clock
from assent.core.errors import Conflict, NotFound, Tampered, Unavailable
from assent.core.rows import Notification, NotificationStatus
from assent.notify.links import LinkKey
from assent.notify.notifier import Message, NotDelivered, Notifier, Receipt
from assent.notify.outbox import LINK_ID, RECEIPT, WEBHOOK, data_of
from assent.storage.base import Change, Storage

log = structlog.get_logger(__name__)

CONCURRENT = 4
"""Deliveries at the same time to one endpoint."""

ATTEMPT_SECONDS = 60.0
"""The time limit of an attempt, whatever the endpoint. Webhooks have a shorter one."""

POLL_SECONDS = 30.0
"""The longest that a lost wake-up can delay a notification."""

SOON_SECONDS = 0.05
"""The pause before looking again for what should be due, and is not."""

TROUBLE_SECONDS = 2.0
"""The pause after the storage has failed."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits between attempts: `first`, then twice as long each time, up to `longest`. With the
    defaults, `attempts` take about three days."""

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(hours=3)
    attempts: int = 35

    def after(self, failed: int, jitter: float) -> timedelta | None:
        """The wait after so many failed attempts; None to give up. `jitter`, from 0 to 1, spreads
        it from 80 to 120 %."""
        if failed >= self.attempts:
            return None
        doublings = min(failed - 1, 30)  # More would overflow a timedelta.
        wait: timedelta = min(self.first * 2**doublings, self.longest)
        return wait * (0.8 + 0.4 * jitter)


DEFAULT_BACKOFF = Backoff()


@dataclass(eq=False)
class Dispatcher:
    """Delivers notifications that are due. Made by `open`."""

    _storage: Storage
    _notifiers: Mapping[str, Notifier]
    _clock: Clock
    _links: LinkKey | None
    _backoff: Backoff
    _pages: str = ""
    _stopping: bool = False

    def __post_init__(self) -> None:
        self._wakeups = {name: asyncio.Event() for name in self._notifiers}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        storage: Storage,
        notifiers: Mapping[str, Notifier],
        *,
        clock: Clock,
        links: LinkKey | None = None,
        backoff: Backoff = DEFAULT_BACKOFF,
        pages: str = "",
        drain_seconds: float = 5.0,
    ) -> AsyncIterator[Dispatcher]:
        """Deliver until the context is left; then deliveries under way have `drain_seconds` to
        finish. The page of an approval is below `pages`, if the server has any."""
        dispatcher = cls(storage, notifiers, clock, links, backoff, pages)
        await dispatcher._warn_of_unknown_endpoints()
        deliveries = [
            asyncio.create_task(dispatcher._deliver_to(name), name=f"notifications to {name}")
            for name in notifiers
        ]
        try:
            yield dispatcher
        finally:
            dispatcher._stopping = True
            dispatcher.wake()
            if deliveries:
                await asyncio.wait(deliveries, timeout=drain_seconds)
            for task in deliveries:
                task.cancel()
            await asyncio.gather(*deliveries, return_exceptions=True)

    def wake(self) -> None:
        """Look for new notifications now."""
        for wakeup in self._wakeups.values():
            wakeup.set()

    async def resend(self, notification_id: str) -> Notification:
        """Deliver it (again), starting now. Raises `NotFound`, or `Conflict` if its endpoint is no
        longer configured."""
        while True:
            row = await self._storage.notification(notification_id)
            if row is None:
                raise NotFound(f"There is no notification '{notification_id}'.")
            if row.endpoint not in self._notifiers:
                raise Conflict(
                    f"The endpoint '{row.endpoint}' is no longer configured, "
                    "so nothing can be sent to it."
                )
            pending = replace(
                row,
                status=NotificationStatus.PENDING,
                next_at=self._clock.now(),
                attempts=0,
                delivered_at=None,
                version=row.version + 1,
            )
            with suppress(Conflict):
                await self._storage.commit(Change(rows=(pending,)))
                self._wakeups[row.endpoint].set()
                return pending

    # ── delivering ──

    async def _deliver_to(self, endpoint: str) -> None:
        wakeup = self._wakeups[endpoint]
        while not self._stopping:
            wakeup.clear()
            try:
                pause = await self._deliver_due(endpoint)
            except Unavailable:
                # The engine says in the log that the storage is away.
                pause = TROUBLE_SECONDS
            except Exception:
                log.exception("notifications could not be read", endpoint=endpoint)
                pause = TROUBLE_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(wakeup.wait(), pause)

    async def _deliver_due(self, endpoint: str) -> float:
        """Deliver until nothing is due; return the seconds until the next look."""
        while not self._stopping:
            now = self._clock.now()
            due = await self._storage.due_notifications(endpoint, now, limit=CONCURRENT)
            if not due:
                break
            # Each of them finishes, also if another fails.
            of_each = map(self._deliver_in_order, by_subject(due))
            outcomes = await asyncio.gather(*of_each, return_exceptions=True)
            for error in outcomes:
                if error is not None:
                    raise error

        next_at = await self._storage.next_notification(endpoint)
        if next_at is None:
            return POLL_SECONDS
        wait = (next_at - self._clock.now()).total_seconds()
        return min(max(wait, SOON_SECONDS), POLL_SECONDS)

    async def _deliver_in_order(self, rows: Sequence[Notification]) -> None:
        for row in rows:
            await self._deliver(row)

    async def _deliver(self, row: Notification) -> None:
        message = Message(
            id=row.notification_id,
            endpoint=row.endpoint,
            type=row.event,
            at=row.created_at,
            data=data_of(row),
            link=await self._link(row),
            approval_id=row.approval_id,
            webhook=str(row.payload.get(WEBHOOK, "")),
            page=f"{self._pages}{row.approval_id}" if self._pages and row.approval_id else "",
        )
        try:
            receipt = await self._attempt(message)
        except NotDelivered as failure:
            await self._store(self._failed(row, str(failure)))
        else:
            await self._store(self._delivered(row, receipt))

    async def _link(self, row: Notification) -> str:
        if self._links is None or LINK_ID not in row.payload:
            return ""
        try:
            link = await self._storage.link(str(row.payload[LINK_ID]))
        except Tampered:
            return ""
        return "" if link is None else self._links.url(link)

    async def _attempt(self, message: Message) -> Receipt | None:
        """Try to deliver. Raises `NotDelivered`, whatever the notifier raises."""
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                receipt = await self._notifiers[message.endpoint].notify(message)
        except NotDelivered:
            raise
        except TimeoutError:
            raise NotDelivered(f"It took more than {ATTEMPT_SECONDS:g} seconds.") from None
        except Exception as error:
            # The author of a notifier of one's own needs the traceback.
            log.exception(
                "a notifier failed", endpoint=message.endpoint, notification_id=message.id
            )
            name = type(error).__name__
            raise NotDelivered(
                f"Its notifier failed with {name}. The server's log has the details."
            ) from None
        # A notifier of somebody's own may return whatever it likes.
        return receipt if isinstance(receipt, Receipt) else None

    def _delivered(self, row: Notification, receipt: Receipt | None) -> Notification:
        kept = {} if receipt is None else {RECEIPT: receipt.place}
        return replace(
            row,
            payload={**row.payload, **kept},
            status=NotificationStatus.DELIVERED,
            next_at=None,
            last_error=None,
            delivered_at=self._clock.now(),
            version=row.version + 1,
        )

    def _failed(self, row: Notification, why: str) -> Notification:
        attempts = row.attempts + 1
        log.warning(
            "a notification was not delivered",
            endpoint=row.endpoint,
            notification_id=row.notification_id,
            attempts=attempts,
            why=why,
        )
        row = replace(row, attempts=attempts, last_error=why, version=row.version + 1)
        wait = self._backoff.after(attempts, random.random())
        if wait is None:
            return replace(row, status=NotificationStatus.DEAD, next_at=None)
        return replace(row, next_at=self._clock.now() + wait)

    async def _store(self, row: Notification) -> None:
        """Store the outcome, however long that takes: a full disk must not deliver the same
        notification every few seconds."""
        while True:
            try:
                await self._storage.commit(Change(rows=(row,)))
                return
            except Conflict:
                # It was erased with its thread, or somebody has resent it.
                return
            except Unavailable:
                await asyncio.sleep(TROUBLE_SECONDS)

    async def _warn_of_unknown_endpoints(self) -> None:
        pending = await self._storage.notifications(status=NotificationStatus.PENDING, limit=1000)
        unknown = {row.endpoint for row in pending.rows} - self._notifiers.keys()
        for endpoint in sorted(unknown):
            log.warning(
                "notifications wait for an endpoint that is not configured", endpoint=endpoint
            )


def by_subject(due: Iterable[Notification]) -> Collection[Sequence[Notification]]:
    """The notifications of each approval, or of the runs of each thread, in the order in which they
    were made: what is said last is to arrive last."""
    grouped: dict[str, list[Notification]] = {}
    for row in sorted(due, key=lambda row: (row.created_at, row.notification_id)):
        grouped.setdefault(row.approval_id or row.thread_id, []).append(row)
    return grouped.values()
