"""What is shown has nothing in it that is not seen."""

from __future__ import annotations

import json

import pytest

from assent.core.text import is_unseen, pretty, unseen, visible

HIDDEN = [
    "\x00",
    "\x1b",
    "\x7f",
    "\x9b",
    "\u200b",
    "\u200d",
    "\u202e",
    "\u2066",
    "\u2028",
    "\ufeff",
    "\u00ad",
    "\u3164",
    "\u034f",
    "\ufe0f",
    "\U000e0041",
]


@pytest.mark.parametrize("char", HIDDEN, ids=ascii)
def test_what_is_not_seen_is_escaped_and_counted(char: str) -> None:
    value = {f"a{char}": [f"{char}b", {"c": char}]}
    assert unseen(value) == 3
    assert not any(is_unseen(each) for each in pretty(value).replace("\n", ""))
    assert json.loads(pretty(value)) == value
    assert visible(f"x{char}y").startswith("x\\u")


def test_what_is_seen_stays_as_it_is() -> None:
    text = "Größe ☃ 漢字 🚀 é\n\tfin"
    assert visible(text) == text
    assert unseen([text, 1, None, True]) == 0
