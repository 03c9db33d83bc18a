"""The records database of a test, freshly made."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assent.demo.records import Records

Sql = Callable[..., list[Any]]


@pytest.fixture
async def records(tmp_path: Path) -> Records:
    return await Records.open(tmp_path / "records.db")


@pytest.fixture
def sql(tmp_path: Path) -> Sql:
    """Plain SQL on the test's records, without any of our code."""

    def run(query: str, *parameters: Any) -> list[Any]:
        db = sqlite3.connect(tmp_path / "records.db")
        try:
            return db.execute(query, parameters).fetchall()
        finally:
            db.close()

    return run
