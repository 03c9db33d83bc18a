"""Notifications over real sockets: through a receiver that is down, slow, wrong or gone, through
crashes, and beside one another."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from assent.core.addresses import ANYWHERE, Egress, egress_from_texts
from assent.core.clock import Clock, utc_now
from assent.core.errors import ConfigurationError, Conflict, NotFound
from assent.core.rows import Notification, NotificationStatus
from assent.notify.channels import load_notifier, make_notifiers
from assent.notify.delivery import POLL_SECONDS, Backoff, Dispatcher
from assent.notify.endpoints import Endpoint, endpoints_from_json
from assent.notify.links import LinkKey
from assent.notify.notifier import Message, NotDelivered, Notifier
from assent.notify.outbox import with_outbox
from assent.notify.reaching import Reach
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import link, notification, thread
from tests.support.keys import NEW_SECRET, OLD_SECRET
from tests.support.notifications import PENDING, event, webhook
from tests.support.receiver import Receiver, receiving
from tests.support.server import free_port
from tests.support.waiting import PATIENCE

QUICK = Backoff(first=timedelta(milliseconds=20), longest=timedelta(milliseconds=100), attempts=4)
PATIENT = Backoff(
    first=timedelta(milliseconds=20), longest=timedelta(milliseconds=100), attempts=1000
)
KEY = LinkKey(b"k" * 32, "https://assent.example/")


class HeldClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = utc_now()
        self.clock = Clock(now=lambda: self.time)

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Own:
    """A notifier of a user's: it keeps what it is told, or fails."""

    def __init__(self, *fails: Exception) -> None:
        self.fails = list(fails)
        self.told: list[Message] = []

    async def notify(self, message: Message) -> None:
        self.told.append(message)
        if self.fails:
            raise self.fails.pop(0)


def due(notification_id: str = "n", *, at: datetime | None = None, **changes: Any) -> Notification:
    """One that was never tried."""
    made = at or utc_now()
    values = {
        "attempts": 0,
        "last_error": None,
        "delivered_at": None,
        "created_at": made,
        "next_at": made,
        **changes,
    }
    return notification(notification_id, **values)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        await storage.commit(Change(rows=(thread(),)))
        yield storage


@asynccontextmanager
async def delivering(
    storage: Storage,
    endpoints: Sequence[Endpoint],
    *,
    clock: Clock | None = None,
    backoff: Backoff = PATIENT,
    **options: Any,
) -> AsyncIterator[Dispatcher]:
    clock = clock or Clock()
    async with Reach.open() as reach:
        notifiers = make_notifiers(endpoints, clock, reach)
        async with Dispatcher.open(
            storage, notifiers, clock=clock, backoff=backoff, links=KEY, **options
        ) as dispatcher:
            yield dispatcher


async def until(
    storage: Storage, found: Callable[[Notification], bool], id: str = "n"
) -> Notification:
    """The notification, once it is as it should be."""
    async with asyncio.timeout(PATIENCE):
        while True:
            row = await storage.notification(id)
            if row is not None and found(row):
                return row
            await asyncio.sleep(0.01)


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def is_delivered(row: Notification) -> bool:
    return row.status is NotificationStatus.DELIVERED


# ── once, when all is well ──


async def test_a_due_notification_is_delivered_once_and_verifies(storage: SqliteStorage) -> None:
    await storage.commit(
        Change(rows=(due(), link(), due("later", at=utc_now() + timedelta(hours=1))))
    )
    async with (
        receiving(Receiver()) as receiver,
        delivering(storage, [webhook(receiver, "hook", NEW_SECRET, OLD_SECRET)]) as dispatcher,
    ):
        row = await until(storage, is_delivered)
        dispatcher.wake()
        await asyncio.sleep(0.1)
    (got,) = receiver.got
    for secret in (NEW_SECRET, OLD_SECRET):
        said = Webhook(secret).verify(got.body, got.headers)
    assert got.headers["webhook-id"] == "n"
    assert said["type"] == "approval_required"
    assert said["data"] == {"args": {"amount": 12.5}}
    assert (row.next_at, row.attempts, row.last_error) == (None, 0, None)
    assert row.delivered_at is not None


async def test_a_notification_is_delivered_as_soon_as_its_event_is_committed(
    storage: SqliteStorage,
) -> None:
    async with receiving(Receiver()) as receiver:
        endpoint = webhook(receiver)
        async with delivering(storage, [endpoint]) as dispatcher:
            outermost = with_outbox(storage, [endpoint], Clock(), dispatcher.wake)
            await asyncio.sleep(0.1)
            assert await outermost.commit(
                Change(rows=(PENDING,), events=(event("approval_required"),))
            ) == (1,)
            (got,) = await receiver.until(1, seconds=POLL_SECONDS / 2)
    assert got.json["data"]["approval"]["args"] == PENDING.args


