"""Values in a few words: arguments, results, durations, amounts. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from assent.core.clock import Clock
from assent.core.json import Json
from assent.core.text import clipped

ARGUMENTS_WIDTH = 60
"""Characters of a tool's arguments on its line."""


def arguments(value: Json, width: int = ARGUMENTS_WIDTH) -> str:
    """A tool's arguments on one line: `ids=[1, 2], why="old"`."""
    if value is None:
        return ""
    if not isinstance(value, Mapping):
        return cut(_compact(value), width)
    return cut(", ".join(f"{name}={_compact(item)}" for name, item in value.items()), width)


def summary(output: Json, width: int = ARGUMENTS_WIDTH) -> str:
    """A tool's result on one line: the top of JSON, the first line of text."""
    text = text_of(output)
    if text is not None:
        return cut(text.strip().partition("\n")[0], width)
    output = _result(output)
    if output is None:
        return "done"
    if not isinstance(output, Mapping):
        return cut(_top(output), width)
    return cut(", ".join(f"{name}: {_top(item)}" for name, item in output.items()), width)


def text_of(output: Json) -> str | None:
    """A tool's result if it is text; None if it is JSON."""
    result = _result(output)
    return result if isinstance(result, str) else None


def _result(output: Json) -> Json:
    if isinstance(output, Mapping) and isinstance(output.get("content"), str):
        output = output["content"]
    if isinstance(output, str):
        try:
            return json.loads(output)
        except ValueError:
            return output
    return output


def _top(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "1 item" if len(value) == 1 else f"{len(value)} items"
    return "{…}" if isinstance(value, Mapping) else _compact(value)


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def cut(text: str, width: int = ARGUMENTS_WIDTH) -> str:
    """The text on one line, without what is longer than that."""
    return clipped(" ".join(text.split()), width)


def first_lines(text: str, most: int) -> str:
    """So many lines of the text, and how many more there are."""
    lines = text.split("\n")
    rest = len(lines) - most
    if rest <= 0:
        return text
    more = "1 more line" if rest == 1 else f"{rest} more lines"
    return "\n".join([*lines[:most], f"… {more}"])


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────


def number(value: float) -> str:
    """A number without zeros at its end."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def seconds(value: float) -> str:
    """A duration: `0.4 s`, `2 min 5 s`."""
    if value < 60:
        return f"{max(0.0, value):.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def tokens(count: float) -> str:
    """A number of tokens."""
    return "1 token" if count == 1 else f"{count:,.0f} tokens"


def age(moment: str) -> str:
    """The time that has passed since then, in one unit: `3h`."""
    passed = Clock().now() - datetime.fromisoformat(moment)
    whole = max(0, int(passed.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
