"""The cost of storing an event and showing it: the SQLite storage against a transaction per write
over aiosqlite, which is what one would write first. Both at `synchronous=FULL`, in one run.

Run alone with `python -m benchmarks.storage`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import aiosqlite

from assent.core.events import Done, Event, Token, encode
from assent.core.rows import Thread, ThreadStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage
from benchmarks.sizes import sized
from benchmarks.tokens import ratio

EVENTS = sized(50_000, 200)
PLAIN_EVENTS = sized(2_000, 20)
COMMITS = sized(4_000, 40)
WRITERS = sized(100, 4)
ALONE = sized(200, 10)
RATE = sized(2_000, 50)
SECONDS = sized(3, 1)
ROUNDS = sized(3, 1)


class Plain:
    """An event log and a table of threads, with a transaction per write and a lock around it."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[Plain]:
        async with aiosqlite.connect(path) as connection:
            await connection.executescript(
                """
                PRAGMA journal_mode = WAL;
                PRAGMA synchronous = FULL;
                CREATE TABLE events (
                    thread_id TEXT, seq INTEGER, body BLOB, PRIMARY KEY (thread_id, seq)
                ) WITHOUT ROWID;
                CREATE TABLE threads (thread_id TEXT PRIMARY KEY, status TEXT, version INTEGER);
                """
            )
            yield cls(connection)

    async def write(self, event: Event, thread_id: str | None = None) -> None:
        """Store an event, and a row with it if there is one."""
        next_seq = "(SELECT coalesce(max(seq), 0) + 1 FROM events WHERE thread_id = ?)"
        async with self._lock:
            await self._connection.execute(
                f"INSERT INTO events VALUES (?, {next_seq}, ?)",
                (event.thread_id, event.thread_id, encode(event)),
            )
            if thread_id is not None:
                await self._connection.execute(
                    "INSERT INTO threads VALUES (?, 'idle', 1)", (thread_id,)
                )
            await self._connection.commit()

    async def count(self) -> int:
        rows = await self._connection.execute_fetchall("SELECT seq, body FROM events")
        return len(list(rows))


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    asyncio.run(measure())


async def measure() -> None:
    """Every figure, in fresh files."""
    with TemporaryDirectory() as folder:
        # The first round only warms up.
        _, *rounds = [await one_round(Path(folder) / str(number)) for number in range(ROUNDS + 1)]
    events, cpu, plain_events, commits, plain_commits, alone, p50, p99 = (
        statistics.median(each) for each in zip(*rounds, strict=True)
    )
    print(f"Events appended, and read by a subscriber, {EVENTS:,} in one thread")
    print(f"  {'assent':24} {events:10,.0f} /s    {cpu:.1f} us of CPU each, building it included")
    print(f"  {'a transaction each':24} {plain_events:10,.0f} /s")
    ratio("assent / plain", events / plain_events, at_least=10)
    print(f"A row and an event committed together, {WRITERS} at once")
    print(f"  {'assent':24} {commits:10,.0f} /s    alone {alone:.2f} ms each")
    print(f"  {'a transaction each':24} {plain_commits:10,.0f} /s")
    ratio("assent / plain", commits / plain_commits, at_least=3)
    print(f"Time from append to a subscriber, at {RATE:,} events/s")
    print(f"  {'p50':24} {p50:10.2f} ms")
    print(f"  {'p99':24} {p99:10.2f} ms")


async def one_round(folder: Path) -> tuple[float, ...]:
    """One value of each figure."""
    await asyncio.to_thread(folder.mkdir)
    async with (
        SqliteStorage.open(folder / "assent.db") as storage,
        Plain.open(folder / "plain.db") as plain,
    ):
        return (
            *await streamed(storage),
            await plainly_streamed(plain),
            await committed(storage),
            await plainly_committed(plain),
            await alone(storage),
            *await latencies(storage),
        )


