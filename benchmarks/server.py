"""The cost of the whole server: runs over HTTP, with every event committed before it is
sent, against the same graph in process.

Run alone with `python -m benchmarks server`. Three processes take part: `assent serve` over a
database file at synchronous=FULL, its clients (`client.py`), and this one, which also runs the bare
graph: `astream(stream_mode="messages")` on it, compiled with an `InMemorySaver`, since a graph that
pauses for a person needs a checkpointer. Without one it is a little different; that is printed too,
and no ratio uses it.

CPU is user and system time of the server's whole process, with all its threads. The contenders take
turns, each round gives its own ratios, and what is printed are medians.

`ASSENT_BENCH_PROFILE=FILE` runs the server under cProfile, for `python -m pstats FILE`: its event
loop's thread only, and the figures are then worth nothing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from langgraph.checkpoint.memory import InMemorySaver
from rich.console import Console
from rich.table import Table

from benchmarks import client, graphs
from benchmarks.graphs import counting
from benchmarks.sizes import sized

ROUNDS = sized(5, 1)
START_SECONDS = 60
STOP_SECONDS = 20
CLIENT_SECONDS = 120

TOKENS_RATIO = 0.6
RUNS_RATIO = 0.25
FIRST_TOKEN_MS = 5.0


@dataclass(frozen=True, slots=True)
class Shape:
    """So many runs at once, of so many tokens each; several times over, where one time is too short
    for the process clock's 10 ms."""

    runs: int
    tokens: int
    times: int

    def __str__(self) -> str:
        if self.runs == 1:
            return f"1 run of {self.tokens:,}"
        return f"{self.runs} runs of {self.tokens:,} at once"


SHAPES = (
    Shape(1, sized(5000, 20), sized(4, 1)),
    Shape(sized(20, 2), sized(500, 20), sized(2, 1)),
    Shape(sized(100, 4), 20, sized(2, 1)),
)
FIRST_TOKEN = Shape(1, 20, sized(30, 2))


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a shape: CPU seconds and wall-clock seconds for all its times, and the time to
    the first token of each run."""

    shape: Shape
    cpu: float
    wall: float
    first_token: tuple[float, ...]

    @property
    def tokens_per_cpu_second(self) -> float:
        return self.shape.times * self.shape.runs * self.shape.tokens / self.cpu

    @property
    def runs_per_second(self) -> float:
        return self.shape.times * self.shape.runs / self.wall

    @property
    def first_token_ms(self) -> float:
        return statistics.median(self.first_token) * 1000


Contender = Callable[[Shape], Cost]


def bare(graph: Any) -> Contender:
    """The graph in this process."""

    async def one_run(tokens: int) -> float:
        first, heard, started = 0.0, 0, time.perf_counter()
        config = {"configurable": {"thread_id": str(uuid4())}}
        async for chunk, _ in graph.astream(
            {"messages": [("user", str(tokens))]}, config, stream_mode="messages"
        ):
            if chunk.content:
                first = first or time.perf_counter() - started
                heard += 1
        assert heard == tokens, f"the graph streamed {heard} tokens of {tokens}"
        return first

    async def run(shape: Shape) -> Cost:
        firsts: list[float] = []
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(shape.times):
            firsts += await asyncio.gather(*(one_run(shape.tokens) for _ in range(shape.runs)))
        return Cost(shape, time.process_time() - cpu, time.perf_counter() - wall, tuple(firsts))

    def measured(shape: Shape) -> Cost:
        # What was left behind by the last round is not this one's cost. It makes the bare graph
        # faster, if anything.
        gc.collect()
        return asyncio.run(run(shape))

    return measured


@contextmanager
def served(
    graph: str = "counting", **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`assent serve` with a graph of `graphs` and these settings, and its port. The database is in
    a folder of its own that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="assent-bench-") as name:
        folder = Path(name)
        log = folder / "server.log"
        process = started(graph, log, environment(folder) | settings)
        try:
            yield process, port_of(process, log)
        finally:
            # Ctrl-C, since a profiler has its say only after that.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait(STOP_SECONDS)


def started(graph: str, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """The server's process, which writes to the log."""
    with log.open("wb") as written:
        return subprocess.Popen(command(graph), stdout=written, stderr=written, env=environment)


def command(graph: str) -> list[str]:
    """The server's command line."""
    profile = os.environ.get("ASSENT_BENCH_PROFILE")
    profiled = ["-m", "cProfile", "-o", profile] if profile else []
    program = str(Path(sys.executable).with_name("assent"))
    return [sys.executable, *profiled, program, *arguments(graph)]


