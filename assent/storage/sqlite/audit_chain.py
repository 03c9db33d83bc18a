"""The audit chain in the file. The writer's thread adds to it; verification and export read it,
also beside a server.

Its key is the setting's. Without one, a key is made at the first start and kept in a file beside
the database, where anybody who can write to the database can read it. The table `audit_keys` has a
proof of each key, so that a wrong key is not mistaken for a broken chain.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from assent.core.atomic_file import replace_file, sync
from assent.core.audit import AuditEntry, AuditHead, AuditRecord
from assent.core.clock import time_text
from assent.core.errors import ConfigurationError, Tampered
from assent.core.sealing import KEY_BYTES, Seal, parse_keys
from assent.storage.chain import AuditKey, Heads, Verification, head_of, record_to_json
from assent.storage.sqlite import database
from assent.storage.sqlite.file_keys import seal_of

COLUMNS = (
    "number",
    "at",
    "action",
    "actor",
    "authentication",
    "tenant",
    "thread_id",
    "approval_id",
    "run_id",
    "digest",
    "policy",
    "detail",
    "key",
    "mac",
)
SELECT = f"SELECT {', '.join(COLUMNS)} FROM audit"
LAST = f"{SELECT} ORDER BY number DESC LIMIT 1"
PAGE = f"""
    {SELECT} NOT INDEXED WHERE number > ?1 AND number <= ?2 AND (?3 IS NULL OR at >= ?3)
    ORDER BY number LIMIT ?4
