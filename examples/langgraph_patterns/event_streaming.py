"""Prints what an agent does as events: its tokens, its tools, and its nodes.

python event_streaming.py "How many records are there?"
"""

import asyncio
import json
import sys

from agent import open_agent
from langchain_core.messages import HumanMessage


async def stream_events(graph, message: str, thread_id: str):
    """Stream all events from agent execution."""
    config = {"configurable": {"thread_id": thread_id}}

    async for event in graph.astream_events(
        {"messages": [HumanMessage(content=message)]},
        config=config,
        version="v2",
    ):
        kind = event["event"]

        if kind == "on_chat_model_stream":
            # Token-level streaming
            content = event["data"]["chunk"].content
            if content:
                yield {"type": "token", "content": content}

        elif kind == "on_chat_model_start":
            yield {"type": "llm_start", "model": event.get("name", "")}

        elif kind == "on_chat_model_end":
            yield {"type": "llm_end"}

        elif kind == "on_tool_start":
            yield {"type": "tool_start", "tool": event["name"], "input": event["data"].get("input")}

        elif kind == "on_tool_end":
            yield {
                "type": "tool_end",
                "tool": event["name"],
                "output": str(event["data"].get("output", ""))[:200],
            }

        elif kind == "on_chain_start" and event.get("name"):
            yield {"type": "node_start", "node": event["name"]}

        elif kind == "on_chain_end" and event.get("name"):
            yield {"type": "node_end", "node": event["name"]}


async def main(message):
    async for event in stream_events(await open_agent(), message, "thread-123"):
        print(json.dumps(event, default=str))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
