"""The file: made with mode 0600, locked against a second server, migrated, and opened so that no
commit is lost."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from assent.core.clock import Clock, time_text
from assent.core.errors import ConfigurationError
from assent.storage.folder_files import copy_files, folder_of
from assent.storage.sqlite.backup import copy_database
from assent.storage.sqlite.failures import is_damage, is_outage, translated

logger = logging.getLogger(__name__)

APPLICATION_ID = 1098083956
"""'Asnt', in the header of every Assent database."""

BUSY_SECONDS = 5.0
"""The wait for another program, such as a backup, to release the file."""

LOCK_SECONDS = 0.5
"""The wait for the lock. `assent doctor` takes it for some microseconds, to see if anybody has it;
on a busy machine the kernel may take its processor away meanwhile."""

AUTO_VACUUM = "PRAGMA auto_vacuum = INCREMENTAL"
"""With it, free pages can be given back in small steps. SQLite accepts it only for an empty file,
before its first page is written."""

SEALED_WITH = "SELECT key_id FROM seals ORDER BY key_id"
"""The ids of the keys that the file is sealed with."""


def resolved(path: str | Path) -> Path:
    """The one spelling of the path, so that all of its spellings share one lock."""
    return Path(path).resolve()


def unusable(path: Path, error: sqlite3.Error) -> ConfigurationError:
    """The error to raise when SQLite cannot work with the file."""
    if is_outage(error):
        return ConfigurationError(f"{translated(error, str(path))} Then start again.")
    return ConfigurationError(
        f"The file {path} cannot be used as a database: {error}. Name another file, or restore "
        "this one from a backup."
    )


@contextmanager
def opened(
    path: Path, clock: Clock, synchronous: Literal["full", "normal"] = "full"
) -> Iterator[sqlite3.Connection]:
    """Make the file if it is missing, lock it, and open the connection that writes.

    Raises `ConfigurationError` if one of these is impossible.
    """
    _create(path)
    _check_before_locking(path)
    with _locked(path), connected(path, clock, synchronous) as connection:
        yield connection


def _create(path: Path) -> None:
    # SQLite gives the files beside it the same mode.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"The database {path} cannot be opened: {error.strerror}. Name a file in a folder that "
            "this user may write to."
        ) from error


def _check_before_locking(path: Path) -> None:
    """Refuse the database of another program before anything is put beside it.

    Read as it is, without the write-ahead log, so that SQLite puts nothing there either. A database
    of ours that was only just begun looks empty then, and one whose last checkpoint was cut off, by
    a full disk or a kill, looks damaged.
    """
    uri = f"{path.as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            refuse_foreign(connection, path)
    except sqlite3.Error as error:
        # Whether it is damaged, the write-ahead log decides.
        if not is_damage(error):
            raise unusable(path, error) from error


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `ConfigurationError` if the database is another program's."""
    application = pragma(connection, "application_id")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and tables:
        raise ConfigurationError(
            f"The file {path} is the database of another program. Name another file."
        )


# ── the lock ──


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the file for this process. The lock ends with the process, however that ends."""
    lock = _lock(path)
    try:
        lock.acquire(timeout=LOCK_SECONDS, poll_interval=0.01)
    except Timeout as error:
        raise ConfigurationError(
            f"The database {path} is open in another Assent process. Stop that one first, or give "
            "this one a database of its own."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"The lock {lock.lock_file} cannot be taken: {error.strerror}. Check the folder's "
            "permissions."
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """True if a process has the lock, as far as this user may know."""
    lock = _lock(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        with lock:
            return False
    except OSError as error:
        return isinstance(error, Timeout)


def _lock(path: Path) -> FileLock:
    return FileLock(f"{path}.lock", timeout=0, mode=0o600)


def has_keys(path: Path) -> bool:
    """True if the database has ever had an API key: one that was revoked is still there, so that to
    revoke the last one does not open a server to everybody. Raises `ConfigurationError`."""
    if not path.is_file():
        return False
    try:
        with reading(path) as connection:
            has_table = "SELECT 1 FROM sqlite_schema WHERE name = 'api_keys'"
            if connection.execute(has_table).fetchone() is None:
                return False
            return connection.execute("SELECT 1 FROM api_keys LIMIT 1").fetchone() is not None
    except sqlite3.Error as error:
        raise unusable(path, error) from error


# ── connections ──


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads."""
    uri = f"{path.as_uri()}?mode=ro"
    with closing(
        sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    ) as connection:
        yield connection


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, and sees the file as it is at one moment, whatever a server
    writes meanwhile."""
    with reading(path) as connection:
        connection.execute("BEGIN")
        yield connection


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A copy of a database: the ids of the encryption keys that it is sealed with, and the number
    of its uploads."""

    keys: Sequence[str]
    uploads: int


