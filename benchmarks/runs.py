"""The cost of the engine: the time until a run begins, the time until it goes on after a decision,
and 500 runs at once against the bare graph.

Run alone with `python -m benchmarks runs`. The latencies are over HTTP, of an idle server that
commits at synchronous=FULL, from the first byte of the request: to the run's first event, and to
the first event of the graph itself. The 500 runs are in this process, as are the bare graph's, with
`astream(stream_mode="messages")` on the same checkpointer over a file of the same kind: the
contenders take turns, and what is printed is the median of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import httpx
from httpx_sse import aconnect_sse
from rich.console import Console
from rich.table import Table

from assent.core.audit import Actor
from assent.core.events import TERMINAL_TYPES
from assent.core.rows import RunStatus
from assent.core.run_input import RunInput
from assent.runs.opening import open_runs
from assent.runs.transitions import Submission
from assent.storage.sqlite import SqliteSaver, SqliteStorage
from benchmarks.graphs import counting
from benchmarks.server import served
from benchmarks.sizes import sized

ROUNDS = sized(5, 1)
RUNS, TOKENS = sized(500, 4), 20
TIMES = sized(200, 2)
WARM_UP = sized(10, 1)

RATIO = 0.5
SUBMIT_P50_MS = 10.0
RESUME_P50_MS, RESUME_P99_MS = 10.0, 40.0
TIMEOUT_SECONDS = 120


# ── at once ───────────────────────────────────────────────────────────────────────────────────────


async def bare(folder: Path) -> float:
    """Runs per second of the graph alone."""
    async with SqliteSaver.from_conn_string(folder / "bare.db") as saver:
        graph = counting().compile(checkpointer=saver)

        async def one_run() -> None:
            config: Any = {"configurable": {"thread_id": str(uuid4())}}
            state: Any = {"messages": [("user", str(TOKENS))]}
            tokens: AsyncIterator[Any] = graph.astream(
                state, config, stream_mode="messages", durability="sync"
            )
            heard = [chunk async for chunk, _ in tokens if chunk.content]
            assert len(heard) == TOKENS

        return await rate(one_run)


async def engine(folder: Path) -> float:
    """Runs per second of the engine, each told of in events."""
    async with (
        SqliteStorage.open(folder / "engine.db") as storage,
        open_runs(storage, {"counting": counting().compile()}, max_runs=RUNS) as runs,
    ):

        async def one_run() -> None:
            started = await runs.submit(Submission(given=RunInput(str(TOKENS)), by=Actor("bench")))
            thread_id, after = started.run.thread_id, 0
            with storage.listen(thread_id) as doorbell:
                while True:
                    if entries := await storage.read_log(thread_id, after):
                        after = entries[-1].seq
                        if entries[-1].type in TERMINAL_TYPES:
                            break
                    else:
                        await doorbell.wait(TIMEOUT_SECONDS)
            run = await storage.run(started.run.run_id)
            assert run is not None
            assert run.status is RunStatus.SUCCESS, run.error

        return await rate(one_run)


async def rate(one_run: Callable[[], Awaitable[None]]) -> float:
    """Runs per second, all at once, after a few that warm up."""
    await asyncio.gather(*(one_run() for _ in range(min(20, RUNS))))
    started = time.perf_counter()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await asyncio.gather(*(one_run() for _ in range(RUNS)))
    return RUNS / (time.perf_counter() - started)


def measured(contender: Callable[[Path], Awaitable[float]]) -> float:
    """One round of a contender, on a new file."""
    gc.collect()
    with TemporaryDirectory(prefix="assent-bench-") as folder:
        return asyncio.run(_run(contender(Path(folder))))


async def _run(contender: Awaitable[float]) -> float:
    return await contender


# ── one alone ─────────────────────────────────────────────────────────────────────────────────────


async def latencies(port: int) -> dict[str, list[float]]:
    """Milliseconds from a request, many times over: to the first event, and to the first event of
    the graph."""
    told: dict[str, list[float]] = {
        "submit": [],
        "submit, graph": [],
        "resume": [],
        "resume, graph": [],
    }
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS
    ) as http:
        for number in range(TIMES + WARM_UP):
            thread_id = f"bench-{number}"
            submitted = await heard(
                http, "/agent/stream", {"message": "go", "thread_id": thread_id}
            )
            resumed = await heard(
                http, f"/threads/{thread_id}/resume", {"type": "approve"}, last="done"
            )
            # The first few warm the server up.
            if number >= WARM_UP:
                for name, (first, graph) in (("submit", submitted), ("resume", resumed)):
                    told[name].append(first)
                    told[f"{name}, graph"].append(graph)
    return told


async def heard(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], *, last: str = "run_paused"
) -> tuple[float, float]:
    """Milliseconds to the first event, and to the first that a node has sent."""
    started = time.perf_counter()
    first = graph = 0.0
    async with events(http, path, body) as told:
        async for event in told:
            elapsed = (time.perf_counter() - started) * 1000
            first = first or elapsed
            if event["type"] == "node_start":
                graph = graph or elapsed
    if event["type"] != last:
        raise ValueError(f"The run ended with {event}.")
    return first, graph


@asynccontextmanager
async def events(
    http: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The events that the server answers with."""
    async with aconnect_sse(
        http, "POST", path, json=body, headers={"accept": "text/event-stream"}
    ) as source:
        source.response.raise_for_status()
        yield (
            json.loads(event.data)
            async for event in source.aiter_sse()
            if event.event == "message" and event.data
        )


# ── the report ────────────────────────────────────────────────────────────────────────────────────


class Report:
    """The table, line by line."""

    def __init__(self) -> None:
        self._table = Table("measure", "figure", "target", "", title="The engine")
        for column in self._table.columns[1:3]:
            column.justify = "right"

    def latency(
        self, name: str, values: list[float], p50: float | None = None, p99: float | None = None
    ) -> None:
        """The 50th and the 99th of a hundred."""
        percentiles = statistics.quantiles(values, n=100)
        for percent, value, most in (
            (50, statistics.median(values), p50),
            (99, percentiles[98], p99),
        ):
            target = ("", "") if most is None else (f"≤ {most:g} ms", _verdict(value <= most))
            self._table.add_row(f"{name}, p{percent}", f"{value:.2f} ms", *target)

    def rates(self, rounds: list[tuple[float, float]]) -> None:
        """Runs per second of the bare graph and of the engine."""
        ratio = statistics.median(engine / bare for bare, engine in rounds)
        alone, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        self._table.add_row(
            f"{RUNS} runs of {TOKENS} tokens at once, per second: bare graph",
            f"{alone:,.0f}",
            "",
            "",
        )
        self._table.add_row("the same through the engine, events included", f"{ours:,.0f}", "", "")
        self._table.add_row("ratio", f"{ratio:.2f}", f"≥ {RATIO}", _verdict(ratio >= RATIO))

    def show(self) -> None:
        """Print it."""
        Console(width=None if sys.stdout.isatty() else 132).print(self._table)


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    report = Report()
    with served("asking") as (_, port):
        told = asyncio.run(latencies(port))
    report.latency("request to the first event", told["submit"], SUBMIT_P50_MS)
    report.latency("request to the first event of the graph", told["submit, graph"])
    report.latency(
        "decision to the first event of the run that goes on",
        told["resume"],
        RESUME_P50_MS,
        RESUME_P99_MS,
    )
    report.latency("decision to the first event of the graph", told["resume, graph"])
    report.rates([(measured(bare), measured(engine)) for _ in range(ROUNDS + 1)][1:])
    report.show()


if __name__ == "__main__":
    main()