"""
PAGE_ROWS = 500
BEFORE_ALL = -(1 << 63)
_INSERT = (
    f"INSERT INTO audit ({', '.join(COLUMNS)}) "
    f"VALUES ({', '.join(f':{column}' for column in COLUMNS)})"
)


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────


def _encode(record: AuditRecord, seal: Seal) -> dict[str, Any]:
    columns = record_to_json(record)
    detail: Any = orjson.dumps(columns["detail"])
    if seal.is_on:
        detail = seal.seal(detail, record.entry.thread_id, "audit row", record.number)
    else:
        detail = detail.decode()
    mac = bytes.fromhex(record.mac)
    return {"tenant": None, **columns, "detail": detail, "mac": mac}


def decode(columns: Sequence[Any], seal: Seal) -> AuditRecord | None:
    """The record of these columns (`SELECT`). None if they are not those of a record, or do not
    open, and so were never stored like that."""
    row = dict(zip(COLUMNS, columns, strict=True))
    number, key, mac = row.pop("number"), row.pop("key"), row.pop("mac")
    if not isinstance(key, str) or not isinstance(mac, bytes):
        return None
    try:
        row["detail"] = orjson.loads(
            seal.open(row["detail"], row["thread_id"], "audit row", number)
        )
        entry = msgspec.convert(row, AuditEntry)
    except (Tampered, TypeError, ValueError, msgspec.ValidationError):
        return None
    if entry.at.tzinfo is None:
        return None
    return AuditRecord(number=number, entry=entry, key=key, mac=mac.hex())


def head_from(columns: Sequence[Any] | None) -> AuditHead | None:
    """The head of the chain, from the columns of its last row. Raises `Tampered` if they are not
    those of a record."""
    if columns is None:
        return None
    number, at, *_, key, mac = columns
    try:
        at = datetime.fromisoformat(at)
        return AuditHead(number=number, mac=memoryview(mac).hex(), key=key, at=at)
    except (TypeError, ValueError):
        raise _tampered(
            number,
            f"The audit chain cannot go on: its last row, {number}, was changed by another"
            " program.",
        ) from None


def _tampered(number: int, sentence: str) -> Tampered:
    return Tampered(
        f"{sentence} Run: assent audit verify", thread_id="", kind="audit row", name=number
    )


# ── adding ────────────────────────────────────────────────────────────────────────────────────────


class Chain:
    """The end of the audit chain in one transaction after another. Used by the writer's thread
    only.

    The head that it keeps in memory never runs ahead of the file: `mark` and `rewind` do for it
    what a savepoint does for the table.
    """

    def __init__(self, connection: sqlite3.Connection, seal: Seal, key: AuditKey | None) -> None:
        self._connection = connection
        self._seal = seal
        self._key = key
        self._head: AuditHead | None = None

    def add(self, entries: Iterable[AuditEntry]) -> None:
        """Add the entries at the end. Raises `ValueError` for a detail that has no canonical form;
        call `rewind` then."""
        for entry in entries:
            if self._key is None:
                raise ConfigurationError(
                    "This file was opened without a key for its audit chain, so nothing can be "
                    "added to the chain."
                )
            if self._head is None:
                self._head = head_from(self._connection.execute(LAST).fetchone())
            record = self._key.sign(self._head, entry)
            self._connection.execute(_INSERT, _encode(record, self._seal))
            self._head = head_of(record)

    def mark(self) -> AuditHead | None:
        """Return the point to `rewind` to."""
        return self._head

    def rewind(self, mark: AuditHead | None = None) -> None:
        """Go back to the mark, after the table was rolled back to the same point; without a mark,
        to the end that the file has."""
        self._head = mark


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────


def parse_audit_keys(text: str | None) -> tuple[AuditKey, ...]:
    """Parse `id:base64,id:base64`: the first key signs, and all of them verify. None is no key.
    Raises `ConfigurationError`."""
    return tuple(AuditKey(key.id, key.secret) for key in parse_keys(text, "audit"))


def key_file(path: Path) -> Path:
    """The file of the key that is made if none is set."""
    return path.with_name(f"{path.name}.audit-key")


def signing_key(connection: sqlite3.Connection, path: Path, keys: Sequence[AuditKey]) -> AuditKey:
    """Find the key to sign new records with, and record it in the database if it is new there. It
    is the first of `keys`, or else the one in the key's file, which is made if there has never been
    one.

    Raises `ConfigurationError` if a key is not the one that is known under its id, or if the chain
    has keys and none is given.
    """
    recorded = _recorded(connection)
    key = keys[0] if keys else _own_key(connection, path, recorded)
    _check(path, recorded, [*keys, key])
    if key.id not in recorded:
        connection.execute("INSERT INTO audit_keys VALUES (?, ?)", (key.id, key.proof()))
    return key


def _own_key(connection: sqlite3.Connection, path: Path, recorded: dict[str, bytes]) -> AuditKey:
    key = _read_key(path)
    if key is None and not recorded:
        return _make_key(path)
    last = connection.execute(LAST).fetchone()
    needed = last[COLUMNS.index("key")] if last else next(iter(recorded), None)
    if key is None or needed not in (None, key.id):
        raise ConfigurationError(
            f"The audit chain of {path} is signed with the key '{needed}', which is neither set "
            f"nor in {key_file(path).name}. Set it with ASSENT_AUDIT_KEY={needed}:…, or restore "
            "that file. If it is lost, set a new key with another id: the chain goes on with that "
            "one, and the older records can no longer be verified."
        )
    return key


def _recorded(connection: sqlite3.Connection) -> dict[str, bytes]:
    return dict(connection.execute("SELECT key_id, proof FROM audit_keys").fetchall())


def _check(path: Path, recorded: dict[str, bytes], keys: Iterable[AuditKey]) -> None:
    for key in keys:
        if key.id not in recorded:
            continue
        proof = recorded[key.id]
        if not isinstance(proof, bytes) or not hmac.compare_digest(proof, key.proof()):
            raise ConfigurationError(
                f"The audit key '{key.id}' is not the one that the chain of {path} was signed with "
                "under this id, so the chain cannot be verified. Set the right one with "
                "ASSENT_AUDIT_KEY. If a new key was meant, give it a new id, and put it first."
            )


def _read_key(path: Path) -> AuditKey | None:
    place = key_file(path)
    try:
        text = place.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The audit key in {place} cannot be read: {error}. Restore the file from a backup."
        ) from error
    try:
        (key,) = parse_audit_keys(text)
    except (ConfigurationError, ValueError):
        raise ConfigurationError(
            f"The file {place} holds no audit key. Restore it from a backup."
        ) from None
    return key


def _make_key(path: Path) -> AuditKey:
    """Make a key, durable in its file before anything is signed with it."""
    key = AuditKey(f"file-{secrets.token_hex(4)}", secrets.token_bytes(KEY_BYTES))
    place = key_file(path)
    text = f"{key.id}:{base64.b64encode(key.secret).decode()}\n"
    try:
        replace_file(place, text.encode(), mode=0o600)
        sync(place.parent)
    except OSError as error:
        raise ConfigurationError(
            f"The audit key cannot be written to {place}: {error.strerror}. Let this user write to "
            "the folder, or set ASSENT_AUDIT_KEY."
        ) from error
    return key


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


class AuditFile:
    """The chain of a database, as far as it goes when it is read. It only reads, also beside a
    server that has the file open."""

    def __init__(
        self, connection: sqlite3.Connection, keys: Sequence[AuditKey], seal: Seal
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._seal = seal
        self._page = PAGE
        if "tenant" not in database.column(
            connection, "SELECT name FROM pragma_table_info('audit')"
        ):
            # A file that no server of this version has opened yet.
            self._page = PAGE.replace("tenant", "NULL AS tenant")

    @classmethod
    @contextmanager
    def open(
        cls, path: str | Path, *, audit_key: str | None = None, encryption_key: str | None = None
    ) -> Iterator[AuditFile]:
        """Open the chain of the database at `path`. Raises `ConfigurationError` if there is no such
        chain, or if a key is missing or not the one of its id."""
        path = database.resolved(path)
        if not path.is_file():
            raise ConfigurationError(
                f"There is no database at {path}. Name it with ASSENT_DATABASE."
            )
        keys = list(parse_audit_keys(audit_key))
        given = parse_keys(encryption_key)
        try:
            with database.reading(path) as connection:
                if database.pragma(connection, "application_id") != database.APPLICATION_ID:
                    raise ConfigurationError(f"The file {path} is the database of another program.")
                own = _read_key(path)
                if own is not None and own.id not in {key.id for key in keys}:
                    keys.append(own)
                _check(path, _recorded(connection), keys)
                used = database.column(connection, database.SEALED_WITH)
                seal = seal_of(connection, path, [key for key in given if key.id in used])
                yield cls(connection, keys, seal)
        except sqlite3.Error as error:
            raise database.unusable(path, error) from error

    def verify(self, heads: Heads | None = None) -> Verification:
        """Verify every record, up to the first that is wrong."""
        verification = Verification(self._keys, heads)
        for columns in self._rows():
            if not verification.add(columns[0], decode(columns, self._seal)):
                break
        verification.end()
        return verification

    def records(self, since: datetime | None = None) -> Iterator[AuditRecord]:
        """Read every record, or those from `since` on, in order. Raises `Tampered` at a record that
        cannot be read."""
        for columns in self._rows(time_text(since) if since else None):
            record = decode(columns, self._seal)
            if record is None:
                number = columns[0]
                raise _tampered(
                    number,
                    f"Row {number} of the audit chain is not what Assent wrote there, and cannot "
                    "be read.",
                )
            yield record

    def _rows(self, since: str | None = None) -> Iterator[Sequence[Any]]:
        """Read the rows up to the chain's present end, in order.

        They are read in pages, between which no snapshot is held: a snapshot would keep the server
        from emptying its write-ahead log for as long as somebody looks at a row.
        """
        (end,) = self._connection.execute("SELECT max(number) FROM audit").fetchone()
        number = BEFORE_ALL
        while page := self._connection.execute(
            self._page, (number, end, since, PAGE_ROWS)
        ).fetchall():
            yield from page
            number = page[-1][0]
