"""Endpoints: who is notified of approvals, as the operator configures them.

    {"pager": {"url": "https://example.com/hook", "secrets": ["whsec_…"],
               "events": ["approval_required"], "tools": ["delete_records"]},
     "bob": {"url": "env:BOBS_CHAT", "recipient": "bob"}}

A URL that begins with `https:` receives signed webhooks; any other is one of Apprise's
(https://appriseit.com: Slack, Teams, mail and many more); and `notifier` names a class or function
of the operator's own. `env:NAME` stands for the value of an environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from assent.core.approval import Approval
from assent.core.environment import value_of
from assent.core.errors import ConfigurationError
from assent.core.events import EVENT_TYPES, ApprovalEvent, event_type
from assent.core.json import Json
from assent.notify.audit_head import AUDIT_HEAD
from assent.notify.webhooks import Target

APPROVAL_EVENTS = tuple(name for name, cls in EVENT_TYPES.items() if issubclass(cls, ApprovalEvent))

QUIET_EVENTS = ("approval_voted", "approval_withdrawn", "approval_commented")
"""Events that an endpoint only gets if it names them."""

DEFAULT_EVENTS = tuple(name for name in APPROVAL_EVENTS if name not in QUIET_EVENTS)

ALLOWED_EVENTS = (*APPROVAL_EVENTS, AUDIT_HEAD)
"""Events that an operator may name. The audit head does not pass through the outbox."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One receiver of notifications.

    Empty `agents` or `tools` mean all of them. With `roles`, only approvals that one of these
    roles may decide. The person `recipient` is sent links to decide by. Exactly one of `target`
    (webhooks), `url` (Apprise) and `notifier` (code, as `module:name`) is set.
    """

    name: str
    events: tuple[str, ...] = DEFAULT_EVENTS
    agents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    recipient: str = ""
    target: Target | None = None
    url: str = field(default="", repr=False)
    notifier: str = ""

    def wants(self, event: ApprovalEvent, approval: Approval | None) -> bool:
        """True if the endpoint is to be notified of this event."""
        if event_type(event) not in self.events:
            return False
        agent, tool, roles = "", event.tool, tuple[str, ...]()
        if approval is not None:
            agent, tool, roles = approval.agent, approval.tool, approval.roles
        return (
            (not self.agents or agent in self.agents)
            and (not self.tools or tool in self.tools)
            and (not self.roles or not set(self.roles).isdisjoint(roles))
        )


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint as the operator writes it."""

    url: str = ""
    secrets: tuple[str, ...] = ()
    notifier: str = ""
    events: tuple[str, ...] = DEFAULT_EVENTS
    agents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    recipient: str = ""
    allow_private: bool = False
    allow_http: bool = False


WEBHOOK_FIELDS = ("secrets", "allow_private", "allow_http")


def endpoints_from_json(
    value: Mapping[str, Json], environment: Mapping[str, str]
) -> tuple[Endpoint, ...]:
    """Read the endpoints from JSON or TOML, by name. Raises `ConfigurationError`, which repeats no
    secret."""
    if not isinstance(value, Mapping):
        raise ConfigurationError("'notify' is no table. Write a table with one for each endpoint.")
    return tuple(_endpoint(name, written, environment) for name, written in value.items())


def _endpoint(name: str, value: Json, environment: Mapping[str, str]) -> Endpoint:
    where = f"The endpoint '{name}' of 'notify'"
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where} has a bad name. Use 1 to 64 letters, digits, '_' and '-'."
        )
    try:
        return _checked(name, msgspec.convert(value, _Written), environment)
    except msgspec.ValidationError as error:
        fields = ", ".join(_Written.__struct_fields__)
        raise ConfigurationError(f"{where} is wrong: {error}. Its fields are: {fields}.") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{where} is wrong. {error.message}") from None


def _checked(name: str, written: _Written, environment: Mapping[str, str]) -> Endpoint:
    if unknown := sorted(set(written.events) - set(ALLOWED_EVENTS)):
        raise ConfigurationError(
            f"There is no event '{unknown[0]}' to be notified of. "
            f"The events are: {', '.join(ALLOWED_EVENTS)}."
        )
    if bool(written.url) == bool(written.notifier):
        raise ConfigurationError("Give it either a 'url' or a 'notifier'.")

    options = msgspec.structs.asdict(written)
    webhook = {key: options.pop(key) for key in WEBHOOK_FIELDS}
    options["url"] = value_of(written.url, environment)
    if options["url"].lower().startswith(("https:", "http:")):
        webhook["secrets"] = tuple(value_of(secret, environment) for secret in written.secrets)
        options["target"] = Target(url=options.pop("url"), **webhook)
    elif any(webhook.values()):
        raise ConfigurationError("Only webhooks have 'secrets', 'allow_private' and 'allow_http'.")
    return Endpoint(name=name, **options)
