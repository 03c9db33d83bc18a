"""The bare graph at the pace of real models, in a process of its own:
`python -m benchmarks.paced_bare STREAMS TOKENS`.

Runs so many at once with `astream(stream_mode="messages")`, on the server's kind of event loop, and
with its settings of the garbage collector. Prints a `Streamed` as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from typing import Any
from uuid import uuid4

import uvloop
from langgraph.checkpoint.memory import InMemorySaver

from benchmarks.graphs import paced
from benchmarks.lags import Heard, Streamed


async def listen(graph: Any, tokens: int) -> list[Heard]:
    """One run: its tokens."""
    config = {"configurable": {"thread_id": str(uuid4())}}
    asked = {"messages": [("user", str(tokens))]}
    heard = []
    async for chunk, _ in graph.astream(asked, config, stream_mode="messages"):
        if chunk.content:
            heard.append(Heard.of(chunk.content, time.monotonic_ns()))
    assert len(heard) == tokens, f"The graph streamed {len(heard)} tokens of {tokens}."
    return heard


async def measure(streams: int, tokens: int) -> Streamed:
    """Run them, after one that warms up."""
    graph = paced().compile(checkpointer=InMemorySaver())
    await listen(graph, 2)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 8)
    begun = time.process_time()
    heard = await asyncio.gather(*(listen(graph, tokens) for _ in range(streams)))
    cpu = time.process_time() - begun
    return Streamed.of(heard, events=streams * tokens, cpu=cpu)


def main() -> None:
    """Measure, and print it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(measure(*map(int, sys.argv[1:]))).as_json())


if __name__ == "__main__":
    main()
