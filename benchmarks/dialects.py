"""The cost of dialects: tokens for a second of the server's CPU, of runs that are followed by each
dialect's client, against our own stream of the same runs. And the time that LangGraph's clients
wait for what a thread of a thousand turns holds, beside one of a hundred.

Run alone with `python -m benchmarks dialects`. The server and the clients of each contender
(`dialect_client.py`) are processes of their own, and the contenders take turns. CPU is user and
system time of the server with all its threads, from the request that starts a run to the last byte
of its end; each round gives its own ratios, and what is printed are medians. The model's tokens are
instant, so next to nothing of the CPU is anybody else's.

`ASSENT_BENCH_PROFILE=FILE` runs the server under cProfile, as for `benchmarks.server`.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.client import TIMEOUT_SECONDS
from benchmarks.dialect_client import CLIENTS, asked, request, turn, turn_body
from benchmarks.server import Shape, served
from benchmarks.sizes import sized

ROUNDS = sized(5, 1)
WARM_UP = sized(1, 0)
SHAPES = (
    Shape(sized(20, 2), sized(500, 20), sized(2, 1)),
    Shape(1, sized(5000, 20), sized(2, 1)),
)[: sized(2, 1)]
RATIO = 0.6

OWN = "native"
CLOCK_TICK = 0.01
"""Seconds that the clock of a process can tell apart."""

Costs = Mapping[str, float]
"""Seconds of the server's CPU for a shape, by dialect."""


def costs_of(shape: Shape, process: subprocess.Popen[bytes], port: int) -> Costs:
    """One round: every contender, one right after the other."""
    watched = psutil.Process(process.pid)

    def cpu_seconds() -> float:
        times = watched.cpu_times()
        return float(times.user + times.system)

    costs = {}
    for dialect in CLIENTS:
        before = cpu_seconds()
        follow(dialect, port, shape)
        costs[dialect] = max(cpu_seconds() - before, CLOCK_TICK)
    return costs


def follow(dialect: str, port: int, shape: Shape) -> None:
    """Have the dialect's clients do a whole shape. Raises if one has not heard the end."""
    numbers = map(str, (port, shape.runs, shape.tokens, shape.times))
    subprocess.run(
        [sys.executable, "-m", "benchmarks.dialect_client", dialect, *numbers],
        timeout=(shape.times + 1) * TIMEOUT_SECONDS,
        check=True,
    )


class Report:
    """The table, line by line."""

    def __init__(self) -> None:
        self._table = Table(
            *("runs", "dialect", "tokens per CPU second", "ratio", "target"),
            "",
            title="Dialects",
        )
        for column in self._table.columns[2:]:
            column.justify = "right"

    def add(self, shape: Shape, rounds: list[Costs]) -> None:
        """The medians of the rounds."""
        tokens = shape.times * shape.runs * shape.tokens
        for dialect in CLIENTS:
            rate = statistics.median(tokens / costs[dialect] for costs in rounds)
            ratio = statistics.median(costs[OWN] / costs[dialect] for costs in rounds)
            verdict = "met" if ratio >= RATIO else "MISSED"
            against = ("", "", "") if dialect == OWN else (f"{ratio:.2f}", f"≥ {RATIO}", verdict)
            name = str(shape) if dialect == OWN else ""
            self._table.add_row(name, dialect, f"{rate:,.0f}", *against)

    def show(self) -> None:
        """Print it."""
        Console(width=None if sys.stdout.isatty() else 132).print(self._table)


LONG = (sized(100, 2), sized(1000, 4))
"""The turns of a thread, before each time that it is read."""

READS = sized(20, 2)
WORDS = 20
"""The tokens of a turn's answer."""

READ_MS = 25.0
MOST_BYTES = 1 << 26


def reads(port: int, thread_id: str) -> dict[str, Callable[[], Awaitable[float]]]:
    """The ways in which LangGraph's clients read a thread, each with the seconds that it takes."""
    path = f"/threads/{thread_id}"
    return {
        "values": lambda: until_read(port, path),
        "values, first frame of a run": lambda: until_first_values(port, thread_id),
        "state": lambda: until_read(port, f"{path}/state"),
        "history, 10 states": lambda: until_read(port, f"{path}/history", b'{"limit": 10}'),
    }


async def until_read(port: int, path: str, body: bytes | None = None) -> float:
    """The seconds until the last byte of an answer."""
    begun = time.perf_counter()
    await asked(port, path, body)
    return time.perf_counter() - begun


async def until_first_values(port: int, thread_id: str) -> float:
    """The seconds from the request for a run until its stream has shown the state that it found."""
    body = turn_body(1, "values")
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MOST_BYTES)
    writer.write(request(f"/threads/{thread_id}/runs/stream", body))
    await reader.readuntil(b"event: values\n")
    await reader.readuntil(b"\n\n")
    seconds = time.perf_counter() - begun
    # The next one begins when this run has ended.
    await reader.read()
    writer.close()
    return seconds


async def waited(read: Callable[[], Awaitable[float]]) -> float:
    """The median in milliseconds."""
    return statistics.median([await read() for _ in range(READS)]) * 1000


async def long_thread(port: int) -> Table:
    """The times of a thread that grows."""
    titles = [f"{turns:,} turns" for turns in LONG]
    table = Table("ms at p50", *titles, "target", "", title="A long thread")
    thread_id, done = "long", 0
    found: dict[str, list[float]] = {}
    for turns in LONG:
        for _ in range(done, turns):
            await turn(port, thread_id, WORDS, "updates")
        done = turns
        for name, read in reads(port, thread_id).items():
            found.setdefault(name, []).append(await waited(read))
    for name, times in found.items():
        verdict = "met" if times[-1] <= READ_MS else "MISSED"
        table.add_row(name, *(f"{each:.1f}" for each in times), f"≤ {READ_MS:g}", verdict)
    return table


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    report = Report()
    with served() as (process, port):
        for shape in SHAPES:
            # The first warms everything up, and is not counted.
            rounds = [costs_of(shape, process, port) for _ in range(ROUNDS + WARM_UP)]
            report.add(shape, rounds[WARM_UP:])
        long = asyncio.run(long_thread(port))
    report.show()
    Console(width=None if sys.stdout.isatty() else 132).print(long)


if __name__ == "__main__":
    main()
