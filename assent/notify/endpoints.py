"""Whom approvals are told of: what an operator writes, and which of them wants to hear of what.

    {"pager": {"url": "https://example.com/hook", "secrets": ["whsec_…"], "events":
    ["approval_required"], "tools": ["delete_records"]},
     "bob": {"url": "env:BOBS_CHAT", "recipient": "bob"}}

A URL that begins with `https:` takes signed webhooks; any other is one of Apprise's
(https://appriseit.com: Slack, Teams, mail and many more); and a `notifier` is a class or a function
of the operator's own. `env:NAME` stands for the value of an environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from assent.core.errors import ConfigurationError
from assent.core.events import EVENT_TYPES, ApprovalEvent, event_type
from assent.core.rows import Approval
from assent.notify.audit_head import AUDIT_HEAD
from assent.notify.webhooks import Target

Json = Any
"""Any JSON value."""

TOLD = tuple(name for name, cls in EVENT_TYPES.items() if issubclass(cls, ApprovalEvent))
"""What can be told of: every event in the life of an approval."""

BY_DEFAULT = tuple(
    name
    for name in TOLD
    if name not in ("approval_voted", "approval_withdrawn", "approval_commented")
)
"""What is, if nothing is said."""

MAY_BE_TOLD = (*TOLD, AUDIT_HEAD)
"""What an operator may write: also the head of the audit chain, which is told directly and not
through the outbox."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Somebody who is told. Without `agents` or `tools` he is told of all of them. With `roles`,
    only of what one of these is asked to decide.

    What is sent to the person `recipient` lets him decide, by a link. One of `target`, `url` and
    `notifier` says how he is told: by webhooks, by Apprise, or by code, as `module:name`.
    """

    name: str
    events: tuple[str, ...] = BY_DEFAULT
    agents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    recipient: str = ""
    target: Target | None = None
    url: str = field(default="", repr=False)
    notifier: str = ""

    def wants(self, event: ApprovalEvent, approval: Approval | None) -> bool:
        """Whether it is told of this."""
        if event_type(event) not in self.events:
            return False
        agent, tool, roles = (
            (approval.agent, approval.tool, approval.roles) if approval else ("", event.tool, ())
        )
        return (
            (not self.agents or agent in self.agents)
            and (not self.tools or tool in self.tools)
            and (not self.roles or not set(self.roles).isdisjoint(roles))
        )


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint as it is written."""

    url: str = ""
    secrets: tuple[str, ...] = ()
    notifier: str = ""
    events: tuple[str, ...] = BY_DEFAULT
    agents: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    recipient: str = ""
    allow_private: bool = False
    allow_http: bool = False


def endpoints_from_json(
    value: Mapping[str, Json], environment: Mapping[str, str]
) -> tuple[Endpoint, ...]:
    """The endpoints by their names, as JSON or TOML has them. Raises `ConfigurationError`, which
    repeats no secret."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            "What is said of 'notify' is no table. Write one, with a table for each endpoint."
        )
    return tuple(_endpoint(name, written, environment) for name, written in value.items())


def _endpoint(name: str, value: Json, environment: Mapping[str, str]) -> Endpoint:
    where = f"The endpoint '{name}' of 'notify'"
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{where} has a name that cannot be. Use 1 to 64 letters, digits, '_' and '-'."
        )
    try:
        written = msgspec.convert(value, _Written)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{where} is wrong: {error}. It may have: {', '.join(_Written.__struct_fields__)}."
        ) from None
    if unknown := sorted(set(written.events) - set(MAY_BE_TOLD)):
        raise ConfigurationError(
            f"{where} is told of '{unknown[0]}', which is no event of approvals, nor 'audit_head'. There are: {', '.join(MAY_BE_TOLD)}."
        )
    try:
        return _with_channel(name, written, environment)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where} is wrong. {error.message}") from None


def _with_channel(name: str, written: _Written, environment: Mapping[str, str]) -> Endpoint:
    url = _value(written.url, environment)
    if bool(url) == bool(written.notifier):
        raise ConfigurationError("Give it either a 'url' or a 'notifier'.")
    endpoint = Endpoint(
        name=name,
        events=written.events,
        agents=written.agents,
        tools=written.tools,
        roles=written.roles,
        recipient=written.recipient,
        url=url,
        notifier=written.notifier,
    )
    if not is_webhook(url):
        if written.secrets or written.allow_private or written.allow_http:
            raise ConfigurationError(
                "Only webhooks have 'secrets', 'allow_private' and 'allow_http'."
            )
        return endpoint
    target = Target(
        url=url,
        secrets=tuple(_value(secret, environment) for secret in written.secrets),
        allow_private=written.allow_private,
        allow_http=written.allow_http,
    )
    return replace(endpoint, target=target, url="")


def is_webhook(url: str) -> bool:
    """Whether this is where webhooks go, and nothing of Apprise's."""
    return url.lower().startswith(("https:", "http:"))


def _value(written: str, environment: Mapping[str, str]) -> str:
    """What is written, or the environment variable that it names."""
    if not written.startswith("env:"):
        return written
    name = written.removeprefix("env:")
    if not environment.get(name):
        raise ConfigurationError(
            f"It is to take a value from the environment variable {name}, which is not set."
        )
    return environment[name]
