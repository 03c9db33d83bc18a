"""The channels of notifications: signed webhooks, chat and mail through Apprise, and notifiers of
the operator's own.

People get plain text. Whatever the model wrote comes last in it and is labelled, and invisible
characters are shown as escapes.
"""

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
from assent.core.json import Json, JsonObject, encode_json
from assent.core.text import (
    is_shortened,
    look_alike_warnings,
    pretty,
    shortened,
    unseen,
    visible,
)
from assent.notify.audit_head import AUDIT_HEAD
from assent.notify.endpoints import Endpoint
from assent.notify.links import LinkKey
from assent.notify.notifier import Message, NotDelivered, Notifier
from assent.notify.outbox import ASKING_EVENTS
from assent.notify.reaching import Reach
from assent.notify.webhooks import WebhookSender

CHAT_SECONDS = 30.0
"""The time limit of Apprise."""

MAX_TEXT_CHARACTERS = 2_500
"""The size of the arguments in a text. Chats cut or refuse messages of more than about 4,000."""

MAX_PREVIEW_CHARACTERS = 700
"""The size of the preview in a text. The page behind the link shows all of it."""


def make_notifiers(
    endpoints: Sequence[Endpoint], clock: Clock, reach: Reach, *, links: LinkKey | None = None
) -> Mapping[str, Notifier]:
    """A notifier for each endpoint, by its name.

    Raises `ConfigurationError`, also for an endpoint with a recipient on a server that cannot make
    links.
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


# ── texts for people ──────────────────────────────────────────────────────────────────────────────

_TITLES = {
    "approval_required": "Approval needed",
    "approval_edited": "Approval needed for other arguments",
    "approval_reminder": "Approval still needed",
    "approval_escalated": "Approval needed, as nobody decided in time",
    "approval_delegated": "Approval handed on",
    "approval_decided": "Decided",
    "approval_voted": "A vote",
    "approval_withdrawn": "A vote was taken back",
    "approval_commented": "A comment",
    "approval_expired": "Nobody decided in time",
    "approval_cancelled": "Approval no longer needed",
    "approval_superseded": "Approval no longer valid",
}


def texts(message: Message) -> tuple[str, str]:
    """The title and the body of a message, for people."""
    if message.type == AUDIT_HEAD:
        head = message.data["head"]
        return "Head of the audit chain", f"{head['number']}:{head['mac']}\nat {head['at']}"

    approval, event = message.data.get("approval", {}), message.data.get("event", {})
    subject = approval.get("tool") or event.get("tool") or approval.get("node") or "a question"
    title = f"{_TITLES.get(message.type, message.type)}: {_line(subject)}"

    lines = [f"{label}: {_line(value)}" for label, value in _facts(approval, event) if value]
    if message.link:
        lines.append(f"Decide: {message.link}")

    preview = approval.get("preview")
    if preview is not None and message.type in ASKING_EVENTS:
        is_node = approval.get("kind") == "node"
        title_of_preview = "The state that it is about to see (from the graph):"
        lines += [
            "",
            title_of_preview if is_node else "What it would do (from the tool):",
            _indented(preview, MAX_PREVIEW_CHARACTERS),
        ]

    args = event.get("args", approval.get("args"))
    if args is not None:
        block = _indented(args, MAX_TEXT_CHARACTERS)
        lines += ["", "Arguments (written by the model):", block]
    if hidden := unseen(args):
        lines.append(f"Careful: {hidden} hidden character(s) in them are shown as \\u….")
    if note := approval.get("conversation", {}).get("warning"):
        lines.append(f"Careful: {note}")
    lines += [f"Careful: {warning}" for warning in look_alike_warnings(args, "args")]
    return title, "\n".join(lines)


def _facts(approval: JsonObject, event: JsonObject) -> list[tuple[str, Json]]:
    decision = approval.get("decision") or {}
    return [
        ("Agent", approval.get("agent")),
        ("Asked by", approval.get("requested_by")),
        ("Decision", event.get("decision") or decision.get("type")),
        ("By", event.get("by") or approval.get("decided_by")),
        ("To", event.get("to") or event.get("role")),
        ("Reason", event.get("reason")),
        ("Until", event.get("expires_at") or approval.get("expires_at")),
        ("Approval", approval.get("approval_id") or event.get("approval_id")),
        ("Thread", approval.get("thread_id") or event.get("thread_id")),
        ("SHA-256", approval.get("digest")),
    ]


def _line(value: Json) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return visible(text[:300], keep="")


def _indented(value: Json, most: int) -> str:
    text = visible(value if is_shortened(value) else pretty(value))
    if len(text) > most:
        text = shortened(text, most)
    return "\n".join(f"    {line}" for line in text.splitlines())