async def streamed(storage: Storage) -> tuple[float, float]:
    """Events per second, and microseconds of CPU per event."""
    subscriber = asyncio.create_task(follow(storage, "streamed", EVENTS))
    await asyncio.sleep(0.05)
    begun, cpu = time.perf_counter(), time.process_time()
    for number in range(EVENTS):
        storage.append((token("streamed", number),), fail)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await subscriber
    return EVENTS / (time.perf_counter() - begun), (time.process_time() - cpu) / EVENTS * 1e6


async def plainly_streamed(plain: Plain) -> float:
    """Events per second."""
    begun = time.perf_counter()
    for _ in range(PLAIN_EVENTS):
        await plain.write(token("streamed"))
    assert await plain.count() == PLAIN_EVENTS
    return PLAIN_EVENTS / (time.perf_counter() - begun)


async def committed(storage: Storage) -> float:
    """Commits per second."""

    async def writer(name: str) -> None:
        for number in range(COMMITS // WRITERS):
            await storage.commit(
                Change(rows=(row(f"{name}-{number}"),), events=(Done(thread_id=name),))
            )

    return COMMITS / await seconds_of(writer(f"committed-{number}") for number in range(WRITERS))


async def plainly_committed(plain: Plain) -> float:
    """Commits per second."""

    async def writer(name: str) -> None:
        for number in range(COMMITS // WRITERS // 2):
            await plain.write(Done(thread_id=name), f"{name}-{number}")

    return (
        COMMITS // 2 / await seconds_of(writer(f"committed-{number}") for number in range(WRITERS))
    )


async def alone(storage: Storage) -> float:
    """Milliseconds that a commit takes when nothing else is going on."""
    taken = []
    for number in range(ALONE):
        begun = time.perf_counter()
        await storage.commit(
            Change(rows=(row(f"alone-{number}"),), events=(Done(thread_id="alone"),))
        )
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1e3


async def latencies(storage: Storage) -> tuple[float, float]:
    """Milliseconds from append to subscriber, median and 99th percentile, at a steady rate."""
    seen: list[float] = []
    sent: list[float] = []
    subscriber = asyncio.create_task(follow(storage, "late", RATE * SECONDS, seen))
    await asyncio.sleep(0.05)
    begun = time.perf_counter()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(begun + number / RATE - time.perf_counter())
        sent.append(time.perf_counter())
        storage.append((token("late", number),), fail)
    await subscriber
    waits = sorted((shown - queued) * 1e3 for queued, shown in zip(sent, seen, strict=True))
    return waits[len(waits) // 2], waits[len(waits) * 99 // 100]


async def follow(
    storage: Storage, thread_id: str, until: int, seen: list[float] | None = None
) -> None:
    """Read the log as a transport does."""
    after = 0
    with storage.listen(thread_id) as doorbell:
        while after < until:
            entries = await storage.read_log(thread_id, after)
            for entry in entries:
                assert entry.seq == after + 1
                after = entry.seq
                if seen is not None:
                    seen.append(time.perf_counter())
            if not entries:
                await doorbell.wait(5)


async def seconds_of(writers: Iterable[Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await asyncio.gather(*writers)
    return time.perf_counter() - begun


def token(thread_id: str, number: int = 0) -> Token:
    """A token that is not merged with the ones before and behind it, so that each is a row;
    `benchmarks.log` measures merging."""
    return Token(
        index=number % 2,
        thread_id=thread_id,
        run_id="0199a0b0-0000-7000-8000-000000000001",
        message_id="run--0199a0b0-0000-7000-8000-000000000002",
        content="hello ",
        node="agent",
        task_id="5d0f4d32-3ee6-0c1c-2ba5-4ba3bb2bf5c0",
    )


def row(thread_id: str) -> Thread:
    now = datetime.now(UTC)
    return Thread(
        thread_id=thread_id, owner="ann", status=ThreadStatus.IDLE, created_at=now, updated_at=now
    )


def fail(error: Exception) -> None:
    raise error


if __name__ == "__main__":
    main()
