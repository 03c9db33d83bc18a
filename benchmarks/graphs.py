"""The graphs that the benchmarks run, bare and served: with fake models, whose tokens are instant,
or come at the pace of real ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from assent import build_hitl_agent

WORD = "word "
RATE = 50
"""Tokens a second, at the pace of real models."""

FLOW = 750
"""Tokens a second of the fastest models."""

PARAGRAPH = 60
"""Tokens of one."""

NANOSECONDS = 1_000_000_000

Graph = StateGraph[MessagesState, None, MessagesState, MessagesState]


class Counter(BaseChatModel):
    """Streams as many tokens as the last message asks for ("500"), as fast as they are read."""

    @property
    def _llm_type(self) -> str:
        return "counter"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(WORD * int(messages[-1].text)))]
        )

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(int(messages[-1].text)):
            yield ChatGenerationChunk(message=AIMessageChunk(content=WORD))


class Speaker(Counter):
    """Streams `RATE` tokens a second. Each tells the nanosecond in which it was due, and that in
    which it was made, by the clock that all processes of a machine share."""

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        begun = time.monotonic_ns()
        for number in range(int(messages[-1].text)):
            due = begun + number * NANOSECONDS // RATE
            if (wait := due - time.monotonic_ns()) > 0:
                await asyncio.sleep(wait / NANOSECONDS)
            told = f"{due}:{time.monotonic_ns()} "
            yield ChatGenerationChunk(message=AIMessageChunk(content=told))


class Flower(Counter):
    """Streams Markdown at `FLOW` tokens a second if the last message ends with "flowing", and as
    fast as it is read otherwise: "6000 flowing"."""

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        number, _, flowing = str(messages[-1].text).partition(" ")
        begun = time.monotonic()
        for place in range(int(number)):
            wait = begun + place / FLOW - time.monotonic()
            if flowing and wait > 0:
                await asyncio.sleep(wait)
            ends_paragraph = place % PARAGRAPH == PARAGRAPH - 1
            text = "*word*.\n\n" if ends_paragraph else WORD
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))


def flowing() -> Graph:
    """The graph with tokens of Markdown, as fast as the fastest models give them."""
    return _answering(Flower())


def counting() -> Graph:
    """The graph with instant tokens, to be compiled with or without a checkpointer."""
    return _answering(Counter())


def paced() -> Graph:
    """The graph with tokens at a real model's pace."""
    return _answering(Speaker())


def _answering(model: BaseChatModel) -> Graph:
    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent")


class Asker(Counter):
    """Asks for one gated call, and counts to three once it was answered."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        if isinstance(messages[-1], ToolMessage):
            for _ in range(3):
                yield ChatGenerationChunk(message=AIMessageChunk(content=WORD))
        else:
            call = tool_call_chunk(name="act", args="{}", id=f"call_{uuid4().hex}", index=0)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[call]))


async def act() -> str:
    """Do nothing."""
    return "done"


def asking() -> CompiledStateGraph[Any, Any, Any, Any]:
    """An agent that needs a person for all that it does."""
    return build_hitl_agent(Asker(), [act], approve="act")
