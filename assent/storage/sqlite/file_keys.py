"""Which keys a file is sealed with: it remembers, so that it is never read with others, nor written
to in the clear.

A file is sealed from its first start on or not at all: there is no file of which one half could be
read without a key.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from assent.core.errors import ConfigurationError, Tampered
from assent.core.sealing import FileKey, Key, KeySeal, NoSeal, Seal, file_key

SALT_BYTES = 16
PROOF = b"assent"

HOLDS = (
    "events",
    "log_heads",
    "threads",
    "runs",
    "approvals",
    "effects",
    "timers",
    "schedules",
    "audit",
    "checkpoint_threads",
    "checkpoints",
)
"""Tables that are empty in a file that nobody has used."""

KEEP = "the keys that it was sealed with, the newest first: ASSENT_ENCRYPTION_KEY=2026:…,2025:…"


def seal_of(connection: sqlite3.Connection, path: Path, keys: Sequence[Key]) -> Seal:
    """What seals and opens the file's values with these keys; the first is recorded in the file if
    it is new there.

    Raises `ConfigurationError` if the file is sealed with others, or is not sealed and holds
    something already.
    """
    recorded = connection.execute(
        "SELECT key_id, salt, proof FROM seals ORDER BY key_id"
    ).fetchall()
    if not keys:
        if recorded:
            ids = ", ".join(f"'{id}'" for id, _, _ in recorded)
            raise ConfigurationError(
                f"The database {path} is encrypted, with the key {ids}, and no key is set. Set {KEEP}."
            )
        return NoSeal()
    if not recorded and _holds_something(connection):
        raise ConfigurationError(
            f"The database {path} is not encrypted, and what is in a file already is never encrypted afterwards. Name a new file with "
            "ASSENT_DATABASE, or start without ASSENT_ENCRYPTION_KEY."
        )
    by_id = {key.id: key for key in keys}
    known = {id: _proved(path, by_id, id, salt, proof) for id, salt, proof in recorded}
    first = known.get(keys[0].id) or _record(connection, keys[0])
    return KeySeal([first, *(key for key in known.values() if key.id != first.id)])


def _holds_something(connection: sqlite3.Connection) -> bool:
    any_row = " OR ".join(f"EXISTS (SELECT 1 FROM {table})" for table in HOLDS)
    (found,) = connection.execute(f"SELECT {any_row}").fetchone()
    return bool(found)


def _proved(path: Path, keys: dict[str, Key], id: str, salt: bytes, proof: bytes) -> FileKey:
    if id not in keys:
        raise ConfigurationError(
            f"The database {path} is sealed with the key '{id}' too, which is not set. Set all of {KEEP}."
        )
    key = file_key(keys[id], salt)
    try:
        KeySeal([key]).open(proof, "", "proof", id)
    except Tampered:
        raise ConfigurationError(
            f"The key '{id}' is not the one that the database {path} was sealed with under this id. Set {KEEP}. If a new key was meant, "
            "give it a new id, and put it before the old one."
        ) from None
    return key


def _record(connection: sqlite3.Connection, key: Key) -> FileKey:
    salt = os.urandom(SALT_BYTES)
    made = file_key(key, salt)
    connection.execute(
        "INSERT INTO seals VALUES (?, ?, ?)",
        (key.id, salt, KeySeal([made]).seal(PROOF, "", "proof", key.id)),
    )
    return made
