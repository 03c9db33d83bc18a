"""The cost of an agent's checkpoints: the SQLite saver against LangGraph's own, and against the one
in memory, which is the ceiling.

Both files are at `synchronous=FULL`. Run alone with `python -m benchmarks.checkpoints`.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import aiosqlite
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from assent.checkpoint.serializer import StrictSerializer
from assent.storage.sqlite import SqliteSaver
from benchmarks.sizes import sized
from benchmarks.tokens import ratio

THREADS = sized(200, 4)
TURNS = sized(5, 1)
SUPERSTEPS = 4
"""Of each turn: the input, the start, and two nodes."""

PUTS = sized(10_000, 40)
ALONE = sized(300, 5)
LONG = sized(1_000, 40)
ROUNDS = sized(5, 1)
COLD = sized(9, 1)
HISTORIES = sized(5, 1)

Saver = BaseCheckpointSaver[Any]


@asynccontextmanager
async def langgraphs(path: Path) -> AsyncIterator[Saver]:
    """LangGraph's saver, as durable as ours."""
    async with aiosqlite.connect(path) as connection:
        saver = AsyncSqliteSaver(connection)
        await saver.setup()
        await connection.execute("PRAGMA synchronous = FULL")
        yield saver


@asynccontextmanager
async def in_memory(path: Path) -> AsyncIterator[Saver]:
    yield InMemorySaver()


SAVERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Saver]]] = {
    "assent": SqliteSaver.from_conn_string,
    "AsyncSqliteSaver": langgraphs,
    "InMemorySaver": in_memory,
}


def graph(saver: Saver, *nodes: str) -> CompiledStateGraph[Any]:
    """Nodes that answer at once, one after the other."""

    async def node(state: MessagesState) -> dict[str, Any]:
        return {
            "messages": [
                AIMessage(
                    "a" * 250, response_metadata={"model_name": "model", "finish_reason": "stop"}
                )
            ]
        }

    builder = StateGraph(MessagesState)
    for before, name in zip((START, *nodes), nodes, strict=False):
        builder.add_node(name, node)
        builder.add_edge(before, name)
    return builder.compile(checkpointer=saver)


def config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


async def turn(agent: CompiledStateGraph[Any], thread_id: str) -> None:
    await agent.ainvoke(
        {"messages": [HumanMessage("h" * 250)]}, config(thread_id), durability="sync"
    )


# ── many threads ──


async def supersteps(saver: Saver) -> float:
    """Supersteps per second, of many threads at once."""
    agent = graph(saver, "one", "two")

    async def thread(thread_id: str) -> None:
        for _ in range(TURNS):
            await turn(agent, thread_id)

    begun = time.perf_counter()
    await asyncio.gather(*(thread(f"thread-{number}") for number in range(THREADS)))
    return THREADS * TURNS * SUPERSTEPS / (time.perf_counter() - begun)


async def put(saver: Saver, at: Any, number: int) -> Any:
    """A small checkpoint."""
    checkpoint = empty_checkpoint() | {
        "channel_values": {"n": number},
        "channel_versions": {"n": number + 1},
        "id": f"{number:08}",
    }
    return await saver.aput(
        at, checkpoint, {"source": "loop", "step": number, "parents": {}}, {"n": number + 1}
    )


