"""The texts of API keys and of other secrets: made, recognised, and known again by a MAC. No I/O.

    ask_8fKq2ZrT0b_…43 digits…5Xn0aQ      an API key: its id, 256 bits, and a checksum
    ses_…  lgn_…  tkt_…                   a session, a login under way, a ticket: 256 bits

Only MACs of them are stored, made with the server's pepper, which is not in the database: whoever
reads a copy of the file can use none of its keys. A row of such a secret also has a proof, a MAC
over what the row allows: whoever writes to the file can neither make a key nor add to its roles.
"""

from __future__ import annotations

import hmac
import re
import string
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import rfc8785

from assent.core.json import Json

KEY = "ask_"
SESSION = "ses_"
LOGIN = "lgn_"
TICKET = "tkt_"
"""The beginnings of our secrets, by which scanners of code and logs recognise them."""

SECRET_BYTES = 32
SECRET_DIGITS = 43
"""The digits of a number of 256 bits, to the base of 62."""

_ID_DIGITS = 10
_SUM_DIGITS = 6
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_BODY = re.compile(rf"([0-9A-Za-z]{{{_ID_DIGITS}}})_[0-9A-Za-z]{{{SECRET_DIGITS + _SUM_DIGITS}}}")
_SECRET = re.compile(rf"[0-9A-Za-z]{{{SECRET_DIGITS}}}")

Random = Callable[[int], bytes]
"""Gives so many random bytes: `secrets.token_bytes`."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: its `text` is shown once, and kept nowhere."""

    key_id: str
    text: str = field(repr=False)


def new_key(random: Random) -> NewKey:
    """Make a key."""
    key_id = _base62(int.from_bytes(random(8)) % len(_DIGITS) ** _ID_DIGITS, _ID_DIGITS)
    body = f"{key_id}_{_digits_of(random(SECRET_BYTES))}"
    return NewKey(key_id, f"{KEY}{body}{_checksum(body)}")


def key_id_in(text: str) -> str | None:
    """The id of the key with this text; None if it is no key of ours, such as one with a letter
    mistyped. That is known from its checksum, without a look at the database."""
    body = text.removeprefix(KEY)
    found = _BODY.fullmatch(body)
    if body == text or found is None:
        return None
    is_whole = _checksum(body[:-_SUM_DIGITS]) == body[-_SUM_DIGITS:]
    return found[1] if is_whole else None


def new_secret(prefix: str, random: Random) -> str:
    """Make the text of another secret, such as a session's."""
    return prefix + _digits_of(random(SECRET_BYTES))


def is_secret(text: str, prefix: str) -> bool:
    """True if the text has the form that `new_secret` gives."""
    return text.startswith(prefix) and bool(_SECRET.fullmatch(text[len(prefix) :]))


@dataclass(frozen=True, slots=True)
class Pepper:
    """The server's secret, by which it knows the secrets of others again."""

    secret: bytes = field(repr=False)

    def mac(self, use: str, text: str) -> str:
        """The MAC of a secret's text. `use` says what the secret is for, so that one of another use
        never counts."""
        return self._mac(use, text.encode())

    def proof(self, use: str, fields: Mapping[str, Json]) -> str:
        """The MAC over fields of a row, as canonical JSON (RFC 8785)."""
        return self._mac(f"{use} row", rfc8785.dumps(dict(fields)))

    def _mac(self, use: str, data: bytes) -> str:
        # No use has a line break, so no two uses and texts are the same bytes.
        return hmac.digest(self.secret, f"assent {use}\n".encode() + data, "sha256").hex()


def same(given: str, stored: str) -> bool:
    """True if both are the same, compared in a time that says nothing about where they differ."""
    # JSON may give half of a character, which is no UTF-8.
    texts = (text.encode("utf-8", "surrogatepass") for text in (given, stored))
    return hmac.compare_digest(*texts)


def _digits_of(secret: bytes) -> str:
    return _base62(int.from_bytes(secret), SECRET_DIGITS)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(f"{KEY}{body}".encode()), _SUM_DIGITS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