async def test_a_conflicting_change_stores_no_notification(storage: SqliteStorage) -> None:
    rung: list[int] = []
    outermost = with_outbox(storage, [Endpoint(name="hook")], Clock(), lambda: rung.append(1))
    await outermost.commit(Change(rows=(PENDING,)))
    with pytest.raises(Conflict):
        await outermost.commit(Change(rows=(PENDING,), events=(event("approval_required"),)))
    assert (await storage.notifications()).rows == ()
    assert rung == []


async def test_the_outbox_delegates_everything_else_to_the_storage(storage: SqliteStorage) -> None:
    outermost = with_outbox(storage, [Endpoint(name="hook")], Clock(), lambda: None)
    assert outermost.checkpointer is storage.checkpointer
    assert await outermost.thread("t") == thread()
    assert with_outbox(storage, [], Clock(), lambda: None) is storage


async def test_a_link_is_made_when_it_is_sent_and_stored_nowhere(
    storage: SqliteStorage, tmp_path: Path
) -> None:
    await storage.commit(Change(rows=(due(payload={"link_id": "l"}), link())))
    async with receiving(Receiver()) as receiver, delivering(storage, [webhook(receiver)]):
        (got,) = await receiver.until(1)
        await until(storage, is_delivered)
    url = got.json["data"]["link"]
    assert url.startswith("https://assent.example/links/l.")
    assert await KEY.find(storage, url.rpartition("/")[2]) == link()
    secret = url.rpartition(".")[2].encode()
    assert not any(secret in file.read_bytes() for file in files_in(tmp_path))


# ── a receiver in trouble ──


async def test_a_receiver_that_is_down_for_a_minute_gets_it_when_it_is_back(
    storage: SqliteStorage,
) -> None:
    held, receiver = HeldClock(), Receiver(port=free_port())
    await storage.commit(Change(rows=(due(at=held.time),)))
    begun = held.time
    async with delivering(
        storage, [webhook(receiver)], clock=held.clock, backoff=Backoff()
    ) as dispatcher:
        row = await until(storage, lambda row: row.attempts == 1)
        while held.time < begun + timedelta(seconds=60):
            assert row.status is NotificationStatus.PENDING
            assert row.last_error == "The request failed (ConnectError)."
            assert row.next_at is not None
            held.move((row.next_at - held.time).total_seconds())
            dispatcher.wake()
            row = await until(storage, lambda each, attempts=row.attempts: each.attempts > attempts)  # type: ignore[misc]
        assert 4 <= row.attempts <= 5
        async with receiving(receiver, port=receiver.port):
            assert row.next_at is not None
            held.move((row.next_at - held.time).total_seconds())
            dispatcher.wake()
            await until(storage, is_delivered)
    assert held.time < begun + timedelta(minutes=4)
    assert [got.headers["webhook-id"] for got in receiver.got] == ["n"]


async def test_it_is_not_tried_before_its_time(storage: SqliteStorage) -> None:
    held = HeldClock()
    async with receiving(Receiver(status=500)) as receiver:
        await storage.commit(Change(rows=(due(at=held.time),)))
        async with delivering(
            storage, [webhook(receiver)], clock=held.clock, backoff=Backoff()
        ) as dispatcher:
            await until(storage, lambda row: row.attempts == 1)
            held.move(3.9)
            await storage.commit(Change(rows=(due("later", at=held.clock.now()),)))
            dispatcher.wake()
            await until(storage, lambda row: row.attempts == 1, "later")
            assert [got.headers["webhook-id"] for got in receiver.got] == ["n", "later"]
            held.move(2.2)
            dispatcher.wake()
            await until(storage, lambda row: row.attempts == 2)


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_a_notification_that_fails_for_days_is_a_dead_letter_and_can_be_resent(
    storage: SqliteStorage, status: int
) -> None:
    await storage.commit(Change(rows=(due(),)))
    async with (
        receiving(Receiver(status=status)) as receiver,
        delivering(storage, [webhook(receiver)], backoff=QUICK) as dispatcher,
    ):
        row = await until(storage, lambda row: row.status is NotificationStatus.DEAD)
        assert (row.attempts, row.next_at, row.last_error) == (
            4,
            None,
            f"It answered with status {status}.",
        )
        assert len(receiver.got) == 4
        assert (await storage.notifications(status=NotificationStatus.DEAD)).rows == (row,)

        receiver.status = 200
        again = await dispatcher.resend("n")
        assert (again.status, again.attempts) == (NotificationStatus.PENDING, 0)
        await until(storage, is_delivered)
        assert {got.headers["webhook-id"] for got in receiver.got} == {"n"}
        assert len(receiver.got) == 5


