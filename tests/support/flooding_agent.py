"""A graph whose events are as large and as many as it is told: "20 262144 0.1" makes 20 of 256 KiB,
a tenth of a second apart. Each has the time at which it was made, by a clock that all processes of
the machine share."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph


async def flood(state: MessagesState) -> dict[str, Any]:
    """Write what the message asks for."""
    number, size, pause = state["messages"][-1].text.split()
    write, filler = get_stream_writer(), "x" * int(size)
    for _ in range(int(number)):
        write({"at": time.monotonic(), "filler": filler})
        await asyncio.sleep(float(pause))
    return {}


graph = StateGraph(MessagesState).add_node("flood", flood).add_edge(START, "flood").compile()
