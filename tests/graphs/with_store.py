"""A graph that is compiled without a store and uses the one it is given: what it puts there before
it asks, it finds when it was answered."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore
from langgraph.types import interrupt

from tests.support.agents import act


def shelf(config: RunnableConfig) -> tuple[str, str]:
    """The namespace of the thread."""
    return ("facts", config["configurable"]["thread_id"])


async def learn(
    state: MessagesState, config: RunnableConfig, *, store: BaseStore
) -> dict[str, Any]:
    for number, fact in enumerate(state["messages"][-1].text.split("; ")):
        await store.aput(shelf(config), str(number), {"fact": fact, "length": len(fact)})
    return {}


def ask(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(interrupt("Which of them are to be forgotten?"))]}


async def forget(
    state: MessagesState, config: RunnableConfig, *, store: BaseStore
) -> dict[str, Any]:
    number = state["messages"][-1].text
    await act(f"with_store: forget {number}")
    await store.adelete(shelf(config), number)
    left = await store.asearch(shelf(config), filter={"length": {"$gt": 3}})
    return {"messages": [AIMessage(", ".join(sorted(item.value["fact"] for item in left)))]}


graph = (
    StateGraph(MessagesState)
    .add_sequence([learn, ask, forget])
    .add_edge(START, "learn")
    .compile(name="with_store")
)

INPUT = {"messages": [{"role": "user", "content": "blue sky; red; green tea"}]}
ANSWERS = [["0"]]
AGAIN = ["with_store: forget 0"]
