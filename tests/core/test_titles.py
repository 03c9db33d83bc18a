"""Titles of threads, from words and as they are given."""

from __future__ import annotations

import pytest

from assent.core.run_input import RunInput
from assent.core.text import is_unseen
from assent.core.titles import FROM_WORDS, one_line, title_from

BLOCKS = [
    {"type": "image", "url": "https://a.example/b.png"},
    {"type": "text", "text": "What is\n\tthis?"},
]


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("", ""),
        ("Delete the old records.", "Delete the old records."),
        ("  one\r\n\ttwo\u2028three\xa0four ", "one two three four"),
        ("\u202eevil\u202c \u2066text\u2069\u200f\x00\x1b[31m", "evil text[31m"),
        ("\u200b\u2060\ufeff\u3164\U000e0041", ""),
        ("\u200d\ufe0f", ""),
        ("a\u200d", "a"),
        # An emoji of several, and a Persian word, keep what joins them.
        ("❤️\u200d🔥 می\u200cخواهم", "❤️\u200d🔥 می\u200cخواهم"),
        ("x" * FROM_WORDS, "x" * FROM_WORDS),
        ("x" * 81, "x" * 79 + "…"),
        ("word " * 30, "word " * 15 + "word…"),
        (f"short {'x' * 100}", f"short {'x' * 73}…"),
        ("字" * 100, "字" * 79 + "…"),
        ("\n" * 1000 + "below", "below"),
    ],
)
def test_a_title_is_the_beginning_of_the_words_on_one_line(words: str, title: str) -> None:
    assert title_from(words) == title
    assert len(title_from(words)) <= FROM_WORDS
    assert not any(is_unseen(char) and char not in "\u200c\u200d\ufe0f" for char in title)


def test_a_title_that_is_given_is_not_cut() -> None:
    assert one_line("long " * 40) == ("long " * 40).strip()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (RunInput(message="Hi"), "Hi"),
        (RunInput(message=BLOCKS), "What is\n\tthis?"),
        (RunInput(input={"messages": "Hi"}), "Hi"),
        (RunInput(input={"messages": ["Hi", "there"]}), "Hi"),
        (RunInput(input={"messages": [["user", "Hi"]]}), "Hi"),
        (RunInput(input={"messages": {"role": "user", "content": "Hi"}}), "Hi"),
        (
            RunInput(
                input={
                    "messages": [
                        {"role": "system", "content": "Be kind."},
                        {"type": "ai", "content": "Hello."},
                        {"type": "human", "content": BLOCKS},
                    ]
                }
            ),
            "What is\n\tthis?",
        ),
        (RunInput(input={"messages": [{"role": "user", "content": ""}, ["human", "Hi"]]}), "Hi"),
        (RunInput(input={"messages": [{"role": "user", "content": ["Hi", {"type": 1}]}]}), ""),
        (RunInput(input={"messages": [{"role": ["user"], "content": "Hi"}, None, 3]}), ""),
        (RunInput(input={"question": "Hi"}), ""),
        (RunInput(input=["Hi"]), ""),
        (RunInput(input=None), ""),
        (RunInput(), ""),
    ],
)
def test_the_words_are_those_of_a_persons_first_message(given: RunInput, words: str) -> None:
    assert given.words == words