def arguments(graph: str) -> list[str]:
    """The command's."""
    return ["serve", f"{graphs.__file__}:{graph}", "--port", "0"]


def environment(folder: Path) -> dict[str, str]:
    """This process's, with the defaults for everything that can be set but the place."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")}
    return {**kept, "ASSENT_DATABASE": f"sqlite:///{folder / 'assent.db'}"}


def port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the server says it has, once it serves."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"The server did not start:\n{log.read_text()}")


def over_http(process: subprocess.Popen[bytes], port: int) -> Contender:
    """The server's process, asked by its clients'."""
    watched = psutil.Process(process.pid)

    def cpu_seconds() -> float:
        times = watched.cpu_times()
        return float(times.user + times.system)

    def measured(shape: Shape) -> Cost:
        numbers = map(str, (port, shape.runs, shape.tokens, shape.times))
        before = cpu_seconds()
        done = subprocess.run(
            [sys.executable, client.__file__, *numbers],
            stdout=subprocess.PIPE,
            timeout=CLIENT_SECONDS,
            check=True,
        )
        cpu = cpu_seconds() - before
        told = json.loads(done.stdout)
        return Cost(shape, cpu, sum(told["seconds"]), tuple(told["first_token"]))

    return measured


@dataclass(frozen=True, slots=True)
class Round:
    """One shape, by each contender, one right after the other."""

    bare: Cost
    uncheckpointed: Cost
    server: Cost


def rounds_of(shape: Shape, server: Contender) -> list[Round]:
    """Every round of a shape; one before them warms everything up and is not counted."""
    with_saver, without = (
        bare(counting().compile(checkpointer=InMemorySaver())),
        bare(counting().compile()),
    )
    rounds = [Round(with_saver(shape), without(shape), server(shape)) for _ in range(ROUNDS + 1)]
    return rounds[1:]


def median(rounds: list[Round], figure: Callable[[Round], float]) -> float:
    """The median over the rounds."""
    return statistics.median(map(figure, rounds))


class Report:
    """The table, line by line."""

    def __init__(self) -> None:
        self._table = Table(
            "measure",
            *("bare, no saver", "bare", "server", "ratio", "target"),
            "",
            title="The whole server",
        )
        for column in self._table.columns[1:]:
            column.justify = "right"

    def rate(
        self, name: str, rounds: list[Round], figure: Callable[[Cost], float], at_least: float
    ) -> None:
        """Something of which more is better, as a ratio of the server's to the bare graph's."""
        ratio = median(rounds, lambda each: figure(each.server) / figure(each.bare))
        values = (
            median(rounds, lambda each: figure(each.uncheckpointed)),
            median(rounds, lambda each: figure(each.bare)),
        )
        cells = [
            f"{value:,.0f}" for value in (*values, median(rounds, lambda each: figure(each.server)))
        ]
        self._table.add_row(
            name, *cells, f"{ratio:.2f}", f"≥ {at_least}", _verdict(ratio >= at_least)
        )

    def latency(self, name: str, rounds: list[Round], at_most_more: float) -> None:
        """The milliseconds to the first token, as the difference of the server's and the bare
        graph's."""
        more = median(rounds, lambda each: each.server.first_token_ms - each.bare.first_token_ms)
        costs = [
            [getattr(each, name) for each in rounds]
            for name in ("uncheckpointed", "bare", "server")
        ]
        cells = [
            f"{statistics.median(cost.first_token_ms for cost in column):.2f}" for column in costs
        ]
        self._table.add_row(
            name, *cells, f"+{more:.2f} ms", f"≤ +{at_most_more} ms", _verdict(more <= at_most_more)
        )

    def show(self) -> None:
        """Print it."""
        Console(width=None if sys.stdout.isatty() else 132).print(self._table)


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    report = Report()
    with served() as (process, port):
        server = over_http(process, port)
        for shape in SHAPES:
            rounds = rounds_of(shape, server)
            report.rate(
                f"{shape}: tokens per CPU second",
                rounds,
                lambda cost: cost.tokens_per_cpu_second,
                TOKENS_RATIO,
            )
            report.rate(
                f"{shape}: runs per second", rounds, lambda cost: cost.runs_per_second, RUNS_RATIO
            )
        report.latency(
            "first token of an idle server, p50 in ms",
            rounds_of(FIRST_TOKEN, server),
            FIRST_TOKEN_MS,
        )
    report.show()


if __name__ == "__main__":
    main()
