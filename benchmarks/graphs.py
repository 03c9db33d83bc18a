"""The graphs that the benchmarks run, bare and served: with fake models, whose tokens are instant,
or come at the pace of real ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
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


def _in_paragraphs(place: int) -> str:
    return "*word*.\n\n" if place % PARAGRAPH == PARAGRAPH - 1 else WORD


def _in_a_list(place: int) -> str:
    ends = {0: "- **word** ", 11: "word.\n"}
    return ends.get(place % 12, WORD)


def _in_a_table(place: int) -> str:
    head = "| one | two | three |\n|---|---|---|\n" if place == 0 else ""
    ends = {0: "| word ", 2: "| word ", 4: "| word ", 5: "|\n"}
    return head + ends.get(place % 6, WORD)


def _in_code(place: int) -> str:
    head = "```\n" if place == 0 else ""
    return head + ("word()\n" if place % 10 == 9 else WORD)


FORMS: dict[str, Callable[[int], str]] = {
    "paragraphs": _in_paragraphs,
    "list": _in_a_list,
    "table": _in_a_table,
    "code": _in_code,
}
"""Markdown, by what it is all of: the text of a token by its place."""


class Flower(Counter):
    """Streams Markdown of the form that the last message names ("6000 list"): at `FLOW` tokens a
    second if it ends with "flowing" ("6000 list flowing"), and else as fast as it is read."""

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        number, form, *flowing = str(messages[-1].text).split()
        begun = time.monotonic()
        for place in range(int(number)):
            wait = begun + place / FLOW - time.monotonic()
            if flowing and wait > 0:
                await asyncio.sleep(wait)
            yield ChatGenerationChunk(message=AIMessageChunk(content=FORMS[form](place)))


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
