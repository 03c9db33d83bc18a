"""Encryption keys for tests."""

from __future__ import annotations

import base64


def key(id: str, letter: str) -> str:
    """A key as the setting has it; another letter makes another."""
    return f"{id}:{base64.b64encode(letter.encode() * 32).decode()}"


KEY = key("2026", "k")
