"""The cost of a token: to build and encode one, and to stream one out of a running graph. The
figures are ratios within one run, so that they hold on any machine.

Run alone with `python -m benchmarks.tokens`.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from typing import Any

import orjson
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

from assent.core import events
from assent.core.events import Token
from assent.graph.stream.astream_events import run_graph_v2
from assent.graph.stream.callbacks import run_graph
from benchmarks.sizes import sized

TOKENS = sized(2000, 20)
ROUNDS = sized(9, 1)
ENCODED = sized(20_000, 20)
MICROSECONDS = 1e6


class Talker(BaseChatModel):
    """Streams the same short piece of text again and again, as fast as it is read."""

    @property
    def _llm_type(self) -> str:
        return "talker"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("word " * TOKENS))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(TOKENS):
            yield ChatGenerationChunk(message=AIMessageChunk(content="word "))


@dataclass(frozen=True, slots=True)
class DataclassToken:
    """The event as a frozen, slotted dataclass, which is what one would write first."""

    thread_id: str
    run_id: str
    node: str
    task_id: str
    message_id: str
    content: str
    ts: datetime
    type: str = "token"
    seq: int = 0
    ns: tuple[str, ...] = ()
    attempt: int = 1
    index: int = 0


def struct_token(now: datetime) -> bytes:
    """Build and encode one event as the project does."""
    token = Token(
        ts=now,
        thread_id="thread",
        run_id="run",
        node="agent",
        task_id="task",
        message_id="message",
        content="word ",
    )
    return events.encode(token)


def dataclass_token(now: datetime) -> bytes:
    """Build and encode one event as a dataclass with orjson."""
    token = DataclassToken(
        ts=now,
        thread_id="thread",
        run_id="run",
        node="agent",
        task_id="task",
        message_id="message",
        content="word ",
    )
    return orjson.dumps(token)


def encoding_cost(build: Callable[[datetime], bytes], count: int = ENCODED) -> float:
    """CPU microseconds to build and encode one token."""
    now = datetime.now(UTC)
    started = time.process_time()
    for _ in range(count):
        build(now)
    return (time.process_time() - started) / count * MICROSECONDS


def streaming_cost(stream: Callable[[], Awaitable[None]]) -> float:
    """CPU microseconds per token of one streamed message."""

    async def measured() -> float:
        started = time.process_time()
        await stream()
        return time.process_time() - started

    gc.collect()
    return asyncio.run(measured()) / TOKENS * MICROSECONDS


def contenders() -> dict[str, Callable[[], Awaitable[None]]]:
    """The ways to get at the tokens, by name: the model alone, and the same model in a graph of one
    node."""
    model = Talker()

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent").compile()
    asked: Any = {"messages": [("user", "Talk.")]}

    async def bare_model() -> None:
        async for _ in model.astream("Talk."):
            pass

    async def bare_v2() -> None:
        async for _ in graph.astream_events(asked, version="v2"):
            pass

    async def fast() -> None:
        emitted: SimpleQueue[events.Event] = SimpleQueue()
        await run_graph(graph, asked, {}, emitted.put, thread_id="thread", run_id="run")
        assert emitted.qsize() > TOKENS

    async def v2() -> None:
        emitted: SimpleQueue[events.Event] = SimpleQueue()
        await run_graph_v2(graph, asked, {}, emitted.put, thread_id="thread", run_id="run")
        assert emitted.qsize() > TOKENS

    return {
        "bare model": bare_model,
        "fast source": fast,
        "v2 source": v2,
        "bare astream_events v2": bare_v2,
    }


def main() -> None:
    """Measure, and print each figure with its target beside it."""
    encoding = {"msgspec Struct": struct_token, "dataclass + orjson": dataclass_token}
    cost = medians({name: partial(encoding_cost, build) for name, build in encoding.items()})
    print("Build and encode one token event")
    for name, microseconds in cost.items():
        print(f"  {name:24} {microseconds:7.2f} us")
    ratio("struct / dataclass", cost["msgspec Struct"] / cost["dataclass + orjson"], at_most=0.5)

    ways = contenders()
    cost = medians({name: partial(streaming_cost, stream) for name, stream in ways.items()})
    print(f"CPU per token, {TOKENS} tokens in one message")
    for name, microseconds in cost.items():
        times = microseconds / cost["bare model"]
        print(f"  {name:24} {microseconds:7.2f} us   {times:5.2f} x the bare model")
    ratio("fast source / bare model", cost["fast source"] / cost["bare model"], at_most=1.9)
    ratio(
        "bare v2 / fast source", cost["bare astream_events v2"] / cost["fast source"], at_least=1.8
    )


def medians(measures: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of several rounds of each, taken in turn so that what slows the machine for a
    while slows all of them."""
    for measure in measures.values():
        measure()
    rounds = [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(one[name] for one in rounds) for name in measures}


def ratio(
    name: str, value: float, *, at_most: float | None = None, at_least: float | None = None
) -> None:
    """Print a ratio, its target, and whether it is met."""
    met = value <= at_most if at_most is not None else value >= (at_least or 0)
    target = f"at most {at_most}" if at_most is not None else f"at least {at_least}"
    print(f"  {name:24} {value:7.2f}      target: {target}   {'met' if met else 'MISSED'}")


if __name__ == "__main__":
    main()
