"""Prints an agent's words as its model generates them.

python token_streaming.py "How many records are there?"
"""

import asyncio
import sys

from agent import open_agent
from langchain_core.messages import HumanMessage


async def stream_tokens(graph, message: str, thread_id: str):
    """Stream tokens from agent using astream with messages mode."""
    config = {"configurable": {"thread_id": thread_id}}

    async for chunk in graph.astream(
        {"messages": [HumanMessage(content=message)]},
        config=config,
        stream_mode="messages",
    ):
        # chunk is a tuple: (message_chunk, metadata)
        msg, metadata = chunk
        if msg.content and metadata.get("langgraph_node") == "agent":
            print(msg.content, end="", flush=True)


async def main(message):
    await stream_tokens(await open_agent(), message, "thread-123")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
