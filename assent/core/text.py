"""Text and JSON that are safe to show: nothing is invisible, or changes how the rest looks."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping

from assent.core.json import Json

UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode's categories of characters that are invisible or change how the rest looks: control,
format (such as right-to-left overrides), …"""

BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2065\u2800\u3164\uffa0")
"""Letters and marks that look like nothing, though Unicode counts them among the visible ones."""

LOOK_ALIKES = {
    # Cyrillic
    **dict(zip("асеорхуіјѕһԁԛԝӏѵ", "aceopxyijshdqwlv", strict=True)),
    **dict(zip("АВСЕНІЈКМОРЅТХУԚԜѴӀ", "ABCEHIJKMOPSTXYQWVI", strict=True)),
    # Greek
    **dict(zip("αικνορυχ", "aikvopux", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),
    # Armenian
    **dict(zip("հոսցօՏՍՕ", "hnugoSUO", strict=True)),
    # Phonetic: Latin letters that no language writes with
    **dict(zip("ɑɡ", "ag", strict=True)),
}
"""Letters that look like common Latin ones, and which."""

JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""Invisible characters that some scripts and emoji need."""

LINE_BREAKS = "\n\t\r"
"""Control characters that are expected in texts."""

JSON_WIDTH = 74
"""The longest line of JSON that is not broken up: it fits into a frame on 80 columns."""

MOST_IN_A_ROW = 12
"""The most fields of an object that is shown on one line in a list, like a row of a table."""

MAX_WARNINGS = 50

MOST_EXACT = 2**53 - 1
"""The largest whole number that those read exactly who have only floating-point numbers."""


def is_unseen(char: str) -> bool:
    """True if the character could fool a reader, or command a terminal."""
    return (
        unicodedata.category(char) in UNSAFE
        or char in BLANK
        or "\ufe00" <= char <= "\ufe0f"
        or "\ufff0" <= char <= "\ufff8"
        # Variation selectors and tags, and what Unicode keeps for more of them.
        or "\U000e0000" <= char <= "\U000e0fff"
    )


def visible(text: str, *, keep: str = "\n\t") -> str:
    """The text with each unseen character escaped as in JSON, except for those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(char) if char not in keep and is_unseen(char) else char for char in text
    )


def unseen(value: Json) -> int:
    """The number of unseen characters in the value's texts, except for line ends and tabs."""
    if isinstance(value, str):
        return sum(map(_is_unexpected, value))
    if isinstance(value, dict):
        return sum(unseen(name) + unseen(item) for name, item in value.items())
    return sum(map(unseen, value)) if isinstance(value, list | tuple) else 0


def warnings(value: Json, name: str) -> list[str]:
    """A sentence for each text or field name with unseen characters, for each number that browsers
    round, and for each text with letters that look like others; at most `MAX_WARNINGS`.

    `name` is the value's name in these sentences.
    """
    found: list[str] = []
    for path, text in _texts(value, name):
        hidden = sorted(set(filter(_is_unexpected, text)))
        if hidden:
            names = ", ".join(map(_named, hidden))
            found.append(f"{visible(path, keep='')} has invisible characters: {names}.")
    found += [
        f"{visible(path, keep='')} is rounded by browsers and many other programs: it is {number}."
        for path, number in _large_numbers(value, name)
    ]
    return [*found, *look_alike_warnings(value, name)][:MAX_WARNINGS]


def look_alike_warnings(value: Json, name: str) -> list[str]:
    """A sentence for each text or field name with letters that look like Latin ones and are others,
    at most `MAX_WARNINGS`."""
    found: list[str] = []
    for path, text in _texts(value, name):
        if letters := look_alikes(text):
            named = ", ".join(f"{_named(each)} like '{seen}'" for each, seen in letters.items())
            where = visible(path, keep="")
            found.append(f"{where} has letters that are not what they look like: {named}.")
    return found[:MAX_WARNINGS]


