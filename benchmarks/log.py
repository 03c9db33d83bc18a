"""The event log under load: the tokens per second that a hundred threads write while two hundred
subscribers read them, the gain of merging, and the time a token takes to its subscriber at a
moderate rate. At `synchronous=FULL`.

Run alone with `python -m benchmarks.log`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from assent.core.events import Done, Token, decode
from assent.storage.base import Change, LogEntry, Storage
from assent.storage.sqlite import SqliteStorage
from benchmarks.sizes import sized
from benchmarks.storage import fail, token
from benchmarks.tokens import ratio

THREADS = sized(100, 4)
SUBSCRIBERS = sized(200, 8)
WORDS = sized(1_000, 20)
"""Of each thread."""

RATE = sized(2_000, 100)
SECONDS = sized(3, 1)
ROUNDS = sized(3, 1)


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    asyncio.run(measure())


async def measure() -> None:
    """Every figure, in fresh files."""
    with TemporaryDirectory() as folder:
        # The first round only warms up.
        _, *rounds = [await one_round(Path(folder) / str(number)) for number in range(ROUNDS + 1)]
    apart, apart_cpu, rate, cpu, rows, p50, p99 = (
        statistics.median(each) for each in zip(*rounds, strict=True)
    )
    tokens = THREADS * WORDS
    print(
        f"{tokens:,} tokens appended to {THREADS} threads at full speed, "
        f"and read to the end by {SUBSCRIBERS} subscribers"
    )
    print(
        f"  {'one message a thread':24} {rate:10,.0f} /s    "
        f"{cpu:.1f} us of CPU per token, {rows:,.0f} rows"
    )
    print(
        f"  {'nothing to merge':24} {apart:10,.0f} /s    "
        f"{apart_cpu:.1f} us of CPU per token, {tokens:,} rows"
    )
    bound("tokens/s, merged", rate, at_least=50_000)
    bound("tokens/s, not merged", apart, at_least=50_000)
    ratio("merged / not merged", rate / apart, at_least=1)
    print(
        f"Time from append to a subscriber, at {RATE:,} events/s over {THREADS} threads "
        f"with {SUBSCRIBERS} subscribers"
    )
    bound("p50, ms", p50, at_most=2)
    bound("p99, ms", p99, at_most=10)


def bound(
    name: str, value: float, *, at_most: float | None = None, at_least: float | None = None
) -> None:
    """Print a figure, its target, and whether it is met."""
    met = value <= at_most if at_most is not None else value >= (at_least or 0)
    target = f"at most {at_most}" if at_most is not None else f"at least {at_least:,}"
    print(f"  {name:24} {value:10,.2f}      target: {target}   {'met' if met else 'MISSED'}")


async def one_round(folder: Path) -> tuple[float, ...]:
    """One value of each figure."""
    await asyncio.to_thread(folder.mkdir)
    async with SqliteStorage.open(folder / "apart.db") as storage:
        # Every other token is of another block, so that no two neighbours can be merged.
        apart, apart_cpu, rows = await in_a_crowd(storage, lambda name, number: token(name, number))
        assert rows == THREADS * WORDS
    async with SqliteStorage.open(folder / "merged.db") as storage:
        rate, cpu, rows = await in_a_crowd(storage, lambda name, number: token(name))
    async with SqliteStorage.open(folder / "calm.db") as storage:
        p50, p99 = await latencies(storage)
    return apart, apart_cpu, rate, cpu, float(rows), p50, p99


async def in_a_crowd(
    storage: Storage, word: Callable[[str, int], Token]
) -> tuple[float, float, int]:
    """Tokens per second, microseconds of CPU per token, and the rows they came to."""
    names = [f"t{number}" for number in range(THREADS)]
    subscribers = [
        asyncio.create_task(read_to_the_end(storage, names[number % THREADS]))
        for number in range(SUBSCRIBERS)
    ]
    await asyncio.sleep(0.1)
    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(say(storage, name, word) for name in names), *subscribers)
    taken, used = time.perf_counter() - begun, time.process_time() - cpu
    rows = 0
    for name in names:
        events = [decode(entry.body) for entry in await storage.read_log(name, limit=10 * WORDS)]
        assert (
            "".join(event.content for event in events if isinstance(event, Token))
            == "hello " * WORDS
        )
        rows += len(events) - 1
    return THREADS * WORDS / taken, used / (THREADS * WORDS) * 1e6, rows


async def say(storage: Storage, name: str, word: Callable[[str, int], Token]) -> None:
    """A thread's words, ten at a time, as they come when everybody's do."""
    for number in range(WORDS):
        storage.append((word(name, number),), fail)
        if number % 10 == 9:
            await asyncio.sleep(0)
    await storage.commit(Change(events=(Done(thread_id=name),)))


async def read_to_the_end(storage: Storage, name: str) -> None:
    """Read the log as a transport does, up to `done`."""
    after, last = 0, ""
    with storage.listen(name) as doorbell:
        while last != "done":
            entries = await storage.read_log(name, after)
            for entry in entries:
                assert entry.seq == after + 1
                after, last = entry.seq, entry.type
            if not entries:
                await doorbell.wait(5)


async def latencies(storage: Storage) -> tuple[float, float]:
    """Milliseconds from append to each subscriber, median and 99th percentile, at a steady rate."""
    names = [f"t{number}" for number in range(THREADS)]
    each = RATE * SECONDS // THREADS
    sent: dict[str, list[float]] = {name: [] for name in names}
    waits: list[float] = []

    def seen(name: str, entries: tuple[LogEntry, ...]) -> None:
        now = time.perf_counter()
        waits.extend((now - sent[name][entry.seq - 1]) * 1e3 for entry in entries)

    async def subscribe(name: str) -> None:
        after = 0
        with storage.listen(name) as doorbell:
            while after < each:
                if entries := await storage.read_log(name, after):
                    seen(name, entries)
                    after = entries[-1].seq
                else:
                    await doorbell.wait(5)

    subscribers = [
        asyncio.create_task(subscribe(names[number % THREADS])) for number in range(SUBSCRIBERS)
    ]
    await asyncio.sleep(0.1)
    begun = time.perf_counter()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(begun + number / RATE - time.perf_counter())
        name = names[number % THREADS]
        sent[name].append(time.perf_counter())
        storage.append((token(name, number // THREADS),), fail)
    await asyncio.gather(*subscribers)
    waits.sort()
    return waits[len(waits) // 2], waits[len(waits) * 99 // 100]


if __name__ == "__main__":
    main()