async def test_resending_needs_a_notification_and_its_endpoint(
    storage: SqliteStorage,
) -> None:
    await storage.commit(Change(rows=(due(), due("stranger", endpoint="gone"))))
    async with (
        receiving(Receiver()) as receiver,
        delivering(storage, [webhook(receiver)]) as dispatcher,
    ):
        await until(storage, is_delivered)
        await dispatcher.resend("n")
        await receiver.until(2)
        with pytest.raises(NotFound):
            await dispatcher.resend("nothing")
        with pytest.raises(Conflict, match="no longer configured"):
            await dispatcher.resend("stranger")


async def test_a_slow_and_a_dead_endpoint_delay_nobody_else(storage: SqliteStorage) -> None:
    slow, fine, dead = Receiver(after=30), Receiver(), Receiver(port=free_port())
    async with receiving(slow), receiving(fine):
        endpoints = [webhook(slow, "slow"), webhook(dead, "dead"), webhook(fine, "fine")]
        rows = [
            due(f"{name}{n}", endpoint=name, approval_id=f"a{n}")
            for name in ("slow", "dead", "fine")
            for n in range(20)
        ]
        await storage.commit(Change(rows=tuple(rows)))
        began = asyncio.get_running_loop().time()
        async with delivering(storage, endpoints, drain_seconds=0.1):
            await fine.until(20, seconds=20)
            assert asyncio.get_running_loop().time() - began < 20
        assert sorted(got.headers["webhook-id"] for got in fine.got) == sorted(
            f"fine{n}" for n in range(20)
        )
        assert len(slow.got) == 4


def test_the_backoff_takes_three_days_and_is_spread() -> None:
    backoff = Backoff()
    waits = [backoff.after(failed, 0.5) for failed in range(1, 35)]
    assert waits[:4] == [timedelta(seconds=seconds) for seconds in (5, 10, 20, 40)]
    assert (
        timedelta(days=2, hours=12)
        < sum((wait for wait in waits if wait), timedelta())
        < timedelta(days=3, hours=12)
    )
    assert backoff.after(35, 0.5) is None
    assert backoff.after(2, 0.0) == timedelta(seconds=8)
    assert backoff.after(2, 1.0) == timedelta(seconds=12)
    assert Backoff(attempts=10_000).after(9_000, 0.5) == timedelta(hours=3)


# ── crashes and stops ──

