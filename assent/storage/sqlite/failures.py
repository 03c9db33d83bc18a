"""The errors of SQLite, translated: if the file cannot serve, the caller gets `Unavailable`. Any
other error is a fault of the program, and stays as it is."""

from __future__ import annotations

import sqlite3

from assent.core.errors import Unavailable

OUTAGES = frozenset({
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOLFS,
})  # fmt: skip
"""The codes of failures that no write escapes."""

UNREADABLE = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ})
"""One page cannot be read. Writes that do not need it succeed."""


def is_unavailable(error: Exception) -> bool:
    """True if the file, the disk or the machine failed, and not the statement."""
    return _cause(error) is not None


def is_outage(error: Exception) -> bool:
    """True if nothing can be written now, so that whatever was to be written may be later."""
    if not isinstance(error, sqlite3.Error):
        return False
    return _code(error) in OUTAGES and getattr(error, "sqlite_errorcode", 0) not in UNREADABLE


def is_damage(error: Exception) -> bool:
    """True if pages of the file contradict each other."""
    return _code(error) == sqlite3.SQLITE_CORRUPT


def translated(error: Exception, name: str) -> Exception:
    """The error for the caller. `name` is the database's, without its folder, since clients may
    read it."""
    cause = _cause(error)
    if cause is None:
        return error
    unavailable = Unavailable(f"The database {name} cannot serve: {cause}.")
    unavailable.__cause__ = error
    return unavailable


def closed(name: str) -> Unavailable:
    """The error for a call before the storage is open, or after it was closed."""
    return Unavailable(
        f"The database {name} is closed, because the server is shutting down. Try again later."
    )


def overrun(name: str) -> Unavailable:
    """The error for a call when the disk has stood still for so long that no more writes may wait
    in memory."""
    return Unavailable(
        f"The database {name} cannot keep up: too many writes wait for the disk. Try again later."
    )


def _code(error: Exception) -> int:
    # The low byte is the primary code; the rest says where inside SQLite it was noticed.
    code: int = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code


def _cause(error: Exception) -> str | None:
    if not isinstance(error, sqlite3.Error):
        return None
    match _code(error):
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
            return "the disk failed to read or write. Check the disk, and the system's log"
        case sqlite3.SQLITE_NOMEM | sqlite3.SQLITE_INTERRUPT:
            return "it ran out of memory or was interrupted. Try again"
        case _:
            return None
