"""Ask a query over a WebSocket, and print what the agent does until it has answered.

    assent serve        # in another terminal
    python client.py

To a server with keys, send one: give `connect` the argument
`additional_headers={"Authorization": "Bearer <secret>"}`.
"""

import asyncio
import json

import websockets


async def legal_agent_client():
    uri = "ws://localhost:8000/ws/query"

    async with websockets.connect(uri) as websocket:
        # Wait for connection confirmation
        message = await websocket.recv()
        data = json.loads(message)
        print(f"Connected: {data}")

        # Send query
        query = {
            "query": "What was the defendant's response?",
            "case_id": 1,
            "stream_thinking": True,
        }
        await websocket.send(json.dumps(query))

        # Listen for events
        while True:
            try:
                message = await websocket.recv()
                event = json.loads(message)

                print(f"[{event['type']}] {event}")

                # Check if execution is complete
                if event["type"] in ["agent_execution_complete", "agent_execution_error"]:
                    break

            except websockets.exceptions.ConnectionClosed:
                break


# Run the client
asyncio.run(legal_agent_client())