def look_alikes(text: str) -> dict[str, str]:
    """The letters of the text that could be taken for Latin ones, each with the one that it looks
    like.

    A letter of another script counts in a word that has Latin letters too; or if all that the text
    has of that script looks Latin, so that nothing tells a reader which script it is. So a text in
    Russian or Greek is not suspicious.
    """
    if text.isascii():
        return {}
    found: dict[str, str] = {}
    for word in _WORD.findall(text):
        is_latin = any(_script(char) == "LATIN" for char in word)
        for char in word:
            if is_latin and char in LOOK_ALIKES:
                found[char] = LOOK_ALIKES[char]
            elif plain := _plain_form(char):
                found[char] = plain
    by_script: dict[str, set[str]] = {}
    for char in set(text):
        if char.isalpha() and not char.isascii():
            by_script.setdefault(_script(char), set()).add(char)
    for letters in by_script.values():
        if letters <= LOOK_ALIKES.keys():
            found |= {char: LOOK_ALIKES[char] for char in letters}
    return dict(sorted(found.items()))


def pretty(value: Json) -> str:
    """The value as JSON with nothing unseen in it, over several lines where one would be long.

    Reading it gives the same value.
    """
    return "\n".join(_json_lines(value, ""))


def clipped(text: str, most: int) -> str:
    """The text, or its beginning with an ellipsis, of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shortened(text: str, most: int) -> str:
    """The beginning of the text, marked as cut."""
    return f"{text[:most]}… (cut: {len(text)} characters in all)"


def because(reason: str | None) -> str:
    """The reason behind a sentence without its full stop; empty if there is none."""
    return f": {reason.rstrip('.')}" if reason else ""


def is_shortened(value: Json) -> bool:
    """True for a text that `shortened` returned."""
    return isinstance(value, str) and value.endswith("characters in all)")


def _is_unexpected(char: str) -> bool:
    return char not in LINE_BREAKS and is_unseen(char)


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


def _large_numbers(value: Json, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(value, int):
        if abs(value) > MOST_EXACT:
            yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _large_numbers(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _large_numbers(item, f"{path}[{place}]")


_WORD = re.compile(r"\w+")


def _script(letter: str) -> str:
    """The script of a letter, such as LATIN."""
    return unicodedata.name(letter, "").partition(" ")[0]


def _plain_form(char: str) -> str:
    """The ASCII letter or digit that this is another form of, such as a bold one; "" if it is
    none. Raised ones, as in m², are seen as what they are."""
    if char.isascii() or unicodedata.category(char) not in ("Lu", "Ll", "Nd", "Nl"):
        return ""
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 and plain.isascii() else ""


def _named(char: str) -> str:
    return f"U+{ord(char):04X} {unicodedata.name(char, '')}".rstrip()


def _escaped(char: str) -> str:
    data = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[i : i + 2].hex()}" for i in range(0, len(data), 2))


def _one_line(value: Json) -> str:
    return visible(json.dumps(value, ensure_ascii=False), keep="")


def _json_lines(value: Json, indent: str, *, in_list: bool = False) -> list[str]:
    line = _one_line(value)
    fits = len(indent) + len(line) <= JSON_WIDTH
    if not isinstance(value, dict | list) or not value or fits or (in_list and _is_row(value)):
        return [line]

    deeper = f"{indent}  "
    blocks: list[list[str]] = []
    if isinstance(value, dict):
        for name, item in value.items():
            first, *rest = _json_lines(item, deeper)
            blocks.append([f"{deeper}{_one_line(name)}: {first}", *rest])
    else:
        for item in value:
            first, *rest = _json_lines(item, deeper, in_list=True)
            blocks.append([f"{deeper}{first}", *rest])

    opening, closing = "{}" if isinstance(value, dict) else "[]"
    lines = [opening]
    for block in blocks:
        lines += block
        lines[-1] += ","
    lines[-1] = lines[-1].removesuffix(",")
    return [*lines, f"{indent}{closing}"]


def _is_row(value: Json) -> bool:
    """True for a small flat object, such as a record."""
    return (
        isinstance(value, dict)
        and len(value) <= MOST_IN_A_ROW
        and not any(isinstance(item, dict | list) for item in value.values())
    )
