"""The graphs that the benchmarks run, bare and served: with a fake model whose tokens are
instant."""

from __future__ import annotations

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


def counting() -> StateGraph[MessagesState, None, MessagesState, MessagesState]:
    """The graph, to be compiled with or without a checkpointer."""
    model = Counter()

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
