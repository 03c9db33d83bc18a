"""The interface of notifiers: all that a notifier of your own needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from assent.core.json import Json, JsonObject


class NotDelivered(Exception):
    """A delivery failed and is to be retried. The text is shown to clients: a sentence without
    secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One notification, as a notifier gets it.

    `id` is the same at every attempt. `type` is the type of the event, and `data` holds the
    `approval` and the `event`. `link` lets the endpoint's recipient decide; "" if there is none.
    `page` is the address of the web page that shows the approval to whoever signs in; "" if the
    server has none. `approval_id` is "" if it is about none. Of the end of a run, `webhook` is the
    URL to tell.
    """

    id: str
    endpoint: str
    type: str
    at: datetime
    data: Mapping[str, Json]
    link: str = field(default="", repr=False)
    approval_id: str = ""
    webhook: str = field(default="", repr=False)
    page: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The `place` of a message, which is kept with its notification."""

    place: JsonObject


class Notifier(Protocol):
    """Sends messages to one endpoint. The configuration may name one of your own."""

    async def notify(self, message: Message) -> Receipt | None:
        """Send the message. Raise to have it retried; a `NotDelivered` says why."""
