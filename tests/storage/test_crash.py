"""SIGKILL at random instants. `make crash` does the same for longer; CRASH_KILLS says how often."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from assent.core.events import Done, decode
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from assent.storage.sqlite.checkup import Level, check_up
from tests.storage import crash
from tests.support.forks import forked, pipe

KILLS = int(os.environ.get("CRASH_KILLS", "25"))
KILLS_PER_FILE = 14
"""A new file now and then, because each kill is followed by a look at all of it."""

LANES = 3
"""Files that are written and killed at the same time, for much of it is waiting."""

Acknowledged = dict[str, dict[int, int]]
"""The number of the event that was stored with each version of each thread."""


def received(pipe: Connection) -> Iterator[tuple[str, int, int]]:
    """Everything that was sent before the sender died; it may have died in the middle of a
    message."""
    with suppress(EOFError, OSError):
        while True:
            yield pipe.recv()


@pytest.mark.timeout(60 + KILLS)
async def test_a_kill_at_any_instant_loses_nothing_acknowledged_and_reuses_no_number(
    tmp_path: Path,
) -> None:
    counts: Counter[str] = Counter()
    files = iter(
        [
            (tmp_path / f"assent-{begun}.db", min(KILLS_PER_FILE, KILLS - begun))
            for begun in range(0, KILLS, KILLS_PER_FILE)
        ]
    )

    async def lane(number: int) -> None:
        moments = random.Random(number)
        for path, kills in files:
            await _kill_again_and_again(path, kills, moments, counts)

    async with asyncio.TaskGroup() as group:
        for number in range(LANES):
            group.create_task(lane(number))
    # Had hardly anything been acknowledged, the checks would have proved nothing.
    assert (
        min(counts[thread_id] for thread_id in (*crash.THREADS, crash.SWEPT, crash.SAVED))
        > KILLS / 2
    )


async def _kill_again_and_again(
    path: Path, kills: int, moments: random.Random, counts: Counter[str]
) -> None:
    acknowledged: Acknowledged = {thread_id: {} for thread_id in crash.THREADS}
    swept = saved = 0
    for _ in range(kills):
        for thread_id, version, seq in await _killed(path, moments):
            counts[thread_id] += 1
            if thread_id == crash.SWEPT:
                assert seq > swept
                swept = seq
            elif thread_id == crash.SAVED:
                saved = seq
            else:
                acknowledged[thread_id][version] = seq
        # What was put, but not acknowledged any more, counts from here on.
        saved = await _check(path, acknowledged, swept, saved)
    await asyncio.to_thread(path.unlink)


async def _killed(path: Path, moments: random.Random) -> list[tuple[str, int, int]]:
    """What was acknowledged by a process that was killed at a random moment."""
    ours, theirs = pipe()
    child = forked(crash.write_until_killed, path, theirs)
    theirs.close()
    with ours:
        try:
            # Most are killed while they write, some while they open the file, or make it.
            if moments.random() < 0.9:
                await asyncio.to_thread(ours.poll, 30)
            await asyncio.sleep(moments.uniform(0, 0.05))
        finally:
            child.kill()
        await asyncio.to_thread(child.join)
        sent = list(received(ours))
    child.close()
    return sent


async def _check(path: Path, acknowledged: Acknowledged, swept: int, saved: int) -> int:
    """The log has no gap, every commit is whole, and what was acknowledged is under the number that
    was given.

    Return how many messages the last checkpoint has.
    """
    async with SqliteStorage.open(path) as storage:
        for thread_id, versions in acknowledged.items():
            row = await storage.thread(thread_id)
            entries = await storage.read_log(thread_id, limit=1_000_000)
            assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
            done = [
                event
                for event in (decode(entry.body) for entry in entries if entry.type == "done")
                if isinstance(event, Done)
            ]
            assert [event.run_id for event in done] == [
                f"version {n}" for n in range(1, (row.version if row else 0) + 1)
            ]
            numbers = {event.run_id: event.seq for event in done}
            assert versions == {version: numbers[f"version {version}"] for version in versions}
        # What was removed is not numbered again.
        assert await storage.commit(Change(events=(Done(thread_id=crash.SWEPT),))) > (swept,)
        saved = await _check_checkpoints(storage, saved)
    findings = await asyncio.to_thread(check_up, path)
    assert [finding for finding in findings if finding.level is Level.WRONG] == []
    return saved


async def _check_checkpoints(storage: Storage, saved: int) -> int:
    """The head is what was acknowledged, or what was being put when the kill came, and every
    checkpoint that is left is whole."""
    left = [
        each
        async for each in storage.checkpointer.alist({"configurable": {"thread_id": crash.SAVED}})
    ]
    counts: list[int] = []
    for each in left:
        ids = [message.id for message in each.checkpoint["channel_values"]["messages"]]
        assert ids == [str(number) for number in range(len(ids))]
        assert [value for _, _, value in each.pending_writes or ()] in ([], [f"after {len(ids)}"])
        counts.append(len(ids))
    assert counts == list(range(counts[0], counts[-1] - 1, -1) if counts else [])
    head = counts[0] if counts else 0
    assert saved <= head <= saved + 1
    return head
