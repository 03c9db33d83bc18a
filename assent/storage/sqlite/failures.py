"""Driver errors become ours here: a file that cannot serve is `Unavailable`; anything else is a
fault of the program and stays as it is."""

from __future__ import annotations

import sqlite3

from assent.core.errors import Unavailable


def is_unavailable(error: BaseException) -> bool:
    """Whether it is the file, the disk or the machine that failed, and not the statement."""
    return isinstance(error, sqlite3.Error) and _cause(error) is not None


def translated(error: Exception, name: str) -> Exception:
    """The error as a caller should see it; `name` is the database's, without its folder, since
    clients may read it."""
    cause = _cause(error) if isinstance(error, sqlite3.Error) else None
    if cause is None:
        return error
    unavailable = Unavailable(f"The database {name} cannot serve: {cause}.")
    unavailable.__cause__ = error
    return unavailable


def closed(name: str) -> Unavailable:
    """What a call gets that comes before the storage is open or after it was closed."""
    return Unavailable(
        f"The database {name} is closed, because the server is shutting down. Try again later."
    )


def overrun(name: str) -> Unavailable:
    """What a call gets when the disk has stood still for so long that no more can wait in
    memory."""
    return Unavailable(
        f"The database {name} cannot keep up: too many writes wait for the disk. Try again later."
    )


def _cause(error: sqlite3.Error) -> str | None:
    # The low byte is the primary code; the others tell the place inside SQLite where it was
    # noticed.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "the disk, or the room given to the file, is full. Free some space"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return "it may only be read. Check the permissions of the file and of its folder"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return "another program holds it locked. Close that program"
        case sqlite3.SQLITE_CANTOPEN:
            return (
                "it cannot be opened. Check that the file and its folder exist and may be written"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "the file is damaged. Restore it from a backup"
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_NOLFS:
            return "the disk failed to read or write. Check the disk, and what the system's log says of it"
        case sqlite3.SQLITE_NOMEM | sqlite3.SQLITE_INTERRUPT:
            return "it ran out of memory or was interrupted. Try again"
        case _:
            return None
