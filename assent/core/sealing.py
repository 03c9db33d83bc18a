"""Encryption at rest: every value is sealed for the one place that it belongs to, and opens nowhere
else.

    seal = KeySeal([Key("2026", secret)])
    sealed = seal.seal(b"...", "thread-1", "event", 7)
    seal.open(sealed, "thread-1", "event", 7)      the value
    seal.open(sealed, "thread-1", "event", 8)      Tampered

A place is the thread, the kind of thing, its name, and whatever else must not change unnoticed. It
is not stored with the value: the reader knows it from where the value was found, and AES-256-GCM
authenticates it as associated data. Each thread has a key of its own, derived from the file's key,
so that one key never seals near 2^32 values, from which on two random nonces may be the same. No
I/O.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from assent.core.errors import ConfigurationError, Tampered

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16

MAGIC = b"\xa5\x01"
"""The first bytes of a sealed value; neither JSON nor text in UTF-8 begins like this. The second
byte is the version of the format. Then come the length of the key's id, the id, the nonce, and the
output of AES-GCM."""

REMEMBERED = 10_000
"""The number of threads whose keys are kept in memory."""

Part = str | int | None
"""A part of a place."""


# ── keys ──


@dataclass(frozen=True, slots=True)
class Key:
    """A secret, and the id that sealed values name it by."""

    id: str
    secret: bytes = field(repr=False)


def parse_keys(text: str | None, use: str = "encryption") -> tuple[Key, ...]:
    """Parse `id:base64,id:base64`, the newest key first; None is no key. `use` says in errors what
    the keys are for.

    Raises `ConfigurationError`, which repeats no secret.
    """
    if text is None:
        return ()
    keys = tuple(_key(part.strip(), number, use) for number, part in enumerate(text.split(","), 1))
    ids: set[str] = set()
    for key in keys:
        if key.id in ids:
            raise ConfigurationError(
                f"Two {use} keys have the id '{key.id}'. Give each its own, such as the year that "
                "it was made in."
            )
        ids.add(key.id)
    return keys


def _key(part: str, number: int, use: str) -> Key:
    id, separator, encoded = part.partition(":")
    if not separator or not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", id):
        # The text is not repeated: without a separator it may well be the secret.
        raise ConfigurationError(
            f"The {use} key number {number} does not begin with an id of 1 to 32 letters, digits, "
            "'_' and '-' and a colon. Write id:base64, such as 2026:…, with commas between keys."
        )
    try:
        secret = base64.b64decode(encoded.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        problem = "is not base64"
    else:
        if len(secret) == KEY_BYTES:
            return Key(id, secret)
        problem = f"has {len(secret)} bytes, and not {KEY_BYTES}"
    raise ConfigurationError(
        f"The secret of the {use} key '{id}' {problem}. Make one with: openssl rand -base64 32"
    )


def file_key(key: Key, salt: bytes) -> Key:
    """Derive the key of the file that has this salt: a value that is sealed for one file opens in
    no other, even if both were given the same key."""
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=b"assent file")
    return Key(key.id, derivation.derive(key.secret))


# ── sealing ──


class Seal(ABC):
    """Seals and opens values. Safe to use on any thread."""

    is_on: bool
    """False if values are not sealed at all. Hot paths ask first, and need not make the place."""

    @abstractmethod
    def seal(self, data: bytes, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        """Seal the data for that place."""

    @abstractmethod
    def open(self, data: Any, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        """Return the data that was sealed for that place. `data` may be anything that SQLite
        returns. Raises `Tampered` if it was not sealed for that place."""


class NoSeal(Seal):
    """Without a key, every value stays as it is."""

    is_on = False

    def seal(self, data: bytes, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        return data

    def open(self, data: Any, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        plain: bytes = data
        return plain


class KeySeal(Seal):
    """Seals with the first key, and opens values that any of the keys has sealed."""

    is_on = True

    def __init__(
        self,
        keys: Sequence[Key],
        nonce: Callable[[], bytes] = lambda: os.urandom(NONCE_BYTES),
        *,
        remembered: int = REMEMBERED,
    ) -> None:
        self._first = keys[0].id.encode()
        self._secrets = {key.id.encode(): key.secret for key in keys}
        self._header = MAGIC + bytes([len(self._first)]) + self._first
        self._nonce = nonce
        self._remembered = remembered
        self._ciphers: dict[tuple[bytes, str], AESGCM] = {}

    def seal(self, data: bytes, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        nonce = self._nonce()
        bound = self._header + orjson.dumps((thread_id, kind, name, *more))
        cipher = self._cipher(self._first, thread_id)
        return self._header + nonce + cipher.encrypt(nonce, data, bound)

    def open(self, data: Any, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        if not isinstance(data, bytes) or not data.startswith(MAGIC) or len(data) < 3:
            raise tampered(thread_id, kind, name)
        nonce_at = 3 + data[2]
        body_at = nonce_at + NONCE_BYTES
        id = data[3:nonce_at]
        if len(data) < body_at + TAG_BYTES or id not in self._secrets:
            raise tampered(thread_id, kind, name)
        bound = data[:nonce_at] + orjson.dumps((thread_id, kind, name, *more))
        try:
            return self._cipher(id, thread_id).decrypt(
                data[nonce_at:body_at], data[body_at:], bound
            )
        except InvalidTag:
            raise tampered(thread_id, kind, name) from None

    def _cipher(self, id: bytes, thread_id: str) -> AESGCM:
        cipher = self._ciphers.get((id, thread_id))
        if cipher is None:
            if len(self._ciphers) >= self._remembered:
                self._ciphers.clear()
            info = b"assent thread " + thread_id.encode()
            cipher = AESGCM(hmac.digest(self._secrets[id], info, "sha256"))
            self._ciphers[id, thread_id] = cipher
        return cipher


def tampered(thread_id: str, kind: str, name: Part) -> Tampered:
    """The error to raise for a value that was not sealed for its place. It names the place, and
    repeats nothing of the value."""
    if thread_id:
        of_thread = f" of the thread '{thread_id}'"
        advice = (
            "Nothing of the thread is run any more. Restore the file from a backup, or delete the "
            "thread."
        )
    else:
        of_thread = ""
        advice = "It is not used any more. Restore the file from a backup."
    return Tampered(
        f"In the database, the {kind} '{name}'{of_thread} is not what Assent stored there: it was "
        f"changed, replaced or moved by another program. {advice}",
        thread_id=thread_id,
        kind=kind,
        name=name,
    )
