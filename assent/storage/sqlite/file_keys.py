"""The encryption keys that a file has been sealed with. The file remembers them, so that it is
never read with others, nor written to in the clear.

A file is sealed from its first start on, or not at all: no file is half readable without a key.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from assent.core.errors import ConfigurationError, Tampered
from assent.core.sealing import Key, KeySeal, NoSeal, Seal, file_key

SALT_BYTES = 16
PROOF = b"assent"

USED_TABLES = (
    "events",
    "log_heads",
    "threads",
    "runs",
    "approvals",
    "effects",
    "timers",
    "schedules",
    "assistants",
    "audit",
    "checkpoint_threads",
    "checkpoints",
    "store_items",
    "files",
)
"""The tables that are all empty in a file that nobody has used."""

ALL_KEYS = "the keys that it was sealed with, the newest first: ASSENT_ENCRYPTION_KEY=2026:…,2025:…"


def seal_of(connection: sqlite3.Connection, path: Path, keys: Sequence[Key]) -> Seal:
    """Make the seal of the file from these keys. The first one is recorded in the file if it is new
    there.

    Raises `ConfigurationError` if the file is sealed with others, or is not sealed and already in
    use.
    """
    recorded = connection.execute(
        "SELECT key_id, salt, proof FROM seals ORDER BY key_id"
    ).fetchall()
    if not keys:
        if recorded:
            ids = ", ".join(f"'{id}'" for id, _, _ in recorded)
            raise ConfigurationError(
                f"The database {path} is encrypted, with the key {ids}, and no key is set. Set "
                f"{ALL_KEYS}."
            )
        return NoSeal()
    if not recorded and _is_used(connection):
        raise ConfigurationError(
            f"The database {path} is not encrypted, and a file that is in use already is never "
            "encrypted afterwards. Name a new file with ASSENT_DATABASE, or start without "
            "ASSENT_ENCRYPTION_KEY."
        )
    given = {key.id: key for key in keys}
    known = {id: _proved(path, given, id, salt, proof) for id, salt, proof in recorded}
    first = known.pop(keys[0].id, None) or _record(connection, keys[0])
    return KeySeal([first, *known.values()])


def _is_used(connection: sqlite3.Connection) -> bool:
    any_row = " OR ".join(f"EXISTS (SELECT 1 FROM {table})" for table in USED_TABLES)
    (found,) = connection.execute(f"SELECT {any_row}").fetchone()
    return bool(found)


def _proved(path: Path, given: dict[str, Key], id: str, salt: bytes, proof: bytes) -> Key:
    if id not in given:
        raise ConfigurationError(
            f"The database {path} is sealed with the key '{id}' too, which is not set. Set all of "
            f"{ALL_KEYS}."
        )
    key = file_key(given[id], salt)
    try:
        KeySeal([key]).open(proof, "", "proof", id)
    except Tampered:
        raise ConfigurationError(
            f"The key '{id}' is not the one that the database {path} was sealed with under this "
            f"id. Set {ALL_KEYS}. If a new key was meant, give it a new id, and put it before the "
            "old one."
        ) from None
    return key


def _record(connection: sqlite3.Connection, key: Key) -> Key:
    salt = os.urandom(SALT_BYTES)
    derived = file_key(key, salt)
    proof = KeySeal([derived]).seal(PROOF, "", "proof", key.id)
    connection.execute("INSERT INTO seals VALUES (?, ?, ?)", (key.id, salt, proof))
    return derived
