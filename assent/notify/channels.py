"""How endpoints are told: signed webhooks, chat and mail through Apprise, and code of the
operator's own.

What goes to people is plain text. What the model wrote comes last in it, with a word that says so,
and shows every character that is not seen.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from assent.core.clock import Clock
from assent.core.errors import ConfigurationError
from assent.core.text import pretty, unseen, visible
from assent.notify.audit_head import AUDIT_HEAD
from assent.notify.endpoints import Endpoint
from assent.notify.links import LinkKey
from assent.notify.notifier import Message, NotDelivered, Notifier
from assent.notify.outbox import ASKS
from assent.notify.webhooks import Resolve, WebhookSender

Json = Any
"""Any JSON value."""

CHAT_SECONDS = 30.0
"""How long Apprise may take."""

MAX_TEXT_CHARACTERS = 2_500
"""Of the arguments in a message to people. Chats cut, or refuse, messages that are longer than
about 4,000."""

MAX_PREVIEW_CHARACTERS = 700
"""Of what the tool says that it would do. The page behind the link has all of it."""

_encode = msgspec.json.Encoder().encode


@asynccontextmanager
async def open_notifiers(
    endpoints: Sequence[Endpoint],
    clock: Clock,
    *,
    links: LinkKey | None = None,
    resolve: Resolve | None = None,
) -> AsyncIterator[Mapping[str, Notifier]]:
    """How to tell each endpoint, by name, until the context is left. Raises `ConfigurationError`,
    also for an endpoint that is to be sent links where none can be made."""
    if links is None and (
        wanting := next((each.name for each in endpoints if each.recipient), None)
    ):
        raise ConfigurationError(
            f"The endpoint '{wanting}' has a recipient, who is sent links, and the server does not know its own address. "
            "Set ASSENT_PUBLIC_URL."
        )
    async with AsyncExitStack() as stack:
        notifiers: dict[str, Notifier] = {}
        for endpoint in endpoints:
            if endpoint.target is not None:
                sender = await stack.enter_async_context(
                    WebhookSender.open(endpoint.target, resolve=resolve)
                )
                notifiers[endpoint.name] = WebhookNotifier(sender, clock)
            elif endpoint.notifier:
                notifiers[endpoint.name] = own_notifier(endpoint.notifier)
            else:
                notifiers[endpoint.name] = AppriseNotifier(endpoint)
        yield notifiers


class WebhookNotifier:
    """Tells by signed webhooks."""

    def __init__(self, sender: WebhookSender, clock: Clock) -> None:
        self._sender = sender
        self._clock = clock

    async def notify(self, message: Message) -> None:
        data = {**message.data, **({"link": message.link} if message.link else {})}
        body = _encode({"type": message.type, "timestamp": message.at, "data": data})
        await self._sender.send(message.id, body, self._clock.now())


class AppriseNotifier:
    """Tells people, by one of the many ways that Apprise knows."""

    def __init__(self, endpoint: Endpoint) -> None:
        # Here, because it takes a while, and most servers have no such endpoint.
        import apprise

        _keep_secrets()
        asset = apprise.AppriseAsset(
            http_redirects=False, storage_mode=apprise.PersistentStoreMode.MEMORY
        )
        self._apprise = apprise.Apprise(asset=asset)
        if not self._apprise.add(endpoint.url):
            raise ConfigurationError(
                f"The url of the endpoint '{endpoint.name}' is none that Apprise knows. The services and their URLs are listed at "
                "https://appriseit.com/services/"
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
            # Without its text, in which the URL may be.
            raise NotDelivered(f"Apprise failed with {type(error).__name__}.") from None
        if not sent:
            raise NotDelivered("The service did not take it, or could not be reached.")


def own_notifier(named: str) -> Notifier:
    """The notifier that `module:name` names: an object with a method `notify`, or a class or
    function that makes one when it is called.

    Raises `ConfigurationError`.
    """
    module, separator, name = named.partition(":")
    try:
        if not separator or not name:
            raise ConfigurationError(f"'{named}' names no notifier. Write module:name.")
        found = getattr(importlib.import_module(module), name)
        notifier: Notifier = (
            found if not isinstance(found, type) and hasattr(found, "notify") else found()
        )
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"The notifier '{named}' could not be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(getattr(notifier, "notify", None)):
        raise ConfigurationError(
            f"The notifier '{named}' has no method 'notify'. Give it one: async def notify(self, message)."
        )
    return notifier


def _keep_secrets() -> None:
    """What these libraries say of their requests has the URLs in it, and those have tokens and
    passwords in them."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    logging.getLogger("urllib3").setLevel(logging.WARNING)


# ── what people read ──────────────────────────────────────────────────────────────────────────────

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
    """A title, and a text, for people."""
    if message.type == AUDIT_HEAD:
        head = message.data["head"]
        return "Head of the audit chain", f"{head['number']}:{head['mac']}\nat {head['at']}"
    approval, event = message.data.get("approval", {}), message.data.get("event", {})
    tool = _line(approval.get("tool") or event.get("tool") or approval.get("node") or "a question")
    title = f"{_TITLES.get(message.type, message.type)}: {tool}"
    lines = [f"{label}: {_line(value)}" for label, value in _facts(approval, event)]
    if message.link:
        lines.append(f"Decide: {message.link}")
    if (preview := approval.get("preview")) is not None and message.type in ASKS:
        lines += [
            "",
            "What it would do (from the tool):",
            _indented(preview, MAX_PREVIEW_CHARACTERS),
        ]
    args = event.get("args", approval.get("args"))
    if args is not None:
        lines += ["", "Arguments (written by the model):", _indented(args)]
    if hidden := unseen(args):
        lines.append(f"Careful: {hidden} hidden character(s) in them are shown as \\u….")
    return title, "\n".join(lines)


def _facts(approval: Mapping[str, Json], event: Mapping[str, Json]) -> list[tuple[str, Json]]:
    said = approval.get("decision") or {}
    facts = [
        ("Agent", approval.get("agent")),
        ("Asked by", approval.get("requested_by")),
        ("Decision", event.get("decision") or said.get("type")),
        ("By", event.get("by") or approval.get("decided_by")),
        ("To", event.get("to") or event.get("role")),
        ("Reason", event.get("reason")),
        ("Until", event.get("expires_at") or approval.get("expires_at")),
        ("Approval", approval.get("approval_id") or event.get("approval_id")),
        ("Thread", approval.get("thread_id") or event.get("thread_id")),
        ("SHA-256", approval.get("digest")),
    ]
    return [(label, value) for label, value in facts if value]


def _line(value: Json) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return visible(text[:300], keep="")


def _indented(value: Json, most: int = MAX_TEXT_CHARACTERS) -> str:
    text = (
        value if isinstance(value, str) and value.endswith("characters in all)") else pretty(value)
    )
    text = visible(text)
    if len(text) > most:
        text = f"{text[:most]}… (cut: {len(text)} characters in all)"
    return "\n".join(f"    {line}" for line in text.splitlines())
