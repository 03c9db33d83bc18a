"""A program to be killed: several conversations through a graph, each a run that says what was
acknowledged."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from assent.core.clock import utc_now
from assent.core.rows import LEASE_KEY, Lease, Run, RunKind, RunStatus
from assent.storage.base import Change, Storage
from assent.storage.sqlite import SqliteStorage

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
    async with SqliteStorage.open(path) as storage, asyncio.TaskGroup() as group:
        for thread_id in THREADS:
            lease = await _run(storage, thread_id)
            config: Any = {"configurable": {"thread_id": thread_id, LEASE_KEY: lease}}
            group.create_task(_turns(answering(storage.checkpointer), config, acknowledged))


async def _run(storage: Storage, thread_id: str) -> Lease:
    """The lease of the thread's run, which is stored before the first turn."""
    if await storage.run(thread_id) is None:
        run = Run(
            run_id=thread_id,
            thread_id=thread_id,
            owner="ann",
            agent="agent",
            kind=RunKind.INPUT,
            status=RunStatus.RUNNING,
            created_at=utc_now(),
            input={},
            attempt=1,
        )
        await storage.commit(Change(rows=(run,)))
    return Lease(thread_id, 1)


async def _turns(graph: CompiledStateGraph[Any], config: Any, acknowledged: Connection) -> None:
    thread_id = config["configurable"]["thread_id"]
    # What the last process was killed in the middle of is finished first: `next` leaves out a task
    # whose writes were stored, and no checkpoint after them.
    if (await graph.aget_state(config)).tasks:
        await graph.ainvoke(None, config, durability="sync")
    while True:
        state = await graph.ainvoke({"messages": [HumanMessage("hi")]}, config, durability="sync")
        acknowledged.send((thread_id, len(state["messages"])))
