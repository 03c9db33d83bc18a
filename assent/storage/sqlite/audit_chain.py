"""The audit chain in the file: added to by the writer's thread, and read by whoever verifies or
exports it, also beside a server.

The key is the setting's; without one it is made at the first start and kept in a file beside the
database, where whoever can write to the one can read the other. The file's table `audit_keys` has a
proof of each key, so that a wrong one is not taken for a broken chain.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from assent.core.clock import time_text
from assent.core.errors import ConfigurationError, Tampered
from assent.core.rows import AuditAction, AuditEntry, AuditHead, AuditRecord, Authentication
from assent.core.sealing import KEY_BYTES, Seal, parse_keys
from assent.storage.chain import AuditKey, Heads, Verification, head_of
from assent.storage.sqlite import files
from assent.storage.sqlite.file_keys import seal_of

SELECT = 'SELECT number, at, action, actor, authentication, thread_id, approval_id, run_id, digest, policy, detail, "key", mac FROM audit'
_INSERT = f"INSERT INTO audit VALUES ({', '.join('?' * 13)})"
LAST = f"{SELECT} ORDER BY number DESC LIMIT 1"


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────


def _encode(record: AuditRecord, seal: Seal) -> tuple[Any, ...]:
    entry = record.entry
    detail: Any = orjson.dumps(dict(entry.detail))
    return (
        record.number,
        time_text(entry.at),
        entry.action.value,
        entry.actor,
        entry.authentication.value,
        entry.thread_id,
        entry.approval_id,
        entry.run_id,
        entry.digest,
        entry.policy,
        seal.seal(detail, entry.thread_id, "audit row", record.number)
        if seal.is_on
        else detail.decode(),
        record.key,
        bytes.fromhex(record.mac),
    )


def decode(columns: Sequence[Any], seal: Seal) -> AuditRecord | None:
    """The record of these columns (`SELECT`); None if they are none, or do not open, and so were
    never stored like that."""
    (
        number,
        at,
        action,
        actor,
        authentication,
        thread_id,
        approval_id,
        run_id,
        digest,
        policy,
        detail,
        key,
        mac,
    ) = columns
    texts = (actor, thread_id, approval_id, run_id, digest, policy, key)
    if not all(isinstance(text, str) for text in texts) or not isinstance(mac, bytes):
        return None
    try:
        opened = orjson.loads(seal.open(detail, thread_id, "audit row", number))
        entry = AuditEntry(
            at=datetime.fromisoformat(at),
            action=AuditAction(action),
            actor=actor,
            authentication=Authentication(authentication),
            thread_id=thread_id,
            approval_id=approval_id,
            run_id=run_id,
            digest=digest,
            policy=policy,
            detail=opened,
        )
    except (Tampered, TypeError, ValueError):
        return None
    is_sound = isinstance(opened, dict) and entry.at.tzinfo is not None
    return AuditRecord(number=number, entry=entry, key=key, mac=mac.hex()) if is_sound else None


# ── adding ────────────────────────────────────────────────────────────────────────────────────────


class Chain:
    """The part of one transaction after another that is about the audit chain. Used by the writer's
    thread only.

    The head that it keeps in memory never runs ahead of the file: `mark` and `rewind` do for it
    what a savepoint does for the table.
    """

    def __init__(self, connection: sqlite3.Connection, seal: Seal, key: AuditKey | None) -> None:
        self._connection = connection
        self._seal = seal
        self._key = key
        self._head: AuditHead | None = None

    def add(self, entries: Iterable[AuditEntry]) -> None:
        """Add the entries behind all others. Raises `ValueError` for a detail that has no canonical
        form; then `rewind`."""
        for entry in entries:
            if self._key is None:
                raise ConfigurationError(
                    "This file was opened without a key for its audit chain, so nothing can be added to that."
                )
            record = self._key.added(self._head or self._stored(), entry)
            self._connection.execute(_INSERT, _encode(record, self._seal))
            self._head = head_of(record)

    def mark(self) -> AuditHead | None:
        """Here."""
        return self._head

    def rewind(self, mark: AuditHead | None = None) -> None:
        """Back to the mark, after the table was rolled back to the same point; without one, to what
        the file has."""
        self._head = mark

    def _stored(self) -> AuditHead | None:
        return head_from(self._connection.execute(LAST).fetchone())


def head_from(columns: Sequence[Any] | None) -> AuditHead | None:
    """The head, from the columns of the last row. Raises `Tampered` if there can be none like
    that."""
    if columns is None:
        return None
    number, at, *_, key, mac = columns
    try:
        return AuditHead(
            number=number, mac=memoryview(mac).hex(), key=key, at=datetime.fromisoformat(at)
        )
    except (TypeError, ValueError):
        raise Tampered(
            f"The audit chain cannot go on: its last row, {number}, was changed by another program. Say: assent audit verify",
            thread_id="",
            kind="audit row",
            name=number,
        ) from None


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────


def parse_audit_keys(text: str) -> tuple[AuditKey, ...]:
    """The keys of `id:base64,id:base64`; the first one signs, and all of them verify. Raises
    `ConfigurationError`."""
    return tuple(AuditKey(key.id, key.secret) for key in parse_keys(text, "audit"))


def key_file(path: Path) -> Path:
    """Where the key is that was made because none was set."""
    return path.with_name(f"{path.name}.audit-key")


def signing_key(connection: sqlite3.Connection, path: Path, keys: Sequence[AuditKey]) -> AuditKey:
    """The key that new records are signed with: the first of these or, without any, the one in the
    key's file, which is made if there has never been one. It is recorded in the database if it is
    new there.

    Raises `ConfigurationError` if a key is not the one that is known under its id, or if the chain
    has keys and none is at hand.
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
    last = connection.execute('SELECT "key" FROM audit ORDER BY number DESC LIMIT 1').fetchone()
    needed = last[0] if last else next(iter(recorded), None)
    if key is None or needed not in (None, key.id):
        raise ConfigurationError(
            f"The audit chain of {path} is signed with the key '{needed}', which is neither set nor in {key_file(path).name}. Set it with "
            f"ASSENT_AUDIT_KEY={needed}:…, or restore that file. If it is lost, set a new key with another id: the chain goes on with "
            "that one, and what is there can no longer be verified."
        )
    return key


