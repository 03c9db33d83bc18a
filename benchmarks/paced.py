"""The cost and the lag of tokens at the pace of real models: many streams at once, of a server over
HTTP and of the bare graph, and how many of them either serves in time on one core.

Run alone with `python -m benchmarks paced`. The model writes its clock into each token; the clients
(`paced_client.py`) compare it with theirs when they have read it, so the lag is that from the model
to the socket, with the commit at synchronous=FULL in between. The bare graph (`paced_bare.py`) has
the same model, `astream(stream_mode="messages")` and an `InMemorySaver`; its lag is that to whoever
iterates. Server, clients and bare graph each have a process of their own, and the contenders take
turns. CPU is user and system time of a process with all its threads. A model whose event loop is
busy makes its tokens later than they are due; "late" tells by how much, for the last one.

`ASSENT_BENCH_PROFILE=FILE` runs the server under cProfile, as for `benchmarks.server`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.graphs import RATE
from benchmarks.lags import Streamed
from benchmarks.server import served
from benchmarks.sizes import sized

SHAPES = ((sized(50, 2), sized(3, 1)), (200, 3), (400, 1))[: sized(3, 1)]
"""Streams at once, and rounds of them."""

TOKENS = sized(500, 4)
STEP = sized(25, 2)
MOST_STEPS = sized(16, 1)
SECONDS = sized(5, 1)
"""How many streams are served in time is looked for in steps, with so many seconds of tokens."""

IN_TIME_P99_MS = 250.0
IN_TIME_LATE = 1.0
FLUSHES = sized(300, 3)
TIMEOUT_SECONDS = 600

COST_RATIO = 1.2
P99_MS = 25.0
"""The targets at the smallest shape."""

Contender = Callable[[int, int], Streamed]


def bare(streams: int, tokens: int) -> Streamed:
    """The bare graph."""
    return _told("paced_bare", streams, tokens)


def over_http(process: subprocess.Popen[bytes], port: int) -> Contender:
    """The server's process, asked by its clients'."""
    watched = psutil.Process(process.pid)

    def measured(streams: int, tokens: int) -> Streamed:
        before = watched.cpu_times()
        told = _told("paced_client", port, streams, tokens)
        after = watched.cpu_times()
        return replace(told, cpu=after.user - before.user + after.system - before.system)

    return measured


def _told(module: str, *numbers: int) -> Streamed:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, numbers)],
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    return Streamed(**json.loads(done.stdout))


# ── cost and lag ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Round:
    """One shape, by both contenders, one right after the other."""

    bare: Streamed
    server: Streamed

    @property
    def ratio(self) -> float:
        """The server's cost of a token to the bare graph's."""
        return self.server.cost / self.bare.cost


def rounds_of(streams: int, rounds: int, server: Contender) -> list[Round]:
    """Every round of a shape."""
    return [Round(bare(streams, TOKENS), server(streams, TOKENS)) for _ in range(rounds)]


class Report:
    """The table, line by line."""

    def __init__(self) -> None:
        self._table = Table(
            *("streams", "", "lag p50", "p99", "late", "CPU/token", "ratio", "tokens/event"),
            title=f"{TOKENS} tokens at {RATE} a second each",
        )
        for column in self._table.columns[2:]:
            column.justify = "right"

    def add(self, streams: int, rounds: list[Round]) -> None:
        """The medians of the rounds."""
        self._side(str(streams), "bare", [each.bare for each in rounds], "")
        ratio = statistics.median(each.ratio for each in rounds)
        self._side("", "server", [each.server for each in rounds], f"{ratio:.2f}")

    def _side(self, streams: str, name: str, told: list[Streamed], ratio: str) -> None:
        def median(figure: Callable[[Streamed], float]) -> float:
            return statistics.median(map(figure, told))

        self._table.add_row(
            streams,
            name,
            f"{median(lambda each: each.p50):,.1f} ms",
            f"{median(lambda each: each.p99):,.1f} ms",
            f"{median(lambda each: each.late):,.2f} s",
            f"{median(lambda each: each.cost):,.0f} us",
            ratio,
            f"{median(lambda each: each.tokens / each.events):.2f}",
        )

    def show(self) -> None:
        """Print it."""
        Console(width=None if sys.stdout.isatty() else 132).print(self._table)


def verdict(what: str, value: float, at_most: float) -> None:
    """Print a figure, its target, and whether it is met."""
    met = "met" if value <= at_most else "MISSED"
    print(f"  {what:52} {value:8.2f}   at most {at_most:g}: {met}")


def flushes() -> tuple[float, float]:
    """Milliseconds of a flush of the disk alone, as each commit needs one: p50 and p99."""
    taken = []
    with tempfile.TemporaryFile(prefix="assent-bench-", buffering=0) as file:
        for _ in range(FLUSHES):
            file.write(bytes(8192))
            begun = time.perf_counter()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - begun) * 1e3)
    percentiles = statistics.quantiles(taken, n=100)
    return percentiles[49], percentiles[98]


# ── in time, on one core ──────────────────────────────────────────────────────────────────────────


def cores() -> tuple[set[int], set[int]]:
    """One core for what is measured, and all others for its clients; none where a process cannot be
    kept on a core."""
    if not hasattr(os, "sched_setaffinity"):
        return set(), set()
    all_cores = os.sched_getaffinity(0)
    one = {min(all_cores)}
    return one, all_cores - one


@contextmanager
def on_cores(cores: set[int], pid: int = 0) -> Iterator[None]:
    """Keep the process on these cores, and those that it starts; without a `pid`, this one."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(pid)
    _keep_on(cores, pid)
    try:
        yield
    finally:
        _keep_on(before, pid)


