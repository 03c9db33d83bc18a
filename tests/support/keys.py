"""Encryption keys, and the secrets of webhooks."""

from __future__ import annotations

import base64


def key(id: str, letter: str) -> str:
    """A key as the setting has it; another letter makes another."""
    return f"{id}:{base64.b64encode(letter.encode() * 32).decode()}"


KEY = key("2026", "k")

OLD_SECRET, NEW_SECRET, OTHER_SECRET = (
    f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2, 3)
)
