"""Endpoints: who is notified of approvals, as the operator configures them.

    {"pager": {"url": "https://example.com/hook", "secrets": ["whsec_…"],
               "events": ["approval_required"], "tools": ["delete_records"]},
     "bob": {"url": "env:BOBS_CHAT", "recipient": "bob"}}

A URL that begins with `https:` receives signed webhooks; any other is one of Apprise's
(https://appriseit.com: Teams, mail and many more); `slack` is a channel in which the configured app
posts messages with buttons; and `notifier` names a class or function of the operator's own.
`env:NAME` stands for the value of an environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from assent.core.approval import Approval
from assent.core.environment import value_of
from assent.core.errors import ConfigurationError
from assent.core.events import EVENT_TYPES, ApprovalEvent, event_type
from assent.core.json import Json
from assent.core.named_tables import read_tables
from assent.notify.audit_head import AUDIT_HEAD
from assent.notify.webhooks import Target

APPROVAL_EVENTS = tuple(name for name, cls in EVENT_TYPES.items() if issubclass(cls, ApprovalEvent))

QUIET_EVENTS = ("approval_voted", "approval_withdrawn", "approval_commented")
"""Events that an endpoint only gets if it names them."""

DEFAULT_EVENTS = tuple(name for name in APPROVAL_EVENTS if name not in QUIET_EVENTS)

SHOWN_EVENTS = tuple(name for name in APPROVAL_EVENTS if name != "approval_commented")
"""Events after which a message that shows how an approval stands is another one."""

ALLOWED_EVENTS = (*APPROVAL_EVENTS, AUDIT_HEAD)
"""Events that an operator may name. The audit head does not pass through the outbox."""

SLACK_CHANNEL = re.compile(r"[CDGUW][A-Z0-9]+")
"""A channel's id, or a member's: then it is their conversation with the app."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One receiver of notifications.

    Empty `agents` or `tools` mean all of them. With `roles`, only approvals that one of these
    roles may decide. The person `recipient` is sent links to decide by. Exactly one of `target`
    (webhooks), `url` (Apprise), `slack` (a channel's id) and `notifier` (code, as `module:name`)
    is set.
    """

    name: str
    events: tuple[str, ...] = DEFAULT_EVENTS
    agents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    recipient: str = ""
    target: Target | None = None
    url: str = field(default="", repr=False)
    slack: str = ""
    notifier: str = ""

    def wants(self, event: ApprovalEvent, approval: Approval | None) -> bool:
        """True if the endpoint is to be notified of this event. A message in Slack is brought up to
        date by all that happens to its approval, whoever may decide that by then."""
        agent, tool, roles = "", event.tool, tuple[str, ...]()
        if approval is not None:
            agent, tool, roles = approval.agent, approval.tool, approval.roles
        is_ours = (not self.agents or agent in self.agents) and (
            not self.tools or tool in self.tools
        )
        if self.slack:
            return is_ours and event_type(event) in SHOWN_EVENTS
        return is_ours and event_type(event) in self.events and self._has_one_of(roles)

    def asks(self, kind: str, approval: Approval) -> bool:
        """True if an event of this type is one by which the endpoint's people are asked."""
        return kind in self.events and self._has_one_of(approval.roles)

    def _has_one_of(self, roles: Collection[str]) -> bool:
        return not self.roles or not set(self.roles).isdisjoint(roles)


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint as the operator writes it."""

    url: str = ""
    secrets: tuple[str, ...] = ()
    slack: str = ""
    notifier: str = ""
    events: tuple[str, ...] = DEFAULT_EVENTS
    agents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    recipient: str = ""
    allow_private: bool = False
    allow_http: bool = False


WEBHOOK_FIELDS = ("secrets", "allow_private", "allow_http")


def endpoints_from_json(value: Json, environment: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Read the endpoints from JSON or TOML, by name. Raises `ConfigurationError`, which repeats no
    secret."""

    def read(name: str, written: _Written) -> Endpoint:
        return _endpoint(name, written, environment)

    return read_tables(value, "endpoint", _Written, read)


def _endpoint(name: str, written: _Written, environment: Mapping[str, str]) -> Endpoint:
    if unknown := sorted(set(written.events) - set(ALLOWED_EVENTS)):
        raise ConfigurationError(
            f"There is no event '{unknown[0]}' to be notified of. "
            f"The events are: {', '.join(ALLOWED_EVENTS)}."
        )
    if sum(map(bool, (written.url, written.slack, written.notifier))) != 1:
        raise ConfigurationError("Give it either a 'url', a 'slack' channel or a 'notifier'.")
    if written.slack and not SLACK_CHANNEL.fullmatch(written.slack):
        raise ConfigurationError(
            "Its 'slack' is no channel. Write the channel's id, which its details in Slack show, "
            "as in C012AB3CD."
        )
    if written.slack and written.recipient:
        raise ConfigurationError(
            "A channel in Slack has no 'recipient': the buttons know who clicks. Leave it out."
        )

    options = msgspec.structs.asdict(written)
    webhook = {key: options.pop(key) for key in WEBHOOK_FIELDS}
    options["url"] = value_of(written.url, environment)
    if options["url"].lower().startswith(("https:", "http:")):
        webhook["secrets"] = tuple(value_of(secret, environment) for secret in written.secrets)
        options["target"] = Target(url=options.pop("url"), **webhook)
    elif any(webhook.values()):
        raise ConfigurationError("Only webhooks have 'secrets', 'allow_private' and 'allow_http'.")
    return Endpoint(name=name, **options)
