"""Names of people, as identity providers, apps and operators give them."""

from __future__ import annotations

import re
import unicodedata

from assent.core.audit import LOCAL
from assent.core.text import is_unseen

MAX_NAME = 200

_TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")

FEED = "~"
"""The beginning of the names of feeds, so of no person's."""


def why_no_name(name: str) -> str | None:
    """Why nobody may have this name, as the end of a sentence; None if somebody may."""
    if not name.strip() or name != name.strip():
        return "is empty, or has spaces around it"
    if len(name) > MAX_NAME:
        return f"has more than {MAX_NAME} characters"
    if any(is_unseen(char) for char in name):
        return "has characters that nobody sees"
    if folded(name) == LOCAL:
        return "is that of everybody on a server without keys"
    if name.startswith(FEED):
        return f"begins with '{FEED}'"
    return None


def reads_as_one(name: str, other: str) -> bool:
    """True if they may be names of one person."""
    return name == other or folded(name) == folded(other)


def is_tenant(name: str) -> bool:
    """True if a tenant may have this name."""
    return _TENANT.fullmatch(name) is not None


def folded(name: str) -> str:
    """The name as somebody reads it who does not look twice: without case, and in one form of its
    letters. Two names that are folded to one are refused where names are given. Where they come
    from elsewhere, as in tokens, each has its own things, and four eyes counts them as one
    person."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
