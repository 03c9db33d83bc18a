"""The channels of notifications: signed webhooks, Slack, other chats and mail through Apprise, and
notifiers of the operator's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from assent.core.addresses import Egress
from assent.core.clock import Clock
from assent.core.errors import ConfigurationError
from assent.core.json import encode_json
from assent.notify.endpoints import Endpoint
from assent.notify.links import LinkKey
from assent.notify.notifier import Message, NotDelivered, Notifier
from assent.notify.reaching import Reach
from assent.notify.slack import Slack
from assent.notify.texts import texts
from assent.notify.webhooks import WebhookSender

CHAT_SECONDS = 30.0
"""The time limit of Apprise."""


def make_notifiers(
    endpoints: Sequence[Endpoint],
    clock: Clock,
    reach: Reach,
    *,
    links: LinkKey | None = None,
    slack: Slack | None = None,
) -> Mapping[str, Notifier]:
    """A notifier for each endpoint, by its name.

    Raises `ConfigurationError`, also for an endpoint with a recipient on a server that cannot make
    links, and for one in Slack on a server that has no app there.
    """
    notifiers: dict[str, Notifier] = {}
    for endpoint in endpoints:
        if endpoint.recipient and links is None:
            raise ConfigurationError(
                f"The endpoint '{endpoint.name}' has a recipient, to whom links are sent, and "
                "the server does not know its own address. Set ASSENT_PUBLIC_URL."
            )
        if endpoint.target is not None:
            sender = WebhookSender(endpoint.target, reach)
            notifiers[endpoint.name] = WebhookNotifier(sender, clock)
        elif endpoint.slack:
            if slack is None:
                raise ConfigurationError(
                    f"The endpoint '{endpoint.name}' is a channel in Slack, and the configuration "
                    "has no section 'slack', which says what app posts there. Write one."
                )
            notifiers[endpoint.name] = slack.notifier(endpoint)
        elif endpoint.notifier:
            notifiers[endpoint.name] = load_notifier(endpoint.notifier)
        else:
            notifiers[endpoint.name] = AppriseNotifier(endpoint, reach.egress)
    return notifiers


@dataclass(frozen=True, slots=True)
class WebhookNotifier:
    """Sends messages as signed webhooks."""

    sender: WebhookSender
    clock: Clock

    async def notify(self, message: Message) -> None:
        data = dict(message.data)
        if message.link:
            data["link"] = message.link
        if message.page:
            data["page"] = message.page
        body = encode_json({"type": message.type, "timestamp": message.at, "data": data})
        await self.sender.send(message.id, body, self.clock.now())


class AppriseNotifier:
    """Sends messages to people, through one of the many services that Apprise knows."""

    def __init__(self, endpoint: Endpoint, egress: Egress) -> None:
        # Importing Apprise takes a while, and most servers have no such endpoint.
        import apprise

        # The logs of both libraries show URLs, which hold tokens and passwords.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        logging.getLogger("urllib3").setLevel(logging.WARNING)

        asset = apprise.AppriseAsset(
            http_redirects=False, storage_mode=apprise.PersistentStoreMode.MEMORY
        )
        self._apprise = apprise.Apprise(asset=asset)
        if not self._apprise.add(endpoint.url):
            raise ConfigurationError(
                f"Apprise does not know the service in the url of the endpoint '{endpoint.name}'. "
                "The services and their URLs are listed at https://appriseit.com/services/"
            )
        # Apprise opens its own connections, so it is here or nowhere that they can be refused.
        for service in self._apprise:
            schemes = _schemes(service)
            if not egress.allows_channel(schemes):
                raise ConfigurationError(
                    f"The endpoint '{endpoint.name}' is notified through Apprise, and "
                    f"ASSENT_EGRESS does not list it. Add apprise:{schemes[0]}, or drop the "
                    "endpoint."
                )

    async def notify(self, message: Message) -> None:
        title, body = texts(message)
        try:
            sent = await asyncio.to_thread(
                self._apprise.notify,
                title=title,
                body=body,
                body_format="text",
                timeout=CHAT_SECONDS,
            )
        except Exception as error:
            # The text of the error may hold the URL.
            raise NotDelivered(f"Apprise failed with {type(error).__name__}.") from None
        if not sent:
            raise NotDelivered("The service refused it, or could not be reached.")


def _schemes(service: Any) -> list[str]:
    """The schemes of the URLs that lead to a service of Apprise's."""
    schemes: list[str] = []
    for given in (service.secure_protocol, service.protocol):
        schemes += [given] if isinstance(given, str) else given or ()
    return schemes


def load_notifier(named: str) -> Notifier:
    """Import `module:name`: an object with a method `notify`, or a class or function that makes
    one.

    Raises `ConfigurationError`.
    """
    if not named.partition(":")[2]:
        raise ConfigurationError(f"'{named}' names no notifier. Write module:name.")
    try:
        found = resolve_name(named)
        is_notifier = hasattr(found, "notify") and not isinstance(found, type)
        notifier: Notifier = found if is_notifier else found()
    except Exception as error:
        raise ConfigurationError(
            f"The notifier '{named}' could not be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(getattr(notifier, "notify", None)):
        raise ConfigurationError(
            f"The notifier '{named}' has no method 'notify'. "
            "Give it one: async def notify(self, message)."
        )
    return notifier