def _recorded(connection: sqlite3.Connection) -> dict[str, bytes]:
    return dict(connection.execute("SELECT key_id, proof FROM audit_keys").fetchall())


def _check(path: Path, recorded: dict[str, bytes], keys: Iterable[AuditKey]) -> None:
    for key in keys:
        proof = recorded.get(key.id)
        if proof is not None and not (
            isinstance(proof, bytes) and hmac.compare_digest(proof, key.proof())
        ):
            raise ConfigurationError(
                f"The audit key '{key.id}' is not the one that the chain of {path} was signed with under this id, so nothing can be "
                "said of the chain. Set the right one with ASSENT_AUDIT_KEY. If a new key was meant, give it a new id, and put it first."
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
    """A new key in its file, durable before anything is signed with it."""
    key = AuditKey(f"file-{secrets.token_hex(4)}", secrets.token_bytes(KEY_BYTES))
    place = key_file(path)
    made = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        with os.fdopen(
            os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w"
        ) as file:
            file.write(f"{key.id}:{base64.b64encode(key.secret).decode()}\n")
            file.flush()
            os.fsync(file.fileno())
        made.rename(place)
        sync_folder(place.parent)
    except OSError as error:
        raise ConfigurationError(
            f"The audit key cannot be written to {place}: {error.strerror}. Make the folder one that this user may write to, or set "
            "ASSENT_AUDIT_KEY."
        ) from error
    return key


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


class AuditFile:
    """The chain of a database, as it was at one moment. It is only read, also beside a server that
    has the file open."""

    def __init__(
        self, connection: sqlite3.Connection, keys: Sequence[AuditKey], seal: Seal
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._seal = seal

    @classmethod
    @contextmanager
    def open(
        cls, path: str | Path, *, audit_key: str | None = None, encryption_key: str | None = None
    ) -> Iterator[AuditFile]:
        """Raises `ConfigurationError` if there is no such chain, or a key is missing or is not the
        one of its id."""
        path = files.resolved(path)
        if not path.is_file():
            raise ConfigurationError(
                f"There is no database at {path}. Name it with ASSENT_DATABASE."
            )
        keys = parse_audit_keys(audit_key) if audit_key is not None else ()
        sealing = parse_keys(encryption_key) if encryption_key is not None else ()
        with closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
        ) as connection:
            try:
                connection.execute(f"PRAGMA busy_timeout = {int(files.BUSY_SECONDS * 1000)}")
                # One snapshot, so that what a server adds meanwhile is in it whole or not at all.
                connection.execute("BEGIN")
                _check_schema(connection, path)
                sealed_with = {id for (id,) in connection.execute("SELECT key_id FROM seals")}
                own = _read_key(path)
                keys = (*keys, own) if own and own.id not in {key.id for key in keys} else keys
                _check(path, _recorded(connection), keys)
                yield cls(
                    connection,
                    keys,
                    seal_of(connection, path, [key for key in sealing if key.id in sealed_with]),
                )
            except sqlite3.Error as error:
                raise files.unusable(path, error) from error

    def verify(self, heads: Heads | None = None) -> Verification:
        """Look at every record, up to the first that is wrong."""
        verification = Verification(self._keys, heads)
        for columns in self._connection.execute(f"{SELECT} ORDER BY number"):
            if not verification.add(columns[0], decode(columns, self._seal)):
                break
        verification.end()
        return verification

    def records(self, since: datetime | None = None) -> Iterator[AuditRecord]:
        """Every record, or those since a time, in order. Raises `Tampered` at one that cannot be
        read."""
        for columns in self._connection.execute(
            f"{SELECT} WHERE at >= ? ORDER BY number", (time_text(since) if since else "",)
        ):
            record = decode(columns, self._seal)
            if record is None:
                raise Tampered(
                    f"Row {columns[0]} of the audit chain is not what Assent wrote there, and cannot be read. Say: assent audit verify",
                    thread_id="",
                    kind="audit row",
                    name=columns[0],
                )
            yield record


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != files.APPLICATION_ID:
        raise ConfigurationError(f"The file {path} is the database of another program.")
