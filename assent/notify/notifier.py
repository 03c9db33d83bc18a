"""What a notifier is told, and how it says that it could not tell: all that a notifier of one's own
needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


class NotDelivered(Exception):
    """It was not told, and is to be tried again. The text is a sentence with no secret in it, which
    may be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What an endpoint is told. `id` is the same each time that it is told it. `type` is the
    event's, `data` has the `approval` and the `event`, and `link` lets the endpoint's recipient
    decide, "" if there is none."""

    id: str
    endpoint: str
    type: str
    at: datetime
    data: Mapping[str, Any]
    link: str = field(default="", repr=False)


class Notifier(Protocol):
    """Tells somebody something. Yours may be named in the configuration."""

    async def notify(self, message: Message) -> None:
        """Tell it. Raise to have it tried again later; `NotDelivered` says why."""
