"""Sealing, as functions of values: what was sealed opens in its place, and nothing opens in any
other."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assent.core.errors import ConfigurationError, Tampered
from assent.core.sealing import Key, KeySeal, NoSeal, file_key, parse_keys
from tests.support.keys import key

OLD, NEW = Key("2025", b"o" * 32), Key("2026", b"n" * 32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PART = st.one_of(TEXT, st.integers(-(1 << 63), (1 << 63) - 1), st.none())
CONTEXT = st.builds(
    lambda thread, kind, parts: (thread, kind, *parts),
    TEXT,
    TEXT,
    st.lists(PART, min_size=1, max_size=4),
)


def nonces() -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield number.to_bytes(12, "big")


def seal_with(*keys: Key) -> KeySeal:
    return KeySeal(keys, nonce=nonces().__next__)


@given(st.binary(max_size=200), CONTEXT)
def test_what_was_sealed_opens_in_its_place(data: bytes, context: tuple[str, str, str]) -> None:
    seal = seal_with(NEW)
    sealed = seal.seal(data, *context)
    assert seal.open(sealed, *context) == data
    assert data not in sealed or len(data) < 8


@given(CONTEXT, CONTEXT)
def test_in_another_place_it_does_not(
    context: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assume([repr(part) for part in context] != [repr(part) for part in other])
    seal = seal_with(NEW)
    with pytest.raises(Tampered):
        seal.open(seal.seal(b"x", *context), *other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("t", "a", "bc"), ("t", "ab", "c")),
        (("t", "a", "b", "c"), ("t", "a", "bc")),
        (("t", "a", '","'), ("t", "a", "", "")),
        (("t", "a", 1), ("t", "a", "1")),
        (("t", "a", None), ("t", "a", "")),
        (("t", "a", None), ("t", "a", "null")),
        (("t1", "event", 1), ("t", "1event", 1)),
    ],
)
def test_contexts_that_look_alike_differ(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    seal = seal_with(NEW)
    with pytest.raises(Tampered):
        seal.open(seal.seal(b"x", *one), *other)


@given(st.data())
def test_no_bit_can_be_changed_and_no_byte_be_lacking(data: st.DataObject) -> None:
    seal = seal_with(NEW, OLD)
    sealed = seal.seal(b"pay 5", "t", "approval", "a")
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    flipped = bytearray(sealed)
    flipped[at // 8] ^= 1 << at % 8
    for changed in (bytes(flipped), sealed[: at // 8], sealed + b"\0"):
        with pytest.raises(Tampered):
            seal.open(changed, "t", "approval", "a")


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"{}",
        b'{"amount": 5}',
        "text",
        None,
        7,
        1.5,
        b"\xa5",
        b"\xa5\x01",
        b"\xa5\x01\xff",
        b"\xa5\x01\x00" + b"0" * 40,
    ],
)
def test_what_is_not_sealed_does_not_open(plain: object) -> None:
    with pytest.raises(Tampered):
        seal_with(NEW).open(plain, "t", "event", 1)


def test_the_error_says_which_and_nothing_of_what() -> None:
    seal = seal_with(NEW)
    with pytest.raises(
        Tampered, match="the approval 'a-1' of the thread 't-1' is not what Assent stored there"
    ) as raised:
        seal.open(b"swordfish", "t-1", "approval", "a-1", "args", "more of the row")
    assert raised.value.details == {"thread_id": "t-1", "kind": "approval", "name": "a-1"}
    assert "swordfish" not in str(raised.value)
    assert "more of the row" not in str(raised.value)


def test_the_first_key_seals_and_all_open() -> None:
    old, both, new = seal_with(OLD), seal_with(NEW, OLD), seal_with(NEW)
    before, now = old.seal(b"before", "t", "k", 1), both.seal(b"now", "t", "k", 1)
    assert (both.open(before, "t", "k", 1), both.open(now, "t", "k", 1)) == (b"before", b"now")
    assert new.open(now, "t", "k", 1) == b"now"
    with pytest.raises(Tampered):
        new.open(before, "t", "k", 1)
    # A key's id cannot be exchanged for another's either.
    with pytest.raises(Tampered):
        both.open(before.replace(b"2025", b"2026"), "t", "k", 1)


def test_the_same_twice_is_sealed_differently_and_for_another_file_with_another_key() -> None:
    seal = KeySeal([NEW])
    assert seal.seal(b"x", "t", "k", 1) != seal.seal(b"x", "t", "k", 1)
    made = Key("2026", b"n" * 32)
    assert file_key(made, b"a" * 16) == file_key(made, b"a" * 16) != file_key(made, b"b" * 16)


def test_many_threads_cost_no_more_memory_than_some() -> None:
    seal = KeySeal([NEW], remembered=3)
    sealed = [seal.seal(b"x", f"t{number}", "k", 1) for number in range(10)]
    assert [seal.open(each, f"t{number}", "k", 1) for number, each in enumerate(sealed)] == [
        b"x"
    ] * 10
    assert len(seal._ciphers) <= 3


def test_without_a_key_everything_stays_as_it_is() -> None:
    assert NoSeal().seal(b"x", "t", "k", 1) == NoSeal().open(b"x", "t", "other", 2) == b"x"


# ── keys ──


def test_keys_are_read_in_order() -> None:
    urlsafe = "u:" + base64.urlsafe_b64encode(b"\xfb\xff" * 16).decode()
    keys = parse_keys(f"{key('2026', 'n')}, {key('old_Key-1', 'o')},{urlsafe}")
    assert [(each.id, each.secret) for each in keys] == [
        ("2026", b"n" * 32),
        ("old_Key-1", b"o" * 32),
        ("u", b"\xfb\xff" * 16),
    ]
    assert "nnnn" not in repr(keys)


SHORT = base64.b64encode(b"swordfish").decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "key number 1 does not begin with an id"),
        (SHORT, "key number 1 does not begin with an id"),
        (f":{SHORT}", "key number 1 does not begin with an id"),
        (f"{'x' * 33}:{SHORT}", "key number 1 does not begin with an id"),
        (f"2026 b:{SHORT}", "key number 1 does not begin with an id"),
        (f"{key('a', 'a')},", "key number 2 does not begin with an id"),
        ("2026:!swordfish", "'2026' is not base64"),
        ("2026:c3dvcmR-aXN", "'2026' is not base64"),
        (f"2026:{SHORT}", "'2026' has 9 bytes, and not 32"),
        ("2026:", "'2026' has 0 bytes, and not 32"),
        (f"{key('2026', 'a')},{key('2026', 'b')}", "Two encryption keys have the id '2026'"),
    ],
)
def test_a_bad_key_is_refused_without_being_repeated(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        parse_keys(text)
    assert SHORT not in str(raised.value)
    assert "swordfish" not in str(raised.value)
