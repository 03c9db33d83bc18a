"""The texts of keys, and what is kept of them."""

from __future__ import annotations

import secrets
import string

from hypothesis import given
from hypothesis import strategies as st

from assent.core.keys import (
    KEY,
    SECRET_BYTES,
    SESSION,
    TICKET,
    Pepper,
    is_secret,
    key_id_in,
    new_key,
    new_secret,
    same,
)

PEPPER = Pepper(b"p" * 32)
LETTERS = string.ascii_letters + string.digits


def test_a_key_has_its_id_and_256_random_bits() -> None:
    asked: list[int] = []

    def random(count: int) -> bytes:
        asked.append(count)
        return secrets.token_bytes(count)

    made = new_key(random)

    assert made.text.startswith(f"{KEY}{made.key_id}_")
    assert len(made.text) == 64
    assert SECRET_BYTES * 8 == 256 and SECRET_BYTES in asked
    assert key_id_in(made.text) == made.key_id
    assert made.text not in repr(made)


def test_the_greatest_secret_keeps_all_its_bits() -> None:
    greatest, almost = b"\xff" * 32, b"\xff" * 31 + b"\xfe"

    texts = {new_secret(SESSION, lambda _, each=each: each) for each in (greatest, almost)}  # type: ignore[misc]

    assert len(texts) == 2
    assert all(is_secret(text, SESSION) for text in texts)


@given(st.integers(0, 63), st.sampled_from(LETTERS + "_- é"))
def test_one_letter_mistyped_is_found_without_a_database(at: int, letter: str) -> None:
    text = new_key(lambda count: b"\x5a" * count).text
    wrong = text[:at] + letter + text[at + 1 :]

    assert (key_id_in(wrong) is None) == (wrong != text)


@given(st.text(max_size=80))
def test_no_text_of_others_is_a_key(text: str) -> None:
    assert key_id_in(text) is None
    assert key_id_in(KEY + text) is None
    assert not is_secret(SESSION + text, SESSION) or len(text) == 43


def test_a_secret_of_another_use_is_none() -> None:
    session = new_secret(SESSION, secrets.token_bytes)

    assert is_secret(session, SESSION)
    assert not is_secret(session, TICKET)
    assert not is_secret(session + "\n", SESSION)
    assert PEPPER.mac("session", session) != PEPPER.mac("ticket", session)


def test_a_mac_is_of_one_pepper_and_a_proof_of_one_row() -> None:
    row = {"person": "ann", "tenant": None, "roles": ["viewer"]}

    proof = PEPPER.proof("key", row)

    assert same(proof, PEPPER.proof("key", dict(reversed(row.items()))))
    assert not same(proof, PEPPER.proof("key", {**row, "roles": ["viewer", "admin"]}))
    assert not same(proof, PEPPER.proof("session", row))
    assert not same(proof, Pepper(b"q" * 32).proof("key", row))
    assert "ppp" not in repr(PEPPER)


def test_keys_are_all_different() -> None:
    made = [new_key(secrets.token_bytes) for _ in range(1_000)]

    assert len({each.key_id for each in made}) == len({each.text for each in made}) == 1_000
