"""A program to be killed: several conversations through a graph, each of which says what was
acknowledged."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from assent.storage.sqlite import SqliteSaver

THREADS = ("t0", "t1", "t2", "t3")


def answering(saver: Any) -> CompiledStateGraph[Any]:
    """A graph that answers each message with how many there are."""

    async def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{len(state['messages'])} so far")]}

    return (
        StateGraph(MessagesState)
        .add_node(agent)
        .add_edge(START, "agent")
        .compile(checkpointer=saver)
    )


def converse_until_killed(path: Path, acknowledged: Connection) -> None:
    """Send `(thread_id, messages)` for each turn that returned."""
    asyncio.run(_converse(path, acknowledged))


async def _converse(path: Path, acknowledged: Connection) -> None:
    async with SqliteSaver.from_conn_string(path) as saver, asyncio.TaskGroup() as group:
        for thread_id in THREADS:
            group.create_task(_turns(answering(saver), thread_id, acknowledged))


async def _turns(graph: CompiledStateGraph[Any], thread_id: str, acknowledged: Connection) -> None:
    config: Any = {"configurable": {"thread_id": thread_id}}
    # What the last process was killed in the middle of is finished first.
    if (await graph.aget_state(config)).next:
        await graph.ainvoke(None, config, durability="sync")
    while True:
        state = await graph.ainvoke({"messages": [HumanMessage("hi")]}, config, durability="sync")
        acknowledged.send((thread_id, len(state["messages"])))
