"""Steps: what is removed in one transaction, so little that nobody has to wait for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import orjson

MOST_ROWS = 1000
MOST_BYTES = 256 << 10
"""The most of one step, in rows and in bytes of their bodies: what is removed is overwritten, and
64 pages are written in a few milliseconds."""


def remove_some(
    connection: sqlite3.Connection, table: str, key: str, where: str, parameters: Sequence[Any]
) -> bool:
    """Remove some of the rows that meet the condition. Returns True if none of them is left."""
    found = connection.execute(
        f"SELECT {key}, length(body) FROM {table} WHERE {where} LIMIT ?", (*parameters, MOST_ROWS)
    ).fetchall()
    before = accumulate((size for _, size in found), initial=0)
    chosen = [number for (number, _), size in zip(found, before, strict=False) if size < MOST_BYTES]
    connection.execute(
        f"DELETE FROM {table} WHERE {where} AND {key} IN (SELECT value FROM json_each(?))",
        (*parameters, orjson.dumps(chosen).decode()),
    )
    return len(chosen) == len(found) < MOST_ROWS