async def puts(saver: Saver, callers: int = THREADS, each: int = PUTS // THREADS) -> float:
    """Puts per second."""

    async def caller(thread_id: str) -> None:
        at = config(thread_id)
        for number in range(each):
            at = await put(saver, at, number)

    begun = time.perf_counter()
    await asyncio.gather(*(caller(str(uuid4())) for _ in range(callers)))
    return callers * each / (time.perf_counter() - begun)


async def alone(folder: Path) -> dict[str, float]:
    """Microseconds that one put takes when nothing else is going on: a put of each in turn, because
    the disk is never the same for long."""
    taken: dict[str, list[float]] = {name: [] for name in SAVERS}
    async with AsyncExitStack() as stack:
        savers = {
            name: await stack.enter_async_context(opened(folder / f"{name}.db"))
            for name, opened in SAVERS.items()
        }
        configs = dict.fromkeys(savers, config("alone"))
        for number in range(ALONE):
            for name, saver in savers.items():
                begun = time.perf_counter()
                configs[name] = await put(saver, configs[name], number)
                taken[name].append((time.perf_counter() - begun) * 1e6)
    return {name: statistics.median(each) for name, each in taken.items()}


async def compare(measure: Callable[[Saver], Any]) -> dict[str, float]:
    """The median of each saver, in fresh files, taken in turn so that what slows the machine for a
    while slows all of them."""
    rounds = []
    for _ in range(ROUNDS):
        figures = {}
        for name, opened in SAVERS.items():
            with TemporaryDirectory() as folder:
                async with opened(Path(folder) / "checkpoints.db") as saver:
                    figures[name] = await measure(saver)
        rounds.append(figures)
    return {name: statistics.median(figures[name] for figures in rounds) for name in SAVERS}


# ── one long thread ──


class Forgetful(BaseCheckpointSaver[Any]):
    """Keeps the head of a thread as the objects it was given, and stores nothing: what is left is
    LangGraph's own work."""

    def __init__(self) -> None:
        super().__init__()
        self._head: CheckpointTuple | None = None

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        return self._head

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        at: Any = {
            **config,
            "configurable": {**config["configurable"], "checkpoint_id": checkpoint["id"]},
        }
        self._head = CheckpointTuple(at, checkpoint, metadata, None, [])
        return at

    async def aput_writes(
        self, config: Any, writes: Any, task_id: str, task_path: str = ""
    ) -> None:
        pass


async def long_thread(saver: Saver) -> tuple[float, float]:
    """Milliseconds of CPU per turn: around the tenth, and around the last."""
    cpu = []
    agent = graph(saver, "agent")
    for _ in range(LONG):
        begun = time.process_time()
        await turn(agent, "long")
        cpu.append((time.process_time() - begun) * 1e3)
    return statistics.median(cpu[5:35]), statistics.median(cpu[-30:])


async def cold_head(path: Path) -> tuple[float, float]:
    """Milliseconds to read the head of the long thread after a start, and what the serializer alone
    takes for its messages."""
    serializer = StrictSerializer()
    cold, bare = [], []
    for _ in range(COLD):
        # The collector's pauses fall where they like, so neither may inherit the other's garbage.
        gc.collect()
        async with SqliteSaver.from_conn_string(path) as saver:
            begun = time.perf_counter()
            head = await saver.aget_tuple(config("long"))
            cold.append((time.perf_counter() - begun) * 1e3)
        assert head is not None
        stored = serializer.dumps_typed(head.checkpoint["channel_values"]["messages"])
        head = None
        gc.collect()
        begun = time.perf_counter()
        serializer.loads_typed(stored)
        bare.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(cold), statistics.median(bare)


async def history(path: Path) -> float:
    """Milliseconds to read the last twenty states of the long thread."""
    taken = []
    async with SqliteSaver.from_conn_string(path) as saver:
        agent = graph(saver, "agent")
        for _ in range(HISTORIES):
            begun = time.perf_counter()
            assert (
                len([state async for state in agent.aget_state_history(config("long"), limit=20)])
                == 20
            )
            taken.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(taken)


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    asyncio.run(measure())


async def measure() -> None:
    """Every figure, in fresh files."""
    found = await compare(supersteps)
    show(
        f"{THREADS} threads at once, {TURNS} turns of {SUPERSTEPS} supersteps each",
        found,
        "supersteps/s",
    )
    ratio("assent / LangGraph's", found["assent"] / found["AsyncSqliteSaver"], at_least=2.4)
    ratio("assent / in memory", found["assent"] / found["InMemorySaver"], at_least=0.75)
    found = await compare(puts)
    show(f"Puts from {THREADS} callers", found, "puts/s")
    ratio("assent / LangGraph's", found["assent"] / found["AsyncSqliteSaver"], at_least=7)
    with TemporaryDirectory() as folder:
        found = await alone(Path(folder))
    show("One caller alone", found, "us a put")
    ratio("assent / LangGraph's", found["assent"] / found["AsyncSqliteSaver"], at_most=1.1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "long.db"
        async with SqliteSaver.from_conn_string(path) as saver:
            early, late = await long_thread(saver)
        bare_early, bare_late = await long_thread(Forgetful())
        cold, bare = await cold_head(path)
        print(f"A thread of {LONG:,} turns, two messages of 250 bytes each")
        ratio("MB on disk", path.stat().st_size / 1e6, at_most=12)
        print(f"  CPU per turn: {early:.2f} ms around the 10th, {late:.2f} ms around the last")
        print(f"  of which LangGraph takes: {bare_early:.2f} ms, and {bare_late:.2f} ms")
        ratio("last / 10th", late / early, at_most=1.3)
        print(f"  the head read cold: {cold:.1f} ms; the serializer alone: {bare:.1f} ms")
        ratio("cold / serializer", cold / bare, at_most=2)
        ratio("history of 20 / serializer", await history(path) / bare, at_most=5)


def show(title: str, figures: dict[str, float], unit: str) -> None:
    print(title)
    for name, figure in figures.items():
        print(f"  {name:24} {figure:10,.0f} {unit}")


if __name__ == "__main__":
    main()
