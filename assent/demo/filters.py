"""A filter in words. Pure.

>>> describe({"text": "Miller", "category": "invoice", "status": "closed", "before_year": 2012})
'closed invoices with “Miller” from before 2012'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe(chosen: Mapping[str, Any]) -> str:
    """The records that a tool's arguments choose, without an article: "closed invoices"."""
    ids = chosen.get("ids") or ()
    words: list[str] = []
    if status := chosen.get("status"):
        words.append(status)

    noun = chosen.get("category") or "record"
    words.append(noun if len(ids) == 1 else f"{noun}s")

    if ids:
        words.append(", ".join(map(str, ids)))
    if text := chosen.get("text"):
        words.append(f"with “{text}”")
    if years := _years(chosen.get("from_year"), chosen.get("before_year")):
        words.append(years)
    return " ".join(words)


def describe_definitely(chosen: Mapping[str, Any]) -> str:
    """The same with its article: "the closed invoices", but "record 17"."""
    words = describe(chosen)
    return words if len(chosen.get("ids") or ()) == 1 else f"the {words}"


def _years(start: int | None, end: int | None) -> str:
    if start is None:
        return "" if end is None else f"from before {end}"
    if end is None:
        return f"from {start} on"
    return f"from {start}" if end == start + 1 else f"from {start} to {end - 1}"
