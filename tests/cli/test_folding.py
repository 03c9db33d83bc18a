"""Text that comes in pieces is broken between words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from assent.cli.folding import Folding


def folded(pieces: list[str], width: int) -> str:
    folding = Folding()
    return "".join(folding.add(piece, width) for piece in pieces) + folding.end(width)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("The quick brown fox jumps.", ["The quick", "brown fox", "jumps."]),
        ("ab " + "x" * 25 + " c", ["ab", "x" * 10, "x" * 10, "xxxxx c"]),
        ("one\n\n  two three four", ["one", "", "  two", "three four"]),
        ("私は日本語を書きます", ["私は日本語", "を書きます"]),
        ("exactly te", ["exactly te"]),
    ],
)
def test_lines_are_broken_between_words(text: str, lines: list[str]) -> None:
    assert folded([text], 10).split("\n") == lines
    assert folded([*text], 10).split("\n") == lines


WORDS = st.text("ab \n漢😀", max_size=80)


@given(st.lists(WORDS, max_size=6), st.integers(2, 30))
def test_no_line_is_too_long_and_nothing_but_spaces_is_lost(pieces: list[str], width: int) -> None:
    text = "".join(pieces)
    shown = folded(pieces, width)
    assert all(cell_len(line) <= width for line in shown.split("\n"))
    assert "".join(shown.split()) == "".join(text.split())
    assert shown == folded([text], width)
