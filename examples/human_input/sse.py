"""Prints the events of what people are asked in a thread or a run, as Server-Sent Events.

python sse.py <the id of the thread or the run> [key]
"""

import asyncio
import json
import sys

import httpx


async def sse_client(execution_id: str, api_key: str = None):
    url = f"http://localhost:8000/events/human-input/{execution_id}"
    headers = {}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"

    async with httpx.AsyncClient() as client:
        async with client.stream("GET", url, headers=headers) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if event.get("type") != "heartbeat":
                        print(f"Received: {event}")


if __name__ == "__main__":
    asyncio.run(sse_client(*sys.argv[1:]))
