"""Databases of released versions, as text, and how one is made again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

FOLDER = Path(__file__).parent

AUDIT_KEY = "tests:" + "q6ur" * 10 + "q6s="
"""The key that signs the audit chains of these databases. It is no secret."""


def made_again(dump: Path, database: Path) -> None:
    """Make the database that the statements of the dump describe."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
