"""Entries of the audit chain: who did what, when, and how it was known who they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from assent.core.json import Json


class AuditAction(StrEnum):
    """The audited actions: everything that happens to approvals and standing grants, what is
    written to a thread's state from outside, and the erasure of a thread."""

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


class Authentication(StrEnum):
    """The way in which it was known who somebody is.

    `local` is anybody who reaches a server that has no keys; `host` is an app that Assent is a part
    of, and that knew them; `grant` is a standing grant that acted for its giver. With `time` and
    `assent` it was nobody: a deadline, or the program by itself.
    """

    API_KEY = "api_key"
    SIGNED_LINK = "signed_link"
    LOCAL = "local"
    HOST = "host"
    GRANT = "grant"
    TIME = "time"
    ASSENT = "assent"


LOCAL = "local"
"""The name of everybody on a server without keys, which is bound to loopback."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever makes a request, and how it is known that it is they. `known` is what the app around
    the server says of them besides, for their agents to see."""

    name: str
    authentication: Authentication = Authentication.LOCAL
    known: Mapping[str, Json] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """A lasting record of who (`actor`, "" for nobody) did what and when, and how it was known that
    it was they.

    `digest` is of what they were shown, and `policy` of the policy that applied ("" if there is
    none). `detail` has what else belongs to the action, by name. An entry outlives its thread, so
    it holds digests of what people and models wrote, and not the words.
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