def _keep_on(cores: set[int], pid: int) -> None:
    # Each thread has cores of its own.
    for thread in psutil.Process(pid or None).threads():
        os.sched_setaffinity(thread.id, cores)


def most_in_time(contender: Contender) -> int:
    """The most streams that are served in time: by halving what is left."""
    in_time, too_many = 0, MOST_STEPS + 1
    while too_many - in_time > 1:
        steps = (in_time + too_many) // 2
        told = contender(steps * STEP, SECONDS * RATE)
        if told.p99 <= IN_TIME_P99_MS and told.late <= IN_TIME_LATE:
            in_time = steps
        else:
            too_many = steps
    return in_time * STEP


def on_one_core(process: subprocess.Popen[bytes], port: int) -> tuple[int, int]:
    """The most streams in time of the bare graph and of the server."""
    one, others = cores()

    def pinned(streams: int, tokens: int) -> Streamed:
        with on_cores(one):
            return bare(streams, tokens)

    with on_cores(others), on_cores(one, process.pid):
        return most_in_time(pinned), most_in_time(over_http(process, port))


# ── the report ────────────────────────────────────────────────────────────────────────────────────


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    report = Report()
    with served("paced") as (process, port):
        server = over_http(process, port)
        server(1, 2)
        all_rounds = [(streams, rounds_of(streams, rounds, server)) for streams, rounds in SHAPES]
        by_bare, by_server = on_one_core(process, port)
    for streams, rounds in all_rounds:
        report.add(streams, rounds)
    report.show()

    streams, rounds = all_rounds[0]
    ratio = statistics.median(each.ratio for each in rounds)
    p99 = statistics.median(each.server.p99 for each in rounds)
    verdict(f"{streams} streams: CPU per token, server / bare", ratio, COST_RATIO)
    verdict(f"{streams} streams: lag p99 in ms", p99, P99_MS)
    print("  a flush of the disk alone: p50 {:.2f} ms, p99 {:.2f} ms".format(*flushes()))
    print(
        f"  in time on one core (p99 at most {IN_TIME_P99_MS:g} ms, the last token at most "
        f"{IN_TIME_LATE:g} s late): {by_server} streams of the server, {by_bare} of the bare graph"
    )


if __name__ == "__main__":
    main()
