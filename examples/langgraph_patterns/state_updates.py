"""Prints which keys of the state each node has updated.

python state_updates.py "Delete all records older than 2015"
"""

import asyncio
import sys

from agent import open_agent
from langchain_core.messages import HumanMessage


async def stream_state_updates(graph, message: str, thread_id: str):
    """Stream state updates after each node execution."""
    config = {"configurable": {"thread_id": thread_id}}

    async for update in graph.astream(
        {"messages": [HumanMessage(content=message)]},
        config=config,
        stream_mode="updates",
    ):
        # update is a dict: {node_name: state_update}
        for node_name, state_update in update.items():
            # LangGraph gives None for a node that has written nothing, and () for a pause.
            print(f"[{node_name}] updated keys: {list(state_update or ())}")


async def main(message):
    await stream_state_updates(await open_agent(), message, "thread-123")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
