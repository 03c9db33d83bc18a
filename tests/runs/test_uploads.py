"""Uploads that nobody refers to, and limits of those of a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from assent.core.clock import Clock
from assent.core.errors import Conflict, InvalidInput, NotFound
from assent.core.rows import FileUse
from assent.core.run_input import RunInput
from assent.runs.retention import Retention, Sweeper
from assent.runs.uploads import MOST_OF_A_THREAD, Uploads
from assent.storage.base import Change, Storage, together
from assent.storage.sqlite import SqliteStorage
from tests.runs.harness import sent
from tests.storage.samples import thread
from tests.support.manual_clock import ManualClock
from tests.support.waiting import PATIENCE

HOUR = timedelta(hours=1)


@pytest.fixture
def manual() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def storage(tmp_path: Path, manual: ManualClock) -> AsyncIterator[Storage]:
    async with SqliteStorage.open(tmp_path / "assent.db", manual.clock) as storage:
        yield storage


def naming(*ids: str) -> RunInput:
    return RunInput([{"type": "file", "file_id": id} for id in ids])


async def test_uploads_go_after_a_day_unless_a_thread_refers_to_them(
    storage: Storage, manual: ManualClock
) -> None:
    uploads = Uploads(storage, manual.clock)
    unused, used = await sent(uploads), await sent(uploads)
    uses = await uploads.uses(naming(used.file_id), frozenset(), "t")
    await storage.commit(Change(rows=(thread(), *uses.rows), unchanged=uses.unchanged))
    sweeper = Sweeper(storage, Retention(), manual.clock, lambda: manual.passed, uploads)
    await sweeper.sweep()
    for hours, left in ((23, [unused, used]), (2, [used]), (1000, [used])):
        manual.wait(hours * HOUR)
        await sweeper.sweep()
        ids = {row.file_id for row in left}
        assert await storage.known_files([unused.file_id, used.file_id]) == ids
        assert set(await storage.files.ids()) == ids

    await storage.commit(Change(erase="t"))
    manual.wait(HOUR)
    await sweeper.sweep()
    assert await storage.files.ids() == []
    with pytest.raises(NotFound):
        await uploads.get(used.file_id)


async def test_an_upload_goes_with_its_thread_on_the_day_that_it_was_sent(
    storage: Storage, manual: ManualClock
) -> None:
    uploads = Uploads(storage, manual.clock)
    row = await sent(uploads)
    uses = await uploads.uses(naming(row.file_id), frozenset(), "t")
    await storage.commit(together(Change(rows=(thread(),)), uses))
    # A second thread, while the first is still there.
    uses = await uploads.uses(naming(row.file_id), frozenset(), "u")
    await storage.commit(together(Change(rows=(thread("u"),)), uses))
    await storage.commit(Change(erase="t"))
    await uploads.remove_unused(manual.clock.now())
    assert await storage.files.ids() == [row.file_id]

    await storage.commit(Change(erase="u"))
    await uploads.remove_unused(manual.clock.now())
    assert await storage.files.ids() == []


async def test_a_file_that_was_removed_meanwhile_is_not_referred_to(storage: Storage) -> None:
    uploads = Uploads(storage, Clock())
    row = await sent(uploads)
    uses = await uploads.uses(naming(row.file_id), frozenset(), "t")
    await uploads.remove(row.file_id)
    with pytest.raises(Conflict):
        await storage.commit(uses)
    with pytest.raises(InvalidInput, match="There is no upload"):
        await uploads.uses(naming(row.file_id), frozenset(), "t")


async def test_a_thread_refers_to_no_more_than_it_may(storage: Storage) -> None:
    uploads = Uploads(storage, Clock())
    row = await sent(uploads)
    uses = (
        FileUse(use_id=f"{number}:t", file_id=f"{number}", thread_id="t")
        for number in range(MOST_OF_A_THREAD)
    )
    await storage.commit(Change(rows=tuple(uses)))
    with pytest.raises(InvalidInput, match="refer to 1,001 uploads, and 1,000 are the most"):
        await uploads.uses(naming(row.file_id), frozenset(), "t")


async def test_a_second_message_with_the_same_file_notes_it_once(storage: Storage) -> None:
    uploads = Uploads(storage, Clock())
    row = await sent(uploads)
    for _ in range(2):
        await storage.commit(await uploads.uses(naming(row.file_id), frozenset(), "t"))
    assert [use.file_id for use in await storage.file_uses("t")] == [row.file_id]
    with pytest.raises(Conflict, match="A thread refers to"):
        await uploads.remove(row.file_id)
    assert await storage.files.read(row.file_id) == b"x"


async def test_an_upload_that_is_cancelled_is_stored_with_its_bytes_or_not_at_all(
    storage: Storage,
) -> None:
    uploads = Uploads(storage, Clock())
    turns = 0
    ended_first = False
    while not ended_first:
        sending = asyncio.create_task(sent(uploads))
        known = set(await storage.files.ids())
        async with asyncio.timeout(PATIENCE):
            while not set(await storage.files.ids()) - known:
                await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        turns = 2 * turns + 1
        ended_first = sending.done()
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
    await storage.commit(Change(rows=(thread(),)))  # Whatever was sent is stored by now.
    with_bytes = await storage.files.ids()
    stored = await storage.remove_unused_files(Clock().now() + HOUR)
    assert stored
    assert set(stored) <= set(with_bytes)
