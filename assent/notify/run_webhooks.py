"""Run webhooks: who starts a run may name a URL that is told when the run ends or asks a person.

Such a URL is taken only if the operator has listed its host, with the secrets that sign what is
sent there:

    {"ci": {"url": "https://hooks.example.com", "secrets": ["whsec_…"]}}

What is to be told is committed in the transaction that ends the run, as notifications are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import msgspec
import structlog

from assent.core.addresses import DEFAULT_PORTS
from assent.core.clock import Clock
from assent.core.environment import value_of
from assent.core.errors import ConfigurationError, InvalidRequest
from assent.core.events import Done, Error, RunCancelled, RunPaused
from assent.core.json import Json, JsonObject
from assent.core.named_tables import read_tables
from assent.core.rows import Notification, NotificationStatus, Run
from assent.core.run_input import given_in
from assent.core.text import visible
from assent.notify.outbox import WEBHOOK
from assent.notify.reaching import Origin, has_path, origin_of
from assent.notify.webhooks import Target
from assent.storage.base import Change, Storage, runs_at
from assent.storage.wrapped import Wrapped

log = structlog.get_logger(__name__)

RUN_ENDED = "run_ended"
"""The type of these notifications. They report a pause, too."""

ENDS = (Done, Error, RunCancelled, RunPaused)
"""The events by which a run comes to an end, or pauses."""

Describe = Callable[[Run, Change], JsonObject]
"""What is told of the end of a run, given the change that ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReceiver:
    """A host that may be told of the end of runs, at any path of its `origin`: scheme, host and
    port. Each of the `secrets` signs."""

    name: str
    origin: Origin
    secrets: tuple[str, ...] = field(repr=False)
    allow_private: bool = False
    allow_http: bool = False

    @property
    def endpoint(self) -> str:
        """The name of its notifications' endpoint. That of no other endpoint has a dot."""
        return f"webhooks.{self.name}"

    def target(self, url: str) -> Target:
        """The URL, to send webhooks to. Raises `ConfigurationError` for one with a user in it."""
        return Target(
            url=url,
            secrets=self.secrets,
            allow_private=self.allow_private,
            allow_http=self.allow_http,
        )


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receiver as the operator writes it."""

    url: str
    secrets: tuple[str, ...]
    allow_private: bool = False
    allow_http: bool = False


def run_receivers_from_json(value: Json, environment: Mapping[str, str]) -> tuple[RunReceiver, ...]:
    """Read the receivers from JSON or TOML, by name. Raises `ConfigurationError`, which repeats no
    secret."""

    def read(name: str, written: _Written) -> RunReceiver:
        url = value_of(written.url, environment)
        made = RunReceiver(
            name=name,
            origin=origin_of(url) or ("", "", 0),
            secrets=tuple(value_of(secret, environment) for secret in written.secrets),
            allow_private=written.allow_private,
            allow_http=written.allow_http,
        )
        made.target(url)
        if has_path(url):
            raise ConfigurationError(
                "Its URL has a path, and every path of a host is taken. Write the host alone, as "
                "in https://hooks.example.com."
            )
        return made

    receivers = read_tables(value, "receiver", _Written, read)
    origins = [each.origin for each in receivers]
    for each in receivers:
        if origins.count(each.origin) > 1:
            raise ConfigurationError(
                f"The receiver '{each.name}' has the host of another one, so nobody could tell "
                "whose secrets sign. Leave one of them."
            )
    return receivers


def receiver_of(receivers: Sequence[RunReceiver], url: str) -> RunReceiver:
    """The receiver that the URL is of. Raises `InvalidRequest`, which repeats no more of it than
    its host."""
    origin = origin_of(url)
    if origin is None:
        raise InvalidRequest("The 'webhook' is no URL. Write it as https://hooks.example.com/path.")
    for receiver in receivers:
        if receiver.origin == origin:
            _check(receiver, url)
            return receiver
    scheme, host, port = origin
    place = f"{scheme}://{host}" + ("" if port == DEFAULT_PORTS[scheme] else f":{port}")
    raise InvalidRequest(
        f"The 'webhook' is at {visible(place[:300])}, where this server may not send anything. Its "
        "operator can list that in the section 'webhooks' of the file that ASSENT_CONFIG names."
    )


def _check(receiver: RunReceiver, url: str) -> None:
    try:
        receiver.target(url)
    except ConfigurationError as error:
        raise InvalidRequest(f"The 'webhook' is not taken. {error.message}") from None


# ── the outbox ────────────────────────────────────────────────────────────────────────────────────


def with_run_webhooks(
    storage: Storage,
    receivers: Sequence[RunReceiver],
    describe: Describe,
    clock: Clock,
    on_stored: Callable[[], None],
) -> Storage:
    """The same storage, but each commit that ends runs, or by which they pause, also stores what
    their webhooks are told. `on_stored` is called after a commit that stored some."""
    if not receivers:
        return storage
    return cast(Storage, _Telling(storage, receivers, describe, clock, on_stored))


class _Telling(Wrapped):
    def __init__(
        self,
        inner: Storage,
        receivers: Sequence[RunReceiver],
        describe: Describe,
        clock: Clock,
        on_stored: Callable[[], None],
    ) -> None:
        super().__init__(inner)
        self._receivers = receivers
        self._describe = describe
        self._clock = clock
        self._on_stored = on_stored

    async def commit(self, change: Change) -> tuple[int, ...]:
        rows = tuple(self._notifications(change))
        if not rows:
            return await self.inner.commit(change)
        numbers = await self.inner.commit(replace(change, rows=(*change.rows, *rows)))
        self._on_stored()
        return numbers

    def _notifications(self, change: Change) -> Iterator[Notification]:
        for run, url in told_by(change):
            try:
                receiver = receiver_of(self._receivers, url)
            except InvalidRequest as error:
                # The operator has taken it off the list since the run was started.
                log.warning("a run's webhook is not told", run_id=run.run_id, reason=error.message)
                continue
            now = self._clock.now()
            yield Notification(
                notification_id=self._clock.new_id(),
                endpoint=receiver.endpoint,
                event=RUN_ENDED,
                thread_id=run.thread_id,
                approval_id="",
                run_id=run.run_id,
                tenant=run.tenant,
                payload={**self._describe(run, change), WEBHOOK: url},
                status=NotificationStatus.PENDING,
                created_at=now,
                next_at=now,
            )


def told_by(change: Change) -> Iterator[tuple[Run, str]]:
    """The runs that end by the change, or pause for a person, and the webhook of each that has
    one."""
    for run, event in runs_at(change, ENDS):
        # What standing grants have answered goes on at once.
        goes_on = isinstance(event, RunPaused) and event.next_run
        url = given_in(run.input).webhook
        if url and not goes_on:
            yield run, url
