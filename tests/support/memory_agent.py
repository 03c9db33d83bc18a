"""A graph that remembers what it is told in the store that it is given, to be served as this file.

"learn blue sky" stores the words, and "learn slowly blue sky" stops behind that until the file
`<ledger>.go-1` is there. Anything else is a question, and the answer is what it knows, the likest
first if it can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.base import BaseStore

from tests.support.agents import let_go, trace

FACTS = ("facts",)


def embed(texts: Sequence[str]) -> list[list[float]]:
    """Vectors of how often four letters are in a text."""
    return [[float(text.count(letter)) for letter in "abeu"] for text in texts]


async def remember(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
    said = state["messages"][-1].text
    word, _, rest = said.partition(" ")
    if word != "learn":
        return {}
    fact = rest.removeprefix("slowly ")
    await store.aput(FACTS, fact, {"fact": fact})
    trace(f"learned {fact}")
    if rest != fact:
        await let_go(1)
    return {"messages": [AIMessage(f"Learned: {fact}")]}


def recall(state: MessagesState, *, store: BaseStore) -> dict[str, Any]:
    """Answer, in a thread."""
    said = state["messages"][-1]
    if said.type == "ai":
        return {}
    found = store.search(FACTS, query=said.text)
    return {"messages": [AIMessage("; ".join(item.key for item in found) or "Nothing.")]}


graph = (
    StateGraph(MessagesState).add_sequence([remember, recall]).add_edge(START, "remember").compile()
)
