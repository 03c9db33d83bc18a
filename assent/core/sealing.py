"""Encryption at rest: every value is sealed for the one place that it belongs to, and opens nowhere
else.

    seal = KeySeal([FileKey("2026", secret)])
    sealed = seal.seal(b"...", "thread-1", "event", 7)
    seal.open(sealed, "thread-1", "event", 7)      the value
    seal.open(sealed, "thread-1", "event", 8)      Tampered

A context is the thread, what kind of thing it is, its name, and whatever else must not change
unnoticed. It is not stored with the value: it is what the reader knows of the place where the value
was found, and AES-256-GCM authenticates it. Each thread has a key of its own, derived from the
file's, so that random nonces stay far from the number (2^32 for one key) from which on two may be
the same. No I/O.
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
"""No JSON and no text in UTF-8 begins like this. The second byte is the version of the format; then
come the length of the key's id, the id, the nonce, and what AES-GCM made."""

REMEMBERED = 10_000
"""Of how many threads the keys are kept at hand."""

Part = str | int | None
"""What a context is made of."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it was configured."""

    id: str
    secret: bytes = field(repr=False)


def parse_keys(text: str, use: str = "encryption") -> tuple[Key, ...]:
    """The keys of `id:base64,id:base64`; the first one seals, and all of them open. `use` is what
    they are for.

    Raises `ConfigurationError`, which repeats no secret.
    """
    keys = tuple(_key(part.strip(), number, use) for number, part in enumerate(text.split(","), 1))
    ids = [key.id for key in keys]
    if twice := next((id for id in ids if ids.count(id) > 1), None):
        raise ConfigurationError(
            f"Two {use} keys have the id '{twice}'. Give each its own, such as the year that it was made in."
        )
    return keys


def _key(part: str, number: int, use: str) -> Key:
    id, separator, encoded = part.partition(":")
    if not separator or not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", id):
        # Without a separator, what stands in the place of the id may well be the secret.
        raise ConfigurationError(
            f"The {use} key number {number} does not begin with an id of 1 to 32 letters, digits, '_' and '-' and a colon. "
            "Write id:base64, such as 2026:…, with commas between keys."
        )
    try:
        secret = base64.b64decode(encoded.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(
            f"The secret of the {use} key '{id}' is not base64. {_MAKE}"
        ) from None
    if len(secret) != KEY_BYTES:
        raise ConfigurationError(
            f"The secret of the {use} key '{id}' has {len(secret)} bytes, and not {KEY_BYTES}. {_MAKE}"
        )
    return Key(id, secret)


_MAKE = "Make one with: openssl rand -base64 32"


class Seal(ABC):
    """Seals and opens. Used on any thread."""

    is_on: bool
    """Whether values are sealed at all. Where that is asked often, it spares making the context."""

    @abstractmethod
    def seal(self, data: bytes, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        """The data, sealed for that place."""

    @abstractmethod
    def open(self, data: Any, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        """The data that was sealed for that place. Raises `Tampered` if this is anything else;
        `data` may be whatever SQLite gave."""


class NoSeal(Seal):
    """Without a key everything stays as it is."""

    is_on = False

    def seal(self, data: bytes, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        return data

    def open(self, data: Any, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        plain: bytes = data
        return plain


@dataclass(frozen=True, slots=True)
class FileKey:
    """A key for one file, from which those of its threads are derived."""

    id: str
    secret: bytes = field(repr=False)


def file_key(key: Key, salt: bytes) -> FileKey:
    """The key for the file that has this salt: what is sealed for one file opens in no other,
    though both have the same key."""
    return FileKey(
        key.id,
        HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=b"assent file").derive(
            key.secret
        ),
    )


class KeySeal(Seal):
    """Seals with the first key, and opens what any of them sealed."""

    is_on = True

    def __init__(
        self,
        keys: Sequence[FileKey],
        nonce: Callable[[], bytes] = lambda: os.urandom(NONCE_BYTES),
        *,
        remembered: int = REMEMBERED,
    ) -> None:
        self._first = keys[0].id.encode()
        self._secrets = {key.id.encode(): key.secret for key in keys}
        self._header = _header(self._first)
        self._nonce = nonce
        self._remembered = remembered
        self._ciphers: dict[tuple[bytes, str], AESGCM] = {}

    def seal(self, data: bytes, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        nonce = self._nonce()
        bound = self._header + orjson.dumps((thread_id, kind, name, *more))
        return (
            self._header + nonce + self._cipher(self._first, thread_id).encrypt(nonce, data, bound)
        )

    def open(self, data: Any, thread_id: str, kind: str, name: Part, *more: Part) -> bytes:
        if not isinstance(data, bytes) or not data.startswith(MAGIC) or len(data) < 3:
            raise tampered(thread_id, kind, name)
        start = 3 + data[2]
        if (
            len(data) < start + NONCE_BYTES + TAG_BYTES
            or (id := data[3:start]) not in self._secrets
        ):
            raise tampered(thread_id, kind, name)
        bound = data[:start] + orjson.dumps((thread_id, kind, name, *more))
        nonce, body = data[start : start + NONCE_BYTES], data[start + NONCE_BYTES :]
        try:
            return self._cipher(id, thread_id).decrypt(nonce, body, bound)
        except InvalidTag:
            raise tampered(thread_id, kind, name) from None

    def _cipher(self, id: bytes, thread_id: str) -> AESGCM:
        cipher = self._ciphers.get((id, thread_id))
        if cipher is None:
            if len(self._ciphers) >= self._remembered:
                self._ciphers.clear()
            secret = hmac.digest(
                self._secrets[id], b"assent thread " + thread_id.encode(), "sha256"
            )
            cipher = self._ciphers[id, thread_id] = AESGCM(secret)
        return cipher


def tampered(thread_id: str, kind: str, name: Part) -> Tampered:
    """What to raise of a value that is not what was sealed for its place. It says which, and
    nothing of what it holds."""
    what, then = (
        f"the {kind} '{name}'",
        "Nothing comes of it any more. Restore the file from a backup.",
    )
    if thread_id:
        what += f" of the thread '{thread_id}'"
        then = "Nothing of the thread is run any more. Restore the file from a backup, or delete the thread."
    return Tampered(
        f"In the database, {what} is not what Assent stored there: it was changed, replaced or moved by another program. {then}",
        thread_id=thread_id,
        kind=kind,
        name=name,
    )


def _header(id: bytes) -> bytes:
    return MAGIC + bytes([len(id)]) + id
