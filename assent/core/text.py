"""Text and values as they are safe to show: nothing in them that is not seen, or that changes how
the rest is seen."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

Json = Any
"""Any JSON value."""

UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode's categories of what is not seen, or changes how the rest is seen: control, format (such
as right-to-left overrides), …"""

BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that look like nothing, though Unicode counts them with those that look like
something."""

JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""What some scripts and emoji cannot do without."""

JSON_WIDTH = 74
"""How long a line of JSON may be before its parts stand on lines of their own: what fits into a
frame on 80 columns."""

MAX_WARNINGS = 50


def is_unseen(char: str) -> bool:
    """Whether the character could fool a reader, or command a terminal."""
    return (
        unicodedata.category(char) in UNSAFE
        or char in BLANK
        or "\ufe00" <= char <= "\ufe0f"
        or "\U000e0100" <= char <= "\U000e01ef"
    )


def visible(text: str, *, keep: str = "\n\t") -> str:
    """The text with every character that could fool a reader or command a terminal as JSON would
    escape it, but for those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(char) if char not in keep and is_unseen(char) else char for char in text
    )


def unseen(value: Json) -> int:
    """How many characters of the value's texts are only seen because they are escaped; line ends
    and tabs, which are expected, apart."""
    if isinstance(value, str):
        return sum(char not in "\n\t\r" and is_unseen(char) for char in value)
    if isinstance(value, dict):
        return sum(unseen(name) + unseen(item) for name, item in value.items())
    return sum(map(unseen, value)) if isinstance(value, list | tuple) else 0


def warnings(value: Json, name: str) -> list[str]:
    """A sentence for each text of the value, and each name of a field, with characters that are
    only seen because they are escaped; at most `MAX_WARNINGS`. `name` is what the value is
    called."""
    found = []
    for path, text in _texts(value, name):
        if hidden := sorted({char for char in text if char not in "\n\t\r" and is_unseen(char)}):
            found.append(
                f"{visible(path, keep='')} has what is not seen as it is: {', '.join(map(_named, hidden))}."
            )
    return found[:MAX_WARNINGS]


def pretty(value: Json) -> str:
    """The whole value as JSON, over several lines where one would be long: the same value, with
    nothing in it that is not seen."""
    return "\n".join(_json_lines(value, ""))


def _texts(value: Json, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"the name of {path}.{key}", str(key)
            yield from _texts(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _texts(item, f"{path}[{place}]")


def _named(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip()


def _escaped(char: str) -> str:
    data = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[i : i + 2].hex()}" for i in range(0, len(data), 2))


def _json_lines(value: Json, indent: str, *, in_list: bool = False) -> list[str]:
    line = visible(json.dumps(value, ensure_ascii=False), keep="")
    if (
        not isinstance(value, dict | list)
        or not value
        or len(indent) + len(line) <= JSON_WIDTH
        or (in_list and _is_row(value))
    ):
        return [line]
    deeper = f"{indent}  "
    if isinstance(value, dict):
        items = [
            (
                f"{visible(json.dumps(name, ensure_ascii=False), keep='')}: ",
                _json_lines(item, deeper),
            )
            for name, item in value.items()
        ]
    else:
        items = [("", _json_lines(item, deeper, in_list=True)) for item in value]
    lines = []
    for number, (name, (first, *rest)) in enumerate(items, 1):
        block = [f"{deeper}{name}{first}", *rest]
        block[-1] += "," if number < len(items) else ""
        lines += block
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return [opening, *lines, f"{indent}{closing}"]


def _is_row(value: Json) -> bool:
    """Whether this is one of a list's small flat objects, such as a record: each on a line of its
    own is how a person reads them."""
    return (
        isinstance(value, dict)
        and len(value) <= 12
        and not any(isinstance(item, dict | list) for item in value.values())
    )
