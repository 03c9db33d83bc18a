"""The backends that every contract test runs over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from assent.storage.base import Storage
from assent.storage.sqlite import SqliteStorage
from tests.support.keys import KEY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that is not there yet."""
    return tmp_path / "assent.db"


@pytest.fixture(params=["sqlite", pytest.param("sqlite sealed", marks=pytest.mark.slow)])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """An empty storage of each backend."""
    key = KEY if request.param == "sqlite sealed" else None
    async with SqliteStorage.open(tmp_path / "assent.db", encryption_key=key) as storage:
        yield storage
