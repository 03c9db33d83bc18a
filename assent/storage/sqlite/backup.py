"""Copies of a database as it is at one moment, also while somebody writes to it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from assent.core.atomic_file import sync
from assent.core.errors import ConfigurationError

LEFT_BESIDE = ("-wal", "-journal")
"""What SQLite leaves beside a database whose program was killed, and reads at the next start."""


def copy_database(source: sqlite3.Connection, copy: Path) -> None:
    """Copy everything that was committed to one file. It takes its name, and the place of a file
    that has it, once all of it is on the disk.

    Raises `ConfigurationError`.
    """
    for suffix in LEFT_BESIDE:
        left = copy.with_name(f"{copy.name}{suffix}")
        if left.exists():
            # SQLite would write what it holds into the copy, as soon as somebody opens that.
            raise ConfigurationError(
                f"The database cannot be copied to {copy}: {left} is left of another file that had "
                "this name. Move it away, or name another copy."
            )
    partial = copy.with_name(f".{copy.name}.{os.getpid()}")
    try:
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(partial)) as target:
            # All pages in one step, so that they are of one moment. A database with a write-ahead
            # log can be written to meanwhile.
            source.backup(target)
        sync(partial)
        partial.replace(copy)
        sync(copy.parent)
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(
            f"The database cannot be copied to {copy}: {reason}. Make room for the copy, in a "
            "folder that this user may write to."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
