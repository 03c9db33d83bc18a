"""What a person may have, and a tenant: never more, however many ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assent.core.access import Owner, Sight
from assent.core.errors import Conflict, FilesFull, QuotaFull
from assent.core.rows import File, Row, Run, RunStatus, Thread
from assent.storage.base import Caps, Change, Storage, together
from assent.storage.seen import SeenStorage
from assent.storage.sqlite import SqliteStorage
from tests.storage.samples import NOON, assistant, assistant_version, run, thread
from tests.support.rows import replace

ANN = Owner("ann")
CAPS = Caps(threads=3, pending=2, file_bytes=10, assistants=3)
OF_TENANT = Caps(tenant_threads=3, tenant_pending=2, tenant_file_bytes=10)


def threads(count: int, owner: Owner = ANN, *, first: int = 0) -> list[Thread]:
    given = {"owner": owner.name, "tenant": owner.tenant, "version": 1}
    return [
        thread(f"{owner.name}-{owner.tenant or ''}{n}", **given)
        for n in range(first, first + count)
    ]


def waiting(run_id: str, owner: Owner = ANN, **changes: Any) -> Run:
    fresh: dict[str, Any] = {"due_at": None, "worker": None, "ended_at": None, "version": 1}
    fresh |= {"owner": owner.name, "tenant": owner.tenant, "status": RunStatus.PENDING}
    return run(run_id, thread_id=f"of-{run_id}", **{**fresh, **changes})


def upload(file_id: str, size: int, owner: Owner = ANN) -> File:
    return File(
        file_id=file_id,
        owner=owner.name,
        tenant=owner.tenant,
        created_at=NOON,
        mime_type="text/plain",
        size=size,
        sha256="0",
        name="a",
    )


async def write(storage: Storage, rows: Sequence[Row], caps: Caps = CAPS) -> None:
    await storage.commit(Change(rows=tuple(rows), caps=caps))


async def test_of_a_hundred_who_ask_at_once_so_many_get_what_there_may_be(storage: Storage) -> None:
    asking = [write(storage, [each]) for each in threads(100)]
    results = await asyncio.gather(*asking, return_exceptions=True)
    refused = [each for each in results if each is not None]
    assert len(refused) == 97
    assert {type(each) for each in refused} == {QuotaFull}
    assert "You have 3 threads" in str(refused[0])
    assert len((await storage.threads(limit=100)).rows) == 3
    # Others are others, and so is one of the same name elsewhere.
    await write(storage, threads(3, Owner("bob")))
    await write(storage, [thread("t", owner="ann", tenant="acme", version=1)])


async def test_what_is_refused_is_refused_whole(storage: Storage) -> None:
    with pytest.raises(QuotaFull):
        await write(storage, [*threads(4), upload("f", 1)])
    assert await storage.file("f") is None
    await write(storage, threads(3))


async def test_what_goes_makes_room(storage: Storage) -> None:
    await write(storage, threads(3))
    await storage.commit(Change(erase="ann-0"))
    async with asyncio.timeout(30):
        while True:
            try:
                await write(storage, threads(1, first=3))
                break
            except QuotaFull:
                await asyncio.sleep(0.02)


async def test_so_many_runs_wait_and_none_that_works_counts(storage: Storage) -> None:
    await write(storage, [waiting("1"), waiting("2"), waiting("3", status=RunStatus.RUNNING)])
    with pytest.raises(QuotaFull, match="2 runs that wait"):
        await write(storage, [waiting("4")])
    begun = replace(waiting("1"), status=RunStatus.RUNNING, version=2)
    await write(storage, [begun, waiting("4")])


async def test_so_many_bytes_are_kept(storage: Storage) -> None:
    await write(storage, [upload("a", 10)])
    with pytest.raises(FilesFull, match="10 bytes"):
        await write(storage, [upload("b", 1)])
    assert await storage.remove_file("a")
    await write(storage, [upload("b", 1)])


async def test_so_many_versions_are_kept_of_all_assistants_together(storage: Storage) -> None:
    mine: dict[str, Any] = {"tenant": None}
    one, other = assistant("a", **mine), assistant("b", **mine)
    first = [assistant_version(f"a:{n}", **mine) for n in (1, 2)]
    await write(storage, [one, *first, other, assistant_version("b:1", **mine)])
    with pytest.raises(QuotaFull, match="You have 3 versions of assistants"):
        await write(storage, [assistant_version("b:2", **mine)])
    await storage.commit(Change(removed=(one,)))
    await write(storage, [assistant_version(f"b:{n}", **mine) for n in (2, 3)])
    with pytest.raises(QuotaFull, match="The people of your tenant have 3 versions"):
        await write(storage, [assistant_version("c:1", **mine)], Caps(tenant_assistants=3))


async def test_whoever_has_more_than_they_may_can_still_change_it(storage: Storage) -> None:
    rows = [*threads(5), *(waiting(str(n)) for n in range(5))]
    await storage.commit(Change(rows=tuple(rows)))
    changed = replace(rows[0], updated_at=NOON + timedelta(days=1), version=2)
    later = replace(rows[5], priority=7, version=2)
    await write(storage, [changed, later])
    with pytest.raises(QuotaFull):
        await write(storage, threads(1, first=5))


async def test_a_tenant_has_so_much_whoever_of_it_asks(storage: Storage) -> None:
    ann, bob = Owner("ann", "acme"), Owner("bob", "acme")
    await write(storage, [*threads(2, ann), *threads(1, bob)], OF_TENANT)
    with pytest.raises(QuotaFull, match="The people of your tenant have 3 threads"):
        await write(storage, threads(1, bob, first=1), OF_TENANT)
    await write(storage, [waiting("1", ann), waiting("2", bob)], OF_TENANT)
    with pytest.raises(QuotaFull, match="2 runs"):
        await write(storage, [waiting("3", bob)], OF_TENANT)
    await write(storage, [upload("a", 9, ann)], OF_TENANT)
    with pytest.raises(FilesFull, match="tenant"):
        await write(storage, [upload("b", 2, bob)], OF_TENANT)
    await write(storage, [*threads(3, Owner("ann", "other")), *threads(3, Owner("eve"))], OF_TENANT)


async def test_a_row_that_exists_is_a_conflict_also_for_whoever_has_too_much(
    storage: Storage,
) -> None:
    await write(storage, threads(3))
    with pytest.raises(Conflict):
        await write(storage, threads(1))


async def test_changes_that_become_one_keep_their_caps(storage: Storage) -> None:
    rows = threads(4)
    change = together(Change(rows=tuple(rows[:2])), Change(rows=tuple(rows[2:]), caps=CAPS))
    with pytest.raises(QuotaFull):
        await storage.commit(change)


async def test_whatever_a_request_changes_is_held_to_the_caps(storage: Storage) -> None:
    seen = SeenStorage(storage, Sight("own", ANN), CAPS)
    await seen.commit(Change(rows=tuple(threads(3))))
    with pytest.raises(QuotaFull):
        await seen.commit(Change(rows=tuple(threads(1, first=3))))
    # The program itself is not.
    await storage.commit(Change(rows=tuple(threads(1, first=3))))


async def test_what_was_there_before_a_restart_counts(path: Path) -> None:
    async with SqliteStorage.open(path) as storage:
        await write(storage, threads(3))
    async with SqliteStorage.open(path) as storage:
        with pytest.raises(QuotaFull):
            await write(storage, threads(1, first=3))
