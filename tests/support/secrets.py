"""Secrets for tests, all with one mark, and a search for secrets where none belongs.

    serving(folder, target, ASSENT_API_KEYS=keys_of("ann", "bob"))
    asking(server, **bearer("ann"))
    assert leaks(server.output) == []

A secret that has another form is made with `secret_of` all the same, or is not searched for.
`tests/conftest.py` searches in what each server and each test has logged.
"""

from __future__ import annotations

import re

MARK = "secret-of-"

FORMS = re.compile(
    rf"""
      {MARK} [\w.-]+
    | \b ask_ [0-9A-Za-z]{{20,}}
    | \b (?: ses | tkt | lgn )_ [\w-]{{20,}}
    | \b eyJ [\w-]{{10,}}
    | (?i: \b bearer \s+ ) (?! <secret> | " | … | \\u2026 ) \S{{6,}}
    """,
    re.VERBOSE,
)
"""What our tests make, what the server gives out, and what a header has that says who asks."""


def secret_of(name: str) -> str:
    """The secret of a person, or of whatever else has one."""
    return f"{MARK}{name}"


def keys_of(*names: str) -> str:
    """The setting ASSENT_API_KEYS with a key for each of these people."""
    return ",".join(f"{name}:{secret_of(name)}" for name in names)


def bearer(name: str) -> dict[str, str]:
    """The header of a request that this person makes with their key."""
    return {"authorization": f"Bearer {secret_of(name)}"}


def leaks(text: str) -> list[str]:
    """The secrets in the text, each with a little of what is around it."""
    found = (match.span() for match in FORMS.finditer(text))
    return [text[max(0, start - 60) : end] for start, end in found]
