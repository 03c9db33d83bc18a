"""Entries of the audit chain: who did what, when, and how it was known who they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from assent.core.access import APPROVES_NOTHING, Approves, Owner
from assent.core.json import Json


class AuditAction(StrEnum):
    """The audited actions: everything that happens to approvals and standing grants, what is
    written to a thread's state from outside, the erasure of a thread, or of the row of one of its
    runs, and a change of its owner; and who was not let in, who was refused, and what becomes of
    keys and sessions."""

    ASKED = "asked"
    VOTED = "voted"
    DECIDED = "decided"
    EDITED = "edited"
    WITHDRAWN = "withdrawn"
    DELEGATED = "delegated"
    COMMENTED = "commented"
    REMINDED = "reminded"
    ESCALATED = "escalated"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    GRANTED = "granted"
    REVOKED = "revoked"
    LINK_USED = "link_used"
    STATE_WRITTEN = "state_written"
    ERASED = "erased"
    AUTH_FAILED = "auth_failed"
    REFUSED = "refused"
    KEY_MADE = "key_made"
    KEY_REVOKED = "key_revoked"
    SIGNED_IN = "signed_in"
    SIGNED_OUT = "signed_out"
    MOVED = "moved"


class Authentication(StrEnum):
    """The way in which it was known who somebody is.

    `local` is anybody who reaches a server that has no keys; `session` a browser in which somebody
    has signed in; `token` one of an identity provider; `project` the project's own `Auth`; `slack`
    a user of the Slack workspace, whose person the operator has named; `host` an app that Assent is
    a part of, and that knew them; `grant` a standing grant that acted for its giver. With `time`
    and `assent` it was nobody: a deadline, or the program by itself.
    """

    API_KEY = "api_key"
    SESSION = "session"
    TOKEN = "token"
    PROJECT = "project"
    SIGNED_LINK = "signed_link"
    SLACK = "slack"
    LOCAL = "local"
    HOST = "host"
    GRANT = "grant"
    TIME = "time"
    ASSENT = "assent"


LOCAL = "local"
"""The name of everybody on a server without keys, which is bound to loopback."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever makes a request, in their tenant, and how it is known that it is they. `known` is
    what the app around the server says of them besides, for their agents to see.

    `roles` are those that policies may ask, and `approves` says on which approvals their word
    counts. `known_to` are the others who know the secret by which they are known, and who may
    have acted in their name.
    """

    name: str
    authentication: Authentication = Authentication.LOCAL
    known: Mapping[str, Json] = field(default_factory=dict, compare=False)
    tenant: str | None = None
    roles: tuple[str, ...] = ()
    approves: Approves = APPROVES_NOTHING
    known_to: tuple[str, ...] = ()

    @property
    def owner(self) -> Owner:
        """The owner of whatever they make."""
        return Owner(self.name, self.tenant)

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody whose word this may be: with four eyes each of them counts."""
        return (self.name, *self.known_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A lasting record of who (`actor`, "" for nobody) did what and when, and how it was known that
    it was they.

    `digest` is of what they were shown, and `policy` of the policy that applied ("" if there is
    none). `detail` has what else belongs to the action, by name. An entry outlives its thread, so
    it holds digests of what people and models wrote, and not the words. `tenant` is that of the
    thread or the person.
    """

    at: datetime
    action: AuditAction
    authentication: Authentication
    actor: str = ""
    thread_id: str = ""
    approval_id: str = ""
    run_id: str = ""
    digest: str = ""
    policy: str = ""
    detail: Mapping[str, Json] = field(default_factory=dict)
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """The `number`th entry of the chain. `mac` (hex) binds it to all before it, with the secret of
    the key `key`."""

    number: int
    entry: AuditEntry
    key: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """The end of the chain: its last record's number, mac and time. Kept elsewhere, it proves later
    that nothing up to there was cut off."""

    number: int
    mac: str
    key: str
    at: datetime
