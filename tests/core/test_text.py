"""What is shown has nothing in it that is not seen."""

from __future__ import annotations

import json

import pytest

from assent.core.text import is_unseen, look_alikes, pretty, unseen, visible, warnings

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
    "\u180b",
    "\U000e0041",
    "\U000e01f0",
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


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        # One Cyrillic letter in a Latin word, and words of nothing but such letters.
        ("p\u0430ypal", {"\u0430": "a"}),
        ("send it to \u0430\u0440\u0440\u04cf\u0435", dict(zip("аерӏ", "aepl", strict=True))),
        ("\u0430\u0440\u0440\u04cf\u0435", dict(zip("аерӏ", "aepl", strict=True))),
        ("tier-\u0410", {"\u0410": "A"}),
        ("\u039fmega", {"\u039f": "O"}),
        ("ban\u057d", {"\u057d": "u"}),
        ("g\u0251te", {"\u0251": "a"}),
        # Other forms of the same letters.
        ("\uff50ay", {"\uff50": "p"}),
        ("\U0001d429ay \U0001d7cf00", {"\U0001d429": "p", "\U0001d7cf": "1"}),
    ],
    ids=ascii,
)
def test_letters_that_look_like_others_are_found(text: str, seen: dict[str, str]) -> None:
    assert look_alikes(text) == seen
    (sentence,) = warnings({"to": [text]}, "args")
    assert sentence.startswith("args.to[0] has letters that are not what they look like: U+")
    (about_name,) = warnings({text: 1}, "args")
    assert about_name.startswith("the name of args.")


@pytest.mark.parametrize(
    "text",
    [
        "pay Bob 5 €",
        "Größe, Ångström, naïve, İstanbul, ışık, œuvre, łódź",
        "Оплатить счёт за Python и HTML",
        "Πληρωμή του λογαριασμού IBAN",
        "10 μm, Δt, Ωm, 3π, m², H₂O, 1º",
        "漢字 и कुछ",
    ],
)
def test_what_is_what_it_looks_like_is_not_suspicious(text: str) -> None:
    assert look_alikes(text) == {}
    assert warnings([text], "args") == []


def test_numbers_that_browsers_round_are_told_exactly() -> None:
    value = {"id": 12345678901234567890, "few": [2**53 - 1, -(2**53), 1.5e300, True]}
    told = " is rounded by browsers and many other programs: it is "
    assert warnings(value, "args") == [
        f"args.id{told}12345678901234567890.",
        f"args.few[1]{told}{-(2**53)}.",
    ]
