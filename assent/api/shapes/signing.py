"""People as they see themselves, their keys, and their tickets."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from assent.api.shapes.common import Time
from assent.core.access import Right
from assent.core.audit import Authentication


class KeyView(TypedDict):
    """An API key, without its text. `made_by` is empty if it was made on the server's machine."""

    key_id: str
    person: str
    tenant: str | None
    roles: list[str]
    made_by: str
    note: str
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    revoked_at: Time | None


class MadeKeyView(KeyView):
    """An API key that was just made. `key` is its text, which is shown this once."""

    key: str


class KeysPage(TypedDict):
    """Some keys, and the cursor of the next page."""

    keys: list[KeyView]
    next: str | None


class TicketView(TypedDict):
    """A ticket for one stream. `ticket` is its text, which is shown this once."""

    ticket: str
    expires_at: Time


class RevokedKeysView(TypedDict):
    """Everything that was revoked of one person: their keys, and the number of their sessions."""

    keys: list[KeyView]
    sessions: int


class ApprovesView(TypedDict):
    """The approvals on which somebody's word counts: all, those of tools, and those that ask roles
    of policies."""

    everything: bool
    tools: list[str]
    roles: list[str]


class MeView(TypedDict):
    """Whoever asks, and what they may do."""

    name: str
    tenant: str | None
    roles: list[str]
    rights: list[Right]
    approves: ApprovesView
    authentication: Authentication
    expires_at: Time | None


class IssuersView(TypedDict):
    """The identity providers at which people sign in."""

    issuers: list[str]


class SignedInView(MeView):
    """Whoever has signed in. `next` is the page to go on to, for who came from an identity
    provider."""

    next: NotRequired[str]


class SignedOutView(TypedDict):
    """The page of the identity provider that ends its own session too."""

    end_session: str
