"""The backends that every contract test runs over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from assent.checkpoint.contracts import Storage
from assent.checkpoint.sqlite import SqliteStorage


@pytest.fixture(params=["sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """An empty storage of each backend."""
    assert request.param == "sqlite"
    async with SqliteStorage.open(tmp_path / "assent.db") as storage:
        yield storage
