"""Says what people are asked in a thread or a run, and what became of it, over a WebSocket.

python websocket.py <the id of the thread or the run> [key]
"""

import asyncio
import json
import sys

import websockets


async def websocket_client(execution_id: str, api_key: str = None):
    uri = f"ws://localhost:8000/ws/human-input/{execution_id}"
    if api_key:
        uri += f"?token={api_key}"

    async with websockets.connect(uri) as websocket:
        async for message in websocket:
            event = json.loads(message)

            if event["type"] == "human_input_required":
                print(f"Human input needed: {event['prompt']}")
                print(f"Context: {event['context']}")
            elif event["type"] == "human_input_completed":
                print(f"Input completed: {event['human_feedback']}")


if __name__ == "__main__":
    asyncio.run(websocket_client(*sys.argv[1:]))
