"""Opening the file: made with mode 0600, locked against a second server, migrated, and set to lose
nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from assent.core.clock import Clock, time_text
from assent.core.errors import ConfigurationError

APPLICATION_ID = 1098083956
"""'Asnt', in the header of every Assent database."""

BUSY_SECONDS = 5.0
"""How long the writer waits for another program, such as a backup, to let go of the file."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step of the schema."""

    number: int
    name: str
    sql: str


def migrations() -> tuple[Migration, ...]:
    """Every migration, in order."""
    folder = resources.files(__package__) / "migrations"
    return tuple(
        sorted(
            (_migration(file) for file in folder.iterdir() if file.name.endswith(".sql")),
            key=lambda each: each.number,
        )
    )


def _migration(file: Traversable) -> Migration:
    number, name = file.name.removesuffix(".sql").split("_", 1)
    return Migration(int(number), name, file.read_text(encoding="utf-8"))


def resolved(path: str | Path) -> Path:
    """The one spelling of the path, so that two spellings of it meet at one lock."""
    return Path(path).resolve()


def create(path: Path) -> None:
    """Make the file if it is missing, readable by its owner only; SQLite gives the files beside it
    the same mode.

    Raises `ConfigurationError` if that is impossible.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"The database {path} cannot be opened: {error.strerror}. Name a file in a folder that this user may write to."
        ) from error


def unusable(path: Path, error: sqlite3.Error) -> ConfigurationError:
    """What to raise when SQLite cannot work with the file."""
    return ConfigurationError(
        f"The file {path} cannot be used as a database: {error}. Name another file, or restore this one from a backup."
    )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file for this process. The lock ends with the process, however it ends.

    Raises `ConfigurationError` if another process holds it.
    """
    lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"The database {path} is open in another Assent process. Stop that one first, or give this one a database of its own."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"The lock {lock.lock_file} cannot be taken: {error.strerror}. Check the folder's permissions."
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the file, as far as this user may know."""
    place = Path(f"{path}.lock")
    if not place.exists():
        return False
    try:
        with FileLock(place, timeout=0, mode=0o600):
            return False
    except OSError as error:
        return isinstance(error, Timeout)


@contextmanager
def connected(
    path: Path, clock: Clock, synchronous: Literal["full", "normal"] = "full"
) -> Iterator[sqlite3.Connection]:
    """The connection that writes, migrated to the newest schema.

    Raises `ConfigurationError` if the file is not a database, not an Assent database, or one of a
    newer Assent.
    """
    with closing(
        sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    ) as connection:
        try:
            _prepare(connection, path, synchronous)
            _migrate(connection, path, clock)
        except sqlite3.Error as error:
            raise unusable(path, error) from error
        yield connection


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: str) -> None:
    application = _pragma(connection, "application_id")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and tables:
        raise ConfigurationError(
            f"The file {path} is the database of another program. Name another file."
        )
    # Only an empty file takes this, and only before its first page is written: free pages can then
    # be given back in small steps.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if _pragma(connection, "journal_mode = WAL") != "wal":
        raise ConfigurationError(
            f"The database {path} is on a disk without shared memory (a network disk?). Put it on a local one."
        )
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    # What a thread's erasure removes is overwritten. Measured, this costs nothing.
    connection.execute("PRAGMA secure_delete = ON")
    # Checkpoints of the write-ahead log cost two more fsyncs, so they come once in 16 MiB and leave
    # no larger file behind.
    connection.execute("PRAGMA wal_autocheckpoint = 4096")
    connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
    connection.execute(f"PRAGMA cache_size = -{16 << 10}")


def _migrate(connection: sqlite3.Connection, path: Path, clock: Clock) -> None:
    steps = migrations()
    done = _pragma(connection, "user_version")
    if done > steps[-1].number:
        raise ConfigurationError(
            f"The database {path} was written by a newer Assent (schema {done}; this one knows {steps[-1].number}). "
            "Install that version, or restore the backup made before it."
        )
    for step in steps:
        if step.number > done:
            _apply(connection, step, time_text(clock.now()))


def _apply(connection: sqlite3.Connection, step: Migration, now: str) -> None:
    record = f"INSERT INTO migrations VALUES ({step.number}, '{step.name}', '{now}');\nPRAGMA user_version = {step.number};"
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{step.sql}\n{record}\nCOMMIT;")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, pragma: str) -> Any:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return value
