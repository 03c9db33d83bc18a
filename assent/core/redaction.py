"""Secrets in a text: an ellipsis stands in their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

HIDDEN = "…"

BY_FORM = r"""
      (?P<kept>
          (?i: \b bearer \s+ )
        | (?i: \b x-api-key ['"]? \s* [:=,] \s* (?: b?['"] )? )
        | \b (?: token | ticket ) =                     # in a URL, a form or a record
        | [?&] (?: code | state | key ) =
        | / links / [\w-]+ \.                           # the id of a link, and behind it its MAC
        | \b assent \. key \.                           # a WebSocket's subprotocol
      ) (?!<) [^\s&"',;]{6,}
    | \b ask_ [0-9A-Za-z]{20,}
    | \b (?: ses | tkt | lgn )_ [\w-]{20,}
    | \b whsec_ [0-9A-Za-z+/=_-]+
    | \b eyJ [\w-]{8,} (?: \. [\w-]* )*                 # a JSON Web Token
"""
"""Keys, sessions, tickets, logins and links of ours, secrets of webhooks, tokens of others."""


BARE = re.compile(r"[0-9a-z-]*|[0-9TZ:.+-]*")
"""Ids, times and single words, which no secret looks like by its form. Most of what is logged is
one, and to look for every form takes ten times as long."""


def redacting(known: Iterable[str] = ()) -> Callable[[str], str]:
    """A function that leaves the `known` secrets out of a text, and all that look like one."""
    # The longest first: one may be the beginning of another.
    words = sorted(filter(None, known), key=len, reverse=True)
    either = [*map(re.escape, words), BY_FORM]
    secret = re.compile("|".join(either), re.VERBOSE)
    bare = [word for word in words if BARE.fullmatch(word)]

    def redact(text: str) -> str:
        if BARE.fullmatch(text) and not any(word in text for word in bare):
            return text
        return secret.sub(_hidden, text)

    return redact


def _hidden(found: re.Match[str]) -> str:
    kept: str | None = found["kept"]
    return f"{kept or ''}{HIDDEN}"