DELIVERS = """
import asyncio, os, signal, sys
from assent.notify.channels import make_notifiers
from assent.notify.delivery import POLL_SECONDS, Dispatcher
from assent.notify.reaching import Reach
from assent.storage.sqlite import SqliteStorage
from assent.core.clock import Clock
from tests.support.notifications import webhook
from tests.support.receiver import Receiver

class Dying:
    def __init__(self, notifier): self.notifier = notifier
    async def notify(self, message):
        await self.notifier.notify(message)
        os.kill(os.getpid(), signal.SIGKILL)

async def main(path, port):
    endpoint = webhook(Receiver(port=int(port)))
    async with SqliteStorage.open(path) as storage, Reach.open() as reach:
        notifiers = make_notifiers([endpoint], Clock(), reach)
        async with Dispatcher.open(storage, {"hook": Dying(notifiers["hook"])}, clock=Clock()):
            await asyncio.sleep(30)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_kill_between_delivering_and_storing_that_delivers_it_twice_with_the_same_id(
    tmp_path: Path,
) -> None:
    path = tmp_path / "assent.db"
    async with SqliteStorage.open(path) as storage:
        await storage.commit(Change(rows=(thread(), due())))
    async with receiving(Receiver()) as receiver:
        command = [sys.executable, "-c", DELIVERS, str(path), str(receiver.port)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        process = await asyncio.create_subprocess_exec(
            *command, env=environment, stderr=subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == -signal.SIGKILL, errors.decode()
        assert len(receiver.got) == 1
        async with SqliteStorage.open(path) as storage, delivering(storage, [webhook(receiver)]):
            await until(storage, is_delivered)
    assert [got.headers["webhook-id"] for got in receiver.got] == ["n", "n"]


async def test_a_delivery_under_way_finishes_when_the_server_stops(
    storage: SqliteStorage,
) -> None:
    await storage.commit(Change(rows=(due(),)))
    async with receiving(Receiver(after=0.5)) as receiver:
        async with delivering(storage, [webhook(receiver)]):
            await receiver.until(1)
        assert is_delivered(await until(storage, lambda row: True))


async def test_a_delivery_that_takes_too_long_to_stop_counts_as_no_attempt(
    storage: SqliteStorage,
) -> None:
    await storage.commit(Change(rows=(due(),)))
    async with (
        receiving(Receiver(after=30)) as receiver,
        delivering(storage, [webhook(receiver)], drain_seconds=0.1),
    ):
        await receiver.until(1)
    assert await storage.notification("n") is not None
    row = await until(storage, lambda row: True)
    assert (row.status, row.attempts) == (NotificationStatus.PENDING, 0)


async def test_a_notification_erased_during_its_delivery_stays_erased(
    storage: SqliteStorage,
) -> None:
    await storage.commit(Change(rows=(due(),)))
    async with receiving(Receiver(after=0.3)) as receiver:
        async with delivering(storage, [webhook(receiver)]):
            await receiver.until(1)
            await storage.commit(Change(erase="t"))
        # Leaving has waited for the delivery that was under way.
        assert await storage.notification("n") is None


# ── notifiers of other kinds ──


async def test_a_failure_of_a_users_own_notifier_is_retried(storage: SqliteStorage) -> None:
    own = Own(NotDelivered("It is full."), RuntimeError("no sentence"))
    await storage.commit(Change(rows=(due(payload={"link_id": "l", "approval": {}}), link())))
    notifiers: Mapping[str, Notifier] = {"hook": own}
    async with Dispatcher.open(storage, notifiers, clock=Clock(), backoff=PATIENT, links=KEY):
        row = await until(storage, is_delivered)
    assert row.attempts == 2
    assert {message.id for message in own.told} == {"n"}
    assert own.told[0].data == {"approval": {}}
    assert own.told[0].link.startswith("https://assent.example/links/l.")
    assert own.told[0].link not in repr(own.told[0])


def test_a_notifier_is_named_by_its_module() -> None:
    # Under another name than pytest has for it, so it is another class.
    assert type(load_notifier("tests.notify.test_delivery:Own")).__name__ == "Own"
    for named, said in (
        ("tests.notify.test_delivery", "module:name"),
        ("tests.approvals.nothing:Own", "ModuleNotFoundError"),
        ("tests.notify.test_delivery:QUICK", "could not be loaded"),
        ("tests.notify.test_delivery:HeldClock", "no method 'notify'"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            load_notifier(named)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
async def test_apprise_delivers_over_a_real_socket(
    storage: SqliteStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    payload = {"approval": {"tool": "pay", "args": {"amount": 1}}, "event": {}, "link_id": "l"}
    async with receiving(Receiver(status=500)) as receiver:
        (endpoint,) = endpoints_from_json(
            {"hook": {"url": f"json://user:s3cret@127.0.0.1:{receiver.port}/t0ken"}}, {}
        )
        await storage.commit(Change(rows=(due(payload=payload), link())))
        async with delivering(storage, [endpoint]):
            row = await until(storage, lambda row: row.attempts > 0)
            assert row.last_error == "The service refused it, or could not be reached."
            receiver.status = 200
            await until(storage, is_delivered)
    said = receiver.got[-1].json
    assert said["title"] == "Approval needed: pay"
    assert '"amount": 1' in said["message"]
    assert "Decide: https://assent.example/links/l." in said["message"]
    assert [word for word in ("s3cret", "t0ken", "links/l.") if word in caplog.text] == []


async def made(endpoints: Sequence[Endpoint], egress: Egress = ANYWHERE) -> None:
    async with Reach.open(egress=egress) as reach:
        make_notifiers(endpoints, Clock(), reach)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
async def test_what_apprise_sends_may_go_nowhere_that_is_not_listed() -> None:
    endpoints = endpoints_from_json({"team": {"url": "jsons://user:s3cret@chat.example/t0ken"}}, {})
    for listed in (["chat.example"], ["apprise:slack"], []):
        with pytest.raises(ConfigurationError, match="Add apprise:jsons") as refused:
            await made(endpoints, egress_from_texts(listed))
        assert "s3cret" not in str(refused.value) and "t0ken" not in str(refused.value)
    for listed in (["apprise:json"], ["apprise:slack", "apprise:jsons"]):
        await made(endpoints, egress_from_texts(listed))


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
async def test_a_url_that_apprise_does_not_know_is_refused_and_not_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (endpoint,) = endpoints_from_json({"hook": {"url": "nonsense://s3cret"}}, {})
    with pytest.raises(ConfigurationError, match="Apprise does not know") as refused:
        await made([endpoint])
    assert "s3cret" not in str(refused.value) + caplog.text
