"""What agents store is sealed: nothing of it can be read in the file, and nothing that was changed
there is believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from assent.core.errors import Tampered
from assent.storage.sqlite import SqliteStorage
from assent.storage.store import StoreOptions
from tests.support.database import sql
from tests.support.keys import KEY, key

SECRET = "swordfish"
NUMBERS = [0.6, 0.8, 0.0, 0.0]
"""Of length 1, so that they would be stored as they are."""


def embed(texts: Sequence[str]) -> list[list[float]]:
    return [NUMBERS if SECRET in text else [0.0, 0.0, 0.6, 0.8] for text in texts]


OPTIONS = StoreOptions(index={"embed": embed, "dims": 4, "fields": ["said"]})


def contents(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def fill(path: Path, keys: str = KEY) -> None:
    """Put an item with the secret, and one without."""
    async with SqliteStorage.open(path, encryption_key=keys) as storage:
        store = storage.store(OPTIONS)
        await store.aput(("people", "ann"), "one", {"said": SECRET}, ttl=1000)
        await store.aput(("people", "bob"), "other", {"said": "nothing"}, ttl=1000)


async def found(path: Path, keys: str = KEY) -> list[Any]:
    """The items that a query for the secret finds, with their scores."""
    async with SqliteStorage.open(path, encryption_key=keys) as storage:
        items = await storage.store(OPTIONS).asearch(("people",), query=SECRET)
        return [(item.value["said"], item.score) for item in items]


EXPECTED = [(SECRET, pytest.approx(1)), ("nothing", pytest.approx(0))]


async def test_no_value_and_no_vector_can_be_read_in_the_file(path: Path, tmp_path: Path) -> None:
    await fill(path)
    assert await found(path) == EXPECTED
    stored = contents(tmp_path)
    vector = sql(path, "SELECT vectors FROM store_items WHERE number = 1")[0][0]
    assert SECRET.encode() not in stored
    assert b"nothing" not in stored
    assert len(vector) > 4 * len(NUMBERS)
    # Half of the vector as its floats are written.
    assert b"\x9a\x99\x19\x3f" not in stored


async def test_a_newer_key_opens_what_the_older_one_sealed(path: Path) -> None:
    await fill(path)
    keys = f"{key('2027', 'n')},{KEY}"
    assert await found(path, keys) == EXPECTED
    await fill(path, keys)
    assert await found(path, keys) == EXPECTED


CHANGES = {
    "its last byte": "UPDATE store_items SET value = substr(value, 1, length(value) - 1)",
    "the values of two": """
        UPDATE store_items SET value = (
            SELECT value FROM store_items AS other WHERE other.number != store_items.number
        )""",
    "its namespace": "UPDATE store_items SET prefix = prefix || 'x' || char(31)",
    "its key": 'UPDATE store_items SET "key" = "key" || \'x\'',
    "its number": "UPDATE store_items SET number = number + 10",
    "when it was made": "UPDATE store_items SET created_at = '2020-01-01T00:00:00.000000Z'",
    "when it was written": "UPDATE store_items SET updated_at = '2020-01-01T00:00:00.000000Z'",
    "its time": "UPDATE store_items SET ttl_minutes = 2000",
    "a value in the clear": "UPDATE store_items SET value = CAST('{}' AS BLOB)",
    "the vectors of two": """
        UPDATE store_items SET vectors = (
            SELECT vectors FROM store_items AS other WHERE other.number != store_items.number
        )""",
    "a vector in the place of a value": "UPDATE store_items SET value = vectors",
    "its model": "UPDATE store_items SET model = model || 'x'",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_was_changed_is_not_believed(path: Path, change: str) -> None:
    await fill(path)
    sql(path, CHANGES[change])
    with pytest.raises(Tampered):
        await found(path)
