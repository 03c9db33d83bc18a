"""The graph that the server benchmark runs, bare and served: one node that calls a fake model with instant tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph

WORD = "word "


class Counter(BaseChatModel):
    """Streams as many tokens as the last message asks for ("500"), as fast as they are read."""

    @property
    def _llm_type(self) -> str:
        return "counter"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(WORD * int(messages[-1].text)))])

    async def _astream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(int(messages[-1].text)):
            yield ChatGenerationChunk(message=AIMessageChunk(content=WORD))


def counting() -> StateGraph[MessagesState, None, MessagesState, MessagesState]:
    """The graph, to be compiled with or without a checkpointer."""
    model = Counter()

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent")