def back_up(path: Path, copy: Path) -> BackedUp:
    """Copy the database to another file, and its uploads to the folder beside that, also while a
    server has them open.

    Raises `ConfigurationError`.
    """
    uploads, copied = folder_of(path), folder_of(copy)
    try:
        # Before and after, so that none is missing that is removed, or sent, meanwhile. Those that
        # the copy does not know are removed when a server starts over it.
        copy_files(uploads, copied)
        with snapshot(path) as source:
            refuse_foreign(source, path)
            keys = column(source, SEALED_WITH)
            copy_database(source, copy)
        count = copy_files(uploads, copied)
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    except OSError as error:
        raise ConfigurationError(
            f"The uploads cannot be copied to {copied}: {error.strerror}. Make room for the copy, "
            "in a folder that this user may write to."
        ) from error
    return BackedUp(keys, count)


@contextmanager
def connected(
    path: Path, clock: Clock, synchronous: Literal["full", "normal"] = "full"
) -> Iterator[sqlite3.Connection]:
    """The connection that writes, with the file migrated to the newest schema.

    Raises `ConfigurationError` if the file is not a database, not an Assent database, or one of a
    newer Assent.
    """
    with closing(
        sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    ) as connection:
        try:
            _prepare(connection, path, synchronous)
            _migrate(connection, path, clock)
            # An operation's savepoint keeps the pages that it changes. Beyond 64 KiB in one
            # transaction SQLite would write them to a temporary file: two of three writes of short
            # runs at once, and the texts of a database in a folder that nobody thinks of. A
            # migration may sort whole tables, so it keeps that file.
            connection.execute("PRAGMA temp_store = MEMORY")
        except sqlite3.Error as error:
            raise unusable(path, error) from error
        yield connection


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: str) -> None:
    refuse_foreign(connection, path)
    connection.execute(AUTO_VACUUM)
    if pragma(connection, "journal_mode = WAL") != "wal":
        raise ConfigurationError(
            f"The database {path} is on a disk without shared memory (a network disk?). Put it on "
            "a local one."
        )
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    # An erased thread is overwritten. Measured, this costs nothing.
    connection.execute("PRAGMA secure_delete = ON")
    # Each checkpoint of the write-ahead log costs two more fsyncs, so there is one in 16 MiB, and
    # no larger file is left behind.
    connection.execute("PRAGMA wal_autocheckpoint = 4096")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    connection.execute(f"PRAGMA cache_size = -{16 << 10}")


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """The value of the pragma."""
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return value


def column(connection: sqlite3.Connection, sql: str, *parameters: Any) -> list[Any]:
    """The values of the query's one column."""
    return [value for (value,) in connection.execute(sql, parameters)]


@contextmanager
def waiting_for_locks(connection: sqlite3.Connection, milliseconds: int) -> Iterator[None]:
    """Let the connection wait only so long where another program holds a lock, until the context is
    left."""
    usual = pragma(connection, "busy_timeout")
    pragma(connection, f"busy_timeout = {milliseconds}")
    try:
        yield
    finally:
        pragma(connection, f"busy_timeout = {usual}")


# ── migrations ──


@dataclass(frozen=True, slots=True, order=True)
class Migration:
    """One numbered step of the schema."""

    number: int
    name: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """Every migration, in order."""
    steps = []
    for file in (resources.files(__package__) / "migrations").iterdir():
        if file.name.endswith(".sql"):
            number, name = file.name.removesuffix(".sql").split("_", 1)
            steps.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return tuple(sorted(steps))


def _migrate(connection: sqlite3.Connection, path: Path, clock: Clock) -> None:
    """Bring the file to the newest schema. One that is in use is copied first, to a file that has
    the number of its schema in its name."""
    steps, now = migrations(), time_text(clock.now())
    done = pragma(connection, "user_version")
    newest = steps[-1].number
    if done > newest:
        raise ConfigurationError(
            f"The database {path} was written by a newer Assent (schema {done}; this one knows "
            f"{newest}). Install that version, or restore the backup made before it."
        )
    if 0 < done < newest:
        copy = path.with_name(f"{path.name}.schema-{done}")
        copy_database(connection, copy)
        logger.warning("The database %s was copied to %s before its migration.", path, copy)
    if done == 0:
        _begin(connection, steps, now)
        return
    for step in steps:
        if step.number > done:
            _apply(connection, step, now)


def _begin(connection: sqlite3.Connection, steps: tuple[Migration, ...], now: str) -> None:
    """Make the empty file a copy of a new database: one transaction, instead of one for each
    migration."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        new.deserialize(new_database(steps, page_size=pragma(connection, "page_size")))
        new.execute("UPDATE migrations SET applied_at = ?", (now,))
        new.backup(connection)


@cache
def new_database(steps: tuple[Migration, ...], page_size: int) -> bytes:
    """A database in which nothing is yet, as bytes. It is made once in a process: SQLite reads a
    schema as slowly as it is long, and copies one at once."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as new:
        new.execute(f"PRAGMA page_size = {page_size}")
        new.execute(AUTO_VACUUM)
        for step in steps:
            _apply(new, step, "")
        return new.serialize()


def _apply(connection: sqlite3.Connection, step: Migration, now: str) -> None:
    try:
        connection.executescript(f"""
            BEGIN IMMEDIATE;
            {step.sql}
            INSERT INTO migrations VALUES ({step.number}, '{step.name}', '{now}');
            PRAGMA user_version = {step.number};
            COMMIT;
        """)
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
